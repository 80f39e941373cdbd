"""Encoder-decoder Transformer of Vaswani et al. 2017, section 3."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import UNROLLED, ExecutionConfig, TransformerConfig
from encodax.nn import decoder as decoders
from encodax.nn import functional
from encodax.nn.decoder import Decoder, DecoderCache
from encodax.nn.encoder import Encoder
from encodax.nn.linear import Linear
from encodax.types.batches import ModelOutput, PackedBatch, PairBatch

STAGES = frozenset({"source_attention", "source_hidden", *decoders.STAGES})
"""Stages that `record` can name."""


class Transformer:
    """Encoder-decoder model: an encoder, a decoder that attends to its output, and token scores.

    It is not a Haiku module, so the parameters are those of its parts: `encoder/...`,
    `decoder/...`, and where it is not shared `output`. Create it inside `hk.transform`.
    """

    def __init__(self, config: TransformerConfig, execution: ExecutionConfig = UNROLLED):
        """Set the configuration and the execution of the stacks."""
        self.config = config
        self.encoder = Encoder(config.encoder, execution, name="encoder")
        self.decoder = Decoder(config.decoder, execution, name="decoder")
        vocabulary = config.decoder.embeddings.vocabulary_size
        self._output = Linear(vocabulary, bias=config.output_bias, name="output")

    def __call__(
        self,
        batch: PairBatch,
        *,
        is_training: bool = False,
        record: AbstractSet[str] = frozenset(),
    ) -> ModelOutput:
        """Return scores, before softmax, of the token after each token of the targets: (B, T, V).

        Args:
            batch: sources, and inputs of the decoder.
            is_training: apply dropout.
            record: stages to keep. L arrays each: `source_attention` (B, H, S, S),
                `target_attention` (B, H, T, T), `cross_attention` (B, H, T, S). L + 1 arrays each:
                `source_hidden` (B, S, D), `target_hidden` (B, T, D), the embeddings first.

        Raises:
            ValueError: an unknown stage, or an id out of range (see `Embeddings`).
        """
        functional.check_stages(record, STAGES)
        of_encoder = {stage for stage in ("attention", "hidden") if f"source_{stage}" in record}
        source = self.encoder(batch.source, is_training=is_training, record=of_encoder)
        target = self.decoder(
            batch.target,
            source.hidden,
            jnp.asarray(batch.source.segment_ids),
            token_table=self._shared_table(),
            is_training=is_training,
            record=record,
        )
        of_source = {f"source_{stage}": kept for stage, kept in source.records.items()}
        records = {**of_source, **target.records}
        return ModelOutput(target.hidden, self._scores(target.hidden), records=records)

    def encode(self, source: PackedBatch, *, is_training: bool = False) -> Float[Array, "B S D"]:
        """Return the state of every token of the sources."""
        return self.encoder(source, is_training=is_training).hidden

    def begin(
        self, source: Float[Array, "B S D"], source_segments: Int[Array, "B S"], room: int
    ) -> DecoderCache:
        """Return the cache before the first token of a target, with one source in each row.

        Args:
            source: output of `encode`.
            source_segments: 1 for the tokens of a source, 0 for padding.
            room: largest number of tokens of a target.
        """
        return self.decoder.begin(source, source_segments, room)

    def step(
        self, token_ids: Int[Array, " B"], cache: DecoderCache
    ) -> tuple[Float[Array, "B V"], DecoderCache]:
        """Return scores of the next token of each row, and the cache with this token added."""
        hidden, cache = self.decoder.step(token_ids, cache, token_table=self._shared_table())
        return self._scores_of_few(hidden), cache

    def _shared_table(self) -> Float[Array, "V D"] | None:
        return self.encoder.token_table() if self.config.shared_embeddings else None

    def _scores_of_few(self, hidden: Float[Array, "B D"]) -> Float[Array, "B V"]:
        """Return the scores of one token in each row, as (table hidden^T)^T.

        XLA on CPU runs that up to three times as fast as the product with the transposed table.
        """
        table = self._table()
        if not self.config.tied_output or table.dtype != hidden.dtype:
            return self._scores(hidden)
        scores = functional.linear(table, {"w": hidden.T * self.config.output_scale}).T
        bias = self._output.tied_to(table).get("b")
        return scores if bias is None else scores + jnp.asarray(bias)

    def _table(self) -> Float[Array, "V D"]:
        """Return the target's token embeddings."""
        shared = self._shared_table()
        return self.decoder.token_table() if shared is None else shared

    def _scores(self, hidden: Float[Array, "*rows D"]) -> Float[Array, "*rows V"]:
        if self.config.output_scale != 1:
            hidden = hidden * self.config.output_scale
        if not self.config.tied_output:
            return self._output(hidden)
        return functional.linear(hidden, self._output.tied_to(self._table()))
