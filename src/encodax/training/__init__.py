"""Training with Optax."""

from encodax.training.interruption import Stopped
from encodax.training.settings import NewModel, TrainSettings
from encodax.training.train import TrainResult, train

__all__ = ["NewModel", "Stopped", "TrainResult", "TrainSettings", "train"]
