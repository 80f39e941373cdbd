"""Encodax: Transformer encoders for JAX, from scratch on Haiku and Optax.

Names are imported on first use, so that `import encodax` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from encodax._version import __version__ as __version__
from encodax.process import forks as forks  # notices forks from now on

if TYPE_CHECKING:
    from pathlib import Path

    from encodax.corpus.embed import embed_corpus as embed_corpus
    from encodax.data.aligned import Aligned as Aligned
    from encodax.errors import EncodaxError as EncodaxError
    from encodax.inference.embedder import Embedder as Embedder
    from encodax.inference.fill_mask import FillMask as FillMask
    from encodax.inference.predictors import Classifier as Classifier
    from encodax.inference.predictors import Predictor as Predictor
    from encodax.inference.predictors import QuestionAnswerer as QuestionAnswerer
    from encodax.inference.predictors import Reranker as Reranker
    from encodax.inference.predictors import TokenClassifier as TokenClassifier
    from encodax.inference.translator import Translator as Translator
    from encodax.inspection.inspector import Inspector as Inspector
    from encodax.models.encoder_model import Model as Model
    from encodax.models.seq2seq_model import Seq2SeqModel as Seq2SeqModel
    from encodax.process.host_memory import keep_freed_memory as keep_freed_memory
    from encodax.text.tokenizer import Tokenizer as Tokenizer
    from encodax.training.train import train as train
    from encodax.types.batches import PackedBatch as PackedBatch

_HOMES = {
    "Aligned": "encodax.data.aligned",
    "Classifier": "encodax.inference.predictors",
    "Embedder": "encodax.inference.embedder",
    "EncodaxError": "encodax.errors",
    "FillMask": "encodax.inference.fill_mask",
    "Inspector": "encodax.inspection.inspector",
    "Model": "encodax.models.encoder_model",
    "PackedBatch": "encodax.types.batches",
    "Predictor": "encodax.inference.predictors",
    "QuestionAnswerer": "encodax.inference.predictors",
    "Reranker": "encodax.inference.predictors",
    "Seq2SeqModel": "encodax.models.seq2seq_model",
    "TokenClassifier": "encodax.inference.predictors",
    "Tokenizer": "encodax.text.tokenizer",
    "Translator": "encodax.inference.translator",
    "embed_corpus": "encodax.corpus.embed",
    "keep_freed_memory": "encodax.process.host_memory",
    "train": "encodax.training.train",
}

__all__ = [*sorted(_HOMES), "load"]


def load(
    path_or_id: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    encoder_only: bool = False,
) -> Model:
    """Read a model directory or a model of the Hugging Face hub; see `Model.load`."""
    from encodax.models.encoder_model import Model

    return Model.load(path_or_id, revision=revision, token=token, encoder_only=encoder_only)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'encodax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
