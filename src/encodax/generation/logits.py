"""What may come next, beside what the model says: repetitions, lengths, forced and banned tokens.

Each rule is a pure function (scores, history) -> scores, in the order in which transformers applies
them (`GenerationMixin._get_logits_processor`); names are those of its `generation_config.json`. All
run under `jax.jit`: shapes do not depend on how long a sequence has become.
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
from encodax.nn.functional import MASK_VALUE

FLOAT32 = np.finfo(np.float32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """What each row has so far."""

    token_ids: Int[Array, "R M"]
    """The token that the decoder begins with, those generated, then whatever is there."""
    generated: Int[Array, ""]
    """How many were generated."""
    source_ids: Int[Array, "R S"]
    is_source: Bool[Array, "R S"]
    """Whether it is a token of the source, not padding."""

    @property
    def length(self) -> Int[Array, ""]:
        """Tokens so far, the first one included."""
        return self.generated + 1


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


Processor = Callable[[Float[Array, "R V"], History], Float[Array, "R V"]]


@dataclass(frozen=True)
class LogitsRules:
    """Changes to the scores of the next token; the values here change none."""

    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    """(tokens, what is added to the score of the last one after the others)."""
    encoder_repetition_penalty: float = 1.0
    """Beyond 1, tokens of the source become likelier."""
    repetition_penalty: float = 1.0
    """Beyond 1, tokens that are there become less likely (Keskar et al. 2019, arXiv:1909.05858,
    section 4.1)."""
    no_repeat_ngram_size: int = 0
    """No so many tokens in a row come twice; 0 for any."""
    encoder_no_repeat_ngram_size: int = 0
    """No so many tokens in a row are those of the source; 0 for any."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that never come."""
    min_tokens: int = 0
    """No sequence ends before so many tokens, the end not counted."""
    forced_bos_token_id: int | None = None
    """What every sequence begins with, with probability 1."""
    forced_eos_token_id: tuple[int, ...] = ()
    """What stands last in a sequence that is as long as it may become."""
    remove_invalid_values: bool = False
    """Scores that are no number count as 0, and infinite ones as the largest number."""
    exponential_decay_length_penalty: tuple[int, float] | None = None
    """(tokens, factor): from then on the end gains by powers of the factor."""
    suppress_tokens: tuple[int, ...] = ()
    """Tokens that no sequence has."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Tokens that no sequence begins with."""
    renormalize_logits: bool = False
    """Probabilities of what is left add up to 1 again."""

    def __post_init__(self) -> None:
        for name in ("repetition_penalty", "encoder_repetition_penalty"):
            if not 0 < getattr(self, name) < math.inf:
                raise EncodaxError(f"{name} = {getattr(self, name)} is not above 0 and finite")
        for name in ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_tokens"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 0:
                raise EncodaxError(f"{name} = {value!r} is no whole number from 0 on")

    def changed(self, **fields: Any) -> LogitsRules:
        """The same with other values, but where these are None; lists count as tuples.

        Raises:
            EncodaxError: there is no such field, or its value is none.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in fields:
            if name not in known:
                raise EncodaxError(f"there is no option {name!r}; rules: {', '.join(known)}")
        given = {name: _frozen(value) for name, value in fields.items() if value is not None}
        return dataclasses.replace(self, **given)

    @property
    def only_bans(self) -> bool:
        """Whether scores stay as they are, but for tokens that are out of the question."""
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
        """Whether the next token is chosen by a rule, not by the model."""
        first = (generated == 0) & (self.forced_bos_token_id is not None)
        return first | ((generated == max_tokens - 1) & bool(self.forced_eos_token_id))

    def token_ids(self) -> dict[str, tuple[int, ...]]:
        """Every token that is named, by the rule that names it."""
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
        """The rules that change something, in order.

        Args:
            eos_ids: tokens that end a sequence.
            max_tokens: most tokens of a sequence.
        """
        found: list[Processor] = []
        partial = functools.partial
        if self.sequence_bias:
            found.append(partial(biased, biases=dict(self.sequence_bias)))
        if self.encoder_repetition_penalty != 1:
            penalty = 1 / self.encoder_repetition_penalty
            found.append(partial(penalized, penalty=penalty, of_source=True))
        if self.repetition_penalty != 1:
            found.append(partial(penalized, penalty=self.repetition_penalty))
        if self.no_repeat_ngram_size:
            found.append(partial(without_repeats, size=self.no_repeat_ngram_size))
        if self.encoder_no_repeat_ngram_size:
            size = self.encoder_no_repeat_ngram_size
            found.append(partial(without_repeats, size=size, of_source=True))
        ends = {(end,) for end in eos_ids}  # to end is never forbidden
        if words := [word for word in self.bad_words_ids if word not in ends]:
            found.append(partial(biased, biases=dict.fromkeys(words, MASK_VALUE)))
        if self.min_tokens:
            found.append(partial(banned, tokens=eos_ids, before=self.min_tokens))
        if self.forced_bos_token_id is not None:
            found.append(partial(forced, tokens=(self.forced_bos_token_id,), place=0))
        if self.forced_eos_token_id:
            found.append(partial(forced, tokens=self.forced_eos_token_id, place=max_tokens - 1))
        if self.remove_invalid_values:
            found.append(made_finite)
        if self.exponential_decay_length_penalty is not None:
            start, factor = self.exponential_decay_length_penalty
            found.append(partial(urged_to_end, eos_ids=eos_ids, start=start, factor=factor))
        if self.suppress_tokens:
            found.append(partial(banned, tokens=self.suppress_tokens))
        if self.begin_suppress_tokens:
            place = 0 if self.forced_bos_token_id is None else 1
            found.append(partial(banned, tokens=self.begin_suppress_tokens, at=place))
        if self.renormalize_logits:
            found.append(renormalized)
        return found


def applied(processors: Sequence[Processor], scores: Array, history: History) -> Array:
    """The scores after every rule, one after another."""
    for process in processors:
        scores = process(scores, history)
    return scores


def is_among(tokens: Sequence[int], scores: Float[Array, "R V"]) -> Bool[np.ndarray, " V"]:
    """Which tokens of the vocabulary these are."""
    found = np.zeros(scores.shape[-1], bool)
    found[list(tokens)] = True
    return found


def seen_ids(
    token_ids: Int[Array, "R M"], counts: Bool[Array, "#R M"], vocabulary: int
) -> Bool[Array, "R V"]:
    """Which tokens of the vocabulary are in each row, at the places that count."""
    rows = jnp.arange(token_ids.shape[0])[:, None]
    places = jnp.where(counts, token_ids, vocabulary)
    none = jnp.zeros((token_ids.shape[0], vocabulary), bool)
    return none.at[rows, places].set(True, mode="drop")


def banned(
    scores: Array,
    history: History,
    *,
    tokens: Sequence[int],
    before: int | None = None,
    at: int | None = None,
) -> Array:
    """`MASK_VALUE` for these tokens: always, at one place, or before so many were generated."""
    out = jnp.asarray(is_among(tokens, scores))
    if before is not None:
        out &= history.generated < before
    if at is not None:
        out &= history.generated == at
    return jnp.where(out, MASK_VALUE, scores)


def forced(scores: Array, history: History, *, tokens: Sequence[int], place: int) -> Array:
    """At one place a score of 0 for these tokens, and `MASK_VALUE` for all others."""
    only = jnp.where(is_among(tokens, scores), 0.0, MASK_VALUE)
    return jnp.where(history.generated == place, only, scores)


def biased(scores: Array, history: History, *, biases: Mapping[tuple[int, ...], float]) -> Array:
    """What is added to the last token of a sequence where the others stand before it."""
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for sequence in biases:
        by_length.setdefault(len(sequence) - 1, []).append(sequence)
    added = jnp.zeros_like(scores)
    for before, sequences in by_length.items():  # of one length all at once
        if before > history.token_ids.shape[1]:
            continue
        table, start = np.asarray(sequences), history.length - before
        last = jax.lax.dynamic_slice_in_dim(history.token_ids, start, before, axis=1)
        follows = (last[:, None] == table[None, :, :-1]).all(axis=2) & (start >= 0)  # (R, n)
        values = np.asarray([biases[sequence] for sequence in sequences], np.float32)
        added = added.at[:, table[:, -1]].add(jnp.where(follows, values, 0.0))
    return scores + added


def penalized(scores: Array, history: History, *, penalty: float, of_source: bool = False) -> Array:
    """Scores of tokens that are there, divided by the penalty; multiplied where below 0."""
    if of_source:
        there, counts = history.source_ids, history.is_source
    else:
        there = history.token_ids
        counts = jnp.arange(there.shape[1])[None] < history.length
    seen = seen_ids(there, counts, scores.shape[-1])
    # What is out of the question stays so.
    lower = jnp.where(scores > MASK_VALUE / 2, scores * penalty, scores)
    return jnp.where(seen, jnp.where(scores < 0, lower, scores / penalty), scores)


def without_repeats(
    scores: Array, history: History, *, size: int, of_source: bool = False
) -> Array:
    """`MASK_VALUE` for what would make a row of so many tokens that is there, or in the source."""
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
    """0 for what is no number, the largest number for infinity."""
    scores = jnp.where(jnp.isnan(scores), 0.0, scores)
    return jnp.clip(scores, MASK_VALUE, FLOAT32.max.item())


def urged_to_end(
    scores: Array, history: History, *, eos_ids: Sequence[int], start: int, factor: float
) -> Array:
    """Scores of the end, raised by |score| (factor^n - 1), n tokens after the start."""
    beyond = history.generated - start
    urge = jnp.power(factor, jnp.maximum(beyond, 0).astype(jnp.float32)) - 1
    raised = is_among(eos_ids, scores) & (beyond > 0) & (scores > MASK_VALUE / 2)
    return jnp.where(raised, scores + jnp.abs(scores) * urge, scores)


def renormalized(scores: Array, history: History) -> Array:
    """Log-probabilities among what is left."""
    logs = scores - jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    return jnp.where(scores > MASK_VALUE / 2, logs, MASK_VALUE)
