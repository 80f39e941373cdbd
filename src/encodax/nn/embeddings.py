"""From token ids to vectors."""

from __future__ import annotations

import math

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.config import EmbeddingsConfig
from encodax.nn import functional
from encodax.nn.layer_norm import LayerNorm
from encodax.types import AnyArray, PackedBatch


class Table(hk.Module):
    """A trained table with one row of width D for each id, drawn from N(0, 1/D)."""

    def __init__(self, rows: int, width: int, what: str, name: str):
        """`what` is the name of an id in errors."""
        super().__init__(name=name)
        self.rows = rows
        self.width = width
        self.what = what

    def __call__(self, ids: Int[Array, "*rows"]) -> Float[Array, "*rows D"]:
        """The rows of those ids; an id outside the table is a ValueError, where ids are known."""
        functional.check_below(self.what, ids, self.rows)
        normal = hk.initializers.RandomNormal(1 / math.sqrt(self.width))
        return hk.get_parameter("w", (self.rows, self.width), jnp.float32, normal)[ids]


class Embeddings(hk.Module):
    """token (* sqrt(D)) + position + type, then layer norm and dropout.

    Vaswani et al. 2017, sections 3.4 and 3.5; the token type and the norm are of BERT (Devlin et
    al. 2019, section 3). Parameters: `token/w` (V, D), and where the config has them `position/w`,
    `type/w` and `norm/{alpha,beta}`.
    """

    def __init__(self, config: EmbeddingsConfig, name: str = "embeddings"):
        super().__init__(name=name)
        self.config = config

    def __call__(
        self, batch: PackedBatch | Int[AnyArray, "B T"], *, is_training: bool = False
    ) -> Float[Array, "B T D"]:
        """Embed a packed batch, or plain (B, T) ids with one sequence a row.

        Raises:
            ValueError: an id outside the vocabulary, or a position beyond the table, named with
                its limit. Under jit the values are not known: `Model.batch` checks them before.
        """
        config = self.config
        batch = batch if isinstance(batch, PackedBatch) else PackedBatch.from_rows(batch)

        tokens = Table(config.vocabulary_size, config.width, "token id", name="token")
        x = tokens(jnp.asarray(batch.token_ids))  # (B, T, D)
        if config.scale_by_sqrt_width:
            x *= math.sqrt(config.width)
        x += self._positions(jnp.asarray(batch.position_ids))
        if config.type_vocabulary_size:
            kinds = Table(config.type_vocabulary_size, config.width, "token type", name="type")
            x += kinds(jnp.asarray(batch.type_ids))
        if config.norm is not None:
            x = LayerNorm(eps=config.norm.eps, name="norm")(x)
        return functional.dropout(x, config.dropout_rate, is_training)

    @hk.name_like("__call__")
    def _positions(self, position_ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        config = self.config
        if config.positions == "sinusoidal":
            if config.max_positions is not None:
                functional.check_below("position", position_ids, config.max_positions)
            # A position never reaches the number of tokens in a row: no longer table is needed.
            return functional.sinusoidal_table(position_ids.shape[1], config.width)[position_ids]
        if config.max_positions is None:
            raise ValueError("learned positions need max_positions, the rows of their table")
        return Table(config.max_positions, config.width, "position", name="position")(position_ids)
