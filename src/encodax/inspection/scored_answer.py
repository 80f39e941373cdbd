"""Answer of a model to one text, and the scores behind the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from encodax.config import HeadConfig
from encodax.inference.engine import head_output
from encodax.models.encoder_model import Model
from encodax.nn import functional
from encodax.tasks import question_answering, token_classification
from encodax.tasks.task import AnyModel
from encodax.text.tokenizer import EncodedPair, Encoding
from encodax.types.batches import ModelOutput
from encodax.types.inspection import Token

BEST = 5
"""Number of labels in an answer."""


@dataclass(frozen=True)
class Target:
    """Score of the model: the sum of the logits at some places, each of one class."""

    name: str
    places: tuple[int, ...]
    """Slots or tokens of the row; empty for the similarity of two vectors."""
    classes: tuple[int, ...]
    segment: int | None = None
    """Sequence whose tokens the score is attributed to; None for all."""


def scores_of(
    output: ModelOutput, *, places: Int[Array, "M _"], classes: Int[Array, "M _"]
) -> Float[Array, " M"]:
    """Return the sum of the logits of each target; for two vectors, their cosine similarity."""
    if output.vectors is not None:
        return _similarity(output.vectors[0])[None]
    assert output.logits is not None
    return output.logits[0].astype(jnp.float32)[places, classes].sum(axis=-1)


def _similarity(vectors: Float[Array, "2 D"]) -> Float[Array, ""]:
    """Return the cosine of the angle between two vectors."""
    first, second = functional.unit(vectors.astype(jnp.float32))
    return first @ second


Answer = tuple[tuple[tuple[str, str], ...], tuple[Target, ...]]
"""Answer in lines of a name and a value, and the scores behind it."""


def answer_of(
    model: Model,
    output: ModelOutput,
    encodings: Sequence[Encoding],
    texts: Sequence[tuple[str, ...]],
) -> Answer:
    """Return the answer of a head; for masked language models there is `fill_masks`."""
    head = model.config.head
    if head is None or head.kind == "vocabulary":
        return (), ()
    if head.kind == "embedding":
        if len(encodings) == 1:
            return (), ()
        assert output.vectors is not None
        similarity = float(_similarity(output.vectors[0]))
        targets = tuple(
            Target(f"similarity, by the {name} text", (), (), segment)
            for segment, name in enumerate(("first", "second"), 1)
        )
        return (("cosine similarity", f"{similarity:.4f}"),), targets
    read, _ = head_output(replace(head, problem="regression") if _is_quantity(head) else head)
    scores = np.asarray(read(output)[0])
    return _BY_KIND[head.kind](model, scores, encodings[0], texts[0])


def _of_sequence(
    model: Model, scores: Float[np.ndarray, "N C"], encoding: Encoding, texts: tuple[str, ...]
) -> Answer:
    head = model.config.head
    assert head is not None
    best = np.argsort(-scores[0])[:BEST]
    names = model.labels or tuple(f"label {index}" for index in range(len(scores[0])))
    if _is_quantity(head):
        rows = tuple((names[index], f"{scores[0, index]:.4f}") for index in best)
    else:
        rows = tuple((names[index], _percent(float(scores[0, index]))) for index in best)
    return rows, tuple(Target(names[index], (0,), (int(index),)) for index in best)


def _is_quantity(head: HeadConfig) -> bool:
    """Return whether scores are not probabilities: softmax of a single score would always be 1."""
    return head.problem == "regression" or (head.classes == 1 and head.problem == "single_label")


def _of_tokens(
    model: Model, scores: Float[np.ndarray, "T C"], encoding: Encoding, texts: tuple[str, ...]
) -> Answer:
    spans = token_classification.decode(scores, encoding, model.labels)
    rows = tuple(
        (span.label, f"{texts[0][span.start : span.end]} ({_percent(span.score)})")
        for span in spans
    )
    best, targets = scores.argmax(axis=-1), []
    for span in spans:
        inside = token_classification.tokens_in(span, encoding)
        # A single space in byte-level BPE is a token without characters: a span of it is empty.
        for place in inside[np.argsort(-scores[inside].max(axis=-1))][:1].tolist():
            start, end = encoding.offsets[place]
            name = f"{model.labels[best[place]]} at “{texts[0][start:end]}”"
            targets.append(Target(name, (place,), (int(best[place]),)))
    return rows or (("spans", "none"),), tuple(targets)


def _of_span(
    model: Model, scores: Float[np.ndarray, "T C"], encoding: Encoding, texts: tuple[str, ...]
) -> Answer:
    found = question_answering.decode(scores, encoding, model.labels)
    ends = question_answering.ends(scores, encoding)
    text = texts[1][found.start : found.end]
    targets = (Target(f"“{text}”", ends, (0, 1)), Target("no answer", (0, 0), (0, 1)))
    is_none = found.no_answer_score >= found.score
    rows = (
        ("answer", "none" if is_none else text),
        ("score", f"{found.score:.2f}"),
        ("score of no answer", f"{found.no_answer_score:.2f}"),
    )
    return rows, targets[::-1] if is_none else targets


_BY_KIND: dict[str, Callable[[Model, np.ndarray, Encoding, tuple[str, ...]], Answer]] = {
    "sequence": _of_sequence,
    "token": _of_tokens,
    "span": _of_span,
}


def fills_masks(model: Model) -> bool:
    """Return whether the model is a masked language model."""
    return model.config.head is not None and model.config.head.kind == "vocabulary"


def scores_tokens(model: AnyModel) -> bool:
    """Return whether logits are of tokens, so that they can be computed for some tokens only."""
    if not isinstance(model, Model) or model.config.head is None:
        return False
    return model.config.head.kind in ("token", "span", "vocabulary")


def masks_of(model: Model, encoding: Encoding) -> tuple[int, ...]:
    """Return the positions of the masks; empty if the model is not a masked language model."""
    if not fills_masks(model) or model.tokenizer.mask_id is None:
        return ()
    return tuple(np.flatnonzero(encoding.token_ids == model.tokenizer.mask_id).tolist())


def fill_masks(model: Model, output: ModelOutput, masks: Sequence[int]) -> Answer:
    """Return the prediction for each mask, and its score; the output has only the masks."""
    assert output.logits is not None
    shares = np.asarray(jax.nn.softmax(output.logits[0].astype(jnp.float32)))  # (M, V)
    best = shares.argmax(axis=-1)
    rows, targets = [], []
    for index, token_id in enumerate(best.tolist()):
        name, word = f"mask {index + 1}", model.tokenizer.shown(token_id)
        rows.append((name, f"{word} ({_percent(float(shares[index, token_id]))})"))
        targets.append(Target(f"“{word}” for {name}", (masks[index],), (token_id,)))
    return tuple(rows), tuple(targets)


def written_targets(pair: EncodedPair, written: Sequence[Token]) -> tuple[Target, ...]:
    """Return the score of each token of a translation."""
    return tuple(
        Target(f"{place + 1}: “{token.text}”", (place,), (token.token_id,))
        for place, token in enumerate(written)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
