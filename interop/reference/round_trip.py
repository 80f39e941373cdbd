"""The other side of `interop/round_trip.py`: loads, runs and saves every cell of a list.

The list is JSON on standard input.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer

AUTO = {
    "encoder": "AutoModel",
    "vocabulary": "AutoModelForMaskedLM",
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}

# Of ESM: the first is not computed with here, the second is computed anew.
UNUSED = re.compile(r"contact_head\.regression\.|rotary_embeddings\.inv_freq$")

Ran = tuple[dict[str, Any], tuple[Any, ...]]
"""Arrays, and what is to be saved."""


def load(place: Path, head: str) -> Any:
    """The model, every one of whose tensors was in the file, and no other."""
    named = json.loads((place / "config.json").read_text())["architectures"][0]
    wanted = getattr(transformers, named)
    options = {}
    if head == "encoder" and "add_pooling_layer" in inspect.signature(wanted.__init__).parameters:
        options = {"add_pooling_layer": False}  # an untrained one would be missing
    auto = getattr(transformers, AUTO[head])
    model, info = auto.from_pretrained(place, output_loading_info=True, **options)
    assert type(model) is wanted, f"{type(model).__name__} for {named}"
    info["missing_keys"] = [key for key in info["missing_keys"] if not UNUSED.search(key)]
    assert not any(info.values()), {key: value for key, value in info.items() if value}
    return model.eval()


def run_model(place: Path, head: str, texts: list[Any]) -> Ran:
    """Hidden states and answers of texts, run as one padded batch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = load(place, head)
    encoded = [tokenizer(*([text] if isinstance(text, str) else text)) for text in texts]
    inputs = tokenizer.pad(encoded, return_tensors="pt")
    with torch.no_grad():
        inner = model.base_model(**inputs, output_hidden_states=True)
        answer = model(**inputs)
    hidden = torch.stack([*inner.hidden_states[:-1], inner.last_hidden_state], 1)
    if head == "span":
        output = torch.stack([answer.start_logits, answer.end_logits], -1)
    else:
        output = None if head == "encoder" else answer.logits
    arrays = {}
    for index, mask in enumerate(inputs["attention_mask"].bool()):
        arrays[f"{index}/ids"] = inputs["input_ids"][index][mask]
        arrays[f"{index}/hidden"] = hidden[index][:, mask]
        if output is not None:
            arrays[f"{index}/output"] = output[index] if head == "sequence" else output[index][mask]
    return arrays, (model, tokenizer)


def run_embedder(place: Path, texts: list[Any]) -> Ran:
    """Vectors of texts."""
    model = SentenceTransformer(str(place), device="cpu")
    vectors = model.encode(texts, batch_size=len(texts))
    ids = [np.array(model.tokenizer(text)["input_ids"]) for text in texts]
    arrays = {f"{index}/output": vector for index, vector in enumerate(vectors)}
    return {**arrays, **{f"{index}/ids": found for index, found in enumerate(ids)}}, (model,)


def main() -> None:
    """Run all cells; what goes wrong with one is written beside it."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    for cell in json.load(sys.stdin):
        place = Path(cell["place"])
        texts = [text if isinstance(text, str) else tuple(text) for text in cell["texts"]]
        try:
            if cell["head"] == "embedder":
                arrays, parts = run_embedder(place / "here", texts)
            else:
                arrays, parts = run_model(place / "here", cell["head"], texts)
            np.savez(place / "reference.npz", **arrays)
            for part in parts:
                part.save_pretrained(str(place / "back"))
        except Exception as error:
            traceback.print_exc()
            (place / "error.txt").write_text(f"{type(error).__name__}: {error}"[:500])


if __name__ == "__main__":
    main()
