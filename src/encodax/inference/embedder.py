"""Texts to vectors."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Float

from encodax.config import ModelConfig
from encodax.data.stream import MAX_WAIT, Live
from encodax.errors import EmptyText, EncodaxError
from encodax.inference import vectors
from encodax.inference.engine import Engine, EngineBacked, EngineOptions, head_output
from encodax.inference.progress import listed
from encodax.inference.vectors import Hit, Nearest
from encodax.models.encoder_model import Model
from encodax.tasks.empty import Empties, OnEmpty, empty_query, refuse_unseen
from encodax.tasks.task import Example, encode_whole
from encodax.text.tokenizer import Encoding

logger = logging.getLogger(__name__)

Side = Literal["query", "document"]
"""Of a search."""


class Embedder(EngineBacked):
    """One vector for each text, of which similar texts have similar ones.

    A model without the module files of sentence-transformers gives the mean of its tokens. One that
    scores texts or pairs, such as a cross-encoder, has poor vectors, and a note says so.
    """

    ENCODER_ONLY = True

    def __init__(self, model: Model, **options: Unpack[EngineOptions]):
        """Take a model; whatever head it has that is none for embeddings is left out.

        Args:
            model: the model.
            **options: how it runs.
        """
        head = model.config.head
        if head is None or head.kind != "embedding":
            note_scores(model.config)
            model = model.with_embeddings("mean")
        self._options = options
        default = model.config.usage.default_text
        self._engines: dict[int, Engine] = {}
        super().__init__(model, self._engine_after(model, default))

    def _engine_after(self, model: Model, prompt: str) -> Engine:
        """The engine for texts with that prompt before them.

        There is one for each number of a prompt's tokens that stay out of the pooling.
        """
        model = model.pooled_after(prompt)
        head = model.config.head
        assert head is not None
        if head.skipped_tokens not in self._engines:
            engine = Engine(model, *head_output(head), **self._options)
            self._engines[head.skipped_tokens] = engine
        return self._engines[head.skipped_tokens]

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.model.vector_width

    @property
    def prompts(self) -> dict[str, str]:
        """What the model wants before a text, by name, such as `query` and `document`."""
        return dict(self.model.config.usage.prompts)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> Float[np.ndarray, "rows E"]:
        """The vectors of texts, in order, in float32.

        Args:
            texts: a list of texts.
            prompt: name of the prompt of the model that goes before each text; None for its
                default one.
            truncate: cut what is longer than the model takes; how many were cut is logged.
            on_empty: what becomes of empty texts: `error` refuses them, `skip` leaves them out, and
                `keep` has rows of zeros for them, which are like nothing.
            progress: show a progress bar; None for where standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`; or there is no such
                prompt.
        """
        before = self.model.config.usage.prompt(prompt)
        return self._encoded(texts, before, truncate, on_empty, progress)

    def encode_query(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> Float[np.ndarray, "rows E"]:
        """Encode queries, to search with: `encode` with the prompt of queries, or none."""
        return self._encoded(texts, self.prompt_of("query"), truncate, on_empty, progress)

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> Float[np.ndarray, "rows E"]:
        """Encode what is searched: `encode` with the prompt of documents, or none."""
        return self._encoded(texts, self.prompt_of("document"), truncate, on_empty, progress)

    def prompt_of(self, side: Side) -> str:
        """Return what goes before the texts of one side of a search; "" for nothing.

        It is the prompt of that name. The default prompt is not for searches: where it is that of
        queries, documents would get it too.
        """
        return self.prompts.get(side, "")

    def stream(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[Float[np.ndarray, " E"]]:
        """The vectors of texts that may never end, in order, as they come.

        Args:
            texts: the source; it is read a window ahead.
            prompt: name of the prompt that goes before each text.
            truncate: cut what is longer than the model takes.
            on_empty: what becomes of empty texts.
            max_wait: seconds that a text waits for others, while the source is silent. It is read
                on a thread of its own; None to read it on yours, in whole windows.
        """
        before = self.model.config.usage.prompt(prompt)
        return self._stream(texts, before, truncate, on_empty, Live.of(max_wait))

    def _stream(
        self,
        texts: Iterable[str],
        before: str,
        truncate: bool,
        on_empty: OnEmpty,
        live: Live | None = None,
    ) -> Iterator[Float[np.ndarray, " E"]]:
        examples = (
            Example(one_text(text, where), None, where)
            for text, where in ((text, f"text {index}") for index, text in enumerate(texts))
        )
        empties = Empties(on_empty)
        found = self.answers(examples, before, truncate=truncate, empties=empties, live=live)
        return (vector for _, vector in found)

    def answers(
        self,
        examples: Iterable[Example],
        before: str,
        *,
        truncate: bool = False,
        empties: Empties | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, Float[np.ndarray, " E"]]]:
        """Each example with the vector of its text, in order.

        Args:
            examples: each of one text.
            before: what goes before each text, such as `prompt_of` gives it.
            truncate: cut what is too long.
            empties: what becomes of empty texts, where they are not refused.
            live: for examples that come in their own time: how long one waits for others.
        """
        empties = empties or Empties("error")

        def encode(window: list[Example]) -> tuple[list[list[Encoding]], int]:
            if before:  # it would hide that a text has no token
                texts = [example.parts[0] for example in window]
                names = [example.where for example in window]
                refuse_unseen(texts, names, self.model.tokenizer.encode)
            prompted = [replace(each, text=before + each.parts[0]) for each in window]
            return encode_whole(self.model, prompted, truncate=truncate)

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        engine = self._engine_after(self.model, before)
        for example, encodings, found in engine.stream(
            examples, tokenize, Example.characters, live=live
        ):
            if encodings:
                yield example, found[0]
            elif empties.rule == "keep":
                yield example, np.zeros(self.width, np.float32)
        empties.note()

    def _encoded(
        self,
        texts: Sequence[str],
        before: str,
        truncate: bool,
        on_empty: OnEmpty,
        progress: bool | None,
    ) -> Float[np.ndarray, "rows E"]:
        stream = functools.partial(
            self._stream, before=before, truncate=truncate, on_empty=on_empty
        )
        rows = listed(texts, stream, progress=progress)
        found = np.empty((len(texts), self.width), np.float32)  # filled: a list would hold it twice
        count = 0
        for count, row in enumerate(rows, 1):
            found[count - 1] = row
        return found[:count]

    def similarity(
        self, first: Float[np.ndarray, "n E"], second: Float[np.ndarray, "m E"]
    ) -> Float[np.ndarray, "n m"]:
        """How similar each vector of the first is to each of the second, as the model compares."""
        return vectors.similarity(first, second, self.model.config.usage.similarity)

    def search(
        self,
        queries: Sequence[str],
        corpus: Float[np.ndarray, "m E"],
        *,
        top_k: int = 10,
        truncate: bool = False,
    ) -> list[list[Hit]]:
        """For each query, the most similar vectors of a corpus, best first: an exact search.

        Args:
            queries: texts, as `encode_query` takes them.
            corpus: vectors, as `encode_document` gives them.
            top_k: how many for each query.
            truncate: cut queries that are longer than the model takes.
        """
        nearest = self.nearest(queries, top_k=top_k, truncate=truncate)
        nearest.add(corpus)
        return nearest.hits()

    def nearest(
        self, queries: Sequence[str], *, top_k: int = 10, truncate: bool = False
    ) -> Nearest:
        """The same search, of a corpus whose vectors come a piece at a time (`Nearest.add`)."""
        try:
            found = self.encode_query(queries, truncate=truncate)
        except EmptyText:
            raise empty_query() from None
        return Nearest(found, top_k, self.model.config.usage.similarity)


def note_scores(config: ModelConfig) -> None:
    """Say that a model for scores, a cross-encoder or one of one score, has no good vectors."""
    is_scorer = len(config.labels) == 1 or config.usage.activation is not None
    is_sequence = config.head is not None and config.head.kind == "sequence"
    if config.usage.lost_scores or (is_sequence and is_scorer):
        logger.warning(
            "the model scores texts or pairs, as cross-encoders do, and its vectors are poor: use "
            "`encodax rerank` (encodax.Reranker), or take an embedder"
        )


def check_text(text: Any, where: str) -> str:
    """A text that an embedder can take; a prompt would hide that it is empty."""
    if not one_text(text, where).strip():
        raise EmptyText.of(where)
    return str(text)


def one_text(text: Any, where: str) -> str:
    """A text that is no pair."""
    if not isinstance(text, str):
        raise EncodaxError(f"{where}: an embedder takes one text, not {text!r}")
    return text
