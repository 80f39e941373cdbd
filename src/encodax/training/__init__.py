"""Training with Optax."""

from encodax.training.estimate.dry_run import Trial, try_out
from encodax.training.loop.preemption import Stopped
from encodax.training.options.settings import NewModel, TrainSettings
from encodax.training.train import TrainResult, train

__all__ = ["NewModel", "Stopped", "TrainResult", "TrainSettings", "Trial", "train", "try_out"]
