"""How good parameters are on labelled data."""

from __future__ import annotations

from collections.abc import Callable

from encodax.inference.predictors import Predictor
from encodax.model import Model
from encodax.tasks.dataset import Dataset
from encodax.tasks.task import Objective
from encodax.types import Params

Evaluator = Callable[[Params | None], dict[str, float]]


def evaluator(
    model: Model, data: Dataset, objective: Objective, teacher: Model | None = None
) -> Evaluator:
    """The function that measures parameters."""
    predictor: Predictor[object] = Predictor(model)
    return lambda params: predictor.measure(data, params)
