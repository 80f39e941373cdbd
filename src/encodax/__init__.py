"""Encodax: Transformer encoders for JAX, from scratch on Haiku and Optax.

Names are imported when they are first asked for, so that `import encodax` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from encodax.errors import EncodaxError as EncodaxError
    from encodax.inference.predictors import Classifier as Classifier
    from encodax.inference.predictors import Predictor as Predictor
    from encodax.inference.predictors import TokenClassifier as TokenClassifier
    from encodax.model import Model as Model
    from encodax.tokenizer import Tokenizer as Tokenizer
    from encodax.training.train import train as train
    from encodax.types import PackedBatch as PackedBatch

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "encodax.inference.predictors",
    "EncodaxError": "encodax.errors",
    "Model": "encodax.model",
    "PackedBatch": "encodax.types",
    "Predictor": "encodax.inference.predictors",
    "TokenClassifier": "encodax.inference.predictors",
    "Tokenizer": "encodax.tokenizer",
    "train": "encodax.training.train",
}

__all__ = [*sorted(_HOMES), "load"]


def load(path: Path | str) -> Model:
    """Read a model directory; `Model.load` says what may be wrong with one."""
    from encodax.model import Model

    return Model.load(path)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'encodax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
