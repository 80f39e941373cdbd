"""Translation: generate a target sequence for a source sequence, one token at a time.

Vaswani et al. 2017, section 5. It is the task of every sequence-to-sequence model, whether or not
the two sides are languages. The loss is the likelihood of the targets; the quality of generated
texts is measured by `inference/translator.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.tasks import token_scores
from encodax.tasks.losses import classes_loss, cross_entropy
from encodax.tasks.record_fields import instead_of, string_of, text_of
from encodax.tasks.task import BatchMetrics, Example, LossOptions, Targets, Task
from encodax.text.tokenizer import EncodedPair
from encodax.types.batches import ModelOutput, PairBatch

FIELDS = ("source", "target")
COUNTED_TOGETHER = 1024
"""Number of texts whose n-grams are in memory at a time."""


def parse(record: Record, *, labelled: bool) -> Example:
    """Parse `{"source": ..., "target": ...}`.

    Raises:
        EncodaxError: a field is missing, or has no text.
    """
    texts = text_of(record, FIELDS)
    if isinstance(texts, str):
        if labelled:
            message = f"{record.where}: no field 'target': training needs both source and target"
            raise EncodaxError(message + instead_of(record, "target"))
        return Example(texts, None, record.where)
    source, target = texts
    return Example(source, target, record.where, others=(target,))


def source_of(record: Record) -> Example:
    """Return the text to translate: the `source` of a record, or its `text`.

    Raises:
        EncodaxError: there is no such text.
    """
    name = "source" if "source" in record.fields else "text"
    return Example(string_of(record, name), None, record.where)


def encode(
    model: Seq2SeqModel, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[EncodedPair]], int]:
    """Encode each example as one pair; one with too long a side is refused or truncated."""
    pairs, cut = model.encode_pairs(
        [(example.parts[0], example.target) for example in examples],
        truncate=truncate,
        names=[example.where for example in examples],
    )
    return [[pair] for pair in pairs], cut


def targets(example: Example, encoding: EncodedPair, labels: tuple[str, ...]) -> Targets:
    """Return the token after each decoder input."""
    return Targets(encoding.wanted, np.ones(len(encoding.wanted), np.float32))


def sums(
    output: ModelOutput, targets: Targets, batch: PairBatch, loss_options: LossOptions
) -> dict[str, Float[Array, ""]]:
    """Return the quantities that an evaluation sums over batches: the loss without smoothing."""
    assert output.logits is not None
    return token_scores.sums(output, targets, *cross_entropy(output.logits, targets))


def bleu_and_chrf(pairs: Iterable[tuple[str, str]], *, tokenize: str = "13a") -> dict[str, Any]:
    """Compute BLEU and chrF of generated texts, by sacrebleu (Post 2018, arXiv:1804.08771).

    sacrebleu's `corpus_score` keeps the n-grams of all references, some 20 kB each; both scores
    depend only on sums over texts, so the texts are counted in chunks here.

    Args:
        pairs: (generated text, reference); they are iterated once.
        tokenize: tokenizer of BLEU: `13a` (its default), or `none` for tokenized texts.

    Returns:
        BLEU (Papineni et al. 2002) and chrF (Popović 2015), out of 100, each with its signature.

    Raises:
        EncodaxError: there is no text; or as in `scorers`.
    """
    metrics = scorers(tokenize)
    sums: dict[str, Any] = {}
    rest = iter(pairs)
    while some := list(itertools.islice(rest, COUNTED_TOGETHER)):
        hypotheses, references = map(list, zip(*some, strict=True))
        for name, metric in metrics.items():
            counts = metric._extract_corpus_statistics(hypotheses, [references])  # a row a text
            sums[name] = np.sum(counts, axis=0) + sums.get(name, 0)
            metric._force = True  # it has already warned about texts that look tokenized
    if not sums:
        raise EncodaxError("the data set is empty: it has no example")
    found: dict[str, Any] = {}
    for name, metric in metrics.items():
        found[name] = float(metric._compute_score_from_stats(sums[name].tolist()).score)
        found[f"{name}_signature"] = str(metric.get_signature())
    return found


def scorers(tokenize: str) -> dict[str, Any]:
    """Return BLEU and chrF of sacrebleu, by name.

    Raises:
        EncodaxError: sacrebleu is not installed, has no such tokenizer, or lacks its dependency.
    """
    try:
        from sacrebleu import BLEU, CHRF
    except ImportError as error:
        raise EncodaxError("BLEU needs sacrebleu: pip install 'encodax[train]'") from error
    if tokenize not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise EncodaxError(f"the tokenizer {tokenize!r} of BLEU is not known; known: {known}")
    try:  # unless forced, it warns about texts that look tokenized
        bleu = BLEU(tokenize=tokenize, force=tokenize == "none")
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise EncodaxError(
            f"the tokenizer {tokenize!r} of BLEU cannot be loaded: {reason}"
        ) from error
    return {"bleu": bleu, "chrf": CHRF()}


TASK = Task(
    name="translation",
    head=None,
    text_fields=FIELDS,
    metric_names=token_scores.METRICS,
    options=frozenset({"label_smoothing"}),
    train_defaults={  # Vaswani et al. 2017, section 5
        "tokenizer": "bpe",
        "schedule": "inverse_sqrt",
        "beta2": 0.98,
        "adam_eps": 1e-9,
        "weight_decay": 0.0,
        "label_smoothing": 0.1,
    },
    parse=parse,
    encode=encode,
    targets=targets,
    loss=classes_loss,
    batch_metrics=BatchMetrics(sums, token_scores.summary),
    decode=token_scores.decode,
    to_json=token_scores.to_json,
)
