"""A model as a function of its embedded text: gradients along a path, guesses after each layer."""

from __future__ import annotations

import dataclasses
from typing import Any

import goldens
import goldens_seq2seq
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, normal, packed

from encodax import FillMask
from encodax.data.packing import assemble_pairs
from encodax.inspection import attribution
from encodax.models.encoder_model import Model
from encodax.types.batches import ModelOutput, PackedBatch, PairBatch

FAMILIES = sorted(goldens.ENCODERS)
"""Among them: narrow embeddings (ALBERT, ELECTRA), pre-norm and windows (ModernBERT), relative
positions (MPNet, DeBERTa), embeddings that masks change (ESM)."""
TEXTS = [[5, 3, 8, 9], [1, 7, 7]]
OTHERS = [[5, 11, 8, 2], [6, 7, 4]]


def of_family(family: str, head: str = "vocabulary") -> Model:
    return goldens.parts(f"{family}/{head}")


def without_layers(model: Model) -> Model:
    """Its embeddings, final norm and head."""
    none: dict[str, Any] = {"layers": (), "parameter_groups": None, "relative_positions": None}
    encoder = dataclasses.replace(model.config.encoder, **none)
    return dataclasses.replace(model, config=dataclasses.replace(model.config, encoder=encoder))


def rows(sequences: list[list[int]]) -> PackedBatch:
    """All in one row."""
    return packed(sequences, [[*range(len(sequences))]], tokens=7, slots=2)


def pairs(golden: str, source: list[int]) -> PairBatch:
    pair = goldens_seq2seq.pair_of(np.asarray(source), np.asarray([2, 6, 4]))
    batch = assemble_pairs([[pair]], row_count=1, row_tokens=(4, 3), slots=1)
    goldens_seq2seq.parts(golden).check(batch)
    return batch


# --- from the embeddings on


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_embedded_alone_decides(family: str) -> None:
    model, batch, other = of_family(family), rows(TEXTS), rows(OTHERS)

    @jax.jit
    def run(params: Any) -> Any:
        embedded = attribution.embeddings(model, params, other)
        found = attribution.from_embeddings(model, params, batch, embedded)
        return found, model.apply(params, other), model.apply(params, batch)

    found, wanted, own = run(model.params)
    assert found.logits.shape == (1, 7, model.config.head.classes)
    np.testing.assert_array_equal(found.logits, wanted.logits)
    np.testing.assert_array_equal(found.hidden, wanted.hidden)
    assert np.abs(found.logits - own.logits).max() > 1e-3


@pytest.mark.parametrize("golden", goldens_seq2seq.ALL)
def test_of_a_model_with_a_decoder_the_source_is_meant(golden: str) -> None:
    model = goldens_seq2seq.parts(golden)
    batch, other = pairs(golden, TEXTS[0]), pairs(golden, OTHERS[0])

    @jax.jit
    def run(params: Any) -> Any:
        embedded = attribution.embeddings(model, params, other)
        found = attribution.from_embeddings(model, params, batch, embedded)
        return found.logits, model.apply(params, other).logits, model.apply(params, batch).logits

    found, wanted, own = run(model.params)
    np.testing.assert_array_equal(found, wanted)
    assert np.abs(found - own).max() > 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_without_layers_a_state_goes_to_the_final_norm_and_the_head(family: str) -> None:
    model, batch = of_family(family), rows(TEXTS)
    places = jnp.array([[5, 1]])

    @jax.jit
    def run(params: Any) -> Any:
        whole = model.apply(params, batch, record=frozenset({"hidden"}))
        states = whole.records["hidden"]

        def at_once(state: jax.Array, **options: Any) -> Any:
            found = attribution.from_embeddings(
                model, params, batch, state, layers=False, **options
            )
            return found.logits

        last, some = at_once(states[-1]), at_once(states[-1], tokens=places)
        first = at_once(states[0]), without_layers(model).apply(params, batch).logits
        return whole.logits, last, some, first

    wanted, last, some, (first, at_embeddings) = run(model.params)
    assert_close(last, wanted, 1e-6)
    assert_close(some, np.asarray(wanted)[:, [5, 1]], 1e-6)
    assert_close(first, at_embeddings, 1e-6)
    assert np.abs(first - wanted).max() > 1e-3


# --- integrated gradients


def linear(width: int) -> Any:
    """A score that is a sum of features of the last states."""
    factors = normal(1, 7, width, seed=3)
    return factors, lambda output: (output.hidden * factors).sum()[None]


@pytest.mark.parametrize("steps", [1, 3])
def test_of_what_is_linear_a_token_has_its_own_part(steps: int) -> None:
    model = without_layers(of_family("bert", "encoder"))
    factors, score = linear(model.config.encoder.embeddings.width)
    batch, hidden = rows(TEXTS), rows(OTHERS)
    shares, with_text, without = attribution.integrated_gradients(
        model, model.params, batch, hidden, score, steps
    )
    x, base = (attribution.embeddings(model, model.params, each) for each in (batch, hidden))
    assert_close(shares, ((x - base) * factors).sum(axis=-1), 1e-6)
    assert_close(with_text, [(x * factors).sum()], 1e-5)
    assert_close(without, [(base * factors).sum()], 1e-5)


def test_the_points_of_the_integral_are_in_the_middle() -> None:
    """Then a score whose slope grows evenly is exact with any number of them."""
    model = without_layers(of_family("bert", "encoder"))
    batch, hidden = rows(TEXTS), rows(OTHERS)

    def score(output: ModelOutput) -> jax.Array:
        return (output.hidden**2).sum()[None] / 2

    shares, *_ = attribution.integrated_gradients(model, model.params, batch, hidden, score, 1)
    x, base = (attribution.embeddings(model, model.params, each) for each in (batch, hidden))
    assert_close(shares, ((x**2 - base**2) / 2).sum(axis=-1), 1e-5)


