"""ESM-2: strays that its files carry, and what is not computed."""

import re
from pathlib import Path
from typing import Any

import goldens
import jax
import numpy as np
import pytest
from directories import published, store, tensors_of

from encodax.config import TokenDropoutConfig
from encodax.errors import EncodaxError
from encodax.families import esm
from encodax.models.encoder_model import Model

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
    assert esm.FAMILY.is_ignored(goldens.read("esm/token"), name)
    assert esm.FAMILY.canonical(name.removeprefix("esm.")) == name


@pytest.mark.parametrize(
    "name",
    ["esm.encoder.layer.0.LayerNorm.weight", "esm.embeddings.layer_norm.weight", "lm_head.bias"],
)
def test_what_is_computed_with_is_no_stray(name: str) -> None:
    assert not esm.FAMILY.is_ignored(goldens.read("esm/token"), name)


def test_masks_drop_out_where_the_configuration_says() -> None:
    assert goldens.read(GOLDEN).encoder.embeddings.mask_dropout == TokenDropoutConfig(32)
    other = goldens.read(GOLDEN, mask_token_id=7).encoder.embeddings.mask_dropout
    assert other == TokenDropoutConfig(7, training_share=0.12)
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


def test_rounded_frequencies_are_told_and_computed_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = published(tmp_path / "model", "esm/encoder-own-names")
    tensors = tensors_of(directory)
    own = {name: array for name, array in tensors.items() if name.endswith("inv_freq")}
    assert own
    weights = Model.load(directory).params
    assert not caplog.records
    store(directory, tensors | {name: np.float16(array) for name, array in own.items()})
    jax.tree.map(np.testing.assert_array_equal, Model.load(directory).params, weights)
    (note,) = caplog.messages
    assert f"{min(own)} is rounded to F16" in note
