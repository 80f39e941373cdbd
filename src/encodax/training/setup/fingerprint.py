"""Fingerprint of a run: what its steps depend on, by name, compared when the run resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encodax.errors import EncodaxError
from encodax.options.training import NewModel
from encodax.tasks.task import LossOptions
from encodax.training.setup.run import Run

Facts = dict[str, Any]
"""Facts by name (that of the option, if there is one): the chosen value as JSON, or a `content`."""

NOT_IN_FINGERPRINT = (
    "mesh", "save_every", "keep", "bad_steps", "profile_steps", "merge", "average", "patience",
    "evaluate_every", "steps", "epochs",
)  # fmt: skip
"""Settings that may differ when a run resumes: they do not change the steps already done."""
OPTIONS = {
    "dropout_rate": "--dropout",
    "attention_dropout_rate": "--attention-dropout",
    "beta1": "beta1",
    "clip_norm": "clip_norm",
}
"""Settings whose command-line options have another name, or that have none."""
STEPS = "steps (--steps, --epochs)"
SHAPE = "shape of a batch"
TOKENS = "tokens of the data"
EXTENDABLE_SCHEDULES = ("constant", "inverse_sqrt")
"""Schedules whose steps do not depend on the number of steps."""


def content(sha256: str | None, name: str | None = None) -> dict[str, Any]:
    """Return a fact that is compared by its content, not by its name.

    Args:
        sha256: sha256 of the content; None if there is none.
        name: name for messages.
    """
    return {"sha256": sha256, "name": name}


def facts_of(
    task: str,
    run: Run,
    loss_options: LossOptions,
    shape: NewModel | None,
    contents: Mapping[str, Any],
) -> Facts:
    """Return the facts that the steps of a run depend on.

    Args:
        task: name of the task.
        run: the prepared run.
        loss_options: options of the loss.
        shape: shape of a new model; None otherwise.
        contents: facts of data and models, by name.
    """
    chosen = {name: v for name, v in asdict(run.settings).items() if name not in NOT_IN_FINGERPRINT}
    chosen |= asdict(loss_options) | ({} if shape is None else asdict(shape))
    chosen["precision"] = run.step_spec.precision
    plan = run.plan
    return {
        "task": task,
        **{option_of(name): _plain(value) for name, value in chosen.items()},
        **contents,
        STEPS: plan.steps,
        SHAPE: _plain((plan.micro_batches, *asdict(plan.shape).values())),
    }


def option_of(name: str) -> str:
    """Return the command-line option of a setting."""
    return OPTIONS.get(name, "--" + name.replace("_", "-"))


def _plain(value: Any) -> Any:
    """Convert a value to what JSON would return."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def check(before: Facts | None, now: Mapping[str, Any], done: int, place: Path | None) -> None:
    """Refuse to resume a run that would not be the same.

    Args:
        before: facts in its checkpoint; None for a version that did not store them.
        now: facts of the current arguments.
        done: number of steps already done.
        place: its checkpoints.

    Raises:
        EncodaxError: names everything that has changed, with both values.
    """
    if before is None:
        raise EncodaxError(
            f"{place}: it was saved by an older version of Encodax, which did not record the "
            "options by name; continue with that version, or start again (--overwrite)"
        )
    named = dict.fromkeys([*before, *now])
    # Other devices may need other rows; the steps stay the same.
    changed = [n for n in named if n != SHAPE and _is_other(before.get(n), now.get(n))]
    why_not = None
    if STEPS in changed:
        why_not = why_not_extendable(before, now, done)
        if why_not is None:
            changed.remove(STEPS)
    own = [name for name in changed if name != TOKENS] or changed  # tokens follow from the others
    if own:
        changes = "; ".join(_change(name, before.get(name), now.get(name)) for name in own)
        reason = f" ({why_not})" if why_not and own == [STEPS] else ""
        raise EncodaxError(
            f"{place}: {changes}{reason}: continue with what the run started with, or start again "
            "(--overwrite)"
        )


def why_not_extendable(before: Mapping[str, Any], now: Mapping[str, Any], done: int) -> str | None:
    """Return why a run cannot change its number of steps; None if it can."""
    schedule, warmup = now["--schedule"], now["--warmup"]
    if now[STEPS] < done:
        return f"{done} are done already"
    if schedule not in EXTENDABLE_SCHEDULES:
        return (
            f"with --schedule {schedule} the learning rate of each step depends on how many there "
            f"are; a run of --schedule {' or '.join(EXTENDABLE_SCHEDULES)} can be extended"
        )
    if 0 < warmup < 1:
        return (
            f"--warmup {warmup} is a share of all steps; a run that warms up for a number of steps "
            "can be extended"
        )
    if now[SHAPE] != before.get(SHAPE):
        return "with so many steps the batches have another shape"
    return None


def _is_other(before: Any, now: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return bool(before["sha256"] != now["sha256"])
    return bool(before != now)


def _change(name: str, before: Any, now: Any) -> str:
    """Describe a fact that has changed."""
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
