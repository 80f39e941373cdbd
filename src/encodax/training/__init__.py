"""Training with Optax."""

from encodax.training.interruption import Stopped
from encodax.training.settings import NewModel, TrainSettings
from encodax.training.train import TrainResult, train
from encodax.training.trial import Trial, try_out

__all__ = ["NewModel", "Stopped", "TrainResult", "TrainSettings", "Trial", "train", "try_out"]
