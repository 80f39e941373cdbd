"""Progress of a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from encodax.errors import EncodaxError, escape_invisible
from encodax.model_files.run_files import (
    AVERAGED_COUNT_KEY,
    EVALUATION_PREFIX,
    METRICS_FILE,
    RUN_FILE,
    Entry,
    RunFacts,
    read_curve,
)
from encodax.process.terminal import Terminal
from encodax.storage import outputs
from encodax.training.loop.tensorboard import Events

SECONDS_BETWEEN_LINES = 5.0


class RunLog:
    """Log that writes a run's description and learning curve, and shows the curve on a console."""

    def __init__(
        self,
        directory: Path | None,
        steps: int,
        done: int = 0,
        *,
        about: RunFacts | None = None,
        console: Console | None = None,
    ):
        """Open the log.

        Args:
            directory: directory for `run.json`, `metrics.jsonl` and TensorBoard events; None to
                write none of them.
            steps: number of steps of the whole run.
            done: number of steps that an earlier part of the run has done and logged there.
            about: description of the run; None to write no `run.json`.
            console: console for the display; None for none.
        """
        self._file = None if directory is None else directory / METRICS_FILE
        self._about = about
        self._events = None if directory is None else Events(directory, done)
        self._steps = steps
        self._console = console or Terminal(quiet=True)
        self._lives = self._console.is_terminal
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._lives,
        )
        self._bar = self._progress.add_task("train", total=steps, completed=done, shown="compiling")
        self._first = done + 1
        self._start = self._last_line = time.monotonic()
        self.curve: list[Entry] = _earlier(self._file, done)
        """All entries for `metrics.jsonl`."""
        self._began = _begin(self.curve)
        self._written, self._drawn = 0, len(self.curve)
        # Existing files stay as they are until this run has a model to write there.
        self._waits = directory is not None and not done and any(directory.iterdir())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, step: int, entry: dict[str, float]) -> None:
        """Log a training step: loss, learning rate, tokens/s, share of padding.

        The seconds of the run so far, earlier parts included, are added.
        """
        self._write({"step": step, **entry, "seconds": round(time.monotonic() - self._began, 3)})
        message = (
            f"loss {entry['loss']:.4f}  {entry['tokens_per_second']:,.0f} tokens/s  "
            f"padding {entry['padding']:.1%}"
        )
        if "share_of_peak" in entry:
            message += f"  {entry['share_of_peak']:.0%} of peak"
        self._progress.update(self._bar, completed=step, shown=message)
        now = time.monotonic()
        if step == self._first:  # it starts slowly, and says nothing about the others
            self._start = self._last_line = now
        elif not self._lives and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (now - self._start) / (step - self._first) * (self._steps - step)
            self.note(f"step {step}/{self._steps}  {message}  {left:.0f} s left")

    def evaluation(self, step: int, metrics: dict[str, float], *, is_best: bool) -> None:
        """Log an evaluation, after its model is saved if it is the best."""
        self._waits = False
        self._take_back(step)
        self._write({"step": step, **_evaluated(metrics)})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.note(f"step {step}/{self._steps}  {shown}{'  (best, saved)' if is_best else ''}")

    def average(self, step: int, count: int, metrics: dict[str, float]) -> None:
        """Log an evaluation of the mean of `count` checkpoints, after the last step."""
        self._write({"step": step, AVERAGED_COUNT_KEY: count, **_evaluated(metrics)})

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint stores of this log: the curve, if it is not written yet."""
        return {"curve": self.curve} if self._waits else {}

    def restore(self, record: dict[str, Any]) -> None:
        """Restore what a checkpoint stored."""
        if "curve" in record:
            self.curve, self._waits, self._drawn = list(record["curve"]), True, 0
            self._began = _begin(self.curve)
            if self._file is not None:
                self._events = Events(self._file.parent)

    def _take_back(self, step: int) -> None:
        """Remove an evaluation of this step: the run was stopped after it, and repeats it."""
        kept = [entry for entry in self.curve if entry["step"] != step or "loss" in entry]
        self._drawn -= len(self.curve) - len(kept)
        self.curve = kept

    def note(self, text: str) -> None:
        """Print a note beside the numbers."""
        self._progress.console.print(
            escape_invisible(text), highlight=False, markup=False, soft_wrap=True
        )

    def _write(self, entry: Entry) -> None:
        self.curve.append(entry)
        if self._file is None or self._events is None or self._waits:
            return
        try:  # opened each time: saving a model may have replaced the file
            if not self._written:
                if self._about is not None:
                    self._about.write(self._file.with_name(RUN_FILE))
                _write_whole(self._file, self.curve)
            else:
                _append(self._file, self.curve[self._written :])
            self._events.write(self.curve[self._drawn :])
        except OSError as error:
            place = error.filename or self._file
            raise EncodaxError(f"{place} cannot be written: {error.strerror}") from error
        self._written = self._drawn = len(self.curve)


def _evaluated(metrics: dict[str, float]) -> Entry:
    return {EVALUATION_PREFIX + name: value for name, value in metrics.items()}


def _begin(curve: list[Entry]) -> float:
    """Return the time at which the run would have started if it had not been stopped."""
    return time.monotonic() - max((entry.get("seconds", 0) for entry in curve), default=0)


def _write_whole(file: Path, entries: list[Entry]) -> None:
    """Write the file atomically, so that an earlier part's log is never lost."""
    with outputs.open_file(file) as stream:
        stream.writelines(json.dumps(entry) + "\n" for entry in entries)


def _append(file: Path, entries: list[Entry]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(entry) + "\n" for entry in entries)


def _earlier(file: Path | None, done: int) -> list[Entry]:
    """Return what an earlier part of the run logged up to step `done`, without averages.

    An average is measured again at the end of this part.
    """
    if file is None or not done or not file.is_file():
        return []
    return [
        entry
        for entry in read_curve(file)
        if entry["step"] <= done and AVERAGED_COUNT_KEY not in entry
    ]
