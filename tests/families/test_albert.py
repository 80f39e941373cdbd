"""ALBERT and ELECTRA: narrow embeddings; and layers that share parameters."""

import goldens
import pytest

from encodax.errors import EncodaxError
from encodax.families import albert, electra


@pytest.mark.parametrize(
    ("groups", "numbers"), [(1, (0, 0, 0, 0)), (2, (0, 0, 1, 1)), (4, (0, 1, 2, 3))]
)
def test_layers_stand_in_groups_one_after_the_other(groups: int, numbers: tuple[int, ...]) -> None:
    config = goldens.read("albert/encoder", num_hidden_groups=groups)
    assert config.encoder.parameter_groups == numbers
    assert albert.FAMILY.read_config(albert.FAMILY.write_config(config)) == config
    layers = {path.split("/")[1] for path in goldens.shapes(config) if "layer_" in path}
    assert layers == {f"layer_{number}" for number in set(numbers)}


def test_a_group_has_one_place_in_the_file() -> None:
    config = goldens.read("albert/encoder")
    tensor = albert.FAMILY.tensor(config, "encoder/layer_1/feed_forward/up", "w")
    assert tensor.name == "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.weight"


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_that_do_not_come_out_even_are_refused(groups: int) -> None:
    with pytest.raises(EncodaxError, match="num_hidden_groups"):
        goldens.read("albert/encoder", num_hidden_groups=groups)


def test_more_than_one_layer_in_a_group_is_refused() -> None:
    with pytest.raises(EncodaxError, match="inner_group_num = 2 is not supported"):
        goldens.read("albert/encoder", inner_group_num=2)


@pytest.mark.parametrize("width", [6, 8])
def test_albert_always_has_the_widening_layer_and_electra_where_widths_differ(width: int) -> None:
    for family, always in ((albert.FAMILY, True), (electra.FAMILY, False)):
        golden = f"{family.MODEL_TYPE}/encoder"
        config = goldens.read(golden, embedding_size=width)
        embeddings = config.encoder.embeddings
        assert embeddings.width == width
        assert embeddings.model_width == 8
        assert (embeddings.projected_width is not None) == (always or width != 8)
        assert family.read_config(family.write_config(config)) == config


@pytest.mark.parametrize("name", ["albert", "electra"])
def test_the_masked_lm_goes_back_to_the_width_of_the_embeddings(name: str) -> None:
    head = goldens.read(f"{name}/vocabulary").head
    assert head is not None
    assert (head.dense_width, head.tied) == (6, True)
