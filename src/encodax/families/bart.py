"""BART: the Transformer with learned positions and a norm after the embeddings.

Lewis et al. 2020, arXiv:1910.13461. Models published as `BartModel`, as BART's authors did, have
neither an output bias nor the prefix `model.` in tensor names.
"""

from __future__ import annotations

from typing import Any

from encodax.config import NormConfig, TransformerConfig
from encodax.families import marian
from encodax.families.config_reader import ConfigReader
from encodax.families.seq2seq import Seq2SeqFamily
from encodax.families.tensors import NORM, TABLE, Table

ARCHITECTURE, BARE = "BartForConditionalGeneration", "BartModel"
IDS = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
POSITION_OFFSET = 2
"""Row of the position table that position 0 takes, whatever the padding token."""

STACKS: Table = {
    **marian.STACKS,
    **{
        f"{side}/embeddings/{ours}": (f"model.{side}.{theirs}", leaves)
        for side in ("encoder", "decoder")
        for ours, theirs, leaves in (
            ("position", "embed_positions", TABLE),
            ("norm", "layernorm_embedding", NORM),
        )
    },
}


def transformer(published: ConfigReader) -> TransformerConfig:
    """Convert a published configuration to that of the stacks."""
    embeddings = {
        "positions": "learned",
        "max_positions": published.integer("max_position_embeddings", minimum=1),
        "position_offset": POSITION_OFFSET,
        "norm": NormConfig(marian.NORM_EPS),
    }
    named = published["architectures"] or [ARCHITECTURE]
    return marian.stacks(published, embeddings, output_bias=named != [BARE])


def keys(config: TransformerConfig) -> dict[str, Any]:
    """Convert a configuration of the stacks to published keys."""
    architecture = ARCHITECTURE if config.output_bias else BARE
    return {**marian.keys(config), "architectures": [architecture]}


FAMILY = Seq2SeqFamily(
    MODEL_TYPE="bart",
    architecture=ARCHITECTURE,
    other_architectures=(BARE,),
    prefix="model.",
    transformer=transformer,
    published=keys,
    table=lambda config: STACKS,
    defaults={**marian.DEFAULTS, **IDS},
    refused={**marian.REFUSED, "static_position_embeddings": True, "normalize_embedding": False},
    aliases=marian.ALIASES,
    fixed=marian.FIXED,
    tensor_aliases=marian.COPIES,
)
