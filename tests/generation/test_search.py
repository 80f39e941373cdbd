"""Greedy, drawn and searched sequences of a real decoder, beside all sequences that there are."""

from __future__ import annotations

import itertools
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import drawn

from encodax.errors import EncodaxError
from encodax.generation.search import (
    BeamSearch,
    DecodingLimits,
    Generated,
    LogitsRules,
    Sampling,
    apply_filters,
    beam_search,
    decode,
)
from encodax.nn import Transformer
from encodax.nn.kernels.numerics import MASK_VALUE
from encodax.options.presets import TransformerSize, transformer_config
from encodax.types.batches import PackedBatch, PairBatch

PAD, BEGIN, END, VOCABULARY, LONGEST = 0, 1, 2, 5, 4
ENDS = DecodingLimits(BEGIN, END, PAD, LONGEST)
CONFIG = transformer_config(TransformerSize(1, 8, 2, 12, 0.0), VOCABULARY)
SOURCES = PackedBatch.from_rows(
    jnp.array([[3, 4, 3, 2], [4, 2, 0, 0], [3, 3, 2, 0]]), jnp.array([4, 2, 3])
)


def parameters(seed: int) -> Any:
    pair = PairBatch(SOURCES, SOURCES)
    init = hk.transform(lambda: Transformer(CONFIG)(pair)).init
    return drawn(jax.eval_shape(init, jax.random.key(0)), seed)


def row_of(index: int) -> PackedBatch:
    """A source alone, padded as in the batch."""
    whole: PackedBatch = jax.tree.map(lambda leaf: leaf[index : index + 1], SOURCES)
    return whole


def run(params: Any, sources: PackedBatch, how: Any) -> Generated:
    """What `how(step, cache)` makes of these sources."""

    def block() -> Generated:
        model = Transformer(CONFIG)
        source = model.encode(sources)
        segments = jnp.asarray(sources.segment_ids)
        cache = model.begin(source, segments, room=ENDS.max_tokens)
        apply = hk.transform(lambda ids, cache: Transformer(CONFIG).step(ids, cache)).apply
        return how(lambda ids, cache: apply(hk.get_params(), None, ids, cache), cache)

    return jax.jit(hk.transform(block).apply)(params, None)


def every_sequence() -> list[tuple[int, ...]]:
    """All that end, or are cut."""
    others = [token for token in range(VOCABULARY) if token != END]
    ended = [(*start, END) for n in range(LONGEST) for start in itertools.product(others, repeat=n)]
    return ended + list(itertools.product(others, repeat=LONGEST))


def log_probability(params: Any, source: PackedBatch, sequences: list[tuple[int, ...]]) -> Any:
    """Of each sequence, from the scores of the whole decoder."""
    given = np.full((len(sequences), LONGEST), PAD)
    for row, sequence in enumerate(sequences):
        given[row, : len(sequence)] = [BEGIN, *sequence[:-1]]
    lengths = jnp.asarray([len(sequence) for sequence in sequences])
    target = PackedBatch.from_rows(jnp.asarray(given), lengths)
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(sequences), axis=0), source)
    block = hk.transform(lambda: Transformer(CONFIG)(PairBatch(many, target)).logits).apply
    logs = np.asarray(jax.nn.log_softmax(jax.jit(block)(params, None)))
    return [
        sum(logs[row, place, token] for place, token in enumerate(sequence))
        for row, sequence in enumerate(sequences)
    ]


def listed(found: Generated, row: int, rank: int = 0) -> tuple[int, ...]:
    """A sequence without its padding."""
    tokens = np.asarray(found.token_ids[row, rank])
    length = int(found.lengths[row, rank])
    assert (tokens[length:] == PAD).all()
    return tuple(tokens[:length].tolist())


@pytest.mark.parametrize(("seed", "alpha", "offset"), [(0, 0.0, 0.0), (1, 0.6, 5.0), (2, 1.0, 0.0)])
def test_enough_beams_find_the_best_of_all_sequences(
    seed: int, alpha: float, offset: float
) -> None:
    params, count = parameters(seed), 6
    beams = BeamSearch(4**LONGEST, alpha, offset, early_stopping="never")
    found = run(params, SOURCES, lambda step, cache: beam_search(step, cache, ENDS, beams))
    sequences = every_sequence()
    for row in range(3):
        logs = log_probability(params, row_of(row), sequences)
        scores = [log / beams.penalty(len(s)) for log, s in zip(logs, sequences, strict=True)]
        order = sorted(range(len(sequences)), key=lambda i: -scores[i])[:count]
        np.testing.assert_allclose(found.scores[row, :count], [scores[i] for i in order], rtol=1e-5)
        assert [listed(found, row, rank) for rank in range(count)] == [sequences[i] for i in order]


