"""Base of the models: length limits, checks of texts and indices, counts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from encodax.config import EmbeddingsConfig
from encodax.data.stream import ROW_TOKENS
from encodax.errors import EncodaxError
from encodax.nn import functional
from encodax.text.tokenizer import Encoding, Text, Tokenizer
from encodax.types.batches import AnyBatch, Params, packed_batches_of

logger = logging.getLogger(__name__)

CUT_MESSAGE = "%d texts were cut to %d tokens"
"""Log message for truncated texts: their number, and the tokens that are left."""


@runtime_checkable
class HasMaxLength(Protocol):
    """Interface of a configuration with a length limit."""

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens of a sequence, where it is below the number of positions."""


class BaseModel:
    """Base of encoder models and of sequence-to-sequence models."""

    params: Params
    tokenizer: Tokenizer

    @property
    def _length(self) -> HasMaxLength:
        """Configuration with the length limit."""
        raise NotImplementedError

    @property
    def _embeddings(self) -> Sequence[EmbeddingsConfig]:
        """Embeddings of each stack, the encoder's first."""
        raise NotImplementedError

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens of a sequence, special tokens included; None if unlimited."""
        return max_length(self._length, self._embeddings)

    @property
    def longest_sequence(self) -> int:
        """Maximum number of tokens of a sequence that is run, at most those of a row."""
        return longest_sequence(self._length, self._embeddings)

    def check(self, batch: AnyBatch) -> None:
        """Check, on the host, indices that JAX would silently clamp.

        Raises:
            EncodaxError: a token id is outside the vocabulary, or a position beyond the table.
        """
        sides = packed_batches_of(batch)
        for embeddings, side in zip(self._embeddings, sides, strict=False):
            functional.check_below("token id", side.token_ids, embeddings.vocabulary_size)
            if embeddings.max_positions is not None:
                functional.check_below("position", side.position_ids, embeddings.max_positions)

    def log_cut(self, count: int) -> None:
        """Log the number of texts that were cut to the longest sequence, if there are any."""
        if count:
            logger.warning(CUT_MESSAGE, count, self.longest_sequence)

    def parameter_count(self) -> int:
        """Return the number of trained values."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))

    def _tokenized(self, texts: Sequence[Text], names: Sequence[str]) -> list[Encoding]:
        """Tokenize texts (or pairs) of any length; refuse tokens outside the embedding."""
        check_texts(texts)
        encodings = self.tokenizer.encode(texts, names)
        self.tokenizer.check_rows(encodings, self._embeddings[0].vocabulary_size, names)
        return encodings


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse a string where a list is wanted.

    Raises:
        EncodaxError: `texts` is a string.
    """
    if isinstance(texts, str):
        raise EncodaxError("give a list of texts, not one string")


def max_length(config: HasMaxLength, embeddings: Sequence[EmbeddingsConfig]) -> int | None:
    """Return the maximum number of tokens of a sequence; None if unlimited."""
    limits = [config.max_length, *(each.max_positions for each in embeddings)]
    return min((limit for limit in limits if limit is not None), default=None)


def longest_sequence(config: HasMaxLength, embeddings: Sequence[EmbeddingsConfig]) -> int:
    """Return the maximum number of tokens of a sequence that is run."""
    return min(max_length(config, embeddings) or ROW_TOKENS[-1], ROW_TOKENS[-1])
