"""PyTorch with the BERT of transformers, as the trainer that Encodax is held against."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoTokenizer, BertForSequenceClassification
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.harness.protocol import read_texts, serve
from benchmarks.harness.timing import Clock
from benchmarks.training_step.sizes import CLIP, DECAY, RATE, UNTIMED

BATCH = 32
"""Sentences of a batch."""


class Trainer:
    """The plain loop: forward, backward, clip, AdamW."""

    packages = ("torch", "transformers", "tokenizers", "numpy")

    def __init__(self, model: str, cores: int):
        torch.set_num_threads(cores)
        torch.manual_seed(0)
        kind = {"num_labels": 2, "dtype": torch.float32}
        self._model = BertForSequenceClassification.from_pretrained(model, **kind).train()
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._optimizer = torch.optim.AdamW(self._groups(), lr=RATE)
        self._warm: set[tuple[int, int]] = set()
        self._found: list[Any] = []

    def _groups(self) -> list[dict[str, Any]]:
        """Weights decay; biases and norms do not."""
        named = list(self._model.named_parameters())
        plain = [p for name, p in named if name.endswith("bias") or "LayerNorm" in name]
        rest = [p for name, p in named if not (name.endswith("bias") or "LayerNorm" in name)]
        return [{"params": rest, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]

    def _step(self, **batch: torch.Tensor) -> None:
        self._model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def steps(self, rows: int, tokens: int, count: int) -> dict[str, Any]:
        """So many steps over full rows, an example a row."""
        ids = torch.randint(1_000, 30_000, (rows, tokens))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids),
                 "labels": torch.randint(0, 2, (rows,))}  # fmt: skip
        if (rows, tokens) not in self._warm:
            self._warm.add((rows, tokens))
            for _ in range(UNTIMED):
                self._step(**batch)
        with Clock() as clock:
            for _ in range(count):
                self._step(**batch)
        return clock.each(count)

    def epoch(self, texts: str, how: str) -> dict[str, Any]:
        """All sentences once, each batch padded to its longest; `how` is `random` or `grouped`."""
        if not self._found:
            sentences, labels = zip(*read_texts(texts), strict=True)
            ids = self._tokenizer(list(sentences))["input_ids"]
            self._found = [
                {"input_ids": own, "labels": int(label)}
                for own, label in zip(ids, labels, strict=True)
            ]
        found, order = self._found, torch.randperm(len(self._found)).tolist()
        if how == "grouped":
            lengths = [len(one["input_ids"]) for one in found]
            order = get_length_grouped_indices(lengths, BATCH)
        room = real = 0
        with Clock() as clock:
            for start in range(0, len(order), BATCH):
                chosen = [found[index] for index in order[start : start + BATCH]]
                batch = self._tokenizer.pad(chosen, return_tensors="pt")
                self._step(**batch)
                room += batch["input_ids"].numel()
                real += int(batch["attention_mask"].sum())
        steps = -(-len(order) // BATCH)
        return {"padding": 1 - real / room, "steps": steps, **clock.each(1)}


if __name__ == "__main__":
    serve(Trainer)
