"""Embedder: texts to vectors."""

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
from encodax.inference.progress import answer_list
from encodax.inference.vectors import Hit, Nearest
from encodax.models.encoder_model import Model
from encodax.tasks.empty import EmptyTextRule, OnEmpty, empty_query, refuse_unseen
from encodax.tasks.task import Example, encode_whole
from encodax.text.tokenizer import Encoding

logger = logging.getLogger(__name__)

Side = Literal["query", "document"]
"""Role of a text in a search."""


class Embedder(EngineBacked):
    """Embedder that gives one vector for each text; similar texts have similar vectors.

    A model without the module files of sentence-transformers gives the mean over its tokens. A
    model that scores texts or pairs, such as a cross-encoder, has poor vectors; this is logged.
    """

    ENCODER_ONLY = True

    def __init__(self, model: Model, **options: Unpack[EngineOptions]):
        """Take a model; a head of another kind than embedding is dropped.

        Args:
            model: the model.
            **options: see `EngineOptions`.
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
        """Return the engine for texts that this prompt precedes.

        There is one engine for each number of prompt tokens that are left out of the pooling.
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
        """Number of dimensions of a vector."""
        return self.model.vector_width

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts of the model, by name, such as `query` and `document`; each precedes a text."""
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
        """Return the vectors of texts, in order, in float32.

        Args:
            texts: a list of texts.
            prompt: name of the prompt of the model to put before each text; None for the default
                one.
            truncate: cut texts that are longer than the model takes; the number of cut texts is
                logged.
            on_empty: treatment of empty texts: `error` refuses them, `skip` leaves them out, `keep`
                gives them rows of zeros, which are similar to nothing.
            progress: show a progress bar; None to show one if standard error is a terminal and the
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
        """Encode queries to search with: `encode` with the prompt for queries, or none."""
        return self._encoded(texts, self.prompt_of("query"), truncate, on_empty, progress)

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> Float[np.ndarray, "rows E"]:
        """Encode documents to search in: `encode` with the prompt for documents, or none."""
        return self._encoded(texts, self.prompt_of("document"), truncate, on_empty, progress)

    def prompt_of(self, side: Side) -> str:
        """Return the prompt before the texts of one side of a search; "" for none.

        It is the prompt of that name. The default prompt is never used for searches: if it is the
        one for queries, documents would get it too.
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
        """Yield the vectors of texts, in order, as the texts arrive; the source may be endless.

        Args:
            texts: the source; it is read one window ahead.
            prompt: name of the prompt to put before each text.
            truncate: cut texts that are longer than the model takes.
            on_empty: treatment of empty texts, see `encode`.
            max_wait: longest time in seconds that a text waits for others while the source is
                silent. The source is read on a separate thread; None reads it on the caller's
                thread, in whole windows.
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
            Example(check_not_pair(text, where), None, where)
            for text, where in ((text, f"text {index}") for index, text in enumerate(texts))
        )
        empties = EmptyTextRule(on_empty)
        found = self.answers(examples, before, truncate=truncate, empties=empties, live=live)
        return (vector for _, vector in found)

    def answers(
        self,
        examples: Iterable[Example],
        before: str,
        *,
        truncate: bool = False,
        empties: EmptyTextRule | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, Float[np.ndarray, " E"]]]:
        """Yield each example with the vector of its text, in order.

        Args:
            examples: examples of one text each.
            before: string to put before each text, such as `prompt_of` returns.
            truncate: cut texts that are too long.
            empties: treatment of empty texts; None refuses them.
            live: settings for a source that may pause, such as the longest wait; None for whole
                windows.
        """
        empties = empties or EmptyTextRule("error")

        def encode(window: list[Example]) -> tuple[list[list[Encoding]], int]:
            if before:  # a prompt would hide that a text has no token
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
        rows = answer_list(texts, stream, progress=progress)
        found = np.empty((len(texts), self.width), np.float32)  # a list would hold them twice
        count = 0
        for count, row in enumerate(rows, 1):
            found[count - 1] = row
        return found[:count]

    def similarity(
        self, first: Float[np.ndarray, "n E"], second: Float[np.ndarray, "m E"]
    ) -> Float[np.ndarray, "n m"]:
        """Return the similarity of each first vector to each second one, by the model's measure."""
        return vectors.similarity(first, second, self.model.config.usage.similarity)

    def search(
        self,
        queries: Sequence[str],
        corpus: Float[np.ndarray, "m E"],
        *,
        top_k: int = 10,
        truncate: bool = False,
    ) -> list[list[Hit]]:
        """Return the most similar vectors of a corpus for each query, best first; exact search.

        Args:
            queries: texts, see `encode_query`.
            corpus: vectors, as `encode_document` returns them.
            top_k: number of hits for each query.
            truncate: cut queries that are longer than the model takes.
        """
        nearest = self.nearest(queries, top_k=top_k, truncate=truncate)
        nearest.add(corpus)
        return nearest.hits()

    def nearest(
        self, queries: Sequence[str], *, top_k: int = 10, truncate: bool = False
    ) -> Nearest:
        """Start a `search` in a corpus whose vectors arrive in pieces (`Nearest.add`)."""
        try:
            found = self.encode_query(queries, truncate=truncate)
        except EmptyText:
            raise empty_query() from None
        return Nearest(found, top_k, self.model.config.usage.similarity)


def note_scores(config: ModelConfig) -> None:
    """Log that a model for scores (a cross-encoder, or a model with one score) has poor vectors."""
    is_scorer = len(config.labels) == 1 or config.usage.activation is not None
    is_sequence = config.head is not None and config.head.kind == "sequence"
    if config.usage.head_dropped or (is_sequence and is_scorer):
        logger.warning(
            "the model scores texts or pairs, as cross-encoders do, and its vectors are poor: use "
            "`encodax rerank` (encodax.Reranker), or choose an embedding model"
        )


def check_text(text: Any, where: str) -> str:
    """Return a text that an embedder can take; check before a prompt hides that it is empty."""
    if not check_not_pair(text, where).strip():
        raise EmptyText.of(where)
    return str(text)


def check_not_pair(text: Any, where: str) -> str:
    """Return a text, and refuse a pair."""
    if not isinstance(text, str):
        raise EncodaxError(f"{where}: an embedder takes one text, not {text!r}")
    return text
