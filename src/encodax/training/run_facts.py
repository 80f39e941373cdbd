"""Description of a run, for its `run.json`."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata

import jax
import numpy as np

from encodax._version import __version__
from encodax.config import ModelConfig
from encodax.model_files.run_files import RunFacts
from encodax.training.loop.checkpoint import surroundings
from encodax.training.setup.prepare import TrainingSetup

PACKAGES = ("dm-haiku", "optax", "grain", "orbax-checkpoint", "numpy")


def about(job: TrainingSetup) -> RunFacts:
    """Return the facts of a run that do not change while it runs.

    Raises:
        EncodaxError: a file of the data has changed.
    """
    run, step_spec, shape = job.run, job.run.step_spec, job.run.plan.shape
    config = step_spec.model.config
    encoder = config.encoder if isinstance(config, ModelConfig) else config.transformer.encoder
    options = {
        name: getattr(step_spec.loss_options, name) for name in sorted(step_spec.task.options)
    }
    choices = {**options, **asdict(run.settings), "precision": step_spec.precision}
    return RunFacts(
        task=step_spec.task.name,
        metric=run.metric,
        larger_is_better=run.larger_is_better,
        steps=run.plan.steps,
        choices={name: value for name, value in choices.items() if value not in (None, ())},
        model={
            "layers": len(encoder.layers),
            "width": encoder.embeddings.width,
            "vocabulary": encoder.embeddings.vocabulary_size,
            "parameters": step_spec.model.parameter_count(),
            "trained parameters": sum(map(np.size, jax.tree.leaves(run.trained))),
        },
        batch={
            "rows": shape.row_count * run.plan.micro_batches,
            "tokens of a row": shape.row_tokens,
            "micro-batches": run.plan.micro_batches,
        },
        surroundings=surroundings(run.mesh),
        versions={
            "Python": platform.python_version(),
            "Encodax": __version__,
            **{package: metadata.version(package) for package in PACKAGES},
        },
        **job.provenance,
    )
