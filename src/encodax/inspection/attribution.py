"""Gradients and predictions from the embeddings on: a model as a function of its embedded text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encodax.models.encoder_model import Model
from encodax.nn import functional
from encodax.nn.embeddings import Embeddings
from encodax.nn.encoder import EncoderLayer
from encodax.tasks.task import AnyModel
from encodax.types.batches import ModelOutput, Params, packed_batches_of

Scores = Callable[[ModelOutput], Float[Array, " M"]]
TOGETHER = 512
"""Maximum number of tokens whose gradients are computed at once, over several scores."""


def from_embeddings(
    model: AnyModel,
    params: Params,
    batch: Any,
    embedded: Float[Array, "B T D"],
    *,
    layers: bool = True,
    **options: Any,
) -> ModelOutput:
    """Run the model with other embeddings in place of the text's own.

    Args:
        model: the model; in one with a decoder, the source's embeddings are replaced.
        params: its parameters.
        batch: the text, for its shape and its segments.
        embedded: the embeddings to use.
        layers: whether the encoder's layers are run; otherwise the embeddings go directly to the
            head.
        **options: arguments of `apply`.
    """

    def replace(
        go_on: Callable[..., Any], args: Any, kwargs: Any, context: hk.MethodContext
    ) -> Any:
        if context.method_name == "__call__":
            if isinstance(context.module, Embeddings) and _is_encoder(context.module):
                return embedded
            if not layers and isinstance(context.module, EncoderLayer):
                tokens = kwargs.get("tokens")
                return args[0] if tokens is None else functional.at_tokens(args[0], tokens)
        return go_on(*args, **kwargs)

    with hk.intercept_methods(replace):
        return model.apply(params, batch, **options)


def embeddings(model: AnyModel, params: Params, batch: Any) -> Float[Array, "B T D"]:
    """Return the embeddings of a text; in a model with a decoder, of the source."""
    stage = "hidden" if isinstance(model, Model) else "source_hidden"
    return model.apply(params, batch, record=frozenset({stage})).records[stage][0]


def integrated_gradients(
    model: AnyModel,
    params: Params,
    batch: Any,
    hidden: Any,
    scores: Scores,
    steps: int,
    **options: Any,
) -> tuple[Float[Array, "M T"], Float[Array, " M"], Float[Array, " M"]]:
    """Return how much each token contributes to each score, and the scores with and without text.

    (x - x') . mean over a of d score(x' + a (x - x')) / dx, summed over the features of a token:
    x is the embedded text, x' the same with its tokens masked, and a the midpoints of `steps` equal
    parts of 0 .. 1. As `steps` grows, the sum over the tokens tends to score(x) - score(x').
    Sundararajan et al. 2017, section 3 and equation 3.

    Args:
        model: the model.
        params: its parameters.
        batch: the text, one row.
        hidden: the same with tokens masked; tokens that are not masked contribute 0.
        scores: function from the output to the scores.
        steps: number of points of the integral.
        **options: arguments of `apply`.
    """
    x = embeddings(model, params, batch)
    is_hidden = jnp.asarray(
        packed_batches_of(batch)[0].token_ids != packed_batches_of(hidden)[0].token_ids
    )
    # ESM scales all embeddings by the share of masked tokens: those of other tokens are restored.
    base = jnp.where(is_hidden[..., None], embeddings(model, params, hidden), x)

    def at(x: Float[Array, "1 T D"]) -> Float[Array, " M"]:
        return scores(from_embeddings(model, params, batch, x, **options))

    with_text, without = at(x), at(base)

    def add(total: Array, part: Array) -> tuple[Array, None]:
        _, pull = jax.vjp(at, base + part * (x - base))  # one forward pass for all scores
        slopes = jax.lax.map(
            lambda chosen: pull(chosen)[0],
            jnp.eye(len(with_text)),
            batch_size=max(1, TOGETHER // x.shape[1]),
        )  # (M, 1, T, D)
        return total + slopes, None

    parts = (jnp.arange(steps) + 0.5) / steps
    total, _ = jax.lax.scan(add, jnp.zeros((len(with_text), *x.shape)), parts)
    return ((x - base) * total / steps)[:, 0].sum(axis=-1), with_text, without


def guesses_by_layer(
    model: Model,
    params: Params,
    batch: Any,
    states: Sequence[Float[Array, "1 T D"]],
    places: Int[Array, " M"],
    top_k: int,
) -> tuple[Float[Array, "states M k"], Int[Array, "states M k"]]:
    """Return the predictions for each mask if the model ended after each layer, with probabilities.

    The hidden state after a layer goes directly to the final norm and the head (the "logit lens",
    nostalgebraist 2020).

    Args:
        model: a masked language model.
        params: its parameters.
        batch: the text, one row.
        states: its `hidden` records: L + 1, the embeddings first.
        places: positions of the M masks.
        top_k: number of predictions for each mask.
    """

    def guess(state: Float[Array, "1 T D"]) -> tuple[Array, Array]:
        output = from_embeddings(model, params, batch, state, layers=False, tokens=places[None])
        assert output.logits is not None
        scores, ids = jax.lax.top_k(jax.nn.softmax(output.logits[0]), top_k)
        return scores, ids

    found: tuple[Array, Array] = jax.lax.map(guess, jnp.stack(states))
    return found


def _is_encoder(module: Embeddings) -> bool:
    return module.module_name.split("/")[-2] == "encoder"
