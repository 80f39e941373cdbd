"""Sequences from a decoder: greedy search, sampling, or beam search.

All functions run under `jax.jit`, with shapes fixed by the maximum length: one compiled program
for each number of rows, whatever the lengths. The decoder is a function
(tokens, cache) -> (scores of the next token, cache), such as `Transformer.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from encodax.config import Seq2SeqConfig
from encodax.errors import EncodaxError
from encodax.generation.logits import History, Processor, apply_processors
from encodax.generation.logits import LogitsRules as LogitsRules
from encodax.generation.sampling import Sampling as Sampling
from encodax.generation.sampling import apply_filters as apply_filters
from encodax.generation.sampling import check_count
from encodax.nn.decoder import DecoderCache
from encodax.nn.functional import at_tokens
from encodax.nn.kernels.numerics import MASK_VALUE

Step = Callable[[Array, DecoderCache], tuple[Array, DecoderCache]]
"""(R,) tokens and a cache of R rows -> (R, V) logits, and the next cache."""

MOST_LENGTH_PENALTY = 5
"""Maximum absolute length penalty; beyond it, scores of long sequences overflow float32."""
MOST_OFFSET = 1_000_000
"""Offset so large that the length of a sequence makes no difference."""

EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True)
class DecodingLimits:
    """Start, end and maximum length of sequences."""

    decoder_start_id: int
    """First decoder input; it is not part of the sequence."""
    eos_id: int | tuple[int, ...]
    """Token that ends a sequence; several tokens may do so."""
    pad_id: int
    """Token after the end."""
    max_tokens: int
    """Maximum number of tokens, EOS included; longer sequences are cut."""
    rules: LogitsRules = field(default_factory=LogitsRules)
    """Rules that change the scores of the next token."""
    max_buffer_length: int | None = None
    """L, number of tokens there is memory for, if less than `max_tokens`; sequences that have not
    ended by then are left unfinished. None for `max_tokens`."""

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All tokens that end a sequence."""
        return (self.eos_id,) if isinstance(self.eos_id, int) else self.eos_id

    @property
    def buffer_length(self) -> int:
        """L, number of tokens there is memory for."""
        return min(self.max_buffer_length or self.max_tokens, self.max_tokens)

    @property
    def processors(self) -> list[Processor]:
        """Rules that change something, in order."""
        return self.rules.processors(self.eos_ids, self.max_tokens)

    def is_end(self, tokens: Int[Array, "*rows"]) -> Bool[Array, "*rows"]:
        """Return which of these tokens end a sequence."""
        return jnp.isin(tokens, jnp.asarray(self.eos_ids))

    @classmethod
    def of(cls, config: Seq2SeqConfig, max_tokens: int) -> DecodingLimits:
        """Return the limits of a model."""
        return cls(
            config.decoder_start_id,
            config.eos_id,
            config.pad_id,
            max_tokens,
            LogitsRules(
                bad_words_ids=tuple((token,) for token in config.suppressed_ids),
                forced_bos_token_id=config.forced_bos_id,
            ),
        )

    def check(self, cache: DecoderCache) -> None:
        """Refuse a cache that is too small: its last keys would be overwritten repeatedly.

        Raises:
            EncodaxError: the cache is too small; the error names both sizes.
        """
        room = cache.layers[0].own.keys.shape[1] if cache.layers else self.buffer_length
        if self.buffer_length > room:
            raise EncodaxError(
                f"max_tokens = {self.buffer_length} is more than the {room} that the cache has "
                "room for"
            )


