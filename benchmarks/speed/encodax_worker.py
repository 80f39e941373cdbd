"""Encodax, as a contender of the benchmark; and what the processor reaches at best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness.protocol import read_texts, serve
from benchmarks.speed.embedding import Embedding
from encodax import Embedder

ROWS = (1024, 4096)
"""Rows of the products that are timed for the peak: a batch of tokens."""


class Worker(Embedding):
    """An embedder; it chooses its batches itself."""

    packages = ("encodax", "jax", "jaxlib", "dm-haiku", "tokenizers", "numpy")

    def __init__(self, model: str, precision: str, cores: int, onnx: str):
        self._embedder = Embedder.load(model, precision=precision)

    def vectors(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        return self._embedder.encode(texts, truncate=True, progress=False)

    def work(self, texts: str) -> dict[str, Any]:
        """Tokens of texts, and the FLOPs of all products that the model asks for, 2 a product.

        4 D H K + 2 D F multiplications a token and layer, and 2 n H K for the n tokens of its own
        sequence, which are the keys that it attends to. Padding does not count.
        """
        model = self._embedder.model
        encodings, _ = model.encode(read_texts(texts), truncate=True)
        lengths = np.asarray([len(encoding) for encoding in encodings], np.int64)
        width, flops = model.config.encoder.embeddings.model_width, 0
        for layer in model.config.encoder.layers:
            inner = layer.attention.heads * layer.attention.head_width
            products = 4 * width * inner + 2 * width * layer.feed_forward.width
            flops += 2 * int(np.sum(lengths * products + 2 * inner * lengths**2))
        return {"tokens": int(lengths.sum()), "flops": flops}

    def peak(self) -> dict[str, Any]:
        """FLOP/s of float32 products of the model's own shapes, compiled by JAX, by shape."""
        if not hasattr(self, "_products"):
            self._products = products(self._embedder.model.config.encoder)
        return {name: product.rate() for name, product in self._products.items()}


def products(config: Any) -> dict[str, Any]:
    """Compiled products of the shapes that an encoder has."""
    from benchmarks.harness.peak import Product  # here, so that a fresh process owes nothing to it

    layer, width = config.layers[0], config.embeddings.model_width
    inner, wide = layer.attention.heads * layer.attention.head_width, layer.feed_forward.width
    return {
        f"({rows}, {depth}) x ({depth}, {columns})": Product(rows, depth, columns)
        for rows in ROWS
        for depth, columns in ((width, inner), (width, wide), (wide, width))
    }


if __name__ == "__main__":
    serve(Worker)