def first_score(output: ModelOutput) -> jax.Array:
    assert output.logits is not None
    return output.logits[0, 0, 1:2]


def gap(model: Any, batch: Any, hidden: Any, steps: int) -> float:
    """How far shares are from adding up, as a part of what they are to add up to."""
    shares, with_text, without = integrated(model, batch, hidden, steps)
    changed = float((with_text - without)[0])
    assert abs(changed) > 0.01
    return abs(float(shares.sum()) - changed) / abs(changed)


def integrated(model: Any, batch: Any, hidden: Any, steps: int) -> Any:
    """The shares of a score, compiled."""
    return jax.jit(
        lambda params: attribution.integrated_gradients(
            model, params, batch, hidden, first_score, steps
        )
    )(model.params)


def test_shares_add_up_to_what_the_text_changes_as_steps_grow(tiny_model: Model) -> None:
    batch = tiny_model.batch(["the cat sat on the mat"])
    masked = np.where(batch.token_ids > 10, tiny_model.tokenizer.mask_id, batch.token_ids)
    hidden = dataclasses.replace(batch, token_ids=masked.astype(np.int32))
    gaps = [gap(tiny_model, batch, hidden, steps) for steps in (4, 16, 64)]
    assert gaps[0] < 2e-3
    assert gaps[1] < gaps[0] / 12  # of the midpoint rule, a sixteenth
    assert gaps[2] < 1e-5


def test_of_a_model_with_a_decoder_shares_add_up_too() -> None:
    model = goldens_seq2seq.parts("marian")
    batch, hidden = pairs("marian", TEXTS[0]), pairs("marian", [3, 3, 3, 9])
    shares, with_text, without = integrated(model, batch, hidden, 128)
    assert shares.shape == (1, 4)
    assert shares[0, 3] == 0
    assert abs((with_text - without)[0]) > 1e-3
    assert_close(shares.sum(axis=-1), with_text - without, 1e-5)


@pytest.mark.parametrize("family", ["bert", "esm"])
def test_a_token_that_is_not_hidden_has_no_share(family: str) -> None:
    model, batch = of_family(family), rows(TEXTS)
    masks = model.config.encoder.embeddings.mask_dropout
    mask = 4 if masks is None else masks.mask_id
    hidden = rows([[5, mask, mask, 9], [1, mask, 7]])
    shares, _, without = integrated(model, batch, hidden, 2)
    # Nor has one of a sequence that the scored token does not see.
    assert (np.asarray(shares)[0] == 0).tolist() == [True, False, False, True, True, True, True]
    if family == "bert":  # of ESM, masks scale what is not masked
        assert_close(without, first_score(model.apply(model.params, hidden)), 1e-5)


def test_where_some_tokens_alone_are_scored_shares_are_the_same() -> None:
    model, batch, hidden = of_family("bert"), rows(TEXTS), rows(OTHERS)

    def at_fifth(output: ModelOutput) -> jax.Array:
        assert output.logits is not None
        return output.logits[0, 5, 1:2]

    arguments = (model, model.params, batch, hidden)
    whole = attribution.integrated_gradients(*arguments, at_fifth, 3)
    alone = attribution.integrated_gradients(*arguments, first_score, 3, tokens=jnp.array([[5]]))
    for found, wanted in zip(alone, whole, strict=True):
        assert_close(found, wanted, 1e-5)


@pytest.mark.parametrize("together", [1, 512])
def test_several_scores_are_each_what_they_are_alone(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(attribution, "TOGETHER", together)
    model, batch, hidden = of_family("bert"), rows(TEXTS), rows(OTHERS)

    def all_scores(output: ModelOutput) -> jax.Array:
        assert output.logits is not None
        return output.logits[0, 0, :3]

    @jax.jit
    def run(params: Any) -> Any:
        arguments = (model, params, batch, hidden)
        several = attribution.integrated_gradients(*arguments, all_scores, 2)
        return several, attribution.integrated_gradients(*arguments, first_score, 2)

    several, alone = run(model.params)
    assert several[0].shape == (3, 7)
    for found, wanted in zip(several, alone, strict=True):
        assert_close(found[1], wanted[0], 1e-6)
        assert np.abs(found[0] - wanted[0]).max() > 1e-3


# --- guesses


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_last_guesses_are_those_of_the_model(family: str) -> None:
    model = of_family(family)
    text = "the [MASK] sat on a [MASK]"
    batch = model.batch([text])
    places = jnp.flatnonzero(batch.token_ids[0] == model.tokenizer.mask_id)
    states = model.apply(model.params, batch, record=frozenset({"hidden"})).records["hidden"]
    scores, ids = jax.jit(
        lambda params: attribution.guesses_by_layer(model, params, batch, states, places, 6)
    )(model.params)
    depth = len(model.config.encoder.layers)
    assert scores.shape == ids.shape == (depth + 1, 2, 6)
    (wanted,) = FillMask(model, top_k=6).predict([text])
    for place, guesses in enumerate(wanted):
        assert ids[-1, place].tolist() == [guess.token_id for guess in guesses]
        assert_close(scores[-1, place], [guess.score for guess in guesses], 1e-6)
    bare = without_layers(model)
    (wanted,) = FillMask(bare, top_k=6).predict([text])
    for place, guesses in enumerate(wanted):
        assert ids[0, place].tolist() == [guess.token_id for guess in guesses]
        assert_close(scores[0, place], [guess.score for guess in guesses], 1e-6)
    assert (np.diff(scores, axis=-1) <= 0).all()