@dataclass(frozen=True)
class BeamSearch:
    """Settings of beam search, and the score that compares sequences of different lengths.

    score(Y) = log P(Y) / ((offset + |Y|) / (offset + 1))^alpha
    """

    size: int = 4
    """k, the number of beams."""
    length_penalty: float = 0.6
    """alpha; 0 compares log-probabilities, 1 with an offset of 0 their means."""
    offset: float = 5.0
    """5 gives the penalty of Wu et al. 2016 (arXiv:1609.08144, equation 14), as in Vaswani et al.
    2017, section 6.1; 0 gives |Y|^alpha, as in transformers."""
    early_stopping: EarlyStopping = False
    """Condition to stop when k sequences have ended: at once (True); when no unfinished sequence,
    at its current length, scores among the best k (False); or when none can ever do so ("never").
    Names are those of transformers."""

    def __post_init__(self) -> None:
        check_count("beams", self.size)
        if not abs(self.length_penalty) <= MOST_LENGTH_PENALTY:
            raise EncodaxError(
                f"length_penalty = {self.length_penalty} is not in "
                f"{-MOST_LENGTH_PENALTY}..{MOST_LENGTH_PENALTY}"
            )
        if not 0 <= self.offset <= MOST_OFFSET:
            raise EncodaxError(f"offset = {self.offset} is not in 0..{MOST_OFFSET}")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise EncodaxError(
                f"early_stopping = {self.early_stopping!r} is not one of: False, True, 'never'"
            )

    def penalty(self, tokens: Any) -> Any:
        """Return the divisor of the score of sequences of `tokens` tokens."""
        return ((self.offset + tokens) / (self.offset + 1)) ** self.length_penalty


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Generated:
    """Generated sequences of each row: from beam search best first, from sampling in order."""

    token_ids: Int[Array, "B n L"]
    """Token ids, EOS included, then padding."""
    lengths: Int[Array, "B n"]
    """Number of tokens of each sequence, EOS included."""
    scores: Float[Array, "B n"]
    """Sum of log-probabilities; in beam search divided by the length penalty."""
    is_open: Bool[Array, " B"]
    """Rows for which `DecodingLimits.room` was too small; their result is not valid."""


def decode(
    step: Step,
    cache: DecoderCache,
    ends: DecodingLimits,
    *,
    sampling: Sampling | None = None,
    keys: Key[Array, " B"] | None = None,
    count: int = 1,
    source_ids: Int[Array, "B S"] | None = None,
) -> Generated:
    """Generate one sequence for each row by greedy search, or `count` sequences by sampling.

    Args:
        step: the decoder.
        cache: cache of B rows before the first token, with room for L tokens.
        ends: start, end and rules of sequences.
        sampling: sampling settings; None for greedy search.
        keys: random key of each row; its result does not depend on the other rows.
        count: n, number of sequences to sample for each row; the first is the same for every n.
        source_ids: tokens of the source of each row, for rules that read them.
    """
    ends.check(cache)
    if count > 1:
        assert keys is not None, "the most probable sequence is one"
        cache, keys = cache.repeated(count), _of_draws(keys, count)
        source_ids = None if source_ids is None else jnp.repeat(source_ids, count, axis=0)
    rows, processors = cache.source_segments.shape[0], ends.processors

    def choose(scores: Float[Array, "B V"], place: Int[Array, ""]) -> Int[Array, " B"]:
        if sampling is None:
            return _largest(scores)
        assert keys is not None, "sampling needs keys"
        at_place = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
        drawn = jax.vmap(jax.random.categorical)(at_place, apply_filters(scores, sampling))
        return drawn.astype(jnp.int32)

    def body(state: _DecodeState) -> _DecodeState:
        scores, kept = step(state.last, state.cache)
        scores = scores.astype(jnp.float32)
        if processors:
            history = _history(state.token_ids, state.place, ends, cache, source_ids)
            chosen = choose(apply_processors(processors, scores, history), state.place)
        else:
            chosen = choose(scores, state.place)
        of_chosen = jnp.take_along_axis(scores, chosen[:, None], axis=1)[:, 0]
        of_chosen -= jax.nn.logsumexp(scores, axis=-1)
        forced = ends.rules.is_forced(state.place, ends.max_tokens)
        of_chosen = jnp.where(state.ended | forced, 0.0, of_chosen)
        chosen = jnp.where(state.ended, ends.pad_id, chosen)
        return _DecodeState(
            place=state.place + 1,
            last=chosen,
            cache=kept,
            token_ids=state.token_ids.at[:, state.place].set(chosen),
            lengths=state.lengths + ~state.ended,
            scores=state.scores + of_chosen,
            ended=state.ended | ends.is_end(chosen),
        )

    start = _DecodeState(
        place=jnp.zeros((), jnp.int32),
        last=jnp.full((rows,), ends.decoder_start_id, jnp.int32),
        cache=cache,
        token_ids=jnp.full((rows, ends.buffer_length), ends.pad_id, jnp.int32),
        lengths=jnp.zeros((rows,), jnp.int32),
        scores=jnp.zeros((rows,)),
        ended=jnp.zeros((rows,), bool),
    )
    end = jax.lax.while_loop(
        lambda state: (state.place < ends.buffer_length) & ~state.ended.all(), body, start
    )
    is_open = ~end.ended & (end.place < ends.max_tokens)
    return Generated(
        end.token_ids.reshape(-1, count, ends.buffer_length),
        end.lengths.reshape(-1, count),
        end.scores.reshape(-1, count),
        is_open.reshape(-1, count).any(axis=1),
    )


