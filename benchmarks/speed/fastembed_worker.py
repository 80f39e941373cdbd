"""fastembed, as a contender of the benchmark, with the fused graph of `onnx_export.py`.

It knows the model, and would fetch a graph of its own; registered by another name, it takes ours,
and so the same weights. Texts go in as they come: fastembed does not sort.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from benchmarks.harness.protocol import serve
from benchmarks.speed.embedding import Embedding

NAME = "benchmark/exported"


class Worker(Embedding):
    """`TextEmbedding.embed` in one process."""

    packages = ("fastembed", "onnxruntime", "tokenizers", "numpy")
    batch_sizes = (4, 8, 16, 64, 256)

    def __init__(self, model: str, precision: str, cores: int, onnx: str):
        TextEmbedding.add_custom_model(
            NAME,
            pooling=PoolingType.DISABLED,
            normalization=False,
            sources=ModelSource(hf=NAME),  # it wants one; the folder below is what it reads
            dim=384,
            model_file=f"{precision}.onnx",
            output_name="sentence_embedding",
        )
        self._model = TextEmbedding(NAME, threads=cores, cuda=False, specific_model_path=onnx)

    def vectors(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        return np.stack(list(self._model.embed(texts, batch_size=batch_size or 256)))


if __name__ == "__main__":
    serve(Worker)
