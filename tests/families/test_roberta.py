"""RoBERTa, XLM-R and CamemBERT: positions after the padding id, and names of their own."""

import goldens
import pytest

from encodax.families import roberta

NAMES = ("roberta", "xlm-roberta", "camembert")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pad_id", [0, 1, 3])
def test_positions_begin_after_the_padding_id(name: str, pad_id: int) -> None:
    config = goldens.read(f"{name}/encoder", pad_token_id=pad_id, max_position_embeddings=514)
    embeddings = config.encoder.embeddings
    assert embeddings.position_offset == pad_id + 1
    assert embeddings.max_positions == 514 - (pad_id + 1)
    assert config.pad_id == pad_id
    written = goldens.family_of(f"{name}/encoder").write_config(config)
    assert written["max_position_embeddings"] == 514
    assert written["pad_token_id"] == pad_id
    shape = goldens.shapes(config)["encoder/embeddings/position"]["w"]
    assert shape == (514, 8)


def test_the_padding_id_is_1_where_it_is_left_out() -> None:
    published = goldens.published("roberta/encoder")
    del published["pad_token_id"]
    assert roberta.ROBERTA.read_config(published).encoder.embeddings.position_offset == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_three_differ_in_their_name_alone(name: str) -> None:
    family = goldens.family_of(f"{name}/encoder")
    assert name == family.MODEL_TYPE
    assert family.canonical("embeddings.LayerNorm.bias") == "roberta.embeddings.LayerNorm.bias"
    assert family.canonical("lm_head.bias") == "lm_head.bias"


def test_the_masked_lm_has_a_gelu_whatever_the_encoder_has() -> None:
    config = goldens.read("roberta/vocabulary", hidden_act="relu")
    assert config.head is not None
    assert config.head.activation == "gelu_erf"
    assert config.encoder.layers[0].feed_forward.activation == "relu"


def test_a_sequence_is_dropped_before_and_after_its_dense_layer() -> None:
    config = goldens.read("roberta/sequence", classifier_dropout=0.3)
    assert config.head is not None
    assert config.head.input_dropout_rate == config.head.dropout_rate == 0.3
