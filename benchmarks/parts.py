"""Data sets that models are fine-tuned on: their records, and scores of answers to them.

The folder of all data holds `sst2/{train,dev}.tsv` (text and label), `lines/{train,test}.conllu.gz`
(parts of speech), `wangqa/{train,dev}.csv.gz` (qtext, label, atext: does this answer the question?)
and `xquad/en.json.gz` (SQuAD 1.1; the last 10 articles are the test).
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

Records = list[dict[str, Any]]
Metrics = dict[str, float]

TEST_ARTICLES = 10


@dataclass(frozen=True)
class Part:
    """One data set, and how to train on it."""

    title: str
    task: str
    read: Callable[[Path], tuple[Records, Records]]
    """From the folder of all data to what is trained on and what is tested on."""
    score: Callable[[Records, Records], Metrics]
    """Of the records of the test, and the answers to them."""
    epochs: int
    batch_size: int
    learning_rate: float
    seeds: int
    """How many, unless they are given."""


# The data


def sst2(data: Path) -> tuple[Records, Records]:
    """Sentences with the classes 0 and 1."""

    def records(split: str) -> Records:
        lines = (data / "sst2" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        return [dict(zip(("text", "label"), line.split("\t"), strict=True)) for line in lines]

    return records("train"), records("dev")


def lines(data: Path) -> tuple[Records, Records]:
    """Words with their universal parts of speech."""

    def records(split: str) -> Records:
        content = unpacked(data / "lines" / f"{split}.conllu.gz")
        return [sentence(block) for block in content.strip().split("\n\n")]

    return records("train"), records("test")


def sentence(block: str) -> dict[str, Any]:
    """A sentence of CoNLL-U: lines that begin with a whole number are its words."""
    rows = [line.split("\t") for line in block.split("\n")]
    words = [row for row in rows if row[0].isdecimal()]
    return {"tokens": [row[1] for row in words], "tags": [row[3] for row in words]}


def wangqa(data: Path) -> tuple[Records, Records]:
    """Questions with sentences that answer them, 1, or do not, 0."""

    def records(split: str) -> Records:
        content = unpacked(data / "wangqa" / f"{split}.csv.gz").splitlines(keepends=True)
        return [
            {"text": row["qtext"], "text_pair": row["atext"], "label": row["label"]}
            for row in csv.DictReader(content)
        ]

    return records("train"), records("dev")


def xquad(data: Path) -> tuple[Records, Records]:
    """Questions with their contexts; the last articles are the test."""
    articles = json.loads(unpacked(data / "xquad" / "en.json.gz"))["data"]

    def records(articles: Records) -> Records:
        return [
            {
                "question": question["question"],
                "context": paragraph["context"],
                "answers": [
                    {"text": answer["text"], "start": answer["answer_start"]}
                    for answer in question["answers"]
                ],
            }
            for article in articles
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]

    return records(articles[:-TEST_ARTICLES]), records(articles[-TEST_ARTICLES:])


def unpacked(path: Path) -> str:
    """The text of a gzip file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return stream.read()


# Scores, of answers in the form of `encodax predict`


def accuracy(records: Records, answers: Records) -> Metrics:
    """Share of right labels."""
    right = [record["label"] for record in records]
    return {"accuracy": float(accuracy_score(right, [answer["label"] for answer in answers]))}


def words_right(records: Records, answers: Records) -> Metrics:
    """Micro F1 over words: right where a span has the bounds and the tag of a word."""
    right = found = both = 0
    for record, answer in zip(records, answers, strict=True):
        gold = set(zip(places(record["tokens"]), record["tags"], strict=True))
        spans = {((span["start"], span["end"]), span["label"]) for span in answer["spans"]}
        right, found, both = right + len(gold), found + len(spans), both + len(gold & spans)
    return {"micro F1 of words": 2 * both / (right + found)}


def places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where words stand when a space joins them."""
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word) + 1


def selection(records: Records, answers: Records) -> Metrics:
    """F1 of class 1; MAP and MRR over the questions with right and wrong answers."""
    right = np.asarray([record["label"] == "1" for record in records])
    found = [answer["label"] == "1" for answer in answers]
    scores = np.asarray([answer["scores"]["1"] for answer in answers])
    of_question = defaultdict(list)
    for index, record in enumerate(records):
        of_question[record["text"]].append(index)
    ranked = [group for group in of_question.values() if 0 < right[group].sum() < len(group)]
    precisions = [average_precision_score(right[group], scores[group]) for group in ranked]
    first = [1 + int(np.argmax(right[group][np.argsort(-scores[group])])) for group in ranked]
    return {
        "F1 of class 1": float(f1_score(right, found)),
        "MAP": float(np.mean(precisions)),
        "MRR": float(np.mean([1 / rank for rank in first])),
    }


def squad(records: Records, answers: Records) -> Metrics:
    """Exact match and F1 over words (Rajpurkar et al. 2016, section 6.1), best of the answers."""
    exact, overlap = [], []
    for record, answer in zip(records, answers, strict=True):
        found = plain_words(answer["answer"]["text"])
        golds = [plain_words(gold["text"]) for gold in record["answers"]]
        exact.append(max(found == gold for gold in golds))
        overlap.append(max(f1_of_words(found, gold) for gold in golds))
    return {"exact match": float(np.mean(exact)), "F1": float(np.mean(overlap))}


def plain_words(text: str) -> list[str]:
    """Lower case, without punctuation and without articles."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def f1_of_words(found: list[str], gold: list[str]) -> float:
    """Of two bags of words; two empty ones are equal."""
    if not found or not gold:
        return float(found == gold)
    return 2 * (Counter(found) & Counter(gold)).total() / (len(found) + len(gold))


PARTS = {
    "sst2": Part("SST-2, sentences", "classification", sst2, accuracy, 1, 32, 5e-5, 5),
    "lines": Part("LinES, parts of speech", "token-classification", lines, words_right, 2, 32,
                  2e-4, 1),
    "wangqa": Part("Wang et al. 2007, answers", "classification", wangqa, selection, 1, 32,
                   2e-4, 1),
    "xquad": Part("XQuAD, questions", "question-answering", xquad, squad, 3, 16, 2e-4, 1),
}  # fmt: skip
