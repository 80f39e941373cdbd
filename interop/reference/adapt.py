"""The other side of `interop/adapters.py`: adapters that PEFT loads and makes.

Orders are JSON on standard input.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

AUTO = {
    "sequence": (transformers.AutoModelForSequenceClassification, "SEQ_CLS"),
    "token": (transformers.AutoModelForTokenClassification, "TOKEN_CLS"),
    "span": (transformers.AutoModelForQuestionAnswering, "QUESTION_ANS"),
}


WHOLE = r"(.*\.)?((pre_)?classifier|qa_outputs)(\..*)?"
"""What is trained whole, and has no adapter."""


def run(model: Any, order: dict[str, Any], base: str, target: str) -> None:
    """Write what a model gives for the texts, run as one padded batch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    texts = [text if isinstance(text, str) else tuple(text) for text in order["texts"]]
    encoded = [tokenizer(*([text] if isinstance(text, str) else text)) for text in texts]
    inputs = tokenizer.pad(encoded, return_tensors="pt")
    # PEFT's own forward of span heads drops the type ids.
    inner = model.eval().get_base_model() if isinstance(model, PeftModel) else model.eval()
    with torch.no_grad():
        answer = inner(**inputs)
    if order["head"] == "span":
        output = torch.stack([answer.start_logits, answer.end_logits], -1)
    else:
        output = answer.logits
    arrays = {}
    for index, mask in enumerate(inputs["attention_mask"].bool()):
        arrays[f"{index}/ids"] = inputs["input_ids"][index][mask]
        own = output[index] if order["head"] == "sequence" else output[index][mask]
        arrays[f"{index}/output"] = own
    np.savez(Path(order["place"]) / f"{target}.npz", **arrays)


def loaded(order: dict[str, Any]) -> None:
    """The adapter that was written here, on the base that it names, every tensor of it used."""
    place = Path(order["place"])
    auto, _ = AUTO[order["head"]]
    named = json.loads((place / "ours" / "adapter_config.json").read_text())
    base = named["base_model_name_or_path"]
    size = {} if order["head"] == "span" else {"num_labels": order["classes"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(auto.from_pretrained(base, **size), place / "ours")
    said = [str(each.message) for each in caught if "adapter" in str(each.message)]
    assert not said, said
    run(model, order, base, "loaded")
    whole = auto.from_pretrained(place / "ours", **size)  # transformers finds it by itself
    run(whole, order, str(place / "ours"), "found")


def made(order: dict[str, Any], name: str, changes: dict[str, Any]) -> None:
    """An adapter of every linear layer, with weights at random, saved by PEFT."""
    place = Path(order["place"])
    auto, task = AUTO[order["head"]]
    base = str(place / "whole")
    torch.manual_seed(0)
    plain = {
        "task_type": task,
        "target_modules": "all-linear",
        "exclude_modules": WHOLE,
        "r": 4,
        "lora_alpha": 6,
    }
    config = LoraConfig(**{**plain, **changes})
    model = get_peft_model(auto.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=model.config.hidden_size**-0.5)
    model.save_pretrained(place / name)
    again = PeftModel.from_pretrained(auto.from_pretrained(base), place / name)
    run(again, order, base, name)


warnings.simplefilter("ignore")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
for order in json.load(sys.stdin):
    jobs = {"loaded": lambda order=order: loaded(order)}
    for name, changes in order["made"].items():
        jobs[name] = lambda order=order, name=name, changes=changes: made(order, name, changes)
    for name, job in jobs.items():
        try:
            job()
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}"[:500]
            (Path(order["place"]) / f"{name}.txt").write_text(text)
