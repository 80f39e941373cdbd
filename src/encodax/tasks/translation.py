"""Translation: a target sequence for a source sequence, a token at a time.

Vaswani et al. 2017, section 5. It is the task of every sequence-to-sequence model, whether its two
sides are languages or not. What it is trained by is how likely the targets are; what the texts that
it generates are like, `inference/translator.py` measures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from encodax.config import Problem
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.tasks.task import (
    Example,
    LossOptions,
    Targets,
    classes_loss,
    cross_entropy,
    instead_of,
    no_corruption,
    string_of,
    text_of,
)
from encodax.text.tokenizer import EncodedPair
from encodax.types.batches import ModelOutput, PairBatch

NAME = "translation"
HEAD = None
FIELDS = ("source", "target")
METRIC = "perplexity"
METRICS: tuple[str, ...] = ("perplexity", "accuracy")
PROBLEM: Problem = "single_label"
OPTIONS = frozenset({"label_smoothing"})
COMPARES_EXAMPLES = False
RECORDED_STAGES: frozenset[str] = frozenset()

COUNTED_TOGETHER = 1024
"""Texts whose n-grams are held at a time."""

corrupt = no_corruption
loss = classes_loss


def parse(record: Record, *, labelled: bool) -> Example:
    """`{"source": ..., "target": ...}`.

    Raises:
        EncodaxError: one of them is missing, or has no text.
    """
    texts = text_of(record, FIELDS)
    if isinstance(texts, str):
        if labelled:
            told = f"{record.where}: no field 'target': what is learned has both"
            raise EncodaxError(told + instead_of(record, "target"))
        return Example(texts, None, record.where)
    source, target = texts
    return Example(source, target, record.where, others=(target,))


def source_of(record: Record) -> Example:
    """What is to be translated: the `source` of a record, or its `text`.

    Raises:
        EncodaxError: there is none.
    """
    name = "source" if "source" in record.fields else "text"
    return Example(string_of(record, name), None, record.where)


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """None: the classes are the tokens."""
    return ()


def encode(
    model: Seq2SeqModel, examples: Sequence[Example], *, truncate: bool
) -> tuple[list[list[EncodedPair]], int]:
    """Each example as one pair, refused or cut where a side of it is too long."""
    pairs, cut = model.encode_pairs(
        [(example.parts[0], example.target) for example in examples],
        truncate=truncate,
        names=[example.where for example in examples],
    )
    return [[pair] for pair in pairs], cut


def targets(example: Example, encoding: EncodedPair, labels: tuple[str, ...]) -> Targets:
    """The token after each that the decoder is given."""
    return Targets(encoding.wanted, np.ones(len(encoding.wanted), np.float32))


def sums(
    output: ModelOutput, targets: Targets, batch: PairBatch, objective: LossOptions
) -> dict[str, Float[Array, ""]]:
    """What an evaluation adds up over batches: the loss without smoothing."""
    assert output.logits is not None
    total, weight = cross_entropy(output.logits, targets)
    is_right = jnp.argmax(output.logits, axis=-1) == targets.values  # (B, T)
    return {"loss": total, "right": jnp.sum(is_right * targets.weights), "weight": weight}


def summary(sums: Mapping[str, float]) -> dict[str, float]:
    """Perplexity, exp of the mean loss of a token, and the share of tokens that are guessed."""
    loss = sums["loss"] / sums["weight"]
    return {
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "accuracy": sums["right"] / sums["weight"],
        "loss": loss,
    }


def decode(
    scores: Float[np.ndarray, "tokens V"], encoding: EncodedPair, labels: tuple[str, ...]
) -> np.ndarray:
    """The most probable token at each place."""
    return np.argmax(scores, axis=-1)


def merge(example: Example, answers: Sequence[Any]) -> Any:
    """The answer of the one pair."""
    (answer,) = answers
    return answer


def metrics(answers: Iterable[Any], examples: Iterable[Example]) -> dict[str, float]:
    """None: it is measured by sums over tokens (`summary`)."""
    return {}


def to_json(answer: Any) -> dict[str, Any]:
    """`token_ids`."""
    return {"token_ids": [int(token) for token in answer]}


def bleu_and_chrf(pairs: Iterable[tuple[str, str]], *, tokenize: str = "13a") -> dict[str, Any]:
    """How near texts are to those of translators, by sacrebleu (Post 2018, arXiv:1804.08771).

    Its `corpus_score` holds the n-grams of all references, some 20 kB each; both scores are of
    sums over texts, so here a piece of the texts is counted at a time.

    Args:
        pairs: what was generated, and what was wanted; they are read once.
        tokenize: how BLEU cuts texts: `13a` (its default), `none` where they are tokenized.

    Returns:
        BLEU (Papineni et al. 2002) and chrF (Popović 2015), of 100, each with its signature.

    Raises:
        EncodaxError: there is no text; or as `scorers`.
    """
    metrics = scorers(tokenize)
    sums: dict[str, Any] = {}
    rest = iter(pairs)
    while some := list(itertools.islice(rest, COUNTED_TOGETHER)):
        hypotheses, references = map(list, zip(*some, strict=True))
        for name, metric in metrics.items():
            counts = metric._extract_corpus_statistics(hypotheses, [references])  # a row a text
            sums[name] = np.sum(counts, axis=0) + sums.get(name, 0)
            metric._force = True  # it has warned of texts that look tokenized
    if not sums:
        raise EncodaxError("the data set is empty: it has no example")
    found: dict[str, Any] = {}
    for name, metric in metrics.items():
        found[name] = float(metric._compute_score_from_stats(sums[name].tolist()).score)
        found[f"{name}_signature"] = str(metric.get_signature())
    return found


def scorers(tokenize: str) -> dict[str, Any]:
    """BLEU and chrF of sacrebleu, by name.

    Raises:
        EncodaxError: sacrebleu is not installed, or has no such tokenizer, or that one wants what
            is not there.
    """
    try:
        from sacrebleu import BLEU, CHRF
    except ImportError as error:
        raise EncodaxError("BLEU needs sacrebleu: pip install 'encodax[train]'") from error
    if tokenize not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise EncodaxError(f"no tokenizer of BLEU is named {tokenize!r}; known: {known}")
    try:  # unless it is forced, it warns of texts that look tokenized
        bleu = BLEU(tokenize=tokenize, force=tokenize == "none")
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise EncodaxError(f"the tokenizer {tokenize!r} of BLEU cannot be had: {reason}") from error
    return {"bleu": bleu, "chrf": CHRF()}
