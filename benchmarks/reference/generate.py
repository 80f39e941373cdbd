"""Generation with transformers: the other side of `benchmarks/generation.py`.

    python benchmarks/reference/generate.py MODEL SOURCES

For a Python of `benchmarks/requirements.txt`; Encodax is not needed. Reads lines of JSON from
standard input, {"batch": 32, "beams": 4, "tokens": 32}, and answers each with the seconds of one
`generate` over the first so many sources, all of which go on for so many tokens, and with their
ids.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import MarianMTModel


def main() -> None:
    """Answer line by line."""
    model = MarianMTModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    sources = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    pad = model.config.pad_token_id
    for line in sys.stdin:
        asked = json.loads(line)
        rows = sources[: asked["batch"]]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        began = time.perf_counter()
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=(ids != pad).long(),
                num_beams=asked["beams"],
                do_sample=False,
                min_new_tokens=asked["tokens"],
                max_new_tokens=asked["tokens"],
                length_penalty=1.0,
                early_stopping=False,
                forced_eos_token_id=None,
            )
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "ids": found[:, 1:].tolist()}), flush=True)


if __name__ == "__main__":
    main()