def _of_draws(keys: Key[Array, " B"], count: int) -> Key[Array, " R"]:
    """Return the keys of n samples of each row: its own, then n - 1 that no position uses."""
    numbers = np.uint32(2**32 - 1) - np.arange(count - 1, dtype=np.uint32)
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
    return jnp.concatenate([keys[:, None], fold(keys, numbers)], axis=1).reshape(-1)


def _history(
    token_ids: Int[Array, "R L"],
    place: Int[Array, ""],
    ends: DecodingLimits,
    cache: DecoderCache,
    source_ids: Int[Array, "R S"] | None,
) -> History:
    """Return the tokens of each row so far, the decoder start token included."""
    first = jnp.full((token_ids.shape[0], 1), ends.decoder_start_id, jnp.int32)
    segments = cache.source_segments
    needs = ends.rules.encoder_repetition_penalty != 1 or ends.rules.encoder_no_repeat_ngram_size
    assert source_ids is not None or not needs, "rules that look at sources need source_ids"
    source_ids = jnp.zeros_like(segments) if source_ids is None else source_ids
    return History(jnp.concatenate([first, token_ids], 1), place, source_ids, segments > 0)


class _DecodeState(NamedTuple):
    """State of greedy search or sampling: rows that grow by one token at a time."""

    place: Int[Array, ""]
    last: Int[Array, " B"]
    cache: DecoderCache
    token_ids: Int[Array, "B L"]
    lengths: Int[Array, " B"]
    scores: Float[Array, " B"]
    ended: Bool[Array, " B"]


def beam_search(
    step: Step,
    cache: DecoderCache,
    ends: DecodingLimits,
    beams: BeamSearch,
    *,
    source_ids: Int[Array, "B S"] | None = None,
) -> Generated:
    """Find the k best sequences of each row by beam search.

    Each unfinished sequence is extended by every token, and the 2 k most probable extensions are
    considered: of the first k, those that end are kept if they are among the k best ended
    sequences; of the others, the k most probable stay unfinished. With 2 k extensions, k stay
    unfinished even if k end; if n tokens are EOS, (n + 1) k extensions are considered.

    Args:
        step: the decoder.
        cache: cache of B rows before the first token, with room for L tokens.
        ends: start, end and rules of sequences.
        beams: number of beams, and how they are compared.
        source_ids: tokens of the source of each row, for rules that read them.
    """
    ends.check(cache)
    rows, count, limit = cache.source_segments.shape[0], beams.size, ends.max_tokens
    considered = (1 + len(ends.eos_ids)) * count
    processors = ends.processors
    if source_ids is not None:
        source_ids = jnp.repeat(source_ids, count, axis=0)

    def next_scores(
        state: _BeamState,
    ) -> tuple[Float[Array, "R V"], Float[Array, " R"], DecoderCache]:
        """Return the scores of the next tokens, and what to subtract for log-probabilities."""
        scores, cache = step(state.last.reshape(-1), state.cache)
        scores = scores.astype(jnp.float32)
        total = jax.nn.logsumexp(scores, axis=-1)
        if processors:
            if not ends.rules.only_bans:  # the rules are for log-probabilities of all tokens
                scores, total = scores - total[:, None], jnp.zeros_like(total)
            tokens = state.token_ids.reshape(rows * count, -1)
            history = _history(tokens, state.place, ends, state.cache, source_ids)
            scores = apply_processors(processors, scores, history)
        return scores, total, cache

    def body(state: _BeamState) -> _BeamState:
        scores, total, cache = next_scores(state)
        longer = _best_extensions(state, scores, total, considered)
        length = state.place + 1
        ends_here = ends.is_end(longer.token) | (length == limit)
        may_end = ends_here & (jnp.arange(longer.sums.shape[1]) < count) & state.searching[:, None]
        may_end &= longer.sums > MASK_VALUE / 2  # at the first token, one of the k is real
        found = jnp.where(may_end, longer.sums / beams.penalty(length), MASK_VALUE)
        ended = _best_ended(state, longer, found, length)

        open_sums, best = jax.lax.top_k(jnp.where(ends_here, MASK_VALUE, longer.sums), count)
        origin = at_tokens(longer.parent, best) + jnp.arange(rows)[:, None] * count  # (B, k)
        # A row that has stopped does not change, so that it does not depend on the other rows.
        reach = limit if beams.early_stopping == "never" and beams.length_penalty > 0 else length
        hope = open_sums[:, 0] / beams.penalty(reach)
        worst = ended.ended_scores[:, -1]
        searching = state.searching & (hope > worst) & (open_sums[:, 0] > MASK_VALUE / 2)
        if beams.early_stopping is True:
            searching &= worst <= MASK_VALUE / 2
        return ended._replace(
            place=length,
            searching=searching,
            cache=cache.reordered(origin.reshape(-1)),
            token_ids=at_tokens(longer.token_ids, best),
            last=at_tokens(longer.token, best),
            sums=open_sums,
        )

    empty = jnp.full((rows, count, ends.buffer_length), ends.pad_id, jnp.int32)
    # All beams are equal at first: the others would be copies of the first one.
    only_first = jnp.where(jnp.arange(count) == 0, 0.0, MASK_VALUE)
    start = _BeamState(
        place=jnp.zeros((), jnp.int32),
        searching=jnp.ones((rows,), bool),
        cache=cache.repeated(count),
        token_ids=empty,
        last=jnp.full((rows, count), ends.decoder_start_id, jnp.int32),
        sums=jnp.broadcast_to(only_first, (rows, count)),
        ended_ids=empty,
        ended_lengths=jnp.zeros((rows, count), jnp.int32),
        ended_scores=jnp.full((rows, count), MASK_VALUE),
    )
    end = jax.lax.while_loop(
        lambda state: (state.place < ends.buffer_length) & state.searching.any(), body, start
    )
    is_open = end.searching & (end.place < limit)
    return Generated(end.ended_ids, end.ended_lengths, end.ended_scores, is_open)


