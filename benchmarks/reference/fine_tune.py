"""Fine-tuning with the Trainer of transformers: the other side of `benchmarks/fine_tuning.py`.

    python -m benchmarks.reference.fine_tune TASK --model M --train F --eval F --answers OUT

For a Python of `benchmarks/requirements.txt` with `accelerate`; Encodax is not needed. TASK is
classification, token-classification or question-answering. Both files are JSON Lines in the form
that `encodax train` reads, and OUT is written in the form of `encodax predict`, so that one piece
of code scores both. What is not an option is left as the Trainer has it: AdamW, the schedule
linear to 0, clipping at 1, no decay of biases and norms. One JSON line on standard output tells
the steps and the seconds; all else goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

Records = list[dict[str, Any]]

WINDOW = 384
"""Tokens of a question with a piece of its context."""
STRIDE = 128
"""Tokens that neighbouring pieces share."""
LONGEST_ANSWER = 30
"""In tokens."""
CANDIDATES = 20
"""Starts and ends of a piece that are tried with each other."""
NOT_COUNTED = -100
"""A token's label that the loss leaves out."""


@dataclass(frozen=True)
class Run:
    """What every task needs."""

    options: argparse.Namespace
    tokenizer: Any
    train: Records
    test: Records

    def trained(self, model: Any, data: Records, collator: Any) -> Trainer:
        """The Trainer after its work."""
        options = self.options
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=options.batch_size,
                per_device_eval_batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=0,
                weight_decay=options.weight_decay,
                max_grad_norm=1.0,
                seed=options.seed,
                save_strategy="no",
                logging_steps=20,
                disable_tqdm=True,
                report_to="none",
                use_cpu=True,
                dataloader_pin_memory=False,
            )
            trainer = Trainer(model, arguments, data_collator=collator, train_dataset=data)
            trainer.train()
            return trainer

    def model(self, kind: Any, **choices: Any) -> Any:
        """The published encoder under a head; a new head depends on the seed."""
        set_seed(self.options.seed)
        return kind.from_pretrained(self.options.model, dtype=torch.float32, **choices)


