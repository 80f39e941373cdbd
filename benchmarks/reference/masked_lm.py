"""Masked language modelling with PyTorch: the other side of `benchmarks/masked_lm.py`.

    python -m benchmarks.reference.masked_lm MODEL STEPS OUT [--seed 0]

For a Python of `benchmarks/requirements.txt`; Encodax is not needed. MODEL is a directory of a
BertForMaskedLM to begin with; STEPS is JSON, for each step the learning rate and the token ids of
its sequences; OUT is the directory of the trained model. Tokens are hidden by the collator of
transformers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    set_seed,
)

MASK_RATE = 0.15
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
LENGTHS = 4
"""Batches are cut into so many parts by length, so that little is padding."""


def main() -> None:
    """Train and save."""
    options = arguments()
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = BertForMaskedLM.from_pretrained(options.model, dtype=torch.float32).train()
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASK_RATE)
    optimizer = optimizer_of(model)
    steps = json.loads(options.steps.read_text(encoding="utf-8"))
    for number, step in enumerate(steps, 1):
        for group in optimizer.param_groups:
            group["lr"] = step["rate"]
        loss = descend(model, parts(step["sequences"], collator))
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if number % 50 == 0 or number == len(steps):
            print(f"step {number}/{len(steps)}: loss {loss:.4f}", file=sys.stderr)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("steps", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def optimizer_of(model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW that decays matrices alone."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others}]
    return torch.optim.AdamW(groups, weight_decay=0.0)


def parts(sequences: list[list[int]], collator: Any) -> list[Any]:
    """The padded batches of a step, of sequences of like lengths, with tokens hidden."""
    ordered = sorted(sequences, key=len)
    size = -(-len(ordered) // LENGTHS)
    return [
        collator([{"input_ids": ids} for ids in ordered[start : start + size]])
        for start in range(0, len(ordered), size)
    ]


def descend(model: Any, batches: list[Any]) -> float:
    """Add up the gradient of the mean loss over all hidden tokens; gives that loss."""
    count = max(1, sum(int((batch["labels"] != -100).sum()) for batch in batches))
    total = 0.0
    for batch in batches:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        is_hidden = batch["labels"] != -100
        loss = torch.nn.functional.cross_entropy(
            logits[is_hidden], batch["labels"][is_hidden], reduction="sum"
        )
        (loss / count).backward()
        total += loss.item()
    return total / count


if __name__ == "__main__":
    main()