class _BeamState(NamedTuple):
    """State of beam search: of each row, k unfinished sequences and the k best ended ones."""

    place: Int[Array, ""]
    searching: Bool[Array, " B"]
    """Whether an unfinished sequence may still become one of the k best."""
    cache: DecoderCache
    token_ids: Int[Array, "B k L"]
    last: Int[Array, "B k"]
    sums: Float[Array, "B k"]
    """Sums of log-probabilities, best first."""
    ended_ids: Int[Array, "B k L"]
    ended_lengths: Int[Array, "B k"]
    ended_scores: Float[Array, "B k"]


class _Extensions(NamedTuple):
    """Most probable extensions by one token of the k unfinished sequences of each row."""

    sums: Float[Array, "B m"]
    """Sums of log-probabilities, best first."""
    token: Int[Array, "B m"]
    """The token that is added."""
    parent: Int[Array, "B m"]
    """Index of the sequence that is extended."""
    token_ids: Int[Array, "B m L"]


def _best_extensions(
    state: _BeamState, scores: Float[Array, "R V"], total: Float[Array, " R"], considered: int
) -> _Extensions:
    """Return the `considered` most probable extensions of each row.

    Log-probability is score - total: it is computed for the best tokens only.
    """
    rows, count = state.sums.shape
    # Only the best of each beam can be among the best of all.
    each = min(considered, scores.shape[-1])
    scores, token = jax.lax.top_k(scores, each)  # (B * k, m)
    sums = state.sums[..., None] + (scores - total[:, None]).reshape(rows, count, each)
    sums, index = jax.lax.top_k(sums.reshape(rows, -1), min(considered, count * each))  # (B, m)
    parent, token = index // each, at_tokens(token.reshape(rows, -1), index)
    longer = at_tokens(state.token_ids, parent).at[:, :, state.place].set(token)
    return _Extensions(sums, token, parent, longer)


def _best_ended(
    state: _BeamState,
    longer: _Extensions,
    found: Float[Array, "B m"],
    length: Int[Array, ""],
) -> _BeamState:
    """Keep the best of the ended sequences and of the extensions, by their scores `found`."""
    scores = jnp.concatenate([state.ended_scores, found], axis=1)
    scores, best = jax.lax.top_k(scores, state.ended_scores.shape[1])
    lengths = jnp.broadcast_to(length, found.shape)
    return state._replace(
        ended_ids=at_tokens(jnp.concatenate([state.ended_ids, longer.token_ids], axis=1), best),
        ended_lengths=at_tokens(jnp.concatenate([state.ended_lengths, lengths], axis=1), best),
        ended_scores=scores,
    )


def _largest(scores: Float[Array, "R V"]) -> Int[Array, " R"]:
    """Return the first index of the largest score: `jnp.argmax`, which is slow in XLA on CPU."""
    places = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    last = scores.shape[1] - 1
    is_largest = scores == jnp.max(scores, axis=1, keepdims=True)
    return jnp.min(jnp.where(is_largest, places, last), axis=1)
