"""Sequences from a decoder: the most probable token at a time, drawn, or the best of several beams.

All of it runs under `jax.jit`, with shapes that are fixed by how long a sequence may become: one
program for each number of rows, however long they turn out. The decoder is a function
(tokens, cache) -> (scores of the next token, cache), such as `Transformer.step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from encodax.config import Seq2SeqConfig
from encodax.errors import EncodaxError
from encodax.nn.decoder import DecoderCache
from encodax.nn.functional import at_tokens

Step = Callable[[Array, DecoderCache], tuple[Array, DecoderCache]]
"""(R,) tokens and a cache of R rows -> (R, V) scores before softmax, and the next cache."""

NEVER = -1e30
"""A log-probability below all others, and finite."""
FLOAT32 = np.finfo(np.float32)
MOST_ALPHA = 5
"""Beyond it, on either side, scores of long sequences leave the range of float32."""
MOST_OFFSET = 1_000_000
"""So much longer than any sequence that its length makes no difference."""

Stop = Literal["likely", "sure"]
STOPS: tuple[Stop, ...] = get_args(Stop)


def check_count(name: str, count: Any) -> None:
    """Refuse what cannot be a number of things.

    Raises:
        EncodaxError: it is no whole number, or below 1.
    """
    if not isinstance(count, Integral):
        raise EncodaxError(f"{name} = {count!r} is no whole number")
    if count < 1:
        raise EncodaxError(f"{name} = {count} is below 1")


@dataclass(frozen=True)
class Ends:
    """Where a sequence begins, and where it ends."""

    begin_id: int
    """What the decoder is given first; it is no part of the sequence."""
    end_id: int
    pad_id: int
    """What stands after the end."""
    max_tokens: int
    """L: a sequence that has not ended by then is cut, the end included."""
    never_ids: tuple[int, ...] = ()
    """Tokens that no sequence has."""
    first_id: int | None = None
    """What every sequence begins with, with probability 1; None for what is most probable."""

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens)

    @classmethod
    def of(cls, config: Seq2SeqConfig, max_tokens: int) -> Ends:
        """Those of a model."""
        return cls(
            config.begin_id,
            config.end_id,
            config.pad_id,
            max_tokens,
            config.never_ids,
            config.first_id,
        )

    def check(self, cache: DecoderCache) -> None:
        """Refuse a cache without room: the last keys would be written over, again and again.

        Raises:
            EncodaxError: names both numbers.
        """
        room = cache.layers[0].own.keys.shape[1] if cache.layers else self.max_tokens
        if self.max_tokens > room:
            raise EncodaxError(f"max_tokens = {self.max_tokens}, and the cache has room for {room}")


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn (Holtzman et al. 2020, arXiv:1904.09751, section 3)."""

    temperature: float = 1.0
    """Divides the scores; towards 0 the most probable token is all there is."""
    top_k: int | None = None
    """Draw from so many, the most probable ones."""
    top_p: float = 1.0
    """Draw from the fewest whose probabilities reach this."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise EncodaxError(f"temperature = {self.temperature} is not above 0 and finite")
        if self.top_k is not None:
            check_count("top_k", self.top_k)
        if not 0 < self.top_p <= 1:
            raise EncodaxError(f"top_p = {self.top_p} is not in 0..1")


@dataclass(frozen=True)
class Beams:
    """How beams are searched, and compared when they have different lengths.

    score(Y) = log P(Y) / ((offset + |Y|) / (offset + 1))^alpha
    """

    count: int = 4
    """k."""
    alpha: float = 0.6
    """0 compares log-probabilities, 1 their means where the offset is 0."""
    offset: float = 5.0
    """5 is the penalty of Wu et al. 2016 (arXiv:1609.08144, equation 14), as in Vaswani et al.
    2017, section 6.1; 0 is |Y|^alpha, as transformers has it."""
    stop: Stop = "likely"
    """When k sequences have ended: stop once no open one, scored at its present length, would be
    among them (as transformers does), or once none can become one of them."""

    def __post_init__(self) -> None:
        check_count("beams", self.count)
        if not abs(self.alpha) <= MOST_ALPHA:
            raise EncodaxError(f"alpha = {self.alpha} is not in {-MOST_ALPHA}..{MOST_ALPHA}")
        if not 0 <= self.offset <= MOST_OFFSET:
            raise EncodaxError(f"offset = {self.offset} is not in 0..{MOST_OFFSET}")
        if self.stop not in STOPS:
            raise EncodaxError(f"stop {self.stop!r} is not one of: {', '.join(STOPS)}")

    def penalty(self, tokens: Any) -> Any:
        """The divisor of sequences of so many tokens."""
        return ((self.offset + tokens) / (self.offset + 1)) ** self.alpha


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Generated:
    """Sequences of each row, best first."""

    token_ids: Int[Array, "B n L"]
    """The end included, padding after it."""
    lengths: Int[Array, "B n"]
    """Tokens of each, the end included."""
    scores: Float[Array, "B n"]
    """The sum of log-probabilities; of beams, divided by the penalty."""


def generate(
    step: Step,
    cache: DecoderCache,
    ends: Ends,
    *,
    sampling: Sampling | None = None,
    keys: Key[Array, " B"] | None = None,
) -> Generated:
    """One sequence a row: of the most probable token each time, or of tokens drawn.

    Args:
        step: the decoder.
        cache: before the first token, of B rows, with room for L tokens.
        ends: where sequences begin and end.
        sampling: how tokens are drawn; None for the most probable.
        keys: what each row draws with; with the same one it draws the same in any company.
    """
    ends.check(cache)
    rows = cache.source_segments.shape[0]

    def choose(scores: Float[Array, "B V"], place: Int[Array, ""]) -> Int[Array, " B"]:
        if sampling is None:
            return _largest(scores)
        assert keys is not None, "to draw tokens, keys are wanted"
        at_place = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
        drawn = jax.vmap(jax.random.categorical)(at_place, restricted(scores, sampling))
        return drawn.astype(jnp.int32)

    def body(state: _Open) -> _Open:
        scores, total, kept = _scored(step, state.last, state.cache, ends, state.place)
        chosen = choose(scores, state.place)
        of_chosen = jnp.take_along_axis(scores, chosen[:, None], axis=1)[:, 0] - total
        chosen = jnp.where(state.ended, ends.pad_id, chosen)
        return _Open(
            state.place + 1,
            chosen,
            kept,
            state.token_ids.at[:, state.place].set(chosen),
            state.lengths + ~state.ended,
            state.scores + jnp.where(state.ended, 0.0, of_chosen),
            state.ended | (chosen == ends.end_id),
        )

    start = _Open(
        jnp.zeros((), jnp.int32),
        jnp.full((rows,), ends.begin_id, jnp.int32),
        cache,
        jnp.full((rows, ends.max_tokens), ends.pad_id, jnp.int32),
        jnp.zeros((rows,), jnp.int32),
        jnp.zeros((rows,)),
        jnp.zeros((rows,), bool),
    )
    end = jax.lax.while_loop(
        lambda state: (state.place < ends.max_tokens) & ~state.ended.all(), body, start
    )
    return Generated(end.token_ids[:, None], end.lengths[:, None], end.scores[:, None])


class _Open(NamedTuple):
    """Rows that grow by a token at a time."""

    place: Int[Array, ""]
    last: Int[Array, " B"]
    cache: DecoderCache
    token_ids: Int[Array, "B L"]
    lengths: Int[Array, " B"]
    scores: Float[Array, " B"]
    ended: Bool[Array, " B"]


def restricted(scores: Float[Array, "B V"], sampling: Sampling) -> Float[Array, "B V"]:
    """Scores over the temperature, and `NEVER` for tokens that are not to be drawn.

    0 is that of the most probable token, so that no temperature leaves nothing to draw from.
    """
    best = jnp.max(scores, axis=-1, keepdims=True)
    temperature = np.clip(sampling.temperature, FLOAT32.tiny, FLOAT32.max).item()
    scores = jnp.where(scores > NEVER / 2, (scores - best) / temperature, NEVER)
    if sampling.top_k is not None:
        least = jax.lax.top_k(scores, min(sampling.top_k, scores.shape[-1]))[0][:, -1:]
        scores = jnp.where(scores >= least, scores, NEVER)
    if sampling.top_p < 1:
        ordered = jnp.sort(scores, axis=-1, descending=True)
        chances = jax.nn.softmax(ordered)
        before = jnp.cumsum(chances, axis=-1) - chances
        share = max(sampling.top_p, FLOAT32.tiny.item())
        least = jnp.min(jnp.where(before < share, ordered, jnp.inf), -1, keepdims=True)
        scores = jnp.where(scores >= least, scores, NEVER)
    return scores


def search(step: Step, cache: DecoderCache, ends: Ends, beams: Beams) -> Generated:
    """The k best sequences of each row that a beam search finds.

    Each open sequence is lengthened by every token, and of all these the 2 k most probable are
    looked at: those among the first k that end are kept if they are among the k best ended ones;
    the k most probable others stay open. With 2 k, k stay open whatever ends.

    Args:
        step: the decoder.
        cache: before the first token, of B rows, with room for L tokens.
        ends: where sequences begin and end.
        beams: how many, and how they are compared.
    """
    ends.check(cache)
    rows, count, most = cache.source_segments.shape[0], beams.count, ends.max_tokens

    def body(state: _Beams) -> _Beams:
        last = state.last.reshape(-1)
        scores, total, kept = _scored(step, last, state.cache, ends, state.place)
        # None but the best 2 k of a beam can be among those of all.
        each = min(2 * count, scores.shape[-1])
        scores, token = jax.lax.top_k(scores, each)  # (B * k, 2 k)
        sums = state.sums[..., None] + (scores - total[:, None]).reshape(rows, count, each)
        both = min(2 * count, count * each)
        sums, index = jax.lax.top_k(sums.reshape(rows, -1), both)  # (B, 2 k)
        parent, token = index // each, at_tokens(token.reshape(rows, -1), index)
        longer = at_tokens(state.token_ids, parent).at[:, :, state.place].set(token)
        length = state.place + 1
        ends_here = (token == ends.end_id) | (length == most)

        may_end = ends_here & (jnp.arange(both) < count) & state.searching[:, None]
        may_end &= sums > NEVER / 2  # of the first token, only one open sequence is real
        found = jnp.where(may_end, sums / beams.penalty(length), NEVER)
        ended_scores = jnp.concatenate([state.ended_scores, found], axis=1)
        ended_scores, best = jax.lax.top_k(ended_scores, count)
        ended_ids = at_tokens(jnp.concatenate([state.ended_ids, longer], axis=1), best)
        lengths = jnp.broadcast_to(length, found.shape)
        ended_lengths = at_tokens(jnp.concatenate([state.ended_lengths, lengths], axis=1), best)

        open_sums, best = jax.lax.top_k(jnp.where(ends_here, NEVER, sums), count)
        origin = at_tokens(parent, best) + jnp.arange(rows)[:, None] * count  # (B, k)
        # Of a row that has stopped nothing changes, so that it does not depend on the others.
        reach = most if beams.stop == "sure" and beams.alpha > 0 else length
        hope = open_sums[:, 0] / beams.penalty(reach)
        return _Beams(
            length,
            state.searching & (hope > ended_scores[:, -1]) & (open_sums[:, 0] > NEVER / 2),
            kept.reordered(origin.reshape(-1)),
            at_tokens(longer, best),
            at_tokens(token, best),
            open_sums,
            ended_ids,
            ended_lengths,
            ended_scores,
        )

    empty = jnp.full((rows, count, most), ends.pad_id, jnp.int32)
    first = jnp.where(jnp.arange(count) == 0, 0.0, NEVER)  # the others would be the same sequence
    start = _Beams(
        jnp.zeros((), jnp.int32),
        jnp.ones((rows,), bool),
        cache.repeated(count),
        empty,
        jnp.full((rows, count), ends.begin_id, jnp.int32),
        jnp.broadcast_to(first, (rows, count)),
        empty,
        jnp.zeros((rows, count), jnp.int32),
        jnp.full((rows, count), NEVER),
    )
    end = jax.lax.while_loop(
        lambda state: (state.place < most) & state.searching.any(), body, start
    )
    return Generated(end.ended_ids, end.ended_lengths, end.ended_scores)


class _Beams(NamedTuple):
    """Of each row k open sequences, and the k best that have ended."""

    place: Int[Array, ""]
    searching: Bool[Array, " B"]
    """Whether an open sequence may still be among the k best."""
    cache: DecoderCache
    token_ids: Int[Array, "B k L"]
    last: Int[Array, "B k"]
    sums: Float[Array, "B k"]
    """Of log-probabilities, best first."""
    ended_ids: Int[Array, "B k L"]
    ended_lengths: Int[Array, "B k"]
    ended_scores: Float[Array, "B k"]


def _scored(
    step: Step,
    token_ids: Int[Array, " R"],
    cache: DecoderCache,
    ends: Ends,
    place: Int[Array, ""],
) -> tuple[Float[Array, "R V"], Float[Array, " R"], DecoderCache]:
    """Scores of the next token of each row, `NEVER` for what is not to be, and log sum exp of all.

    Their difference is the log-probability, which is not made for a whole vocabulary. As in
    transformers, probabilities of what is left do not add up to 1 again.
    """
    scores, cache = step(token_ids, cache)
    scores = scores.astype(jnp.float32)
    total = jax.nn.logsumexp(scores, axis=-1)
    if ends.never_ids:
        scores = scores.at[:, np.asarray(ends.never_ids)].set(NEVER)
    if ends.first_id is not None:
        is_first = jnp.arange(scores.shape[-1]) == ends.first_id
        first = jnp.where(is_first, total[:, None], NEVER)
        scores = jnp.where(place == 0, first, scores)
    return scores, total, cache


def _largest(scores: Float[Array, "R V"]) -> Int[Array, " R"]:
    """The first place of the largest score: `jnp.argmax`, which XLA on CPU is slow at."""
    places = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    last = scores.shape[1] - 1
    is_largest = scores == jnp.max(scores, axis=1, keepdims=True)
    return jnp.min(jnp.where(is_largest, places, last), axis=1)
