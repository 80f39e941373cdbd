"""Toy data for question answering: a question names a kind, its context has a word of it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from toys import SHAPE

import encodax
from encodax.training import TrainResult

WORDS = {"colour": ("red", "blue", "green"), "animal": ("cat", "dog", "fox")}
FILLERS = ("then", "ran", "far", "away", "again", "home")


def question(kind: str, fillers: int, seed: int, *, answered: bool = True) -> dict[str, Any]:
    """A record whose context has so many fillers, a colour and an animal (or lacks the answer)."""
    random = np.random.default_rng(seed)
    words = [str(word) for word in random.choice(FILLERS, fillers)]
    there = {name: str(random.choice(known)) for name, known in WORDS.items()}
    for name, word in there.items():
        if answered or name != kind:
            words.insert(int(random.integers(len(words) + 1)), word)
    context = " ".join(words)
    answer = {"text": there[kind], "start": f" {context} ".find(f" {there[kind]} ")}
    return {
        "question": f"which {kind}?",
        "context": context,
        "answers": [answer] if answered else [],
    }


QUESTIONS = [
    question(kind, fillers, seed=10 * fillers + step, answered=step < 6)
    for fillers in (1, 9, 20, 50)
    for step in range(8)
    for kind in WORDS
]
LONG_QUESTIONS = [question(kind, 70, seed) for seed in range(8) for kind in WORDS]
"""Their contexts are longer than what the model takes."""


@functools.cache
def answerer() -> TrainResult:
    """A question answerer of `QUESTIONS`, which takes 32 tokens."""
    choices = {**SHAPE, "width": 32, "steps": 120, "batch_size": 8, "learning_rate": 1e-2}
    return encodax.train(
        "question-answering", train=QUESTIONS, eval=QUESTIONS, evaluate_every=40, **choices
    )
