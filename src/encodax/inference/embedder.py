"""Texts to vectors."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Float

from encodax.errors import EncodaxError
from encodax.inference import vectors
from encodax.inference.engine import Engine, EngineOptions, OfModel, answer_of
from encodax.inference.progress import listed
from encodax.inference.vectors import Hit
from encodax.model import Model
from encodax.tasks.task import Example, encode_whole
from encodax.tokenizer import Encoding

Side = Literal["query", "document"]
"""Of a search."""


class Embedder(OfModel):
    """One vector for each text, of which similar texts have similar ones.

    A model without the module files of sentence-transformers gives the mean of its tokens.
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
            engine = Engine(model, *answer_of(head), **self._options)
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
        progress: bool | None = None,
    ) -> Float[np.ndarray, "texts E"]:
        """The vectors of texts, in order, in float32.

        Args:
            texts: a list of texts.
            prompt: name of the prompt of the model that goes before each text; None for its
                default one.
            truncate: cut what is longer than the model takes; how many were cut is logged.
            progress: show a progress bar; None for where standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`; or there is no such
                prompt.
        """
        before = self.model.config.usage.prompt(prompt)
        return self._encoded(texts, before, truncate=truncate, progress=progress)

    def encode_query(
        self, texts: Sequence[str], *, truncate: bool = False, progress: bool | None = None
    ) -> Float[np.ndarray, "texts E"]:
        """The vectors of queries, to search with: `encode` with the prompt of queries, or none."""
        before = self.prompt_of("query")
        return self._encoded(texts, before, truncate=truncate, progress=progress)

    def encode_document(
        self, texts: Sequence[str], *, truncate: bool = False, progress: bool | None = None
    ) -> Float[np.ndarray, "texts E"]:
        """The vectors of what is searched: `encode` with the prompt of documents, or none."""
        before = self.prompt_of("document")
        return self._encoded(texts, before, truncate=truncate, progress=progress)

    def prompt_of(self, side: Side) -> str:
        """What goes before the texts of one side of a search; "" for nothing.

        It is the prompt of that name. The default prompt is not for searches: where it is that of
        queries, documents would get it too.
        """
        return self.prompts.get(side, "")

    def stream(
        self, texts: Iterable[str], *, prompt: str | None = None, truncate: bool = False
    ) -> Iterator[Float[np.ndarray, " E"]]:
        """The vectors of texts that may never end, in order; they are read a window at a time."""
        before = self.model.config.usage.prompt(prompt)
        return self.stream_after(texts, before, truncate=truncate)

    def stream_after(
        self, texts: Iterable[str], before: str, *, truncate: bool = False
    ) -> Iterator[Float[np.ndarray, " E"]]:
        """The same with this before each text, whatever the model's prompts are."""
        examples = (
            Example(before + checked(text, where), None, where)
            for text, where in ((text, f"text {index}") for index, text in enumerate(texts))
        )

        def tokenize(window: list[Example]) -> tuple[list[list[Encoding]], int]:
            return encode_whole(self.model, window, truncate=truncate)

        engine = self._engine_after(self.model, before)
        return (vector for _, _, (vector,) in engine.stream(examples, tokenize, Example.characters))

    def _encoded(
        self, texts: Sequence[str], before: str, *, truncate: bool, progress: bool | None
    ) -> Float[np.ndarray, "texts E"]:
        stream = functools.partial(self.stream_after, before=before, truncate=truncate)
        rows = listed(texts, stream, progress=progress)
        found = np.empty((len(texts), self.width), np.float32)  # filled: a list would hold it twice
        for index, row in enumerate(rows):
            found[index] = row
        return found

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
        found = self.encode_query(queries, truncate=truncate)
        return vectors.search(found, corpus, top_k, self.model.config.usage.similarity)


def checked(text: Any, where: str) -> str:
    """A text that an embedder can take; a prompt would hide that it is empty."""
    if not isinstance(text, str):
        raise EncodaxError(f"{where}: an embedder takes one text, not {text!r}")
    if not text.strip():
        raise EncodaxError(f"{where}: the text is empty")
    return text
