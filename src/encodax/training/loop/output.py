"""Output paths of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encodax.training.loop.best import BestModelDirectory


@dataclass(frozen=True)
class RunOutput:
    """Output paths of a run, and the checkpoint that it resumes from."""

    out: Path | None = None
    """Directory of the model and of the log; None to write neither."""
    checkpoints: Path | None = None
    resume: bool = False
    resume_step: int | None = None
    """Step of the checkpoint to resume from; None for the newest."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts that the steps of the run depend on, by name: they must be the same when it resumes."""
    best_model: BestModelDirectory | None = None
    """Directory that every new best model is written to; None to write none."""