def main() -> None:
    """Train, answer, write, tell."""
    options = arguments()
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    run = Run(options, tokenizer, read(options.train), read(options.eval))
    with redirect_stdout(sys.stderr):
        answers, steps = TASKS[options.task](run)
    lines = (json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    options.answers.write_text("".join(lines), encoding="utf-8")
    print(json.dumps({"steps": steps, "seconds": time.perf_counter() - started}))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--model", type=Path, required=True)
    for name in ("--train", "--eval", "--answers"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read(path: Path) -> Records:
    """Records of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def classify(run: Run) -> tuple[Records, int]:
    """Texts, or pairs of texts, to labels."""
    labels = sorted({str(record["label"]) for record in run.train})
    model = run.model(AutoModelForSequenceClassification, num_labels=len(labels))

    def prepared(records: Records) -> Records:
        texts = [[record["text"] for record in records]]
        if "text_pair" in records[0]:
            texts.append([record["text_pair"] for record in records])
        encoded = run.tokenizer(*texts, truncation=True, max_length=512)
        classes = [labels.index(str(record["label"])) for record in records]
        return rows(encoded, labels=classes)

    trainer = run.trained(model, prepared(run.train), DataCollatorWithPadding(run.tokenizer))
    logits = torch.tensor(trainer.predict(prepared(run.test)).predictions)
    answers = [
        {"label": labels[int(np.argmax(row))], "scores": dict(zip(labels, row, strict=True))}
        for row in logits.softmax(-1).tolist()
    ]
    return answers, trainer.state.global_step


def tag(run: Run) -> tuple[Records, int]:
    """Words to tags, each from the first token of its word."""
    tags = sorted({tag for record in run.train for tag in record["tags"]})
    model = run.model(AutoModelForTokenClassification, num_labels=len(tags))

    def prepared(records: Records) -> Records:
        words = [record["tokens"] for record in records]
        encoded = run.tokenizer(words, is_split_into_words=True, truncation=True, max_length=512)
        classes = [
            [
                NOT_COUNTED if word is None else tags.index(record["tags"][word])
                for word in first_tokens(encoded.word_ids(index))
            ]
            for index, record in enumerate(records)
        ]
        return rows(encoded, labels=classes)

    collator = DataCollatorForTokenClassification(run.tokenizer)
    trainer = run.trained(model, prepared(run.train), collator)
    output = trainer.predict(prepared(run.test))
    answers = []
    for record, scores, classes in zip(run.test, output.predictions, output.label_ids, strict=True):
        found = scores[classes != NOT_COUNTED].argmax(-1)
        answers.append({"spans": spans(record["tokens"], [tags[index] for index in found])})
    return answers, trainer.state.global_step


def first_tokens(words: list[int | None]) -> Iterator[int | None]:
    """Of each token its word where it is the first of it, else None."""
    previous = None
    for word in words:
        yield None if word == previous else word
        previous = word


def spans(words: list[str], tags: list[str]) -> Records:
    """Tagged words as spans of the words joined by a space."""
    found, start = [], 0
    for word, name in zip(words, tags, strict=True):
        found.append({"start": start, "end": start + len(word), "label": name})
        start += len(word) + 1
    return found


def answer_questions(run: Run) -> tuple[Records, int]:
    """Questions to pieces of their contexts."""
    model = run.model(AutoModelForQuestionAnswering)
    encoded = windows(run.tokenizer, run.train)
    places = [target(encoded, index, run.train) for index in range(len(encoded["input_ids"]))]
    starts, ends = zip(*places, strict=True)
    data = rows(encoded, start_positions=starts, end_positions=ends)
    collator = DataCollatorWithPadding(run.tokenizer)
    trainer = run.trained(model, data, collator)

    asked = windows(run.tokenizer, run.test)
    start_scores, end_scores = trainer.predict(rows(asked)).predictions
    best: dict[int, tuple[float, int, int]] = {}
    for index, record in enumerate(asked["overflow_to_sample_mapping"]):
        found = best_span(context_places(asked, index), start_scores[index], end_scores[index])
        best[record] = max(best.get(record, found), found)
    answers = []
    for index, record in enumerate(run.test):
        score, start, end = best[index]
        text = record["context"][start:end]
        answers.append({"answer": {"text": text, "start": start, "end": end, "score": score}})
    return answers, trainer.state.global_step


def windows(tokenizer: Any, records: Records) -> Any:
    """Each question with the overlapping pieces of its context."""
    return tokenizer(
        [record["question"] for record in records],
        [record["context"] for record in records],
        truncation="only_second",
        max_length=WINDOW,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


def context_places(encoded: Any, index: int) -> dict[int, tuple[int, int]]:
    """Tokens of the context in a window, and the characters that each covers."""
    sides, offsets = encoded.sequence_ids(index), encoded["offset_mapping"][index]
    return {token: offsets[token] for token, side in enumerate(sides) if side == 1}


def target(encoded: Any, index: int, records: Records) -> tuple[int, int]:
    """First and last token of the answer, or the first of all where the window lacks it."""
    answer = records[encoded["overflow_to_sample_mapping"][index]]["answers"][0]
    start, end = answer["start"], answer["start"] + len(answer["text"])
    places = context_places(encoded, index)
    if min(a for a, _ in places.values()) > start or max(b for _, b in places.values()) < end:
        return 0, 0
    inside = [token for token, (a, b) in places.items() if a < end and b > start]
    return inside[0], inside[-1]


def best_span(
    places: dict[int, tuple[int, int]], start_scores: np.ndarray, end_scores: np.ndarray
) -> tuple[float, int, int]:
    """Score, and first and last character, of the best span in a window."""
    tokens = np.asarray(list(places))
    starts = tokens[np.argsort(start_scores[tokens])[-CANDIDATES:]].tolist()
    ends = tokens[np.argsort(end_scores[tokens])[-CANDIDATES:]].tolist()
    spans = [
        (float(start_scores[a] + end_scores[b]), places[a][0], places[b][1])
        for a in starts
        for b in ends
        if a <= b < a + LONGEST_ANSWER
    ]
    return max(spans, default=(-np.inf, 0, 0))


def rows(encoded: Any, **targets: Any) -> Records:
    """One dictionary an example, of the model's inputs and the targets."""
    names = ("input_ids", "token_type_ids", "attention_mask")
    columns = {**{name: encoded[name] for name in names}, **targets}
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


TASKS = {
    "classification": classify,
    "token-classification": tag,
    "question-answering": answer_questions,
}


if __name__ == "__main__":
    main()