@pytest.mark.parametrize("seed", range(3))
def test_one_beam_is_greedy(seed: int) -> None:
    params = parameters(seed)
    greedy = run(params, SOURCES, lambda step, cache: decode(step, cache, ENDS))
    beams = BeamSearch(1, length_penalty=0.0)
    one = run(params, SOURCES, lambda step, cache: beam_search(step, cache, ENDS, beams))
    for row in range(3):
        assert listed(one, row) == listed(greedy, row)
    np.testing.assert_allclose(one.scores, greedy.scores, rtol=1e-5)


@pytest.mark.parametrize("seed", [1])
def test_greedy_takes_the_most_probable_token_each_time(seed: int) -> None:
    params = parameters(seed)
    found = run(params, SOURCES, lambda step, cache: decode(step, cache, ENDS))
    for row in range(3):
        sequence: tuple[int, ...] = ()
        while len(sequence) < LONGEST and sequence[-1:] != (END,):
            options = [(*sequence, token) for token in range(VOCABULARY)]
            sequence = options[int(np.argmax(log_probability(params, row_of(row), options)))]
        assert listed(found, row) == sequence
        log = log_probability(params, row_of(row), [sequence])[0]
        assert float(found.scores[row, 0]) == pytest.approx(log, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_a_row_does_not_depend_on_the_others(count: int) -> None:
    params = parameters(count)
    how = lambda step, cache: beam_search(step, cache, ENDS, BeamSearch(count))  # noqa: E731
    together = run(params, SOURCES, how)
    for row in range(3):
        alone = run(params, row_of(row), how)
        np.testing.assert_array_equal(together.token_ids[row], alone.token_ids[0])
        np.testing.assert_allclose(together.scores[row], alone.scores[0], rtol=1e-5)


def test_beams_are_different_and_best_first() -> None:
    found = run(
        parameters(3), SOURCES, lambda step, cache: beam_search(step, cache, ENDS, BeamSearch(4))
    )
    for row in range(3):
        assert len({listed(found, row, rank) for rank in range(4)}) == 4
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_what_never_ends_is_cut() -> None:
    params = parameters(0)

    def never(step: Any) -> Any:
        def without_end(ids: Any, cache: Any) -> Any:
            scores, cache = step(ids, cache)
            return scores.at[:, END].set(-1e9), cache

        return without_end

    for how in (
        lambda step, cache: decode(never(step), cache, ENDS),
        lambda step, cache: beam_search(never(step), cache, ENDS, BeamSearch(2)),
    ):
        found = run(params, SOURCES, how)
        assert (np.asarray(found.lengths) == LONGEST).all()


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(temperature=1e-4),
                                      Sampling(top_p=1e-6)])  # fmt: skip
def test_what_leaves_one_token_is_greedy(sampling: Sampling) -> None:
    params, keys = parameters(1), jax.random.split(jax.random.key(7), 3)
    greedy = run(params, SOURCES, lambda step, cache: decode(step, cache, ENDS))
    found = run(
        params,
        SOURCES,
        lambda step, cache: decode(step, cache, ENDS, sampling=sampling, keys=keys),
    )
    np.testing.assert_array_equal(found.token_ids, greedy.token_ids)
    np.testing.assert_array_equal(found.lengths, greedy.lengths)


def test_a_row_draws_by_its_own_key() -> None:
    params, keys = parameters(1), jax.random.split(jax.random.key(7), 3)

    def found(order: list[int]) -> list[tuple[int, ...]]:
        sources = jax.tree.map(lambda leaf: leaf[np.array(order)], SOURCES)
        chosen = keys[np.array(order)]
        sampling = Sampling(temperature=2.0)
        rows = run(
            params,
            sources,
            lambda step, cache: decode(step, cache, ENDS, sampling=sampling, keys=chosen),
        )
        return [listed(rows, row) for row in range(len(order))]

    together = found([0, 1, 2])
    assert found([2, 0, 0]) == [together[2], together[0], together[0]]
    assert [found([row]) for row in range(3)] == [[row] for row in together]


