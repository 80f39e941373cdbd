"""Encodax, as a contender of the benchmark; and what the processor reaches at best."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from protocol import read_texts, serve

from encodax import Embedder

ROWS = (1024, 4096)
"""Rows of the products that are timed for the peak: a batch of tokens."""
REPEATS = 8


class Worker:
    """An embedder; it chooses its batches itself."""

    packages = ("encodax", "jax", "jaxlib", "dm-haiku", "tokenizers", "numpy")
    batch_sizes = ()

    def __init__(self, model: Path, precision: str, cores: int, onnx: Path):
        self._embedder = Embedder.load(model, precision=precision)

    def encode(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
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
        return {name: rate(*product) for name, product in self._products.items()}


def products(config: Any) -> dict[str, tuple]:
    """Compiled products with their operands."""
    import jax  # here, so that a fresh process owes nothing to it
    import jax.numpy as jnp

    layer, width = config.layers[0], config.embeddings.model_width
    inner, wide = layer.attention.heads * layer.attention.head_width, layer.feed_forward.width
    random = np.random.default_rng(0)

    def matrix(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    found = {}
    for rows in ROWS:
        for depth, columns in ((width, inner), (width, wide), (wide, width)):
            operands = matrix(rows, depth), matrix(depth, columns)
            multiply = jax.jit(jnp.matmul).lower(*operands).compile()
            found[f"({rows}, {depth}) x ({depth}, {columns})"] = (multiply, *operands)
    return found


def rate(multiply: Any, left: Any, right: Any) -> float:
    """FLOP/s, in the median of some repeats."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        multiply(left, right).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * left.shape[0] * left.shape[1] * right.shape[1] / float(np.median(seconds))


if __name__ == "__main__":
    serve(Worker)
