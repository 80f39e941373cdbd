"""sentence-transformers on PyTorch, as a contender of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from protocol import serve
from sentence_transformers import SentenceTransformer


class Worker:
    """`SentenceTransformer.encode` as it is: it sorts by length and pads each batch."""

    packages = ("sentence-transformers", "torch", "transformers", "tokenizers", "numpy")
    batch_sizes = (16, 32, 64, 128)

    def __init__(self, model: Path, precision: str, cores: int, onnx: Path):
        torch.set_num_threads(cores)
        kind = {"dtype": getattr(torch, precision)}
        self._model = SentenceTransformer(str(model), device="cpu", model_kwargs=kind)

    def encode(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        return self._model.encode(texts, batch_size=batch_size or 32, show_progress_bar=False)


if __name__ == "__main__":
    serve(Worker)
