"""The sizes by name are the published ones."""

from __future__ import annotations

import jax
import pytest

from encodax.config import ModelConfig
from encodax.families import bert
from encodax.models.forward import parameter_shapes
from encodax.options.presets import PRESETS
from encodax.training import NewModel

VOCABULARY = 30_522
PUBLISHED = {"tiny": 4_385_920, "mini": 11_170_560, "small": 28_763_648, "base": 109_482_240}
"""Parameters of the published checkpoints: the encoder and the pooler, D * D + D."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_as_many_parameters_as_published(name: str) -> None:
    shape = NewModel(**PRESETS[name])
    config = ModelConfig(shape.encoder(VOCABULARY))
    head = bert.FAMILY.new_head(config, "sequence", 2)
    assert head.dense_width == shape.width
    count = sum(leaf.size for leaf in jax.tree.leaves(parameter_shapes(config)))
    assert count + shape.width * (shape.width + 1) == PUBLISHED[name]
