"""Masked language modelling: a model learns a language by predicting masked tokens.

Devlin et al. 2019, section 3.1 and appendix A.1. The masked tokens are drawn again each time that
a text is seen (Liu et al. 2019, arXiv:1907.11692, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.data import masking
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.tasks import token_scores
from encodax.tasks.record_fields import text_of
from encodax.tasks.task import BatchMetrics, Example, LossOptions, Targets, Task
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput, PackedBatch


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
    loss_options: LossOptions,
    random: np.random.Generator,
) -> tuple[PackedBatch, Targets]:
    """Mask tokens, and return the original ones as targets."""
    assert model.tokenizer.mask_id is not None
    masked = masking.mask(
        batch,
        np.asarray(targets.values),
        random,
        rate=loss_options.mask_rate,
        mask_id=model.tokenizer.mask_id,
        ordinary=model.tokenizer.ordinary_ids,
        whole_words=loss_options.whole_words,
    )
    return masked.batch, Targets(masked.labels, masked.weights, tokens=masked.tokens)


def loss(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Compute the cross entropy of the masked tokens."""
    import optax  # not needed for prediction, and slow to import

    assert output.logits is not None
    logits = output.logits.astype(jnp.float32)  # (B, M, V)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets.values)  # (B, M)
    return jnp.sum(losses * targets.weights), jnp.sum(jnp.asarray(targets.weights))


def sums(
    output: ModelOutput, targets: Targets, batch: PackedBatch, loss_options: LossOptions
) -> dict[str, Float[Array, ""]]:
    """Return the quantities that an evaluation sums over batches."""
    return token_scores.sums(output, targets, *loss(output, targets, batch, loss_options))


def merge(example: Example, answers: Sequence[np.ndarray]) -> list[int]:
    """Return the tokens of all pieces."""
    return [int(token) for answer in answers for token in answer]


TASK = Task(
    name="masked-lm",
    head="vocabulary",
    metric_names=token_scores.METRICS,
    options=frozenset({"mask_rate", "whole_words"}),
    parse=parse,
    encode=encode,
    targets=targets,
    corrupt=corrupt,
    loss=loss,
    batch_metrics=BatchMetrics(sums, token_scores.summary),
    decode=token_scores.decode,
    merge=merge,
    to_json=token_scores.to_json,
    has_known_shapes=True,
)
