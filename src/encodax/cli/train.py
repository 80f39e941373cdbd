"""Commands that train: `train`, `pretrain`, `report`, `plan`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from encodax.cli.app import command, for_tables, json_line, stderr_console
from encodax.cli.options import (
    PRETRAINING,
    Columns,
    EmptyInputs,
    Format,
    Overwrite,
    column_names,
    with_fields,
)
from encodax.errors import EncodaxError
from encodax.options.loss import LossOptions
from encodax.options.training import NewModel, RunOptions, TrainSettings
from encodax.process.host_memory import keep_freed_memory


@command()
@with_fields(TrainSettings, NewModel, LossOptions, RunOptions)
def train(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="masked-lm, classification, multi-label, regression, token-classification, "
            "question-answering, embedding, reranking, distillation, translation",
        ),
    ],
    train: Annotated[Path, typer.Option(help="Training examples.")],
    eval: Annotated[Path, typer.Option(help="Evaluation examples, which select the best model.")],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="Model (directory or id) to fine-tune; a new model by default."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Model whose output is learned (distillation).")
    ] = None,
    train_target: Annotated[
        Path | None,
        typer.Option(
            help="File of translations, one a line, for --train with the sources; --columns and "
            "--format then apply to --eval only."
        ),
    ] = None,
    eval_target: Annotated[
        Path | None, typer.Option(help="File of translations for --eval.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Format of both files, if their names do not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    overwrite: Overwrite = False,
    **choices: Any,
) -> None:
    """Train a model for a task, and keep the best one by the evaluation data.

    Files are JSON Lines, JSON (lists, SQuAD), CSV, TSV, CoNLL, CoNLL-U, Parquet
    or text, plain or .gz; they need not fit in memory. For fields with other
    names: --columns text=content,label=stars. Records of the tasks:

      masked-lm             {"text": "..."}, or lines of text
      classification        {"text": "...", "label": "..."}
                            with "text_pair" for pairs of texts
      multi-label           {"text": "...", "labels": ["...", ...]}
                            or "labels": "a, b" in a table
      regression            {"text": "...", "score": 1.5}
      token-classification  {"text": "...", "spans": [SPAN, ...]}, a SPAN
                            {"start": 0, "end": 4, "label": "..."}
                            or {"tokens": ["..."], "tags": ["..."]},
                            tags in any scheme, or parts of speech;
                            or .conll and .conllu files
      question-answering    {"question": "...", "context": "...", "answers":
                            [{"text": "...", "start": 0}, ...]}, or the form
                            of SQuAD and of the datasets library
      embedding             {"anchor": "...", "positive": "...",
                            "negatives": ["...", ...]}, negatives optional;
                            or {"text": ..., "text_pair": ..., "score": 1}
      reranking             {"query": "...", "text": "...", "label": 1},
                            from 0 (no answer) to 1 (an answer)
      distillation          {"text": "..."}
      translation           {"source": "...", "target": "..."}, or two files
                            with matching lines: --train a.en
                            --train-target a.de, and the same for --eval

    The learning curve is in OUT/metrics.jsonl, and as a page in OUT/report.html.
    A run that was stopped, by a signal or by force, resumes to the same bits:
    repeat the command with --resume. At the end, one JSON object on standard
    output has the metrics of the best model.

    For example:

      encodax train classification --train train.tsv --eval dev.tsv
      --columns text,label --out runs/sentiment

    With --model sentence-transformers/all-MiniLM-L6-v2 a published model is
    fine-tuned.
    """
    choices["widths"] = _widths(choices["widths"])
    _train(
        task, train=_data(train, train_target), eval=_data(eval, eval_target), out=out,
        model=model, teacher=teacher, format=format, columns=column_names(columns),
        on_empty=on_empty, overwrite=overwrite, **choices,
    )  # fmt: skip


def _data(file: Path, target: Path | None) -> Any:
    """Return a file of records, or a pair of files with matching lines."""
    from encodax.data.aligned import Aligned

    return file if target is None else Aligned(file, target)


@command()
@with_fields(
    TrainSettings,
    NewModel,
    LossOptions,
    RunOptions,
    only=PRETRAINING,
    help={"mask_rate": "Share of tokens to mask.  \\[default: 0.15]"}
    | {"whole_words": "Mask all tokens of a word, or none."},
)
def pretrain(
    corpus: Annotated[
        list[str],
        typer.Option(help="Files, folders or globs of texts; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    eval: Annotated[
        Path | None,
        typer.Option(help="Evaluation texts.  \\[default: one in a hundred of the corpus]"),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Size of the encoder: tiny, mini, small, base.")
    ] = "tiny",
    tokenizer_size: Annotated[int, typer.Option(help="Largest vocabulary.")] = 30_522,
    format: Annotated[
        Format | None, typer.Option(help="Format of all files, if their names do not show it.")
    ] = None,
    columns: Columns = None,
    overwrite: Overwrite = False,
    **choices: Any,
) -> None:
    """Train a tokenizer and a masked language model from scratch on a corpus.

    This is `encodax train masked-lm` with a model of a published size; use the
    result with `encodax train TASK --model OUT`.

    For example:

      encodax pretrain --corpus texts/ --preset mini --tokenizer-size 16000
      --steps 20000 --out runs/mini
    """
    from encodax.training.pretrain import pretraining

    _train(
        "masked-lm",
        **pretraining(
            corpus=corpus, out=out, eval=eval, preset=preset, vocabulary_size=tokenizer_size,
            format=format, columns=column_names(columns), overwrite=overwrite, **choices,
        ),
    )  # fmt: skip


def _train(task: str, *, dry_run: bool, **choices: Any) -> None:
    """Run a training job, and print the paths of its files at the end."""
    keep_freed_memory()
    try:
        from encodax import training
        from encodax.training.loop import distributed
    except ImportError as error:
        raise EncodaxError(f"training needs {error.name}: pip install 'encodax[train]'") from error

    joined = {name: choices.pop(name, None) for name in ("coordinator", "processes", "process")}
    choices = {name: value for name, value in choices.items() if value is not False}
    with _output_to_errors():
        if choices.pop("distributed", False) or any(v is not None for v in joined.values()):
            distributed.join(joined["coordinator"], joined["processes"], joined["process"])
        if dry_run:
            tried = training.dry_run(task, **choices)
        else:
            result = training.train(task, console=stderr_console, **choices)
    if dry_run:
        stderr_console.print(tried.table())
        sys.stdout.write(json_line(tried.to_json()))
        return
    if not distributed.is_first():
        return
    assert result.out is not None
    _report_if_possible(result.out)
    stderr_console.print(
        f"{result.steps} steps in {result.seconds:.0f} s, "
        f"{result.tokens_per_second:,.0f} tokens/s, {result.padding:.1%} padding",
        *(f"{what}: {place}" for what, place in result.places().items()),
        sep="\n",
        soft_wrap=True,
    )
    summary = {"model": str(result.out), "step": result.best_step, **result.metrics}
    sys.stdout.write(json_line(summary))


def _report_if_possible(out: Path) -> None:
    """Write the page of a run; if that fails, log it: the model is complete without it."""
    try:
        _report(out)
    except EncodaxError as error:
        logging.getLogger("encodax").warning("no report: %s", error)


@contextmanager
def _output_to_errors() -> Iterator[None]:
    """Send to standard error what libraries print: standard output is for the answer only."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _widths(text: str | None) -> tuple[int, ...] | None:
    """Parse `192,96` to numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise EncodaxError(f"widths {text!r}: give numbers, such as 192,96") from None


@command()
def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of a training run.")],
) -> None:
    """Write a page about a training run, OUT/report.html; also while the run is in progress.

    It shows the learning curve, the gradient, the speed, the evaluations, the settings and the
    machine; `encodax train` writes it at the end. The same curves for TensorBoard are in
    OUT/tensorboard.
    """
    print(_report(out))


def _report(out: Path) -> Path:
    try:
        from encodax.pages.run_report import write_report
    except ImportError as error:
        raise EncodaxError(
            f"the report needs {error.name}: pip install 'encodax[report]'"
        ) from error
    return write_report(out)


@command()
def plan(
    preset: Annotated[
        str | None, typer.Option(help="Size of a new model: tiny, mini, small, base.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Or a model (directory or id); its weights are not read.")
    ] = None,
    task: Annotated[str, typer.Option(help="Task to train.")] = "masked-lm",
    mesh: Annotated[str, typer.Option(help="Mesh of devices, such as data=64,fsdp=8.")] = "data=1",
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a step, on all devices.")] = 16_384,
    row_tokens: Annotated[int, typer.Option(help="Tokens of a row.")] = 512,
    accumulate: Annotated[int, typer.Option(help="Micro-batches of a step.")] = 1,
    remat: Annotated[
        str, typer.Option(help="Recompute to save memory: none, dots, full.")
    ] = "none",
    scan: Annotated[bool, typer.Option("--scan", help="Compile one layer for all.")] = False,
    precision: Annotated[
        str, typer.Option(help="Number format of products: float32, bfloat16.")
    ] = "float32",
    peak_tflops: Annotated[
        float | None, typer.Option(help="Peak TFLOP/s of a device, to estimate the time of a step.")
    ] = None,
    bandwidth_gbs: Annotated[
        float | None, typer.Option(help="GB/s that a device can send; needed if it sends anything.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of the peak that is reached; 1 for the shortest time.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print what each device would hold, compute and send in a training step.

    Nothing is trained or allocated: the step is compiled for simulated
    devices, so the model may be one that this machine cannot hold.

    Example:
      encodax plan --preset base --mesh data=64,fsdp=8 --batch-tokens 1048576
    """
    from dataclasses import asdict
    from math import inf, prod

    from encodax.model_files import hub, saved_model
    from encodax.options.presets import PRESETS
    from encodax.options.training import NewModel, TrainSettings
    from encodax.tasks import task_named
    from encodax.training.estimate import cost
    from encodax.training.estimate.table import table_of
    from encodax.training.step.sharding import parse_mesh

    if (preset is None) == (model is None):
        raise EncodaxError("give either --preset or --model")
    if preset is not None and preset not in PRESETS:
        raise EncodaxError(f"preset {preset!r} is not one of: {', '.join(PRESETS)}")
    chosen = task_named(task)
    settings = TrainSettings(
        mesh=mesh,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        remat=remat,  # type: ignore[arg-type]
        scan=scan,
        precision=precision,  # type: ignore[arg-type]
    )
    cost.simulate_devices(prod(parse_mesh(mesh).values()))
    if preset is not None:
        config = cost.new_config(NewModel(**PRESETS[preset]), chosen)
    else:
        directory = hub.directory_of(model or "", files=("*.json",))
        config = cost.with_head(saved_model.read_config(directory), chosen)
    found = cost.plan_step(config, chosen, settings, row_tokens=row_tokens)
    expected = None
    if peak_tflops is not None and (bandwidth_gbs is not None or not found.sent_bytes):
        bandwidth = inf if bandwidth_gbs is None else bandwidth_gbs * 1e9
        expected = found.expected(peak_tflops * 1e12, bandwidth, share)
    if as_json:
        times = None if expected is None else asdict(expected)
        sys.stdout.write(json_line({**found.to_json(), "expected_seconds": times}))
        return
    for_tables(width=100).print(table_of(found, expected))
