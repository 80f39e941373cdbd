"""DeBERTa: forms of its relative positions, and of its masked LM's names."""

import re
from typing import Any

import goldens
import pytest

from encodax.config import DisentangledConfig, NormConfig
from encodax.errors import EncodaxError
from encodax.families import deberta_v2

GOLDEN = "deberta-v2/encoder"


def relative(**changes: Any) -> DisentangledConfig:
    found = goldens.read(GOLDEN, **changes).encoder.relative_positions
    assert isinstance(found, DisentangledConfig)
    return found


@pytest.mark.parametrize(
    ("named", "terms"),
    [
        ("p2c|c2p", (True, True)),
        ("c2p|p2c", (True, True)),
        ("C2P", (True, False)),
        (["p2c"], (False, True)),
        (["c2p", "p2c"], (True, True)),
        (None, (False, False)),
        ([], (False, False)),
    ],
    ids=str,
)
def test_the_terms_are_a_list_or_a_string(named: Any, terms: tuple[bool, bool]) -> None:
    found = relative(pos_att_type=named)
    assert (found.content_to_position, found.position_to_content) == terms


def test_the_span_is_that_of_the_buckets_or_of_the_positions() -> None:
    assert relative(position_buckets=8) == DisentangledConfig(8, 8, 24, norm=NormConfig(1e-7))
    assert relative(position_buckets=-1) == DisentangledConfig(24, None, 24, norm=NormConfig(1e-7))
    far = relative(position_buckets=-1, max_relative_positions=16)
    assert (far.span, far.buckets, far.max_distance) == (16, None, 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"pos_att_type": "c2p"},
        {"position_buckets": -1},
        {"max_relative_positions": 16},
        {"share_att_key": False},
        {"norm_rel_ebd": "none"},
        {"relative_attention": False},
        {"position_biased_input": True},
        {"type_vocab_size": 2},
    ],
    ids=str,
)
def test_every_form_reads_back_as_it_was(changes: dict[str, Any]) -> None:
    config = goldens.read(GOLDEN, **changes)
    assert config != goldens.read(GOLDEN)
    assert deberta_v2.FAMILY.read_config(deberta_v2.FAMILY.write_config(config)) == config


def test_projections_of_its_own_have_places_of_their_own() -> None:
    config = goldens.read(GOLDEN, share_att_key=False)
    names = {
        path: deberta_v2.FAMILY.tensor(config, path, "w").name
        for path in goldens.shapes(config)
        if "layer_1/attention/position" in path
    }
    layer = "deberta.encoder.layer.1.attention.self"
    assert names == {
        "encoder/layer_1/attention/position_query": f"{layer}.pos_query_proj.weight",
        "encoder/layer_1/attention/position_key": f"{layer}.pos_key_proj.weight",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_rel_ebd": "rms_norm"}, "norm_rel_ebd 'rms_norm' is not supported"),
        ({"norm_rel_ebd": "layer_norm|none"}, "norm_rel_ebd 'layer_norm|none' is not supported"),
        ({"pos_att_type": "p2p|c2p"}, "pos_att_type 'p2p|c2p' is not supported"),
        ({"conv_kernel_size": 3}, "the convolution (conv_kernel_size) is not supported"),
        ({"embedding_size": 4}, "an embedding_size other than hidden_size is not supported"),
        ({"attention_head_size": 3}, "attention_head_size = 3 is not supported"),
        ({"relative_attention": "yes"}, "relative_attention = 'yes' is not true or false"),
    ],
    ids=str,
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodaxError, match=re.escape(message)):
        goldens.read(GOLDEN, **changes)


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("lm_predictions.lm_head.dense.weight", "cls.predictions.transform.dense.weight"),
        ("lm_predictions.lm_head.LayerNorm.bias", "cls.predictions.transform.LayerNorm.bias"),
        ("lm_predictions.lm_head.bias", "cls.predictions.bias"),
        ("cls.predictions.bias", "cls.predictions.bias"),
        ("encoder.rel_embeddings.weight", "deberta.encoder.rel_embeddings.weight"),
        ("pooler.dense.weight", "pooler.dense.weight"),
    ],
)
def test_its_authors_names_of_the_masked_lm_are_read_too(stored: str, canonical: str) -> None:
    assert deberta_v2.FAMILY.canonical(stored) == canonical


def test_strays_are_of_the_generator() -> None:
    for name in ("mask_predictions.classifier.weight", "deberta.embeddings.position_ids"):
        assert deberta_v2.FAMILY.is_ignored(goldens.read("deberta-v2/token"), name)
    assert not deberta_v2.FAMILY.is_ignored(
        goldens.read("deberta-v2/token"), "deberta.encoder.conv.conv.weight"
    )


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_dropout_of_a_head_is_under_its_own_key(kind: str) -> None:
    golden = f"deberta-v2/{kind}"
    head = goldens.read(golden, cls_dropout=0.3, pooler_dropout=0.2, hidden_dropout_prob=0.4).head
    assert head is not None
    rates = {"sequence": (0.2, 0.3), "token": (0.0, 0.4)}[kind]
    assert (head.input_dropout_rate, head.dropout_rate) == rates
