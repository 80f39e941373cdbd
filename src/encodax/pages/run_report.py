"""Report of a training run: a page made of the run's files, even before the run has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from encodax._version import __version__
from encodax.errors import EncodaxError
from encodax.model_files.run_files import (
    AVERAGED_COUNT_KEY,
    EVALUATION_PREFIX,
    METRICS_FILE,
    REPORT_FILE,
    RUN_FILE,
    Entry,
    RunFacts,
    evaluation_sort_key,
    read_curve,
    read_facts,
)
from encodax.pages import diagrams, report
from encodax.pages.report import Numbers, Page, Pictures, Section, Table
from encodax.storage import outputs

EVALUATIONS = 20
"""Maximum number of evaluations in the table; the last ones are kept."""
OF_A_STEP = ("tokens_per_second", "padding", "learning_rate")
"""Names of the values of each step in the curve, besides its loss."""
SKIPPED = 20
"""Maximum number of skipped steps that are listed; the last ones are kept."""


def write_report(out: Path) -> Path:
    """Write `report.html` of a run, from its `run.json` and `metrics.jsonl`.

    Args:
        out: directory of the run, which may not have ended.

    Returns:
        The path of the page.

    Raises:
        EncodaxError: a file is missing or damaged, or the page cannot be written.
    """
    curve = read_curve(out / METRICS_FILE)
    for entry in curve:
        if "loss" in entry and (missing := [name for name in OF_A_STEP if name not in entry]):
            raise EncodaxError(f"{out / METRICS_FILE}: step {entry['step']} has no {missing[0]}")
    facts = read_facts(out / RUN_FILE)
    for name in ("parameters", "layers", "width"):
        if type(facts.model.get(name)) is not int:
            raise EncodaxError(f"{out / RUN_FILE}: model.{name} is not a whole number")
    if not any("loss" in entry for entry in curve):
        raise EncodaxError(f"{out / METRICS_FILE} has no step yet: wait for the first")
    page = out / REPORT_FILE
    try:
        with outputs.open_file(page) as stream:
            stream.write(render(facts, curve))
    except OSError as error:
        raise EncodaxError(f"{page} cannot be written: {error.strerror}") from error
    return page


def render(facts: RunFacts, curve: Sequence[Entry]) -> str:
    """Return the page as HTML; equal data give equal bytes."""
    history = _History(facts, curve)
    last = history.steps[-1]["step"]
    return report.render(
        Page(
            title=f"Training: {facts.task}",
            introduction=(
                f"{last:,} of {facts.steps:,} steps are done. The model has "
                f"{facts.model['parameters']:,} parameters: {facts.model['layers']} "
                f"{'layer' if facts.model['layers'] == 1 else 'layers'} of width "
                f"{facts.model['width']}."
            ),
            highlights=_numbers(history),
            sections=[
                _learning(history),
                *_skipped(history),
                _speed(history),
                *_evaluations(history),
                _choices(facts),
                *_origins(facts),
                _machine(facts),
            ],
            footer=f"Made by the command “encodax report” of Encodax {__version__}.",
        )
    )


@dataclass(frozen=True)
class _History:
    """Learning curve, and values derived from it."""

    facts: RunFacts
    curve: Sequence[Entry]

    @cached_property
    def steps(self) -> list[Entry]:
        """Entries of training steps."""
        return [entry for entry in self.curve if "loss" in entry]

    @cached_property
    def evaluations(self) -> list[Entry]:
        """Entries of evaluations that have the run's metric."""
        return [entry for entry in self.curve if self.metric in entry]

    @property
    def metric(self) -> str:
        """Name in the curve of the metric by which models are compared."""
        return EVALUATION_PREFIX + self.facts.metric

    @cached_property
    def best(self) -> Entry | None:
        """Evaluation of the model that was kept; of equal ones the last."""
        return max(reversed(self.evaluations), key=self._standing, default=None)

    def _standing(self, entry: Entry) -> tuple[float, float]:
        found = {name.removeprefix(EVALUATION_PREFIX): value for name, value in entry.items()}
        facts = self.facts
        return evaluation_sort_key(found, facts.metric, larger_is_better=facts.larger_is_better)

    def series(self, name: str) -> diagrams.Series:
        """Return a value over the steps, without the first step, which compiles."""
        return diagrams.series_of(self.steps[1:], name)


def _numbers(history: _History) -> Numbers:
    last, best = history.steps[-1], history.best
    items = []
    if best is not None:
        name = f"{history.facts.metric}, the best, at step {_place(best)}"
        items.append((name, _value(best[history.metric])))
    items += [
        ("tokens per second", f"{last['tokens_per_second']:,.0f}"),
        ("of the rows was padding", f"{last['padding']:.1%}"),
    ]
    if "share_of_peak" in last:
        items.append(("of the peak of the device", f"{last['share_of_peak']:.0%}"))
    if "waiting" in last:
        items.append(("of the time went by waiting for data", f"{last['waiting']:.1%}"))
    if "seconds" in last:
        items.append(("in all, with compiling and evaluating", _time(last["seconds"])))
    return Numbers(tuple(items))


def _place(entry: Entry) -> str:
    mean = (
        f", the mean of {entry[AVERAGED_COUNT_KEY]} checkpoints"
        if AVERAGED_COUNT_KEY in entry
        else ""
    )
    return f"{entry['step']:,}{mean}"


