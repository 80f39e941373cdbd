"""PEGASUS: Marian with the norms before each sublayer, for summarization.

Zhang et al. 2020, arXiv:1912.08777.
"""

from __future__ import annotations

from encodax.config import TransformerConfig
from encodax.families import marian
from encodax.families.config_reader import ConfigReader
from encodax.families.seq2seq import Seq2SeqFamily
from encodax.families.tensors import Table

IDS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
STACKS: Table = {**marian.STACKS, **marian.FINAL_NORMS}


def transformer(published: ConfigReader) -> TransformerConfig:
    """Convert a published configuration to that of the stacks."""
    positions = published.integer("max_position_embeddings", minimum=1)
    embeddings = {"positions": "sinusoidal_halves", "max_positions": positions}
    return marian.stacks(published, embeddings, pre_norm=True)


FAMILY = Seq2SeqFamily(
    MODEL_TYPE="pegasus",
    architecture="PegasusForConditionalGeneration",
    transformer=transformer,
    published=marian.keys,
    table=lambda config: STACKS,
    defaults={**marian.DEFAULTS, **IDS},
    refused={
        **marian.REFUSED_OF_PRE_NORM,
        "static_position_embeddings": False,
        "normalize_embedding": True,
    },
    aliases=marian.ALIASES,
    fixed=marian.FIXED,
    tensor_aliases=marian.COPIES,
    position_tables=tuple(
        f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")
    ),
    ignored_tensors=(r"model\.(encoder|decoder)\.embed_positions\.weight",),
)
