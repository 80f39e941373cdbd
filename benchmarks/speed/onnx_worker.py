"""ONNX Runtime with the fused graph of `onnx_export.py`, as a contender of the benchmark.

Done as well as we know how: texts are tokenized in parallel and sorted by length, the longest
first, batches are padded to their longest text, and the vectors come out of the graph pooled and of
length 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from benchmarks.harness.protocol import serve
from benchmarks.speed.embedding import Embedding


class Worker(Embedding):
    """A session over the exported graph."""

    packages = ("onnxruntime", "tokenizers", "numpy")
    batch_sizes = (8, 16, 32, 64)

    def __init__(self, model: str, precision: str, cores: int, onnx: str):
        self._tokenizer = Tokenizer.from_file(f"{onnx}/tokenizer.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores
        self._session = onnxruntime.InferenceSession(
            f"{onnx}/{precision}.onnx", options, providers=["CPUExecutionProvider"]
        )

    def vectors(self, texts: Sequence[str], batch_size: int | None) -> np.ndarray:
        token_ids = [found.ids for found in self._tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda index: -len(token_ids[index]))
        size = batch_size or len(order)
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        vectors = None
        for batch in batches:
            found = self._run([token_ids[index] for index in batch])
            if vectors is None:
                vectors = np.empty((len(texts), found.shape[1]), found.dtype)
            vectors[batch] = found
        return vectors

    def _run(self, rows: list[list[int]]) -> np.ndarray:
        """The vectors of a batch whose first row is the longest."""
        shape = len(rows), len(rows[0])
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return self._session.run(["sentence_embedding"], inputs)[0]


if __name__ == "__main__":
    serve(Worker)
