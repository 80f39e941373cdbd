"""Predictors: a class for each task, texts in, answers out."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar, Unpack

from encodax.data.stream import MAX_WAIT, Live
from encodax.errors import EncodaxError
from encodax.inference.engine import Engine, EngineBacked, EngineOptions, head_output
from encodax.inference.progress import answer_list
from encodax.model_files.sentence_modules import default_activation
from encodax.models.encoder_model import Model
from encodax.tasks import (
    reranking,
    task_named,
    task_of,
    task_of_records,
)
from encodax.tasks.by_class import ByClass
from encodax.tasks.classification import Classification
from encodax.tasks.dataset import Dataset, seen
from encodax.tasks.decoding import DecodingOptions, decoding_of
from encodax.tasks.empty import (
    IN_DATA,
    EmptyTextRule,
    OnEmpty,
    OnEmptyInData,
    empty_query,
    labelled,
)
from encodax.tasks.examples import at_hand, examples_of_records
from encodax.tasks.question_answering import Answer as SpanAnswer
from encodax.tasks.task import Decoding, Example, side_by_side, unlabelled
from encodax.tasks.token_classification import TokenDecoding
from encodax.text.tokenizer import Encoding, Text
from encodax.types.batches import Params, Span

Answer = TypeVar("Answer")


class PredictorOptions(EngineOptions, DecodingOptions, total=False):
    """Options that a predictor takes."""


class Predictor(EngineBacked, Generic[Answer]):
    """Predictor of the task that the model's head is for."""

    TASK: ClassVar[str | None] = None
    """Task of a subclass, which takes all tasks with the same kind of head; None for any."""
    decoding: Decoding
    """Settings for decoding answers from the head's output."""

    def __init__(self, model: Model, **options: Unpack[PredictorOptions]):
        """Take a model with a head.

        Args:
            model: the model.
            **options: options of the task's decoding, and of the engine.

        Raises:
            EncodaxError: the model has no head, or one for another task, or an option is for
                another task or out of its range.
        """
        self.task = task_of(model.config)
        if self.TASK is not None and task_named(self.TASK).head != self.task.head:
            raise EncodaxError(f"the model is one for {self.task.name}, not {self.TASK}")
        assert model.config.head is not None
        running: dict[str, Any] = {**options}
        asked = {name: running.pop(name, None) for name in DecodingOptions.__annotations__}
        self.decoding = decoding_of(self.task, asked)
        self.decoding.check(model)  # refused here, not at a text
        read, level = head_output(model.config.head, model.config.usage)
        super().__init__(model, Engine(model, read, level, **running))

    def predict(
        self,
        texts: Sequence[Text],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> list[Answer]:
        """Return the answers for texts (or pairs), in order.

        Args:
            texts: a list of texts, or of pairs.
            truncate: cut texts that are longer than the model takes; the number of cut texts is
                logged.
            on_empty: treatment of empty texts: `error` refuses them, `skip` leaves them out, `keep`
                gives them None.
            progress: show a progress bar; None to show one if standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`.
        """
        stream = functools.partial(self.stream, truncate=truncate, on_empty=on_empty, max_wait=None)
        return list(answer_list(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[Text],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[Answer]:
        """Yield the answers for texts, in order, as the texts arrive; the source may be endless.

        Args:
            texts: the source; it is read one window ahead.
            truncate: cut texts that are longer than the model takes.
            on_empty: treatment of empty texts, see `predict`.
            max_wait: longest time in seconds that a text waits for others while the source is
                silent. The source is read on a separate thread; None reads it on the caller's
                thread, in whole windows.
        """
        found = self.answers(
            unlabelled(texts),
            truncate=truncate,
            empties=EmptyTextRule(on_empty),
            live=Live.of(max_wait),
        )
        return (answer for _, answer in found)

    def answers(
        self,
        examples: Iterable[Example],
        *,
        truncate: bool = False,
        prompt: str | None = None,
        empties: EmptyTextRule | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, Answer]]:
        """Yield each example with its answer, in order; the source is read one window at a time.

        Args:
            examples: the inputs.
            truncate: cut texts that are longer than the model takes; the number of cut texts is
                logged.
            prompt: name of the prompt of a cross-encoder to put before each text, or before the
                first text of a pair; None for the default one.
            empties: treatment of empty texts; None refuses them.
            live: settings for a source that may pause, such as the longest wait; None for whole
                windows.
        """
        before, empties = self.model.config.usage.prompt(prompt), empties or EmptyTextRule("error")

        def encode(window: list[Example]) -> tuple[list[list[Any]], int]:
            prompted = [add_prompt(before, example) for example in window]
            return self.decoding.encode(self.task, self.model, prompted, truncate=truncate)

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        for example, encodings, scores in self._engine.stream(
            examples, tokenize, Example.characters, live=live
        ):
            if not encodings:
                if empties.rule == "keep":
                    yield example, None  # type: ignore[misc]
                continue
            yield example, self.decoding.answer(self.task, example, encodings, scores, self._labels)
        empties.note()

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.model.config.labels

    def evaluate(
        self,
        records: Any,
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
    ) -> dict[str, Any]:
        """Return the task's metrics over labelled records, and under `classes` those of each class.

        For a model with one score, the records' fields decide between regression and reranking.

        Args:
            records: the data, each a `Record`. Not annotated so: a type check would read one.
            truncate: cut texts that are longer than the model takes; the number of cut texts is
                logged.
            on_empty: treatment of records with an empty text: `error` refuses them, `skip` leaves
                them out.

        Raises:
            EncodaxError: a record is not one of the task, or a label is unknown.
        """
        known = at_hand(records)
        task, _ = task_of_records(self.model.config, known)
        task = self.decoding.measured(task, known, self._labels)
        before = self.model.config.usage.default_text
        examples = examples_of_records(task, known, on_empty)
        prompted = examples.changed(functools.partial(add_prompt, before))
        task.check_evaluation(examples)
        data = Dataset.prepare(task, self.model, prompted, truncate=truncate)
        counts = ByClass(task)

        def counted() -> Iterator[tuple[Any, Example]]:
            for answer, example in self.answered(data):
                counts.add(answer, example)
                yield answer, example

        metrics = task.metrics(*side_by_side(counted()))
        return {**metrics, **({"classes": found} if (found := counts.figures()) else {})}

    def answered(
        self, data: Dataset, params: Params | None = None, chunk: range | None = None
    ) -> Iterator[tuple[Any, Example]]:
        """Yield the answer and the example, cut as its tokens are, for each that has a token.

        Args:
            data: data set of a task of this model's head.
            params: parameters to answer with; None for the model's own.
            chunk: one of `data.chunks()`; None for all of the data.
        """
        for example, encodings, scores in answer_dataset(self._engine, data, params, chunk):
            answer = self.decoding.answer(data.task, example, encodings, scores, self._labels)
            shown, _ = seen(data.task, example, encodings)
            assert shown is not None
            yield answer, shown


def answer_dataset(
    engine: Engine, data: Dataset, params: Params | None, chunk: range | None = None
) -> Iterator[tuple[Example, list[Encoding], list[Any]]]:
    """Yield each example of a data set with its token sequences and the engine's answer to each.

    Examples without a token are left out. Sequences that the data set does not keep are tokenized
    when they are needed. With a chunk, only its examples are answered.
    """

    def tokenize(indices: list[int]) -> tuple[list[list[Any]], int]:
        return [[encoding] for encoding in data.encodings_of(indices)], 0

    lengths = data.lengths
    found = engine.stream(
        range(len(data)) if chunk is None else chunk,
        tokenize,
        lambda index: int(lengths[index]),
        params=engine.device_params(params),
    )
    for owner, group in itertools.groupby(found, key=lambda each: int(data.example_of[each[0]])):
        own = list(group)
        yield data.examples[owner], [each[1][0] for each in own], [each[2][0] for each in own]


def add_prompt(before: str, example: Example) -> Example:
    """Put a prompt before an example's text, or the first of a pair; empty texts stay empty."""
    first, *second = example.parts
    if not before or not isinstance(first, str) or not first.strip():
        return example
    text: Text = (before + first, *second) if second else before + first  # type: ignore[assignment]
    return replace(example, text=text)


class Classifier(Predictor[Classification]):
    """Predictor of label scores, or of one quantity, for each text or pair of texts."""

    TASK = "classification"


class TokenClassifier(Predictor[tuple[Span, ...]]):
    """Predictor of the labelled spans of each text, with offsets into that text.

    For its options, see `tasks.token_classification.TokenDecoding`: `aggregation`,
    `tag_scheme`, and `stride` for texts of any length.
    """

    TASK = "token-classification"
    decoding: TokenDecoding

    def predict_words(
        self, texts: Sequence[str], *, truncate: bool = False
    ) -> list[tuple[Span, ...]]:
        """Return every word of each text with its label, `O` too, as for parts of speech.

        A word has the label of its first token, unless the aggregation is `average` or `max`.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`.
        """

        def tokenize(window: list[Example]) -> tuple[list[list[Encoding]], int]:
            return self.decoding.encode(self.task, self.model, window, truncate=truncate)

        def found(texts: Iterable[str]) -> Iterator[tuple[Span, ...]]:
            stream = self._engine.stream(unlabelled(texts), tokenize, Example.characters)
            return (self.decoding.words(*each, self._labels) for each in stream)

        return list(answer_list(texts, found, progress=False))


class QuestionAnswerer(Predictor[SpanAnswer]):
    """Predictor of the piece of a context that answers a question, for pairs (question, context).

    A context of any length is read in overlapping windows. Compare `score` with
    `no_answer_score` to see whether the model finds an answer. For its options, see
    `tasks.question_answering.AnswerDecoding`: `top_k` and `max_answer_tokens`.
    """

    TASK = "question-answering"


@dataclass(frozen=True)
class Ranked:
    """Text with its score in a ranking."""

    index: int
    """Position of the text in the list that was given."""
    score: float
    text: str


class Reranker(EngineBacked):
    """Cross-encoder that scores pairs (query, text) by how well the text answers the query.

    The model is a sequence classifier over pairs. If it has one score, that is the result, after
    the activation that the model's files name, or the sigmoid if they name none, as in
    sentence-transformers. If it has two classes, the result is the probability of the second.
    """

    def __init__(self, model: Model, **options: Unpack[EngineOptions]):
        """Take a model whose head has one score or two classes.

        Args:
            model: the model.
            **options: see `EngineOptions`.

        Raises:
            EncodaxError: the model is not such a cross-encoder.
        """
        head, labels = model.config.head, model.config.labels
        usage = model.config.usage
        if head is not None and len(labels) == 1:
            head = replace(head, problem="regression")
            usage = replace(usage, activation=usage.activation or default_activation(1))
        model = replace(model, config=replace(model.config, head=head, usage=usage))
        self._classifier = Classifier(model, **options)
        super().__init__(model, self._classifier._engine)
        if len(labels) not in (1, 2):
            raise EncodaxError(
                f"a reranker has one score or two classes, and the model has {len(labels)}"
            )

    def predict(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        progress: bool | None = None,
    ) -> list[float]:
        """Return the score of each pair, in order; larger is better.

        Args:
            pairs: a list of pairs.
            prompt: name of the prompt of the model to put before each query; None for the default
                one.
            truncate: cut pairs that are too long, the longer text first.
            progress: show a progress bar; None to show one if standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text is empty, or a pair too long without `truncate`; or there is no
                such prompt.
        """
        stream = functools.partial(self.stream, prompt=prompt, truncate=truncate, max_wait=None)
        return list(answer_list(pairs, stream, progress=progress))

    def stream(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[float]:
        """Yield the scores of pairs, in order, as the pairs arrive; the source may be endless.

        Args:
            pairs: the source; it is read one window ahead.
            prompt: name of the prompt to put before each query.
            truncate: cut pairs that are too long.
            max_wait: longest time in seconds that a pair waits for others while the source is
                silent. The source is read on a separate thread; None reads it on the caller's
                thread, in whole windows.
        """
        found = self._classifier.answers(
            unlabelled(pairs), prompt=prompt, truncate=truncate, live=Live.of(max_wait)
        )
        return (self._score(answer) for _, answer in found)

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts of the model, by name; each precedes a query."""
        return dict(self.model.config.usage.prompts)

    def _score(self, answer: Classification) -> float:
        return answer.scores[self.model.config.labels[-1]]

    def evaluate(
        self,
        records: Any,
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
    ) -> dict[str, float]:
        """Measure how high the relevant texts of queries are ranked, as `tasks.reranking` does.

        Raises:
            EncodaxError: a record is not one of reranking, or no query has a relevant text.
        """
        examples = labelled(reranking.TASK, records, on_empty)
        empties = EmptyTextRule(on_empty, IN_DATA)
        found = self._classifier.answers(examples, truncate=truncate, empties=empties)
        scored = (
            (replace(answer, score=self._score(answer)), example) for example, answer in found
        )
        return reranking.metrics(*side_by_side(scored))

    def rank(
        self,
        query: str,
        texts: Iterable[str],
        *,
        top_k: int | None = None,
        prompt: str | None = None,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
    ) -> list[Ranked]:
        """Rank texts by how well they answer a query, best first.

        Args:
            query: the question.
            texts: texts to rank; they may arrive one at a time.
            top_k: number of texts to return; None for all.
            prompt: name of the prompt of the model to put before the query; None for the default
                one.
            truncate: cut pairs that are too long.
            on_empty: treatment of empty texts: `error` refuses them, `skip` leaves them out.
        """
        examples = (Example(text, index, f"text {index}") for index, text in enumerate(texts))
        found = self.answers(
            query,
            examples,
            prompt=prompt,
            truncate=truncate,
            empties=EmptyTextRule(on_empty, IN_DATA),
        )
        ranked = (Ranked(each.target, score, each.parts[0]) for each, score in found)
        if top_k is None:
            return sorted(ranked, key=lambda item: -item.score)
        return heapq.nsmallest(top_k, ranked, key=lambda item: -item.score)

    def answers(
        self,
        query: str,
        examples: Iterable[Example],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        empties: EmptyTextRule | None = None,
    ) -> Iterator[tuple[Example, float]]:
        """Yield each text with its score, in order; the texts are read one window at a time.

        Args:
            query: the question.
            examples: examples of one text each.
            prompt: see `rank`.
            truncate: cut pairs that are too long.
            empties: treatment of empty texts; None refuses them.
        """
        if not query.strip():
            raise empty_query()
        pairs = (replace(example, text=(query, example.parts[0])) for example in examples)
        found = self._classifier.answers(pairs, truncate=truncate, prompt=prompt, empties=empties)
        return ((replace(pair, text=pair.parts[1]), self._score(answer)) for pair, answer in found)
