"""Parameters are measured alike, whatever batches they are measured in."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from encodax import Classifier
from encodax.data.sources import records_of
from encodax.errors import EncodaxError
from encodax.inference.evaluation import BatchEvaluator, evaluate, evaluator
from encodax.models.encoder_model import Model
from encodax.tasks import classification, dataset, masked_lm
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Example, LossOptions, side_by_side

TEXTS = [f"the cat sat on mat number {n}, and a dog ran {'away ' * (n % 7)}" for n in range(90)]
OBJECTIVE = LossOptions(mask_rate=0.2)
PAIRS = list(zip(TEXTS[:8], TEXTS[8:16], strict=True))


@pytest.fixture(scope="module")
def model(tiny_model: Model) -> Model:
    return tiny_model.with_head("vocabulary")


@pytest.fixture(scope="module")
def corpus(model: Model) -> Dataset:
    return Dataset.prepare(masked_lm.TASK, model, [Example(text, None, text) for text in TEXTS])


def batches_of(measure: BatchEvaluator, data: Dataset) -> list[Any]:
    return list(measure.batches(range(len(data)), data))


def test_numbers_are_the_same_in_batches_of_any_size(model: Model, corpus: Dataset) -> None:
    found = [
        evaluator(model, corpus, OBJECTIVE, batch_tokens=batch_tokens)(None)
        for batch_tokens in (128, 640, 4096)
    ]
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)
    assert found[0]["accuracy"] == found[1]["accuracy"] == found[2]["accuracy"]
    assert found[0]["perplexity"] > 1


def test_masks_are_the_same_each_time(model: Model, corpus: Dataset) -> None:
    measure = BatchEvaluator(model, corpus, OBJECTIVE)
    other = BatchEvaluator(model, corpus, OBJECTIVE)
    first, second = batches_of(measure, corpus), batches_of(other, corpus)
    assert len(first) > 1
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert measure() == measure(model.params) == other()


def test_each_row_is_hidden_in_its_own_way(model: Model, corpus: Dataset) -> None:
    batches = batches_of(BatchEvaluator(model, corpus, OBJECTIVE, batch_tokens=256), corpus)
    tokens = np.concatenate([np.asarray(targets.tokens) for _, targets in batches])
    assert len(np.unique(tokens, axis=0)) > len(tokens) / 2


def test_a_second_evaluation_compiles_nothing(model: Model, corpus: Dataset) -> None:
    measure = BatchEvaluator(model, corpus, OBJECTIVE)
    measure()
    measure(jax.tree.map(lambda leaf: 0.5 * leaf, model.params))
    assert measure._added._cache_size() == 1  # type: ignore[attr-defined]


def test_perplexity_is_that_of_the_logits(model: Model, corpus: Dataset) -> None:
    measure = BatchEvaluator(model, corpus, OBJECTIVE)
    losses, right = [], []
    for batch, targets in batches_of(measure, corpus):
        logits = np.asarray(model.apply(model.params, batch).logits, np.float64)  # (B, T, V)
        for b, m in zip(*np.nonzero(targets.weights), strict=True):
            scores, label = logits[b, targets.tokens[b, m]], targets.values[b, m]
            losses.append(np.log(np.exp(scores).sum()) - scores[label])
            right.append(scores.argmax() == label)
    wanted = {"perplexity": np.exp(np.mean(losses)), "accuracy": np.mean(right)}
    assert measure() == pytest.approx({**wanted, "loss": np.mean(losses)}, rel=1e-5)


def test_broken_parameters_are_told(model: Model, corpus: Dataset) -> None:
    broken = jax.tree.map(lambda leaf: leaf * np.nan, model.params)
    with pytest.raises(EncodaxError, match="the model's scores are not finite"):
        BatchEvaluator(model, corpus, OBJECTIVE)(broken)


def test_answers_are_measured_by_the_predictor(tiny_model: Model) -> None:
    examples = [Example(text, "good", text) for text in TEXTS[:9]]
    data = Dataset.prepare(classification.TASK, tiny_model, examples)
    found = evaluator(tiny_model, data, LossOptions())(None)
    loss = found.pop("loss")
    answers = Classifier(tiny_model).answered(data)
    assert found == classification.TASK.metrics(*side_by_side(answers))
    right = [answer.scores["good"] for answer in Classifier(tiny_model).predict(TEXTS[:9])]
    assert loss == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert classification.TASK.metric in found


def test_what_memory_does_not_hold_is_tokenized_once_an_evaluation(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [Example(text, "good", text) for text in TEXTS]
    whole = Dataset.prepare(classification.TASK, tiny_model, examples)
    assert whole.chunks() == [range(len(TEXTS))]
    wanted = evaluator(tiny_model, whole, LossOptions())(None)

    monkeypatch.setattr(dataset, "KEPT_BYTES", 0)
    monkeypatch.setattr(dataset, "CHUNK_BYTES", 50_000)
    large = Dataset.prepare(classification.TASK, tiny_model, examples)
    assert not large.kept
    chunks = large.chunks()
    assert len(chunks) > 3
    assert [index for chunk in chunks for index in chunk] == list(range(len(TEXTS)))

    encode, tokenized = Model.encode, []

    def counted(self: Model, texts: list[str], **options: Any) -> Any:
        tokenized.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Model, "encode", counted)
    assert evaluator(tiny_model, large, LossOptions())(None) == pytest.approx(wanted, rel=1e-6)
    assert tokenized == list(TEXTS)


@pytest.mark.parametrize("head", ["vocabulary", "embedding"])
def test_a_precision_is_that_of_the_products(tiny_model: Model, head: str) -> None:
    if head == "vocabulary":
        model, fields = tiny_model.with_head("vocabulary"), [{"text": text} for text in TEXTS]
    else:
        model = tiny_model.with_embeddings()
        fields = [{"anchor": t, "positive": u, "score": i / 8} for i, (t, u) in enumerate(PAIRS)]
    found = {
        precision: evaluate(model, list(records_of(fields)), precision=precision)
        for precision in (None, "float32", "bfloat16")
    }
    assert found[None] == found["float32"]
    assert found["bfloat16"]["loss"] != found["float32"]["loss"]
    assert found["bfloat16"]["loss"] == pytest.approx(found["float32"]["loss"], rel=0.05)