@pytest.mark.parametrize("count", [1, 4000])
def test_first_tokens_are_drawn_as_often_as_they_are_probable(count: int) -> None:
    """Whether each is drawn by a key of its own, or all are draws of one."""
    params, draws = parameters(2), 4000
    keys = jax.random.split(jax.random.key(0), draws // count)
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf, draws // count, axis=0), row_of(0))
    found = run(
        params,
        many,
        lambda step, cache: decode(
            step, cache, ENDS, sampling=Sampling(temperature=2.0), keys=keys, count=count
        ),
    )
    logs = np.asarray(log_probability(params, row_of(0), [(t,) for t in range(VOCABULARY)]))
    wanted = np.exp(logs / 2) / np.exp(logs / 2).sum()
    counts = np.bincount(np.asarray(found.token_ids[..., 0]).ravel(), minlength=VOCABULARY)
    np.testing.assert_allclose(counts / draws, wanted, atol=0.04)


def test_tokens_that_are_not_to_be_drawn() -> None:
    scores = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    kept = lambda sampling: (np.asarray(apply_filters(scores, sampling)) > -1e9)[0].tolist()  # noqa: E731
    assert kept(Sampling()) == [True] * 4
    assert kept(Sampling(top_k=2)) == [True, True, False, False]
    assert kept(Sampling(top_k=9)) == [True] * 4
    assert kept(Sampling(top_p=0.5)) == [True, False, False, False]
    assert kept(Sampling(top_p=0.51)) == [True, True, False, False]
    assert kept(Sampling(top_p=0.9)) == [True, True, True, False]


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 1e-30, 1.0, 1e30, 1e38, 1e300])
@pytest.mark.parametrize("choices", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_no_temperature_draws_what_never_is(temperature: float, choices: dict[str, Any]) -> None:
    scores = jnp.array([MASK_VALUE, -3.0, MASK_VALUE, -2.0, MASK_VALUE])
    kept = apply_filters(jnp.tile(scores, (512, 1)), Sampling(temperature, **choices))
    found = np.bincount(jax.random.categorical(jax.random.key(0), kept), minlength=5)
    wanted = jax.nn.softmax(jnp.array([-3.0, -2.0]) / temperature) if temperature > 1e-9 else [0, 1]
    assert found[[0, 2, 4]].sum() == 0
    np.testing.assert_allclose(found[[1, 3]] / 512, wanted, atol=0.07)


@pytest.mark.parametrize("top_p", [1e-300, 1e-45, 1e-30])
def test_the_smallest_share_leaves_one_token(top_p: float) -> None:
    kept = apply_filters(jnp.array([[MASK_VALUE, -3.0, -2.0]]), Sampling(top_p=top_p))
    assert (np.asarray(kept) > MASK_VALUE / 2).tolist() == [[False, False, True]]


@pytest.mark.parametrize("temperature", [1e-45, 1e30])
def test_padding_is_not_drawn_at_any_temperature(temperature: float) -> None:
    ends = DecodingLimits(BEGIN, END, PAD, LONGEST, LogitsRules(bad_words_ids=((PAD,), (BEGIN,))))
    keys = jax.random.split(jax.random.key(0), 3)
    found = run(
        parameters(1),
        SOURCES,
        lambda step, cache: decode(step, cache, ends, sampling=Sampling(temperature), keys=keys),
    )
    written = [token for row in range(3) for token in listed(found, row)]
    assert not {PAD, BEGIN} & set(written)
    assert (np.asarray(found.scores) > -1e9).all()


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecodingLimits(1, 2, 0, 0), "max_tokens = 0 is below 1"),
        (lambda: DecodingLimits(1, 2, 0, 1.5), "max_tokens = 1.5 is not a whole number"),
        (lambda: BeamSearch(0), "beams = 0 is below 1"),
        (lambda: BeamSearch(2.5), "beams = 2.5 is not a whole number"),
        (lambda: BeamSearch(math.nan), "beams = nan is not a whole number"),
        (lambda: BeamSearch(length_penalty=math.nan), r"length_penalty = nan is not in -5\.\.5"),
        (lambda: BeamSearch(length_penalty=-6.0), r"length_penalty = -6\.0 is not in -5\.\.5"),
        (lambda: BeamSearch(length_penalty=math.inf), r"length_penalty = inf is not in -5\.\.5"),
        (lambda: BeamSearch(offset=-0.5), r"offset = -0\.5 is not in 0\.\.1000000"),
        (lambda: BeamSearch(offset=math.nan), r"offset = nan is not in 0\.\.1000000"),
        (lambda: BeamSearch(offset=math.inf), r"offset = inf is not in 0\.\.1000000"),
        (lambda: BeamSearch(early_stopping="soon"), "early_stopping = 'soon' is not one of: False"),
        (lambda: Sampling(temperature=0.0), "temperature = 0.0 is not above 0 and finite"),
        (lambda: Sampling(temperature=math.nan), "temperature = nan is not above 0 and finite"),
        (lambda: Sampling(temperature=math.inf), "temperature = inf is not above 0 and finite"),
        (lambda: Sampling(top_k=0), "top_k = 0 is below 1"),
        (lambda: Sampling(top_k=1.5), "top_k = 1.5 is not a whole number"),
        (lambda: Sampling(top_p=1.5), "top_p = 1.5 is not in 0..1"),
        (lambda: Sampling(top_p=math.nan), "top_p = nan is not in 0..1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(EncodaxError, match=message):
        make()
