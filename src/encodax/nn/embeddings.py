"""Embeddings: vectors of token ids."""

from __future__ import annotations

import math

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import EmbeddingsConfig
from encodax.nn import functional
from encodax.nn.layer_norm import norm_of
from encodax.nn.linear import Linear
from encodax.nn.mask_dropout import drop_masks
from encodax.types.batches import AnyArray, PackedBatch


class EmbeddingTable(hk.Module):
    """Trained table with one row of width D for each id, initialized from N(0, 1/D)."""

    def __init__(self, rows: int, width: int, what: str, name: str):
        """Set the size of the table; `what` is the name of an id in errors."""
        super().__init__(name=name)
        self.rows = rows
        self.width = width
        self.what = what

    def __call__(self, ids: Int[Array, "*rows"]) -> Float[Array, "*rows D"]:
        """Return the rows of `ids`; an id outside the table is a ValueError where ids are known."""
        functional.check_below(self.what, ids, self.rows)
        return self.weights()[ids]

    @hk.name_like("__call__")
    def weights(self) -> Float[Array, "V D"]:
        """Return the whole table."""
        normal = hk.initializers.RandomNormal(1 / math.sqrt(self.width))
        return hk.get_parameter("w", (self.rows, self.width), jnp.float32, normal)


class Embeddings(hk.Module):
    """Embeddings: token (* sqrt(D)) + position + type, layer norm, dropout, and a projection.

    Vaswani et al. 2017, sections 3.4 and 3.5; the token type and the norm are of BERT (Devlin et
    al. 2019, section 3). Parameters: `token/w` (V, D), and where the config has them `position/w`,
    `type/w`, `norm/{alpha,beta}` and `projection/{w,b}`.
    """

    def __init__(self, config: EmbeddingsConfig, name: str = "embeddings"):
        super().__init__(name=name)
        self.config = config

    def __call__(
        self,
        batch: PackedBatch | Int[AnyArray, "B T"],
        *,
        token_table: Float[Array, "V D"] | None = None,
        positions: int | None = None,
        is_training: bool = False,
    ) -> Float[Array, "B T D"]:
        """Embed a packed batch, or plain (B, T) ids with one sequence a row.

        Args:
            batch: packed batch or token ids.
            token_table: shared token embeddings of another module; None for those of this one.
            positions: one more than the highest position; None for T, the tokens of a row.
            is_training: apply dropout.

        Raises:
            ValueError: an id outside the vocabulary, or a position beyond the table, named with
                its limit. Under jit the values are not known: `Model.batch` checks them before.
        """
        config = self.config
        batch = batch if isinstance(batch, PackedBatch) else PackedBatch.from_rows(batch)

        token_ids = jnp.asarray(batch.token_ids)
        x = self._tokens()(token_ids) if token_table is None else token_table[token_ids]
        if config.scale_by_sqrt_width:
            x *= math.sqrt(config.width)
        if config.mask_dropout is not None:
            x = drop_masks(x, batch, config.mask_dropout)
        if config.positions is not None:
            x += self._positions(batch, positions)
        if config.type_vocabulary_size:
            kinds = EmbeddingTable(
                config.type_vocabulary_size, config.width, "token type", name="type"
            )
            type_ids = jnp.asarray(batch.type_ids)
            x += kinds(type_ids if config.type_vocabulary_size > 1 else type_ids * 0)
        if config.norm is not None:
            x = norm_of(config.norm, "norm")(x)
        x = functional.dropout(x, config.dropout_rate, is_training)
        if config.projected_width is not None:
            x = Linear(config.projected_width, name="projection")(x)
        return x

    @hk.name_like("__call__")
    def token_table(self) -> Float[Array, "V D"]:
        """Return the table of token embeddings, for an output layer that is tied to it."""
        return self._tokens().weights()

    @hk.name_like("__call__")
    def _tokens(self) -> EmbeddingTable:
        return EmbeddingTable(
            self.config.vocabulary_size, self.config.width, "token id", name="token"
        )

    @hk.name_like("__call__")
    def _positions(self, batch: PackedBatch, positions: int | None) -> Float[Array, "B T D"]:
        config, position_ids = self.config, jnp.asarray(batch.position_ids)  # (B, T)
        if config.positions != "learned":
            if config.max_positions is not None:
                functional.check_below("position", position_ids, config.max_positions)
            # A position is always below the number of tokens in a row: no longer table is needed.
            rows = position_ids.shape[1] if positions is None else positions
            halves = config.positions == "sinusoidal_halves"
            return functional.sinusoidal_table(rows, config.width, halves=halves)[position_ids]
        if config.max_positions is None:
            raise ValueError("learned positions need max_positions, the rows of their table")
        functional.check_below("position", position_ids, config.max_positions)
        rows = config.max_positions + config.position_offset
        table = EmbeddingTable(rows, config.width, "position", name="position")
        if config.uncounted_id is not None:
            position_ids = positions_without_padding(
                jnp.asarray(batch.token_ids), position_ids, config.uncounted_id
            )
        return table(position_ids + config.position_offset)


def positions_without_padding(
    token_ids: Int[Array, "B T"], position_ids: Int[Array, "B T"], uncounted_id: int
) -> Int[Array, "B T"]:
    """Return positions counted without the tokens `uncounted_id`, which get -1.

    RoBERTa and models like it number tokens so: a padding token in a text does not move the others.
    """
    is_left_out = token_ids == uncounted_id  # (B, T)
    up_to = jnp.cumsum(is_left_out, axis=1, dtype=jnp.int32)  # (B, T), from the row's first token
    first = jnp.arange(token_ids.shape[1]) - position_ids  # (B, T), where the sequence begins
    before = jnp.take_along_axis(up_to - is_left_out, first, axis=1)  # (B, T), in other sequences
    return jnp.where(is_left_out, -1, position_ids - (up_to - before))
