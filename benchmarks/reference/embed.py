"""Vectors of sentence-transformers, for `sts.py`: MODEL, a file of texts, a file to write."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

model, source, target = sys.argv[1:]
texts = Path(source).read_text(encoding="utf-8").split("\n")
embedder = SentenceTransformer(model, device="cpu")
embedder.encode(texts[:64])
start = time.perf_counter()
vectors = embedder.encode(texts)
np.savez(target, vectors=vectors, seconds=time.perf_counter() - start)
