"""Models trained here, loaded by transformers: do tokens and logits agree?

    python benchmarks/transformers_loads.py --python PATH

PATH is the Python of an environment made of `benchmarks/requirements.txt`. For each task and each
kind of tokenizer a small model is trained and saved here, and loaded there; the table shows
whether the token ids are the same, and by how much logits differ at most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import encodax
from encodax.demo.dates import sample

TEXTS = ["12 mars 1987", "Tuesday, 3 May 2011", "2024年2月9日", "d. 5. nóvember 1999 ☃"]
PAIRS = [("1 mai 2001", "2 mai 2001"), ("May 1", "a longer second text, 1 May 2001")]

THERE = """
import json, sys
import torch, transformers
transformers.utils.logging.disable_progress_bar()
folder, texts = sys.argv[1], json.loads(sys.argv[2])
texts = [text if isinstance(text, str) else tuple(text) for text in texts]
name = json.load(open(folder + "/config.json"))["architectures"][0]
model = getattr(transformers, name).from_pretrained(folder).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
assert isinstance(tokenizer, transformers.PreTrainedTokenizerFast)
answers = []
for text in texts:
    pair = (text,) if isinstance(text, str) else text
    inputs = tokenizer(*pair, return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    answers.append({"ids": inputs["input_ids"][0].tolist(), "logits": logits.tolist()})
json.dump(answers, open(folder + "/there.json", "w"))
"""


def main() -> None:
    """Train, save, load there, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="Python with torch and transformers")
    options = parser.parse_args()
    table = Table("task", "tokenizer", "texts", "same token ids", "largest difference of logits")
    with tempfile.TemporaryDirectory() as folder:
        for task in ("classification", "token-classification"):
            for tokenizer in ("wordpiece", "bpe", "char"):
                table.add_row(task, tokenizer, *compare(task, tokenizer, folder, options.python))
    Console().print(table)


def compare(task: str, tokenizer: str, folder: str, python: str) -> tuple[str, str, str]:
    """One row of the table."""
    place = Path(folder) / f"{task}-{tokenizer}"
    model = encodax.train(
        task,
        train=records(task, seed=0),
        eval=records(task, seed=1),
        out=place,
        steps=20,
        width=64,
        tokenizer=tokenizer,
    ).model
    texts = [*TEXTS, *(PAIRS if task == "classification" else [])]
    subprocess.run([python, "-W", "ignore", "-c", THERE, place, json.dumps(texts)], check=True)
    there = json.loads((place / "there.json").read_text())
    same, difference = True, 0.0
    for text, answer in zip(texts, there, strict=True):
        batch = model.batch([text])
        length = int(batch.lengths[0, 0])
        logits = np.asarray(model.apply(model.params, batch).logits)[0]
        logits = logits[0] if task == "classification" else logits[:length]
        same = same and answer["ids"] == batch.token_ids[0, :length].tolist()
        difference = max(difference, float(np.abs(logits - np.asarray(answer["logits"])).max()))
    return str(len(texts)), "yes" if same else "NO", f"{difference:.1e}"


def records(task: str, seed: int) -> list[dict]:
    """Dates, to tell their style or to tag."""
    dates = sample(300, seed=seed)
    if task == "classification":
        return [{"text": date.text, "label": date.style} for date in dates]
    return [
        {
            "text": date.text,
            "spans": [
                {"start": span.start, "end": span.end, "label": span.label} for span in date.spans
            ],
        }
        for date in dates
    ]


if __name__ == "__main__":
    main()
