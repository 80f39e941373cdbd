"""A student learns what its teacher says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import packed

from encodax.config import EncoderConfig
from encodax.data.batches import BatchShape
from encodax.data.sources import Record
from encodax.errors import EncodaxError
from encodax.inference.evaluation import evaluator
from encodax.models.encoder_model import Model
from encodax.tasks import distillation as task
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import LossOptions, Targets
from encodax.text.tokenizer import Tokenizer
from encodax.training.step.optimizer import make_optimizer
from encodax.training.step.step import Constants, StepSpec, initial_state, make_step
from encodax.types.batches import ModelOutput, PackedBatch

TEXTS = ("the cat sat on the mat", "a dog ran", "what a wonderful film!", "dull and long")
SHAPE = BatchShape(row_count=2, row_tokens=32, slots=3)
ROWS = [[0, 1], [2, 3]]


@pytest.fixture(scope="module", params=["sequence", "embedding"])
def teacher(request: pytest.FixtureRequest, tiny_model: Model) -> Model:
    return tiny_model if request.param == "sequence" else tiny_model.with_embeddings("mean")


def data_of(student: Model) -> Dataset:
    examples = [task.parse(Record({"text": text}, text), labelled=True) for text in TEXTS]
    return Dataset.prepare(task.TASK, student, examples)


def output_of(**arrays: Any) -> ModelOutput:
    fields = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    return ModelOutput(**{"hidden": jnp.zeros((1, 4, 2)), **fields})


def two_sequences() -> PackedBatch:
    return packed([[5, 6], [7]], [[0, 1]], tokens=4, slots=2)


def test_a_student_has_the_chosen_layers(tiny_model: Model) -> None:
    student = task.student_of(tiny_model, [1])
    assert len(student.config.encoder.layers) == 1
    for path, leaves in student.params.items():
        source = path.replace("layer_0", "layer_1")
        assert all(leaf is tiny_model.params[source][name] for name, leaf in leaves.items())
    assert student.apply(student.params, student.batch(["the cat"])).logits is not None


def test_a_student_of_all_layers_is_the_teacher(teacher: Model) -> None:
    student = task.student_of(teacher, [0, 1])
    assert student.config == teacher.config
    jax.tree.map(np.testing.assert_array_equal, student.params, teacher.params)
    found = evaluator(student, data_of(student), LossOptions(), teacher)(None)
    assert found == pytest.approx({"similarity": 1.0, "loss": 0.0}, abs=1e-6)


@pytest.mark.parametrize("layers", [[], [2], [-1]])
def test_a_layer_that_is_not_there_is_refused(tiny_model: Model, layers: list[int]) -> None:
    with pytest.raises(EncodaxError, match=r"choose from 0\.\.1"):
        task.student_of(tiny_model, layers)


def test_shared_layers_cannot_be_taken_out(tiny_model: Model) -> None:
    encoder = replace(tiny_model.config.encoder, parameter_groups=(0, 0))
    shared = replace(tiny_model, config=replace(tiny_model.config, encoder=encoder))
    with pytest.raises(EncodaxError, match="share parameters"):
        task.student_of(shared, [0])


def test_a_student_fits_its_teacher(tiny_model: Model) -> None:
    embedder = tiny_model.with_embeddings("mean")
    task.check_student(task.student_of(embedder, [0]), embedder)
    narrow: EncoderConfig = tiny_model.config.encoder
    narrow = replace(narrow, embeddings=replace(narrow.embeddings, width=8))
    other = Tokenizer.train(["another vocabulary"])
    for student, teacher, message in (
        (tiny_model, embedder, "no embedding head"),
        (tiny_model, tiny_model.with_head("vocabulary"), "needs a head"),
        (tiny_model, tiny_model.with_head("sequence", 1, problem="regression"), "regression"),
        (tiny_model.with_head("sequence", 2), tiny_model, "different labels"),
        (replace(tiny_model, tokenizer=other), tiny_model, "different vocabularies"),
        (
            replace(embedder, config=replace(embedder.config, encoder=narrow)),
            embedder,
            "vectors have 8 features, and the teacher's 16",
        ),
    ):
        with pytest.raises(EncodaxError, match=message):
            task.check_student(student, teacher)


def test_scores_are_softened_alike() -> None:
    own, taught = np.asarray([1.0, 0.0, -1.0]), np.asarray([3.0, 1.0, 0.0])
    targets = Targets(np.zeros((1, 2)), np.asarray([[1.0, 0.0]], np.float32))
    output = output_of(logits=[[own, own]])
    targets = replace(targets, teacher=output_of(logits=[[taught, own]]))

    def softened(scores: np.ndarray) -> np.ndarray:
        return np.exp(scores / 3) / np.exp(scores / 3).sum()

    wanted = 9 * np.sum(softened(taught) * np.log(softened(taught) / softened(own)))
    total, weight = task.loss(output, targets, two_sequences(), LossOptions(temperature=3.0))
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert weight == 1


def test_vectors_are_compared_by_their_direction() -> None:
    targets = Targets(np.zeros((1, 2)), np.ones((1, 2), np.float32))
    output = output_of(vectors=[[[1.0, 0.0], [1.0, 1.0]]])
    targets = replace(targets, teacher=output_of(vectors=[[[5.0, 0.0], [0.0, 2.0]]]))
    total, _ = task.loss(output, targets, two_sequences(), LossOptions())
    np.testing.assert_allclose(total, 1 - np.sqrt(0.5), rtol=1e-5)
    found = task.sums(output, targets, two_sequences(), LossOptions())
    np.testing.assert_allclose(found["alike"], 1 + np.sqrt(0.5), rtol=1e-5)


def test_states_are_compared_at_the_same_depth_and_without_padding() -> None:
    vectors = np.ones((1, 2, 2))
    states = [np.full((1, 4, 2), float(n)) for n in range(5)]
    own = [np.zeros((1, 4, 2))] * 3
    own[1] = own[1] + 2.5  # beside the teacher's third, 2.0
    for state in own:
        state[:, 3] = 99.0  # padding
    records = [{"hidden": tuple(map(jnp.asarray, each))} for each in (own, states)]
    output, teacher = (replace(output_of(vectors=vectors), records=each) for each in records)
    targets = Targets(np.zeros((1, 2)), np.asarray([[1.0, 1.0]], np.float32), teacher=teacher)
    total, weight = task.loss(output, targets, two_sequences(), LossOptions(hidden_weight=0.5))
    np.testing.assert_allclose(total / weight, 0.5 * (0 + 0.25 + 16) / 3, rtol=1e-5)
    nothing, _ = task.loss(output, targets, two_sequences(), LossOptions(hidden_weight=0.0))
    np.testing.assert_allclose(nothing, 0, atol=1e-6)


def test_states_of_another_width_are_not_compared() -> None:
    output = output_of(vectors=np.ones((1, 2, 2)), hidden=np.ones((1, 4, 3)))
    targets = Targets(np.zeros((1, 2)), np.ones((1, 2), np.float32))
    targets = replace(targets, teacher=output_of(vectors=np.ones((1, 2, 2))))
    total, _ = task.loss(output, targets, two_sequences(), LossOptions())
    np.testing.assert_allclose(total, 0, atol=1e-6)


def test_steps_bring_a_student_to_its_teacher(teacher: Model) -> None:
    student = task.student_of(teacher, [0])
    data = data_of(student)
    measure = evaluator(student, data, LossOptions(), teacher)
    optimizer = make_optimizer(lambda step: 3e-3, weight_decay=0.0, clip_norm=1e3)
    step = make_step(StepSpec(student, task.TASK, optimizer, LossOptions(), teacher=teacher))
    state = initial_state(student.params, optimizer, seed=0)
    batch = jax.tree.map(lambda leaf: np.asarray(leaf)[None], data.batch(ROWS, SHAPE))
    before = measure(state.params)
    for _ in range(40):
        state, _ = step(state, Constants({}, teacher.params), *batch)
    after = measure(state.params)
    assert after["loss"] < 0.7 * before["loss"]
    assert after["similarity"] >= before["similarity"]