def _learning(history: _History) -> Section:
    curve = [entry for entry in history.curve if AVERAGED_COUNT_KEY not in entry]
    metric = history.facts.metric
    losses = {"training": diagrams.series_of(curve, "loss")}
    if f"{EVALUATION_PREFIX}loss" in (history.best or {}):
        losses["evaluation"] = diagrams.series_of(curve, f"{EVALUATION_PREFIX}loss")
    pictures = [
        diagrams.line_chart(losses if len(losses) > 1 else {"": losses["training"]}, "loss"),
        *(
            [diagrams.learning_curve(curve, history.metric, f"{metric} on the evaluation data")]
            if history.evaluations and metric != "loss"
            else []
        ),
        diagrams.line_chart(
            {"": diagrams.series_of(curve, "learning_rate")}, "learning rate", is_noisy=False
        ),
        diagrams.learning_curve(
            curve, "gradient_norm", "norm of the gradient, before clipping", is_logarithmic=True
        ),
    ]
    caption = (
        "Loss and norm are of one batch a step; where there are many, pale, with a running mean."
    )
    return Section("How it learned", blocks=(Pictures(caption, tuple(pictures)),))


def _skipped(history: _History) -> list[Section]:
    before, skipped = 0, []
    for entry in history.steps:
        if entry.get("skipped", 0) > before:
            skipped.append(entry["step"])
        before = entry.get("skipped", 0)
    if not skipped:
        return []
    shown = ", ".join(f"{step:,}" for step in skipped[-SKIPPED:])
    which = f"the last {SKIPPED} of them: {shown}" if len(skipped) > SKIPPED else shown
    count = f"{len(skipped):,} steps" if len(skipped) > 1 else "1 step"
    message = f"The loss or its gradient was not finite in {count}, which changed nothing: {which}."
    return [Section("Steps that were skipped", (message,))]


def _speed(history: _History) -> Section:
    speed = {"": history.series("tokens_per_second")}
    lost = {"padding": history.series("padding"), "waiting for data": history.series("waiting")}
    pictures = [diagrams.line_chart(speed, "tokens per second", is_noisy=False)]
    if "share_of_peak" in history.steps[-1]:
        share = {"": history.series("share_of_peak")}
        pictures.append(
            diagrams.line_chart(share, "share of the peak", is_share=True, is_noisy=False)
        )
    pictures.append(diagrams.line_chart(lost, "what is lost", is_share=True, is_noisy=False))
    caption = (
        "Means since the run began or went on, without evaluations and without the first step, "
        "which compiles. The peak is that of a large product of matrices on the same device."
    )
    return Section("How fast", blocks=(Pictures(caption, tuple(pictures)),))


def _evaluations(history: _History) -> list[Section]:
    if history.best is None:
        return []
    shown = history.evaluations[-EVALUATIONS:]
    if history.best not in shown:
        shown = [history.best, *shown]
    names = [name for name in history.best if name.startswith(EVALUATION_PREFIX)]
    names.sort(key=lambda name: name != history.metric)
    rows = tuple(
        (
            f"{_place(entry)}{' (best)' if entry is history.best else ''}",
            *(_value(entry[name]) if name in entry else "–" for name in names),
        )
        for entry in shown
    )
    head = ("step", *(name.removeprefix(EVALUATION_PREFIX) for name in names))
    more = len(history.evaluations) - len(shown)
    caption = f"The best and the last; {more:,} more are in {METRICS_FILE}." if more else ""
    return [Section("Evaluations", blocks=(Table(caption, head, rows),))]


def _choices(facts: RunFacts) -> Section:
    return Section(
        "What was chosen",
        blocks=(
            _table("The model.", facts.model),
            _table("A batch.", facts.batch),
            _table("The run.", facts.choices),
        ),
    )


def _origins(facts: RunFacts) -> list[Section]:
    """Return the section on data and models; empty for a run that did not record them."""
    blocks = []
    for name, title in (("train", "Training data"), ("eval", "Evaluation data")):
        if own := facts.data.get(name):
            rows = tuple(
                (file["path"], f"{file['rows']:,}", file["sha256"]) for file in own["files"]
            )
            caption = f"{title}: {own['examples']:,} examples"
            caption += "." if rows else ", which were in memory."
            blocks.append(Table(caption, ("file", "rows", "sha256") if rows else (), rows))
    for model, title in (
        (facts.base, "The model that it began from."),
        (facts.teacher, "The teacher."),
    ):
        if model is not None:
            blocks.append(_table(title, model))
    return [Section("What it is made of", blocks=tuple(blocks))] if blocks else []


def _machine(facts: RunFacts) -> Section:
    blocks = (_table("", facts.surroundings), _table("", facts.versions))
    return Section("Machine and versions", blocks=blocks)


def _table(caption: str, values: Mapping[str, Any]) -> Table:
    formatted = {name: _formatted(value) for name, value in values.items()}
    return Table(caption, (), tuple((name, value) for name, value in formatted.items() if value))


def _formatted(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_formatted, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_formatted(own)}" for name, own in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _value(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1_000 else f"{value:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3_600 else f"{seconds / 3_600:.1f} h"
