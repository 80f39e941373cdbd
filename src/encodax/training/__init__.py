"""Training with Optax."""

from encodax.options.training import NewModel, TrainSettings
from encodax.training.estimate.dry_run import DryRun, dry_run
from encodax.training.loop.preemption import Stopped
from encodax.training.train import TrainResult, train

__all__ = ["DryRun", "NewModel", "Stopped", "TrainResult", "TrainSettings", "dry_run", "train"]
