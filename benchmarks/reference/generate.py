"""Generation with transformers: the other side of `benchmarks/generation.py`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import MarianMTModel

from benchmarks.harness.protocol import serve


class Generator:
    """A model, and the sources that it is asked for."""

    packages = ("torch", "transformers")

    def __init__(self, model: str, sources: str):
        self._model = MarianMTModel.from_pretrained(model, dtype=torch.float32).eval()
        self._sources = json.loads(Path(sources).read_text(encoding="utf-8"))

    def generate(self, batch: int, beams: int, tokens: int) -> dict[str, Any]:
        """Seconds of one `generate` over the first so many sources, of so many tokens each."""
        rows, pad = self._sources[:batch], self._model.config.pad_token_id
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        began = time.perf_counter()
        with torch.inference_mode():
            found = self._model.generate(
                input_ids=ids,
                attention_mask=(ids != pad).long(),
                num_beams=beams,
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                length_penalty=1.0,
                early_stopping=False,
                forced_eos_token_id=None,
            )
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "ids": found[:, 1:].tolist()}


if __name__ == "__main__":
    serve(Generator)
