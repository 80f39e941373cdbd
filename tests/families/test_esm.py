"""ESM-2: strays that its files carry, and what is not computed."""

import re
from typing import Any

import goldens
import pytest

from encodax.config import MaskDropoutConfig
from encodax.errors import EncodaxError
from encodax.families import esm

GOLDEN = "esm/encoder"


@pytest.mark.parametrize(
    "name",
    [
        "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq",
        "esm.encoder.layer.11.attention.self.rotary_embeddings.inv_freq",
        "esm.contact_head.regression.weight",
        "esm.embeddings.position_embeddings.weight",
        "esm.embeddings.position_ids",
        "esm.pooler.dense.bias",
    ],
)
def test_a_stray_of_published_files_is_let_pass(name: str) -> None:
    assert esm.FAMILY.is_stray(goldens.read("esm/token"), name)
    assert esm.FAMILY.canonical(name.removeprefix("esm.")) == name


@pytest.mark.parametrize(
    "name",
    ["esm.encoder.layer.0.LayerNorm.weight", "esm.embeddings.layer_norm.weight", "lm_head.bias"],
)
def test_what_is_computed_with_is_no_stray(name: str) -> None:
    assert not esm.FAMILY.is_stray(goldens.read("esm/token"), name)


def test_masks_drop_out_where_the_configuration_says() -> None:
    assert goldens.read(GOLDEN).encoder.embeddings.mask_dropout == MaskDropoutConfig(32)
    other = goldens.read(GOLDEN, mask_token_id=7).encoder.embeddings.mask_dropout
    assert other == MaskDropoutConfig(7, training_share=0.12)
    assert goldens.read(GOLDEN, token_dropout=False).encoder.embeddings.mask_dropout is None


def test_two_rows_of_positions_are_of_no_token() -> None:
    embeddings = goldens.read(GOLDEN, max_position_embeddings=1026).encoder.embeddings
    assert embeddings.max_positions == 1024
    assert embeddings.positions is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "absolute"}, "position_embedding_type = 'absolute'"),
        ({"emb_layer_norm_before": True}, "emb_layer_norm_before = True"),
        ({"is_folding_model": True}, "is_folding_model = True"),
        ({"rope_parameters": {"rope_theta": 5.0}}, "contradicts rope_theta = 10000.0"),
        ({"head_dim": 2}, "head_dim = 2 is not supported"),
        ({"token_dropout": "yes"}, "token_dropout = 'yes' is not true or false"),
        ({"architectures": ["EsmForProteinFolding"]}, "'EsmForProteinFolding' is not supported"),
    ],
    ids=str,
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=re.escape(message)):
        goldens.read(GOLDEN, **changes)
