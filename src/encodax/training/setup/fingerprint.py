"""What the steps of a run depend on, by name: a run goes on with the same, or says what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encodax.errors import EncodaxError
from encodax.tasks.task import LossOptions
from encodax.training.options.settings import NewModel
from encodax.training.setup.run import Run

Facts = dict[str, Any]
"""Name, of an option where there is one -> what was chosen, as JSON; or a `Content`."""

OF_NO_STEP = (
    "mesh", "save_every", "keep", "bad_steps", "profile_steps", "merge", "average", "patience",
    "evaluate_every", "steps", "epochs",
)  # fmt: skip
"""Choices that may differ when a run goes on: they change no step that is done."""
OPTIONS = {
    "dropout_rate": "--dropout",
    "attention_dropout_rate": "--attention-dropout",
    "beta1": "beta1",
    "clip_norm": "clip_norm",
}
"""Choices whose options on the command line are called otherwise, or that have none."""
STEPS = "steps (--steps, --epochs)"
SHAPE = "shape of a batch"
TOKENS = "tokens of the data"
PROLONGED = ("constant", "inverse_sqrt")
"""Schedules of which no step depends on how many there are."""


def content(sha256: str | None, name: str | None = None) -> dict[str, Any]:
    """A fact of which the content counts, and not what it is called.

    Args:
        sha256: of the content; None where there is nothing.
        name: by which a message tells it.
    """
    return {"sha256": sha256, "name": name}


def facts_of(
    task: str, run: Run, objective: LossOptions, shape: NewModel | None, contents: Mapping[str, Any]
) -> Facts:
    """What the steps of a run depend on.

    Args:
        task: its name.
        run: how it is trained.
        objective: what the loss is told.
        shape: of a model from scratch.
        contents: data and models, by name.
    """
    chosen = {name: v for name, v in asdict(run.settings).items() if name not in OF_NO_STEP}
    chosen |= asdict(objective) | ({} if shape is None else asdict(shape))
    chosen["precision"] = run.recipe.precision
    plan = run.plan
    return {
        "task": task,
        **{option_of(name): _plain(value) for name, value in chosen.items()},
        **contents,
        STEPS: plan.steps,
        SHAPE: _plain((plan.micro_batches, *asdict(plan.shape).values())),
    }


def option_of(name: str) -> str:
    """What a choice is called on the command line."""
    return OPTIONS.get(name, "--" + name.replace("_", "-"))


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def check(before: Facts | None, now: Mapping[str, Any], done: int, place: Path | None) -> None:
    """Refuse to go on with a run that would not be the same.

    Args:
        before: what its checkpoint says; None where it is of a version that did not note it.
        now: what was given.
        done: its steps that are done.
        place: its checkpoints.

    Raises:
        EncodaxError: names all that has changed, with both values.
    """
    if before is None:
        raise EncodaxError(
            f"{place}: an older version of Encodax has saved it, and did not note by name what the "
            "run depends on; go on with that version, or begin anew (--overwrite)"
        )
    named = dict.fromkeys([*before, *now])
    # Other devices may want other rows, without another step.
    changed = [n for n in named if n != SHAPE and _is_other(before.get(n), now.get(n))]
    why_not = None
    if STEPS in changed:
        why_not = why_not_prolonged(before, now, done)
        if why_not is None:
            changed.remove(STEPS)
    own = [name for name in changed if name != TOKENS] or changed  # they follow from the others
    if own:
        told = "; ".join(_told(name, before.get(name), now.get(name)) for name in own)
        reason = f" ({why_not})" if why_not and own == [STEPS] else ""
        raise EncodaxError(
            f"{place}: {told}{reason}: go on with what the run began with, or begin anew "
            "(--overwrite)"
        )


def why_not_prolonged(before: Mapping[str, Any], now: Mapping[str, Any], done: int) -> str | None:
    """Why a run cannot have another number of steps; None where its steps are the same."""
    schedule, warmup = now["--schedule"], now["--warmup"]
    if now[STEPS] < done:
        return f"{done} are done already"
    if schedule not in PROLONGED:
        return (
            f"with --schedule {schedule} the learning rate of each step depends on how many there "
            f"are; a run of --schedule {' or '.join(PROLONGED)} can be prolonged"
        )
    if 0 < warmup < 1:
        return (
            f"--warmup {warmup} is a share of all steps; a run that warms up for a number of steps "
            "can be prolonged"
        )
    if now[SHAPE] != before.get(SHAPE):
        return "the batches of so many steps have another shape"
    return None


def _is_other(before: Any, now: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return bool(before["sha256"] != now["sha256"])
    return bool(before != now)


def _told(name: str, before: Any, now: Any) -> str:
    """A fact that has changed, in words."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        was, is_ = before["name"], now["name"]
        if was == is_:
            return f"{name}{f' {was}' if was else ''} has other content than before"
        other = ", of other content" if before["sha256"] and now["sha256"] else ""
        return f"{name} was {was or 'not given'} and is {is_ or 'not given'}{other}"
    verb = ("were", "are") if name == STEPS else ("was", "is")
    return f"{name} {verb[0]} {_shown(before)} and {verb[1]} {_shown(now)}"


def _shown(value: Any) -> str:
    if value is None or value is False:
        return "not given"
    if value is True:
        return "given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
