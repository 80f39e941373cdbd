"""mBART: BART with the norms before each sublayer, for many languages.

Liu et al. 2020, arXiv:2001.08210. The tokenizer ends or begins a source with its language token;
the first token of the target is the language to generate.
"""

from __future__ import annotations

from typing import Any

from encodax.config import NormConfig, TransformerConfig
from encodax.families import bart, marian
from encodax.families.config_reader import ConfigReader
from encodax.families.seq2seq import Seq2SeqFamily
from encodax.families.tensors import Table

IDS = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
STACKS: Table = {**bart.STACKS, **marian.FINAL_NORMS}


def transformer(published: ConfigReader) -> TransformerConfig:
    """Convert a published configuration to that of the stacks."""
    embeddings: dict[str, Any] = {
        "positions": "learned",
        "max_positions": published.integer("max_position_embeddings", minimum=1),
        "position_offset": bart.POSITION_OFFSET,
        "norm": NormConfig(marian.NORM_EPS),
    }
    return marian.stacks(published, embeddings, pre_norm=True)


FAMILY = Seq2SeqFamily(
    MODEL_TYPE="mbart",
    architecture="MBartForConditionalGeneration",
    transformer=transformer,
    published=marian.keys,
    table=lambda config: STACKS,
    defaults={**marian.DEFAULTS, **IDS},
    refused={
        **marian.REFUSED_OF_PRE_NORM,
        "static_position_embeddings": True,
        "normalize_embedding": False,
    },
    aliases=marian.ALIASES,
    fixed=marian.FIXED,
    tensor_aliases=marian.COPIES,
)
