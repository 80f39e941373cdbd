"""Training with Optax."""

from encodax.training.settings import NewModel, TrainSettings
from encodax.training.train import TrainResult, train

__all__ = ["NewModel", "TrainResult", "TrainSettings", "train"]
