"""Masked language modelling: a model learns a language by predicting masked tokens.

Devlin et al. 2019, section 3.1 and appendix A.1. The masked tokens are drawn again each time that
a text is seen (Liu et al. 2019, arXiv:1907.11692, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.config import HeadKind, Problem
from encodax.data import masking
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.tasks.task import Example, LossOptions, Targets, text_of
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch

NAME = "masked-lm"
HEAD: HeadKind = "vocabulary"
FIELDS = ("text", "text_pair")
METRIC = "perplexity"
METRICS: tuple[str, ...] = ("perplexity", "accuracy")
PROBLEM: Problem = "single_label"
OPTIONS = frozenset({"mask_rate", "whole_words"})
COMPARES_EXAMPLES = False
RECORDED_STAGES: frozenset[str] = frozenset()


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"text": ...}`, or a line of a text file; an empty text gives nothing to learn.

    Raises:
        EncodaxError: there is no text, or it is a pair.
    """
    text = record.fields.get("text")
    if isinstance(text, str) and not text.strip():
        return Example("", None, record.where)  # corpora have empty lines between paragraphs
    return Example(_one(text_of(record), record.where), None, record.where)


def _one(text: object, where: str) -> str:
    if not isinstance(text, str):
        raise EncodaxError(f"{where}: masked language modelling takes one text, not a pair")
    return text


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return no labels: the classes are the tokens."""
    return ()


def encode(
    model: Model, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[Encoding]], int]:
    """Split each text into consecutive pieces that fit the model: nothing is truncated.

    An example without text has no pieces.

    Raises:
        EncodaxError: the tokenizer has no mask token.
    """
    if model.tokenizer.mask_id is None:
        raise EncodaxError("the tokenizer of the model has no mask token")
    texts = [_one(example.text, example.where) for example in examples]
    limit = model.longest_sequence
    found = []
    for encoding in model.tokenizer.encode(texts, [one.where for one in examples]):
        frame = int(np.count_nonzero(encoding.sequence_ids != 0))
        pieces = encoding.windows(0, max(1, limit - frame))
        found.append([piece for piece in pieces if _has_text(piece)])
    return found, 0


def _has_text(encoding: Encoding) -> bool:
    starts, ends = encoding.offsets.T
    return bool(np.any(~encoding.is_special & (starts < ends)))


def targets(example: Example, encoding: Encoding, labels: tuple[str, ...]) -> Targets:
    """Return the number of each token's word, from 1; 0 for tokens that are never masked.

    `corrupt` chooses the tokens to predict from it.
    """
    words = encoding.words(_one(example.text, example.where))
    return Targets(words, np.ones(len(encoding), np.float32))


def corrupt(
    batch: PackedBatch,
    targets: Targets,
    model: Model,
    objective: LossOptions,
    random: np.random.Generator,
) -> tuple[PackedBatch, Targets]:
    """Mask tokens, and return the original ones as targets."""
    assert model.tokenizer.mask_id is not None
    masked = masking.mask(
        batch,
        np.asarray(targets.values),
        random,
        rate=objective.mask_rate,
        mask_id=model.tokenizer.mask_id,
        ordinary=model.tokenizer.ordinary_ids,
        whole_words=objective.whole_words,
    )
    return masked.batch, Targets(masked.labels, masked.weights, tokens=masked.tokens)


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, objective: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the cross entropy of the masked tokens."""
    import optax  # not needed for prediction, and slow to import

    assert output.logits is not None
    logits = output.logits.astype(jnp.float32)  # (B, M, V)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets.values)  # (B, M)
    return jnp.sum(losses * targets.weights), jnp.sum(jnp.asarray(targets.weights))


def sums(
    output: ModelOutput, targets: Targets, batch: PackedBatch, objective: LossOptions
) -> dict[str, Float[Array, ""]]:
    """Return the quantities that an evaluation sums over batches."""
    assert output.logits is not None
    total, weight = loss(output, targets, batch, objective)
    is_right = jnp.argmax(output.logits, axis=-1) == targets.values  # (B, M)
    return {"loss": total, "right": jnp.sum(is_right * targets.weights), "weight": weight}


def summary(sums: Mapping[str, float]) -> dict[str, float]:
    """Return perplexity (exp of the mean loss), and the share of masked tokens predicted right."""
    loss = sums["loss"] / sums["weight"]
    return {
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "accuracy": sums["right"] / sums["weight"],
        "loss": loss,
    }


def decode(
    scores: Float[np.ndarray, "tokens C"], encoding: Encoding, labels: tuple[str, ...]
) -> np.ndarray:
    """Return the most probable token at each position."""
    return np.argmax(scores, axis=-1)


def merge(example: Example, answers: Sequence[np.ndarray]) -> list[int]:
    """Return the tokens of all pieces."""
    return [int(token) for answer in answers for token in answer]


def metrics(answers: Iterable[list[int]], examples: Iterable[Example]) -> dict[str, float]:
    """Return no metrics: the prediction of masked tokens is measured (`summary`)."""
    return {}


def to_json(answer: list[int]) -> dict[str, Any]:
    """Return the JSON field `token_ids`."""
    return {"token_ids": answer}
