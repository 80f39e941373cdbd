"""Rules for the next token: changes to its scores for repetitions, lengths, and fixed tokens.

Each rule is a pure function (scores, history) -> scores, a logits processor in transformers. Names
are those of `generation_config.json`, and the order is that of transformers
(`GenerationMixin._get_logits_processor`). All run under `jax.jit`: shapes do not depend on the
current length of a sequence.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from encodax.errors import EncodaxError
from encodax.nn.kernels.numerics import MASK_VALUE

FLOAT32 = np.finfo(np.float32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """Tokens of each row so far."""

    token_ids: Int[Array, "R M"]
    """Decoder start token, then the generated tokens; the rest is undefined."""
    generated: Int[Array, ""]
    """Number of generated tokens."""
    source_ids: Int[Array, "R S"]
    is_source: Bool[Array, "R S"]
    """Whether it is a token of the source rather than padding."""

    @property
    def length(self) -> Int[Array, ""]:
        """Number of tokens so far, the decoder start token included."""
        return self.generated + 1


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


Processor = Callable[[Float[Array, "R V"], History], Float[Array, "R V"]]


@dataclass(frozen=True)
class LogitsRules:
    """Changes to the scores of the next token; by default there are none."""

    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    """(tokens, bias): added to the score of the last token if the others precede it."""
    encoder_repetition_penalty: float = 1.0
    """Penalty; above 1, tokens of the source become more likely."""
    repetition_penalty: float = 1.0
    """Penalty; above 1, tokens that occurred become less likely (Keskar et al. 2019,
    arXiv:1909.05858, section 4.1)."""
    no_repeat_ngram_size: int = 0
    """Size of the n-grams that occur only once; 0 for no limit."""
    encoder_no_repeat_ngram_size: int = 0
    """Size of the n-grams of the source that never occur; 0 for no limit."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that never occur."""
    min_tokens: int = 0
    """Minimum number of tokens before EOS."""
    forced_bos_token_id: int | None = None
    """First token of every sequence, with probability 1."""
    forced_eos_token_id: tuple[int, ...] = ()
    """Last token of a sequence that reaches the maximum length."""
    remove_invalid_values: bool = False
    """Replace NaN scores by 0, and infinite ones by the largest number."""
    exponential_decay_length_penalty: tuple[int, float] | None = None
    """(tokens, factor): after `tokens` tokens, the score of EOS grows by powers of `factor`."""
    suppress_tokens: tuple[int, ...] = ()
    """Tokens that never occur."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Tokens that no sequence begins with."""
    renormalize_logits: bool = False
    """Normalise the remaining probabilities to sum to 1."""

    def __post_init__(self) -> None:
        for name in ("repetition_penalty", "encoder_repetition_penalty"):
            if not 0 < getattr(self, name) < math.inf:
                raise EncodaxError(f"{name} = {getattr(self, name)} is not above 0 and finite")
        for name in ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_tokens"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 0:
                raise EncodaxError(f"{name} = {value!r} is not a whole number >= 0")

    def changed(self, **fields: Any) -> LogitsRules:
        """Return a copy with other values; None keeps a value, and lists become tuples.

        Raises:
            EncodaxError: there is no such field, or its value is invalid.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in fields:
            if name not in known:
                raise EncodaxError(f"the rule {name!r} is not known; known: {', '.join(known)}")
        given = {name: _frozen(value) for name, value in fields.items() if value is not None}
        return dataclasses.replace(self, **given)

    @property
    def only_bans(self) -> bool:
        """Whether the rules change no scores except those of banned tokens."""
        return (
            self.encoder_repetition_penalty == self.repetition_penalty == 1.0
            and not self.sequence_bias
            and self.forced_bos_token_id is None
            and not self.forced_eos_token_id
            and not self.remove_invalid_values
            and self.exponential_decay_length_penalty is None
            and not self.renormalize_logits
        )

    def is_forced(self, generated: Int[Array, ""], max_tokens: int) -> Bool[Array, ""]:
        """Return whether the next token is chosen by a rule rather than by the model."""
        first = (generated == 0) & (self.forced_bos_token_id is not None)
        return first | ((generated == max_tokens - 1) & bool(self.forced_eos_token_id))

    def token_ids(self) -> dict[str, tuple[int, ...]]:
        """Return the token ids that each rule names, by the name of the rule."""
        first = self.forced_bos_token_id
        return {
            "sequence_bias": tuple(i for tokens, _ in self.sequence_bias for i in tokens),
            "bad_words_ids": tuple(i for tokens in self.bad_words_ids for i in tokens),
            "forced_bos_token_id": () if first is None else (first,),
            "forced_eos_token_id": self.forced_eos_token_id,
            "suppress_tokens": self.suppress_tokens,
            "begin_suppress_tokens": self.begin_suppress_tokens,
        }

    def processors(self, eos_ids: tuple[int, ...], max_tokens: int) -> list[Processor]:
        """Return the rules that change something, in order.

        Args:
            eos_ids: tokens that end a sequence.
            max_tokens: maximum number of tokens of a sequence.
        """
        found: list[Processor] = []
        partial = functools.partial
        if self.sequence_bias:
            found.append(partial(bias_sequences, biases=dict(self.sequence_bias)))
        if self.encoder_repetition_penalty != 1:
            penalty = 1 / self.encoder_repetition_penalty
            found.append(partial(penalize_repetition, penalty=penalty, of_source=True))
        if self.repetition_penalty != 1:
            found.append(partial(penalize_repetition, penalty=self.repetition_penalty))
        if self.no_repeat_ngram_size:
            found.append(partial(ban_repeated_ngrams, size=self.no_repeat_ngram_size))
        if self.encoder_no_repeat_ngram_size:
            size = self.encoder_no_repeat_ngram_size
            found.append(partial(ban_repeated_ngrams, size=size, of_source=True))
        ends = {(end,) for end in eos_ids}  # an EOS token is never banned
        if words := [word for word in self.bad_words_ids if word not in ends]:
            found.append(partial(bias_sequences, biases=dict.fromkeys(words, MASK_VALUE)))
        if self.min_tokens:
            found.append(partial(ban_tokens, tokens=eos_ids, before=self.min_tokens))
        if self.forced_bos_token_id is not None:
            found.append(partial(force_tokens, tokens=(self.forced_bos_token_id,), place=0))
        if self.forced_eos_token_id:
            found.append(
                partial(force_tokens, tokens=self.forced_eos_token_id, place=max_tokens - 1)
            )
        if self.remove_invalid_values:
            found.append(made_finite)
        if self.exponential_decay_length_penalty is not None:
            start, factor = self.exponential_decay_length_penalty
            found.append(partial(decay_length, eos_ids=eos_ids, start=start, factor=factor))
        if self.suppress_tokens:
            found.append(partial(ban_tokens, tokens=self.suppress_tokens))
        if self.begin_suppress_tokens:
            place = 0 if self.forced_bos_token_id is None else 1
            found.append(partial(ban_tokens, tokens=self.begin_suppress_tokens, at=place))
        if self.renormalize_logits:
            found.append(renormalized)
        return found


def apply_processors(processors: Sequence[Processor], scores: Array, history: History) -> Array:
    """Return the scores after applying every rule in order."""
    for process in processors:
        scores = process(scores, history)
    return scores


def is_among(tokens: Sequence[int], scores: Float[Array, "R V"]) -> Bool[np.ndarray, " V"]:
    """Return a mask of `tokens` in the vocabulary."""
    found = np.zeros(scores.shape[-1], bool)
    found[list(tokens)] = True
    return found


def seen_ids(
    token_ids: Int[Array, "R M"], counts: Bool[Array, "#R M"], vocabulary: int
) -> Bool[Array, "R V"]:
    """Return a mask of the tokens of each row, counting only the positions in `counts`."""
    rows = jnp.arange(token_ids.shape[0])[:, None]
    places = jnp.where(counts, token_ids, vocabulary)
    none = jnp.zeros((token_ids.shape[0], vocabulary), bool)
    return none.at[rows, places].set(True, mode="drop")


def ban_tokens(
    scores: Array,
    history: History,
    *,
    tokens: Sequence[int],
    before: int | None = None,
    at: int | None = None,
) -> Array:
    """Mask `tokens`: always, at position `at`, or before `before` tokens were generated."""
    out = jnp.asarray(is_among(tokens, scores))
    if before is not None:
        out &= history.generated < before
    if at is not None:
        out &= history.generated == at
    return jnp.where(out, MASK_VALUE, scores)


def force_tokens(scores: Array, history: History, *, tokens: Sequence[int], place: int) -> Array:
    """Set the scores of `tokens` to 0 and mask all others, at one position."""
    only = jnp.where(is_among(tokens, scores), 0.0, MASK_VALUE)
    return jnp.where(history.generated == place, only, scores)


def bias_sequences(
    scores: Array, history: History, *, biases: Mapping[tuple[int, ...], float]
) -> Array:
    """Add a bias to the last token of each sequence whose other tokens precede it."""
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for sequence in biases:
        by_length.setdefault(len(sequence) - 1, []).append(sequence)
    added = jnp.zeros_like(scores)
    for before, sequences in by_length.items():  # all sequences of one length at once
        if before > history.token_ids.shape[1]:
            continue
        table, start = np.asarray(sequences), history.length - before
        last = jax.lax.dynamic_slice_in_dim(history.token_ids, start, before, axis=1)
        follows = (last[:, None] == table[None, :, :-1]).all(axis=2) & (start >= 0)  # (R, n)
        values = np.asarray([biases[sequence] for sequence in sequences], np.float32)
        added = added.at[:, table[:, -1]].add(jnp.where(follows, values, 0.0))
    return scores + added


def penalize_repetition(
    scores: Array, history: History, *, penalty: float, of_source: bool = False
) -> Array:
    """Divide the scores of tokens that occurred by the penalty; multiply those below 0."""
    if of_source:
        there, counts = history.source_ids, history.is_source
    else:
        there = history.token_ids
        counts = jnp.arange(there.shape[1])[None] < history.length
    seen = seen_ids(there, counts, scores.shape[-1])
    # Masked scores stay masked.
    lower = jnp.where(scores > MASK_VALUE / 2, scores * penalty, scores)
    return jnp.where(seen, jnp.where(scores < 0, lower, scores / penalty), scores)


def ban_repeated_ngrams(
    scores: Array, history: History, *, size: int, of_source: bool = False
) -> Array:
    """Mask tokens that would repeat an n-gram of `size` tokens, of the target or of the source."""
    if of_source:
        there, counts = history.source_ids, history.is_source
    else:
        there = history.token_ids
        counts = jnp.broadcast_to(jnp.arange(there.shape[1]) < history.length, there.shape)
    windows = there.shape[1] - size + 1
    if windows < 1 or size - 1 > history.token_ids.shape[1]:
        return scores
    start = history.length - (size - 1)
    prefix = jax.lax.dynamic_slice_in_dim(history.token_ids, start, size - 1, axis=1)
    same = jnp.broadcast_to(start >= 0, (there.shape[0], windows))
    for place in range(size - 1):
        same &= there[:, place : place + windows] == prefix[:, place, None]
    same &= counts[:, size - 1 :]
    out = seen_ids(there[:, size - 1 :], same, scores.shape[-1])
    return jnp.where(out, MASK_VALUE, scores)


def made_finite(scores: Array, history: History) -> Array:
    """Replace NaN by 0, and infinity by the largest number."""
    scores = jnp.where(jnp.isnan(scores), 0.0, scores)
    return jnp.clip(scores, MASK_VALUE, FLOAT32.max.item())


def decay_length(
    scores: Array, history: History, *, eos_ids: Sequence[int], start: int, factor: float
) -> Array:
    """Raise the scores of EOS by |score| (factor^n - 1), n tokens after `start`."""
    beyond = history.generated - start
    urge = jnp.power(factor, jnp.maximum(beyond, 0).astype(jnp.float32)) - 1
    raised = is_among(eos_ids, scores) & (beyond > 0) & (scores > MASK_VALUE / 2)
    return jnp.where(raised, scores + jnp.abs(scores) * urge, scores)


def renormalized(scores: Array, history: History) -> Array:
    """Return log-probabilities among the tokens that are not masked."""
    logs = scores - jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    return jnp.where(scores > MASK_VALUE / 2, logs, MASK_VALUE)
