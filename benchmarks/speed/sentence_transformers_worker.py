"""sentence-transformers on PyTorch, as a contender of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.harness.protocol import serve
from benchmarks.speed.embedding import Embedding


class Worker(Embedding):
    """`SentenceTransformer.encode` as it is: it sorts by length and pads each batch."""

    packages = ("sentence-transformers", "torch", "transformers", "tokenizers", "numpy")
    batch_sizes = (16, 32, 64, 128)

    def __init__(self, model: str, precision: str, cores: int, onnx: str):
        torch.set_num_threads(cores)
        kind = {"dtype": getattr(torch, precision)}
        self._model = SentenceTransformer(model, device="cpu", model_kwargs=kind)

    def vectors(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        return self._model.encode(texts, batch_size=batch_size or 32, show_progress_bar=False)


if __name__ == "__main__":
    serve(Worker)
