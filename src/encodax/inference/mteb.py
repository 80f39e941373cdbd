"""Adapter of an embedder for the `mteb` package (version 2, `EncoderProtocol`).

mteb.evaluate(MtebEncoder(embedder, "all-MiniLM-L6-v2"), tasks)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from encodax.errors import EncodaxError
from encodax.inference import vectors
from encodax.inference.embedder import Embedder


class MtebEncoder:
    """Encoder for mteb; texts that are too long are cut, as mteb's reference models do."""

    def __init__(self, embedder: Embedder, name: str, revision: str | None = None):
        """Take an embedder.

        Args:
            embedder: the embedder.
            name: name of the model in mteb's results.
            revision: revision of the model in mteb's results.
        """
        self._embedder = embedder
        self._name = name
        self._revision = revision

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, prompt_type: Any = None, **_: Any
    ) -> np.ndarray:
        """Return the vectors of batches, each a mapping whose `text` is a list of texts."""
        texts = [text for batch in inputs for text in batch["text"]]
        side = str(getattr(prompt_type, "value", prompt_type))
        sides = {
            "query": self._embedder.encode_query,
            "document": self._embedder.encode_document,
        }
        return sides.get(side, self._embedder.encode)(texts, truncate=True)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Compare every first vector with every second one."""
        return self._embedder.similarity(np.asarray(embeddings1), np.asarray(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Compare each first vector with the second one at the same position."""
        by = self._embedder.model.config.usage.similarity
        pairs = zip(np.asarray(embeddings1), np.asarray(embeddings2), strict=True)
        return np.array([vectors.similarity(a[None], b[None], by)[0, 0] for a, b in pairs])

    @property
    def mteb_model_meta(self) -> Any:
        """Description of the model under which mteb files results.

        Raises:
            EncodaxError: mteb is not installed.
        """
        try:
            from mteb.models.model_meta import ModelMeta
        except ImportError as error:
            raise EncodaxError("mteb is not installed: pip install mteb") from error
        return ModelMeta.create_empty(overwrites={"name": self._name, "revision": self._revision})
