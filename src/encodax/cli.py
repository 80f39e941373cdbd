"""The command line: thin over the same functions that Python calls.

Answers go to standard output, all else to standard error, so that output pipes. What the caller
can mend is one line and exit code 2.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import logging
import os
import signal
import sys
import warnings
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from encodax import __version__, signals
from encodax.data import formats, sources
from encodax.errors import EncodaxError, plain
from encodax.host_memory import keep_freed_memory
from encodax.inference.progress import counted
from encodax.json_files import ModelFiles, shown
from encodax.signals import Terminated, terminable
from encodax.terminal import Screen, Terminal, table

if TYPE_CHECKING:
    from encodax.config import ModelConfig
    from encodax.data.stream import Live
    from encodax.tasks.empty import Empties
    from encodax.tasks.task import Example

# Imports of JAX stand inside the commands: `encodax --help` should not wait for it.


class _Commands(TyperGroup):
    """The commands; what is wrong with an argument is told in plain text."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _plainly():
            return super().make_context(*arguments, **options)

    def invoke(self, context: Any) -> Any:
        with _plainly():
            return super().invoke(context)


class _Command(TyperCommand):
    """A command that takes no empty value: of a path it would be the folder one is in."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.get_params(ctx):
            name, value = parameter.opts[0], given.get(parameter.name or "")
            if parameter.param_type_name == "argument":
                name = getattr(parameter, "metavar", None) or name
                if name not in ("MODEL", "OUT"):  # a text, which is told by its number
                    continue
            if "" in (value if isinstance(value, list) else [value]):
                raise EncodaxError(
                    f"{name} is empty: give it a value (is a variable of the shell not set?)"
                )
        return super().parse_args(ctx, args)


@contextmanager
def _plainly() -> Iterator[None]:
    """Errors of click say what the user gave: a name of a file may hold anything."""
    try:
        yield
    except Exception as error:
        if isinstance(told := getattr(error, "message", None), str):
            error.message = plain(told)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    name="encodax",
    help="Transformer encoders for JAX: train one, measure it, use it.",
    epilog="Begin with: encodax demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
command = functools.partial(app.command, cls=_Command)
errors = Terminal(stderr=True)

LONGEST_READ = 500_000
"""Characters that `explore` reads from standard input, at most."""

ModelPath = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model directory, or the id of a model on the hub."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")]
TextInput = Annotated[
    str | None,
    typer.Option("--input", help="A file of texts (JSON, CSV, TSV, Parquet, .txt), or -."),
]
TopK = Annotated[int, typer.Option(help="How many to give.", min=1)]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Names of all columns of a table without a header: text,label; or of any file, which "
        "field has what: text=content,label=stars"
    ),
]
Truncate = Annotated[
    bool, typer.Option("--truncate", help="Cut texts that are longer than the model takes.")
]
AggregationKind = Annotated[
    Literal["none", "simple", "first", "average", "max"] | None,
    typer.Option(
        "--aggregation",
        help="Of a tagger, what has one tag: a token (none, simple) or a word (first, average, "
        "max).  \\[default: simple; of parts of speech each word]",
    ),
]
TagSchemeName = Annotated[
    Literal["iob", "iobes", "bilou", "bmes", "io", "none"] | None,
    typer.Option(
        "--tag-scheme",
        help="Of a tagger's labels and tags; none for a label of each word.  "
        "\\[default: what they say]",
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        help="Of a tagger: read a text longer than the model takes in windows that share so many "
        "tokens, 64 for example; a span in two of them is whole.  \\[default: refuse it]",
    ),
]
MaxAnswerTokens = Annotated[
    int | None,
    typer.Option(
        help="Of question answering: most tokens of an answer.  \\[default: 30]",
    ),
]
EmptyTexts = Annotated[
    Literal["error", "skip", "keep"],
    typer.Option(
        "--on-empty",
        help="Empty texts: refuse them, leave them out, or keep their places (null answers).",
    ),
]
EmptyInputs = Annotated[
    Literal["error", "skip"],
    typer.Option("--on-empty", help="Empty texts: refuse them, or leave them out."),
]
MaxWait = Annotated[
    float | None,
    typer.Option(
        help="Seconds that a text from a pipe waits for others to share its batch.  "
        "\\[default: 0.1]",
        min=0,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Format = Literal["jsonl", "csv", "tsv", "txt", "conll", "conllu", "json", "parquet"]
VectorType = Literal["float32", "int8", "binary"]
Precision = Annotated[
    Literal["float32", "bfloat16", "int8"] | None,
    typer.Option(
        help="Products in fewer bits are faster, and less exact.  \\[default: float32 on CPU]"
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"encodax {__version__}")
        raise typer.Exit


@command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of the dates, the parameters, the order.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Two acts: an encoder that learns to read dates, and a published one that answers questions.

    Act one trains an encoder from scratch on dates in 68 languages, and compares it with
    dateparser. Act two finds answers in Python's own help with all-MiniLM-L6-v2. Together they
    take a few minutes on two cores. Writes OUT/model, OUT/summary.json, OUT/passages.jsonl and
    OUT/report.html, a page with the learning curve, the accuracy of each language, what the
    encoder looks at, and the answers.
    """
    keep_freed_memory()
    try:
        from encodax.demo.run import run_demo
    except ImportError as error:
        raise EncodaxError(f"the demo needs {error.name}: pip install 'encodax[demo]'") from error

    run_demo(out, seed=seed, overwrite=overwrite, console=Terminal())


# What `train` and `pretrain` share.
Steps = Annotated[int | None, typer.Option(help="Optimizer steps.")]
Epochs = Annotated[
    float | None, typer.Option(help="Times every example is seen, as 3 or 0.5.  \\[default: 10]")
]
BatchSize = Annotated[int | None, typer.Option(help="Examples a batch.")]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens a batch instead.  \\[default: 2048]")]
LearningRate = Annotated[
    float | None,
    typer.Option(help="The highest.  \\[default: 1e-3 from scratch, 5e-5 with --model]"),
]
Warmup = Annotated[
    float | None,
    typer.Option(help="Share of steps in which it rises, or their number.  \\[default: 0.1]"),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        help="Then: cosine, linear, constant, inverse_sqrt.  "
        "\\[default: cosine; translation inverse_sqrt]"
    ),
]
WeightDecay = Annotated[float | None, typer.Option(help="\\[default: 0.01]")]
EvaluateEvery = Annotated[
    int | None, typer.Option(help="Steps between evaluations.  \\[default: a tenth]")
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="Of the evaluation, which says which model is the best; `loss` is one of each task.  "
        "\\[default: that of the task; of classes f1, macro]"
    ),
]
Patience = Annotated[
    int | None, typer.Option(help="Stop after so many evaluations without a better metric.")
]
Dropout = Annotated[float | None, typer.Option(help="\\[default: 0.1]")]
MaxPositions = Annotated[int | None, typer.Option(help="Longest text in tokens.  \\[default: 512]")]
TokenizerKind = Annotated[
    str | None,
    typer.Option(help="wordpiece, bpe, char.  \\[default: wordpiece; translation bpe]"),
]
Lowercase = Annotated[bool, typer.Option("--lowercase", help="Drop case and accents.")]
Seed = Annotated[int, typer.Option(help="Two runs with one seed are equal.")]
MaskRate = Annotated[float | None, typer.Option(help="Share of tokens hidden.  \\[default: 0.15]")]
WholeWords = Annotated[
    bool, typer.Option("--whole-words", help="Hide all tokens of a word, or none.")
]

_GOING_ON = "Going on"
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the newest checkpoint.", rich_help_panel=_GOING_ON),
]
ResumeStep = Annotated[
    int | None,
    typer.Option(help="Go on from the checkpoint of this step.", rich_help_panel=_GOING_ON),
]
CheckpointsPath = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints",
        help="Where they are.  \\[default: OUT.checkpoints]",
        rich_help_panel=_GOING_ON,
    ),
]
SaveEvery = Annotated[
    int | None,
    typer.Option(
        help="Steps between checkpoints.  \\[default: as evaluations]",
        rich_help_panel=_GOING_ON,
    ),
]
Keep = Annotated[
    int | None,
    typer.Option(
        help="Newest that stay, beside the best.  \\[default: 2]", rich_help_panel=_GOING_ON
    ),
]

_DEVICES = "Devices"
MeshSizes = Annotated[
    str | None,
    typer.Option(
        help="data=4,fsdp=2: rows over all, parameters in parts over fsdp.  "
        "\\[default: all on data]",
        rich_help_panel=_DEVICES,
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(help="Micro-batches a batch.  \\[default: 1]", rich_help_panel=_DEVICES),
]
RematKind = Annotated[
    str | None,
    typer.Option(
        "--remat",
        help="Compute again, keep less: none, dots, full.  \\[default: none]",
        rich_help_panel=_DEVICES,
    ),
]
Scan = Annotated[
    bool,
    typer.Option(
        "--scan", help="Compile one layer for all: sooner ready.", rich_help_panel=_DEVICES
    ),
]
TrainPrecision = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(
        "--precision",
        help="Of products; the rest is float32.  \\[default: float32 on CPU]",
        rich_help_panel=_DEVICES,
    ),
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Join the other processes that SLURM, Kubernetes, ... have started.",
        rich_help_panel=_DEVICES,
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of process 0, to join it.", rich_help_panel=_DEVICES),
]
Processes = Annotated[
    int | None, typer.Option(help="How many there are.", rich_help_panel=_DEVICES)
]
ProcessIndex = Annotated[
    int | None,
    typer.Option("--process", help="Which one this is, from 0.", rich_help_panel=_DEVICES),
]

_WATCHING = "Watching"
ProfileSteps = Annotated[
    str | None,
    typer.Option(help="10:15 traces steps 10 to 14 to OUT/profile.", rich_help_panel=_WATCHING),
]
BadSteps = Annotated[
    int | None,
    typer.Option(
        help="Stop after so many steps in a row that are not finite.  \\[default: 10]",
        rich_help_panel=_WATCHING,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Compile, run two steps, tell time and memory; write nothing.",
        rich_help_panel=_WATCHING,
    ),
]

_OBJECTIVE = "Objective"
_TUNING = "Tuning in part"


@command()
def train(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="masked-lm, classification, multi-label, regression, token-classification, "
            "question-answering, embedding, reranking, distillation, translation",
        ),
    ],
    train: Annotated[Path, typer.Option(help="Examples to learn from.")],
    eval: Annotated[Path, typer.Option(help="Examples that say which model is best.")],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="Model (directory or id) to begin from; from scratch without one."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Model whose answers are learned (distillation).")
    ] = None,
    train_target: Annotated[
        Path | None,
        typer.Option(
            help="Then --train has the sources, a line each, and this the translations; --columns "
            "and --format are of --eval alone."
        ),
    ] = None,
    eval_target: Annotated[Path | None, typer.Option(help="The same for --eval.")] = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    batch_tokens: BatchTokens = None,
    learning_rate: LearningRate = None,
    warmup: Warmup = None,
    schedule: Schedule = None,
    weight_decay: WeightDecay = None,
    beta2: Annotated[
        float | None, typer.Option(help="Of Adam.  \\[default: 0.999; translation 0.98]")
    ] = None,
    adam_eps: Annotated[
        float | None, typer.Option(help="\\[default: 1e-8; translation 1e-9]")
    ] = None,
    average: Annotated[
        int | None,
        typer.Option(help="At the end, try the mean of so many newest checkpoints too."),
    ] = None,
    evaluate_every: EvaluateEvery = None,
    metric: Metric = None,
    patience: Patience = None,
    seed: Seed = 0,
    format: Annotated[
        Format | None, typer.Option(help="Of both files, where their names do not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    truncate: Truncate = False,
    overwrite: Overwrite = False,
    layers: Annotated[int | None, typer.Option(help="\\[default: 2]")] = None,
    width: Annotated[int | None, typer.Option(help="Model width.  \\[default: 128]")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads.  \\[default: 4]")] = None,
    ffn: Annotated[
        int | None, typer.Option(help="Feed-forward width.  \\[default: 4 x width]")
    ] = None,
    dropout: Dropout = None,
    attention_dropout: Annotated[
        float | None, typer.Option(help="Of attention weights.  \\[default: as --dropout]")
    ] = None,
    max_positions: MaxPositions = None,
    tokenizer: TokenizerKind = None,
    vocabulary_size: Annotated[int | None, typer.Option(help="\\[default: 8000]")] = None,
    lowercase: Lowercase = False,
    label_smoothing: Annotated[
        float | None,
        typer.Option(help="\\[default: 0; translation 0.1]", rich_help_panel=_OBJECTIVE),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(
            help="How much labels count: balanced, or LABEL=2.5,... (classification, multi-label).",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    tag_scheme: Annotated[
        Literal["iob", "iobes", "bilou", "bmes", "io", "none"] | None,
        typer.Option(
            help="Of tags; none for a label of each word (token-classification).  "
            "\\[default: what they say]",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    mask_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of tokens hidden (masked-lm).  \\[default: 0.15]",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    whole_words: Annotated[
        bool,
        typer.Option(
            "--whole-words",
            help="Hide all tokens of a word, or none (masked-lm).",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = False,
    similarity_loss: Annotated[
        str | None,
        typer.Option(
            help="ranking, cosent, cosine (embedding).  \\[default: what the data suits]",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    similarity_scale: Annotated[
        float | None,
        typer.Option(
            help="Factor of cosines (embedding).  \\[default: 20]", rich_help_panel=_OBJECTIVE
        ),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            help="192,96: leading features that are vectors too (embedding; Matryoshka).",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Softens probabilities (distillation).  \\[default: 2]",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    hidden_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of hidden states (distillation).  \\[default: 1]",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="Regular expression of parameters that stay, as `encodax info` names them.",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            help="Factor of the learning rate a layer further down.  \\[default: 1]",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            help="Train adapters of this rank (LoRA); OUT is an adapter then.",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    lora_alpha: Annotated[
        float | None,
        typer.Option(help="Their factor is alpha / rank.", rich_help_panel=_TUNING),
    ] = None,
    lora_targets: Annotated[
        str | None,
        typer.Option(
            help="Regular expression of the matrices.  \\[default: queries and values]",
            rich_help_panel=_TUNING,
        ),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Write a whole model, adapters merged.", rich_help_panel=_TUNING
        ),
    ] = False,
    resume: Resume = False,
    resume_step: ResumeStep = None,
    checkpoints: CheckpointsPath = None,
    save_every: SaveEvery = None,
    keep: Keep = None,
    mesh: MeshSizes = None,
    accumulate: Accumulate = None,
    remat: RematKind = None,
    scan: Scan = False,
    precision: TrainPrecision = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process: ProcessIndex = None,
    profile_steps: ProfileSteps = None,
    bad_steps: BadSteps = None,
    dry_run: DryRun = False,
) -> None:
    """Train a model for a task; the best by the evaluation data is kept.

    Files are JSON Lines, JSON (lists, SQuAD), CSV, TSV, CoNLL, CoNLL-U, Parquet
    or text, plain or .gz; they need not fit in memory. Fields that have other
    names there: --columns text=content,label=stars. Records of the tasks:

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
                            [{"text": "...", "start": 0}, ...]}, or as SQuAD
                            and the datasets library have them
      embedding             {"anchor": "...", "positive": "...",
                            "negatives": ["...", ...]}, negatives if you have
                            some; or {"text": ..., "text_pair": ..., "score": 1}
      reranking             {"query": "...", "text": "...", "label": 1},
                            from 0 (no answer) to 1 (an answer)
      distillation          {"text": "..."}
      translation           {"source": "...", "target": "..."}, or two files
                            whose lines belong together: --train a.en
                            --train-target a.de, and so for --eval

    The learning curve is in OUT/metrics.jsonl, and as a page in OUT/report.html.
    A run that was stopped, by a signal or by force, goes on to the same bits:
    give the same command with --resume. At the end, one JSON object on standard
    output says how well the best model does.

    Such as:

      encodax train classification --train train.tsv --eval dev.tsv
      --columns text,label --out runs/sentiment

    With --model sentence-transformers/all-MiniLM-L6-v2 a published model is
    trained on (fine-tuning).
    """
    choices = dict(locals())
    _train(
        task,
        widths=_widths(choices.pop("widths")),
        dropout_rate=choices.pop("dropout"),
        attention_dropout_rate=choices.pop("attention_dropout"),
        train=_data(choices.pop("train"), choices.pop("train_target")),
        eval=_data(choices.pop("eval"), choices.pop("eval_target")),
        columns=_names(choices.pop("columns")),
        **{name: value for name, value in choices.items() if name != "task"},
    )


def _data(file: Path, target: Path | None) -> Any:
    """A file of records, or two of lines that belong together."""
    from encodax.data.aligned import Aligned

    return file if target is None else Aligned(file, target)


@command()
def pretrain(
    corpus: Annotated[
        list[str],
        typer.Option(help="Files, folders or globs of texts; give it several times for several."),
    ],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    eval: Annotated[
        Path | None,
        typer.Option(help="Texts to measure on.  \\[default: one in a hundred of the corpus]"),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Size of the encoder: tiny, mini, small, base.")
    ] = "tiny",
    tokenizer_size: Annotated[int, typer.Option(help="Largest vocabulary.")] = 30_522,
    tokenizer: TokenizerKind = None,
    lowercase: Lowercase = False,
    max_positions: MaxPositions = None,
    mask_rate: MaskRate = None,
    whole_words: WholeWords = False,
    dropout: Dropout = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    batch_tokens: BatchTokens = None,
    learning_rate: LearningRate = None,
    warmup: Warmup = None,
    schedule: Schedule = None,
    weight_decay: WeightDecay = None,
    evaluate_every: EvaluateEvery = None,
    metric: Metric = None,
    patience: Patience = None,
    seed: Seed = 0,
    format: Annotated[
        Format | None, typer.Option(help="Of all files, where their names do not tell.")
    ] = None,
    columns: Columns = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    resume_step: ResumeStep = None,
    checkpoints: CheckpointsPath = None,
    save_every: SaveEvery = None,
    keep: Keep = None,
    mesh: MeshSizes = None,
    accumulate: Accumulate = None,
    remat: RematKind = None,
    scan: Scan = False,
    precision: TrainPrecision = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process: ProcessIndex = None,
    profile_steps: ProfileSteps = None,
    bad_steps: BadSteps = None,
    dry_run: DryRun = False,
) -> None:
    """Train a tokenizer and a masked language model from scratch on a corpus.

    It is `encodax train masked-lm` with a model of a published size: what it
    writes, `encodax train TASK --model OUT` begins from.

    Such as:

      encodax pretrain --corpus texts/ --preset mini --tokenizer-size 16000
      --steps 20000 --out runs/mini
    """
    choices = dict(locals())
    from encodax.training.pretrain import pretraining

    choices["vocabulary_size"] = choices.pop("tokenizer_size")
    choices["dropout_rate"] = choices.pop("dropout")
    choices["columns"] = _names(choices["columns"])
    _train("masked-lm", **pretraining(**choices))


def _train(task: str, *, dry_run: bool, **choices: Any) -> None:
    """Run a training job, and say at the end where everything is."""
    keep_freed_memory()
    try:
        from encodax import training
        from encodax.training import distributed
    except ImportError as error:
        raise EncodaxError(f"training needs {error.name}: pip install 'encodax[train]'") from error

    joined = {name: choices.pop(name, None) for name in ("coordinator", "processes", "process")}
    choices = {name: value for name, value in choices.items() if value is not False}
    with _output_to_errors():
        if choices.pop("distributed", False) or any(v is not None for v in joined.values()):
            distributed.join(joined["coordinator"], joined["processes"], joined["process"])
        if dry_run:
            tried = training.try_out(task, **choices)
        else:
            result = training.train(task, console=errors, **choices)
    if dry_run:
        errors.print(tried.table())
        print(json.dumps(tried.to_json()))
        return
    if not distributed.is_first():
        return
    assert result.out is not None
    _report_if_possible(result.out)
    errors.print(
        f"{result.steps} steps in {result.seconds:.0f} s, "
        f"{result.tokens_per_second:,.0f} tokens/s, {result.padding:.1%} padding",
        *(f"{what}: {place}" for what, place in result.places().items()),
        sep="\n",
        soft_wrap=True,
    )
    print(json.dumps({"model": str(result.out), "step": result.best_step, **result.metrics}))


def _report_if_possible(out: Path) -> None:
    """The page of a run; without it the model is there all the same."""
    try:
        _report(out)
    except EncodaxError as error:
        logging.getLogger("encodax").warning("no report: %s", error)


@contextmanager
def _output_to_errors() -> Iterator[None]:
    """Standard output is for the answer alone: what libraries write there goes beside it."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _widths(text: str | None) -> tuple[int, ...] | None:
    """`192,96` as numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise EncodaxError(f"widths {text!r}: wants numbers, such as 192,96") from None


@command()
def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory of a training run.")],
) -> None:
    """Make a page of a training run, OUT/report.html, also while it goes on.

    It shows the learning curve, the gradient, the speed, the evaluations, what was chosen and the
    machine; `encodax train` makes it at the end. The same curves for TensorBoard are in
    OUT/tensorboard.
    """
    print(_report(out))


def _report(out: Path) -> Path:
    try:
        from encodax.run_report import write_report
    except ImportError as error:
        raise EncodaxError(
            f"the report needs {error.name}: pip install 'encodax[report]'"
        ) from error
    return write_report(out)


_SEARCHING = "Searching (what the model's generation_config.json says, where it says it)"
_SAMPLING = "Drawing"
_LENGTHS = "Lengths and repetitions (what generation_config.json says, where it says it)"
Beams = Annotated[
    int | None,
    typer.Option(
        help="How many are searched; 1 is greedy.  \\[default: 4]",
        min=1,
        rich_help_panel=_SEARCHING,
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help="Beams are compared by log-probability / tokens^this.  \\[default: the paper's]",
        rich_help_panel=_SEARCHING,
    ),
]
EarlyStopping = Annotated[
    str | None,
    typer.Option(
        help="Stop once there are enough beams: true, false (none likely to be better), never.",
        rich_help_panel=_SEARCHING,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Longest translation.  \\[default: 50 more than the text]", rich_help_panel=_LENGTHS
    ),
]
MinTokens = Annotated[
    int | None,
    typer.Option(help="Shortest translation, its end not counted.", rich_help_panel=_LENGTHS),
]
NoRepeatNgram = Annotated[
    int | None,
    typer.Option(help="No so many tokens in a row come twice.", rich_help_panel=_LENGTHS),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        help="Above 1, tokens that are there become less likely.", rich_help_panel=_LENGTHS
    ),
]
Suppress = Annotated[
    list[int] | None,
    typer.Option(help="A token id that is never generated.", rich_help_panel=_LENGTHS),
]


def _early_stopping(value: str | None) -> bool | str | None:
    """The option as transformers has it; what is none of these is refused by name later."""
    words: dict[str | None, bool] = {"true": True, "false": False}
    return words.get(value, value)


@command()
def evaluate(
    model: ModelPath,
    data: Annotated[Path, typer.Option(help="Labelled examples, or - for standard input.")],
    target: Annotated[
        Path | None,
        typer.Option(help="Then --data has the sources, a line each, and this the translations."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="The code of the language, such as fra, of a model that has several."),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Of the data, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    aggregation: AggregationKind = None,
    tag_scheme: TagSchemeName = None,
    stride: Stride = None,
    max_answer_tokens: MaxAnswerTokens = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    early_stopping: EarlyStopping = None,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    no_repeat_ngram: NoRepeatNgram = None,
    repetition_penalty: RepetitionPenalty = None,
    suppress: Suppress = None,
    bleu_tokenizer: Annotated[
        str, typer.Option(help="How sacrebleu cuts texts; none where they are tokenized.")
    ] = "13a",
) -> None:
    """Measure a model on labelled examples: one JSON object.

    Examples:
      encodax evaluate runs/sentiment --data test.jsonl

      encodax evaluate runs/en-de --data test.en --target test.de
    """
    from encodax.data.aligned import Aligned
    from encodax.data.records import open_records
    from encodax.seq2seq_model import Seq2SeqModel
    from encodax.tasks import translation
    from encodax.tasks.decoding import DecodingOptions, decoding_of
    from encodax.tasks.task import load_any

    asked: DecodingOptions = {
        "aggregation": aggregation,
        "tag_scheme": tag_scheme,
        "stride": stride,
        "max_answer_tokens": max_answer_tokens,
    }
    if target is None:
        records: Any = open_records(str(data), columns=_names(columns), format=format)
    elif columns is None and format in (None, "txt"):
        records = Aligned(data, target)
    else:
        raise EncodaxError("--target is of two files of lines: leave out --columns and --format")
    loaded = load_any(model, revision=revision)
    if isinstance(loaded, Seq2SeqModel):
        from encodax.inference.translator import Translator

        decoding_of(translation, asked)  # it has none
        translator = Translator(loaded, precision=precision)
        found: dict[str, Any] = translator.evaluate(
            records,
            truncate=truncate,
            on_empty=on_empty,
            tokenize=bleu_tokenizer,
            beams=beams,
            length_penalty=length_penalty,
            early_stopping=_early_stopping(early_stopping),
            max_tokens=max_tokens,
            to=to,
            min_tokens=min_tokens,
            no_repeat_ngram_size=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            suppress_tokens=suppress,
        )
        print(json.dumps(found))
        return
    for name, given in (("--target", target), ("--to", to)):
        if given is not None:
            raise EncodaxError(f"{name} is for translation, and the model is no translator")
    from encodax.inference import evaluation

    found = evaluation.evaluate(
        loaded,
        records,
        truncate=truncate,
        precision=precision,
        on_empty=on_empty,
        **asked,
    )
    print(json.dumps(found))


@command()
def predict(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    output: Annotated[str, typer.Option(help="A file to write, or -.")] = "-",
    format: Annotated[
        Format | None, typer.Option(help="Of the input, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyTexts = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
    aggregation: AggregationKind = None,
    tag_scheme: TagSchemeName = None,
    stride: Stride = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Of question answering: how many answers, the next best under `alternatives`.  "
            "\\[default: 1]",
        ),
    ] = None,
    max_answer_tokens: MaxAnswerTokens = None,
) -> None:
    """Answer for each text: JSON Lines, a line an input, in order.

    Examples:
      encodax predict runs/sentiment "a wonderful film"

      cat texts.txt | encodax predict runs/sentiment --input - > answers.jsonl

      encodax predict runs/names --input reports.txt --stride 64

    A question-answering model takes records: {"question": ..., "context": ...}

      encodax predict runs/answers --input ask.jsonl --top-k 3

    Scores of classes are probabilities. A cross-encoder, of records {"query":
    ..., "text": ...}, scores as its files say; `encodax info` tells how.
    """
    from encodax.inference.predictors import Predictor
    from encodax.tasks import reranking, task_of_records
    from encodax.tasks.empty import NO_ANSWER, Empties

    _check_output(output, model, input)
    records = _records(texts, input, columns=columns, format=format)
    predictor: Predictor[Any] = Predictor.load(
        model,
        revision=revision,
        precision=precision,
        aggregation=aggregation,
        tag_scheme=tag_scheme,
        stride=stride,
        top_k=top_k,
        max_answer_tokens=max_answer_tokens,
    )
    task, records = task_of_records(predictor.model.config, records)
    _note_scores(predictor.model.config, is_cross_encoder=task.NAME == reranking.NAME)
    empties = Empties(on_empty)
    parse = functools.partial(task.parse, labelled=False)
    examples = empties.parsed(parse, records, task.FIELDS)
    with sources.open_output(output) as stream:
        live = _live(texts, input, max_wait, stream.flush)
        answers = predictor.answers(examples, truncate=truncate, empties=empties, live=live)
        for example, answer in counted(answers, shown=None if input else False):
            text = (example.text,) if isinstance(example.text, str) else example.text
            fields = dict(zip(task.FIELDS, text, strict=False))
            told = NO_ANSWER[task.NAME] if answer is None else task.to_json(answer)
            stream.write(_line({**fields, **told}))


@command()
def embed(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    output: Annotated[
        str, typer.Option(help="vectors.npy, .parquet or .jsonl to write; - for JSON Lines.")
    ] = "-",
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt that goes before each text.")
    ] = None,
    vector_type: Annotated[
        VectorType,
        typer.Option("--vectors", help="Numbers to write; int8 or binary take fewer bytes."),
    ] = "float32",
    ranges: Annotated[
        Path | None,
        typer.Option(help="Of int8: the file of ranges that a corpus and its queries share."),
    ] = None,
    save_ranges: Annotated[
        Path | None,
        typer.Option(help="Write the ranges of these vectors, for --ranges of int8."),
    ] = None,
    precision: Precision = None,
    format: Annotated[
        Format | None, typer.Option(help="Of the input, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            "--on-empty",
            help="Empty texts: refuse them, leave them out, or keep their places: rows of zeros.",
        ),
    ] = "error",
    max_wait: MaxWait = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Turn each text into a vector.

    Examples:
      encodax embed sentence-transformers/all-MiniLM-L6-v2 "a text" "another"

      encodax embed MODEL --input texts.txt --output vectors.npy

    int8 wants the ranges of a corpus, or of a sample of it. Give the same ones
    for the corpus and for its queries:

      encodax embed MODEL --input texts.txt --output v.npy --save-ranges r.json

      encodax embed MODEL "a query" --vectors int8 --ranges r.json
    """
    import numpy as np

    from encodax import overlap
    from encodax.inference import vector_files, vectors
    from encodax.inference.embedder import Embedder
    from encodax.tasks.empty import Empties

    vector_files.kind_of(output)
    if ranges is not None and save_ranges is not None:
        raise EncodaxError("give --ranges or --save-ranges, not both: what is read is not made")
    _check_output(output, model, input)
    if save_ranges is not None:
        _check_output(str(save_ranges), model, input, option="--save-ranges")
    overlap.check_apart({"--output": output, "--save-ranges": save_ranges}, {"--ranges": ranges})
    stored = vectors.storage(vector_type, None if ranges is None else vectors.read_ranges(ranges))
    empties = Empties(on_empty)
    examples = _examples_of(_records(texts, input, columns=columns, format=format), empties)
    embedder = Embedder.load(model, revision=revision, precision=precision)
    before = embedder.model.config.usage.prompt(prompt)
    none = stored(np.zeros((0, embedder.width), np.float32))
    seen = vectors.SeenRanges(embedder.width)
    live = _live(texts, input, max_wait, sys.stdout.flush) if output == "-" else None
    answers = embedder.answers(examples, before, truncate=truncate, empties=empties, live=live)
    with vector_files.opened(output, none.shape[1], none.dtype) as file:
        for example, vector in counted(answers, shown=None if input else False):
            seen.add(vector)
            file.write(example.parts[0], stored(vector[None])[0])
    if save_ranges is not None:
        seen.save(save_ranges)


@command("embed-corpus")
def embed_corpus(
    model: ModelPath,
    input: Annotated[
        str, typer.Option(help="A folder, a glob or a file (.parquet), or a URI of such.")
    ],
    output: Annotated[str, typer.Option(help="Folder to write, or to go on with; or its URI.")],
    column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    actors: Annotated[
        int | None,
        typer.Option(
            help="How many embed at a time.  \\[default: one a GPU, or one a machine without any]"
        ),
    ] = None,
    partition_rows: Annotated[int, typer.Option(help="Rows of an output file.")] = 65_536,
    on_empty: Annotated[
        Literal["error", "keep"],
        typer.Option(
            "--on-empty", help="Empty texts and nulls: refuse them, or give them vectors of zeros."
        ),
    ] = "error",
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Name of the model's prompt that goes before each text.  "
            "\\[default: that of documents]"
        ),
    ] = None,
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Give each row of Parquet files a vector, on all devices of a Ray cluster.

    Without a cluster (RAY_ADDRESS) it runs on this machine. What was stopped
    goes on where it was: the same command writes the files that are missing,
    and anew those whose input rows have changed. Another model or other
    choices are refused, and so is an output with vectors of rows that the
    input has no more: it names them.

    Example: encodax embed-corpus MODEL --input texts/ --output vectors/
    """
    from dataclasses import asdict

    from encodax.inference import corpus

    with redirect_stdout(sys.stderr):  # where Ray tells of actors that it starts again
        result = corpus.embed_corpus(
            model,
            input,
            output,
            column=column,
            actors=actors,
            prompt=prompt,
            truncate=truncate,
            revision=revision,
            precision=precision,
            partition_rows=partition_rows,
            on_empty=on_empty,
        )
    sys.stdout.write(_line({"output": output, **asdict(result)}))


@command()
def translate(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    output: Annotated[str, typer.Option(help="A file to write, or -.")] = "-",
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    early_stopping: EarlyStopping = None,
    n_best: Annotated[
        int | None,
        typer.Option(
            help="Translations of each text (with --json): the best ones first, no more than there "
            "are beams; or with --sample, so many draws.",
            min=1,
            rich_help_panel=_SEARCHING,
        ),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw tokens instead.", rich_help_panel=_SAMPLING)
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Divides the scores.", rich_help_panel=_SAMPLING)
    ] = None,
    sample_top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", help="Draw from so many, the most probable.", rich_help_panel=_SAMPLING
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw from the fewest whose probabilities reach this.", rich_help_panel=_SAMPLING
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Draw from those with this share of the largest probability.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    typical_p: Annotated[
        float | None,
        typer.Option(
            help="Draw from those nearest to the entropy that reach this.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", rich_help_panel=_SAMPLING)] = 0,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    no_repeat_ngram: NoRepeatNgram = None,
    repetition_penalty: RepetitionPenalty = None,
    suppress: Suppress = None,
    to: Annotated[
        str | None,
        typer.Option(help="The code of the language, such as fra, of a model that has several."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON Lines with scores, instead of lines of text.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Texts translated together.", min=1)] = 32,
    format: Annotated[
        Format | None, typer.Option(help="Of the input, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            "--on-empty",
            help="Empty texts: refuse them, leave them out, or keep their lines: empty ones.",
        ),
    ] = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
) -> None:
    """Translate texts, or whatever else the model makes of a text: a line an input, in order.

    Examples:
      encodax translate runs/en-de "two men are running"

      cat texts.txt | encodax translate runs/en-de --input - > translated.txt

      encodax translate runs/en-de --input texts.txt --n-best 4 --json

      encodax translate runs/en-de "two men" --sample --n-best 3 --json

    Records have a "source" or a "text".
    """
    from encodax.inference.translator import Translator
    from encodax.tasks import translation
    from encodax.tasks.empty import Empties

    if (n_best or 1) > 1 and not as_json:
        raise EncodaxError("--n-best goes with --json, as lines of text hold one each")
    drawn: dict[str, Any] = {
        "temperature": temperature,
        "top_k": sample_top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
    }
    given = {name: value for name, value in drawn.items() if value is not None}
    if given and not sample:
        raise EncodaxError(
            "--temperature, --top-k, --top-p, --min-p and --typical-p go with --sample"
        )
    _check_output(output, model, input)
    records = _records(texts, input, columns=columns, format=format)
    empties = Empties(on_empty)
    sources_of = empties.parsed(translation.source_of, records, ("source", "text"))
    translator = Translator.load(
        model, revision=revision, precision=precision, batch_size=batch_size
    )
    manner = translator.manner(
        beams=beams,
        length_penalty=length_penalty,
        early_stopping=_early_stopping(early_stopping),
        n_best=n_best if as_json else 1,
        sampling=dataclasses.replace(translator.model.generates_by.sampling, **given)
        if sample
        else None,
        seed=seed,
        max_tokens=max_tokens,
        to=to,
        min_tokens=min_tokens,
        no_repeat_ngram_size=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        suppress_tokens=suppress,
    )
    with sources.open_output(output) as stream:
        live = _live(texts, input, max_wait, stream.flush)
        answers = translator.answers(
            sources_of, manner, truncate=truncate, empties=empties, live=live
        )
        for example, answer in counted(answers, shown=None if input else False):
            if as_json:
                stream.write(_line({"source": example.text, **answer.to_json()}))
            else:
                stream.write(" ".join(answer.text.splitlines()) + "\n")


@command("fill-mask")
def fill_mask(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    top_k: TopK = 5,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="A word to choose from, one token of the vocabulary; give it several times. "
            "With RoBERTa's kin ' word' is the one after a space."
        ),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Of the input, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
) -> None:
    """Guess what stands under the mask: JSON Lines, a line a mask, the best guesses first.

    The mask is the token of the model's vocabulary, such as [MASK] (BERT) or <mask> (RoBERTa).

    Example: encodax fill-mask google-bert/bert-base-uncased "Paris is the [MASK] of France."
    """
    from dataclasses import asdict

    from encodax.inference.fill_mask import FillMask
    from encodax.tasks.empty import IN_DATA, Empties

    empties = Empties(on_empty, IN_DATA)
    found = _examples_of(_records(texts, input, columns=columns, format=format), empties)
    filler = FillMask.load(
        model, top_k=top_k, targets=target or (), revision=revision, precision=precision
    )
    live = _live(texts, input, max_wait, sys.stdout.flush)
    for example, masks in filler.answers(found, truncate=truncate, empties=empties, live=live):
        for number, guesses in enumerate(masks):
            line = {"text": example.text, "mask": number}
            sys.stdout.write(_line({**line, "guesses": [asdict(guess) for guess in guesses]}))


@command()
def search(
    model: ModelPath,
    queries: Annotated[list[str], typer.Argument(metavar="QUERY")],
    corpus: Annotated[
        str, typer.Option(help="A file of texts (JSON, CSV, TSV, Parquet, .txt; BEIR), or -.")
    ],
    top_k: TopK = 5,
    format: Annotated[
        Format | None, typer.Option(help="Of the corpus, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Find the texts of a corpus that are most similar to each query: JSON Lines, best first.

    Of a corpus as BEIR has it a text is its title and its text, and answers
    have its _id.

    Example: encodax search MODEL --corpus texts.txt "how do I mend a tyre"
    """
    from encodax.inference.embedder import Embedder
    from encodax.inference.vectors import searched
    from encodax.tasks.embedding import Document
    from encodax.tasks.empty import IN_DATA, Empties

    empties = Empties(on_empty, IN_DATA)
    examples = _examples_of(_records(None, corpus, columns=columns, format=format), empties)
    embedder = Embedder.load(model, revision=revision, precision=precision)
    queried, before = embedder.prompt_of("query"), embedder.prompt_of("document")
    nearest = embedder.nearest(queries, top_k=top_k, truncate=truncate)
    answers = embedder.answers(examples, before, truncate=truncate, empties=empties)
    kept = searched(answers, nearest)  # the texts of hits alone
    if not kept:
        raise EncodaxError(f"{formats.name_of(corpus)}: there is no text to search")
    for prompt, of_what in ((queried, "each query"), (before, "each text of the corpus")):
        if prompt:
            logging.getLogger("encodax").warning(
                "%r goes before %s, as the model has it", prompt, of_what
            )
    for query, hits in zip(queries, nearest.hits(), strict=True):
        for hit in hits:
            example = kept[hit.index]
            line = {"query": query, "score": hit.score, "index": example.target}
            if isinstance(example, Document) and example.id is not None:
                line["_id"] = example.id
            sys.stdout.write(_line({**line, "text": example.text}))


@command()
def rerank(
    model: ModelPath,
    query: Annotated[str, typer.Argument(metavar="QUERY")],
    input: TextInput = "-",
    top_k: Annotated[int | None, typer.Option(help="How many to give; all.", min=1)] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt that goes before the query.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Of the input, where its name does not tell.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Order texts by how well they answer a query, by a cross-encoder: JSON Lines, best first.

    Example: encodax rerank cross-encoder/ms-marco-MiniLM-L6-v2 "a question" --input texts.txt
    """
    from array import array

    import numpy as np

    from encodax.data.records import open_records
    from encodax.inference.predictors import Reranker
    from encodax.tasks.empty import IN_DATA, Empties
    from encodax.tasks.task import text_of

    records = open_records(input or "-", columns=_names(columns), format=format)
    empties = Empties(on_empty, IN_DATA)
    examples = _examples_of(records, empties)
    reranker = Reranker.load(model, revision=revision, precision=precision)
    _note_scores(reranker.model.config, is_cross_encoder=True)
    numbers, scores = array("q"), array("d")  # texts are read again, so that none is held
    for example, score in reranker.answers(
        query, examples, prompt=prompt, truncate=truncate, empties=empties
    ):
        numbers.append(example.target)
        scores.append(score)
    for place in map(int, np.argsort(-np.asarray(scores), kind="stable")[:top_k]):
        index = numbers[place]
        line = {"query": query, "score": scores[place], "index": index}
        sys.stdout.write(_line({**line, "text": text_of(records[index])}))


@command()
def explore(
    model: ModelPath,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, or - to read it.")],
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT_PAIR",
            help="The other text of a pair: a context, a text to compare with, a translation.",
        ),
    ] = None,
    output: Annotated[str, typer.Option(help="The page to write, or -.")] = "explorer.html",
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    steps: Annotated[
        int,
        typer.Option(
            help="Points of the integral in attributions: more is closer, and slower; 0 for none.",
            min=0,
        ),
    ] = 16,
    top_k: TopK = 5,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Look inside a model: a page, in one file, with what it does with a text.

    Attention of every layer and head as maps and as lines between words, its mean and rollout; what
    each token has to do with the answer; the length of states; what each layer would fill a mask
    with; of a translation, which words it comes from.

    Examples:
      encodax explore sentence-transformers/all-MiniLM-L6-v2 "a cat" "a kitten" --open

      encodax explore runs/sentiment "a wonderful film" --output film.html

      encodax explore runs/en-de "two men are running"
    """
    if open_ and output == "-":
        raise EncodaxError("--open wants a file to show: --output page.html")
    _check_output(output, model)
    if text == "-":
        text = _whole_input()
    from encodax.inference.inspector import Inspector

    try:
        from encodax.explore import explorer
    except ImportError as error:
        raise EncodaxError(f"the page needs {error.name}: pip install 'encodax[report]'") from error
    with sources.open_output(output) as stream, errors.status("Looking inside the model"):
        inspector = Inspector.load(model, revision=revision, steps=steps, top_k=top_k)
        inspection = inspector.inspect(text, second, truncate=truncate)
        stream.write(explorer.render(inspection, model=model.rstrip("/").rpartition("/")[2]))
    if output != "-":
        print(output)
    if open_:
        webbrowser.open(Path(output).resolve().as_uri())


def _whole_input() -> str:
    """Standard input as one text."""
    text = ""
    with sources.opened("-") as content:
        for line in formats.utf8_lines(content, formats.name_of("-")):
            text += line.replace("\r\n", "\n")
            if len(text) > LONGEST_READ:
                break
    text = text.rstrip("\n")
    if len(text) > LONGEST_READ:
        raise EncodaxError(
            f"standard input has more than {LONGEST_READ:,} characters: give a part of it"
        )
    return text


@command()
def info(
    model: ModelPath,
    revision: Revision = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Instead: each key of the model's JSON files, and what became of it.",
        ),
    ] = False,
) -> None:
    """A table of a model's modules, with their shapes, parameters and bytes.

    Below it stand the labels, and what their scores are: logits, or what these
    go through.

    With --files, a table of the keys of its JSON files: those that were used,
    and those that change no answer, with the reason. A key that is neither is
    refused when the model is loaded, by its name.

    Example:
      encodax info my-model --files
    """
    from encodax.inference.scores import described
    from encodax.model import Model
    from encodax.tasks.task import load_any

    loaded = load_any(model, revision=revision)
    if files:
        _print_files(loaded.files)
        return
    modules = table("module", "leaf", "shape", "parameters", "bytes", numbers=3)
    for path, leaves in loaded.params.items():
        for leaf, array in leaves.items():
            shape = " x ".join(map(str, array.shape))
            modules.add_row(path, leaf, shape, f"{array.size:,}", f"{array.nbytes:,}")
    modules.add_section()
    size = sum(array.nbytes for leaves in loaded.params.values() for array in leaves.values())
    modules.add_row("in all", "", "", f"{loaded.parameter_count():,}", f"{size:,}")
    console = _for_tables(width=120)
    console.print(modules)
    if loaded.labels:
        console.print("labels: " + ", ".join(loaded.labels), soft_wrap=True)
    if isinstance(loaded, Model) and (scores := described(loaded.config)):
        console.print(f"scores: {scores}", soft_wrap=True, highlight=False, markup=False)


def _for_tables(width: int) -> Terminal:
    """Standard output: as wide as the terminal, or as is said where there is none."""
    return Terminal() if sys.stdout.isatty() else Terminal(width=width)


def _print_files(files: ModelFiles) -> None:
    """A table of the keys of JSON files: those that were used, then those that are kept."""
    told = table("file", "key", "value", "what became of it")
    for name, keys in files.items():
        rows = [(key, "", "used") for key in sorted(keys.used)]
        rows += [
            (key, shown(keys.kept[key]), f"harmless: {keys.reasons[key]}") for key in keys.kept
        ]
        for key, value, fate in rows:
            told.add_row(name, key, value, fate)
        told.add_section()
    _for_tables(width=160).print(told)


@command()
def plan(
    preset: Annotated[
        str | None, typer.Option(help="Size of a new model: tiny, mini, small, base.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Or a model (directory or id); its weights are not read.")
    ] = None,
    task: Annotated[str, typer.Option(help="What would be trained.")] = "masked-lm",
    mesh: Annotated[str, typer.Option(help="Devices, such as data=64,fsdp=8.")] = "data=1",
    batch_tokens: Annotated[int, typer.Option(help="Of a step, on all devices.")] = 16_384,
    row_tokens: Annotated[int, typer.Option(help="Of a row.")] = 512,
    accumulate: Annotated[int, typer.Option(help="Micro-batches of a step.")] = 1,
    remat: Annotated[
        str, typer.Option(help="What is computed again, to hold less: none, dots, full.")
    ] = "none",
    scan: Annotated[bool, typer.Option("--scan", help="Compile one layer for all.")] = False,
    precision: Annotated[str, typer.Option(help="Of products: float32, bfloat16.")] = "float32",
    peak_tflops: Annotated[
        float | None, typer.Option(help="TFLOP/s of a device; gives the time of a step.")
    ] = None,
    bandwidth_gbs: Annotated[
        float | None, typer.Option(help="GB/s that a device can send; needed where it sends.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of the peak that is reached; 1 for the shortest time.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Say what each device would hold, compute and send in a training step.

    Nothing is trained or allocated: the step is compiled for simulated
    devices, and may be one of a model that this machine cannot hold.

    Example:
      encodax plan --preset base --mesh data=64,fsdp=8 --batch-tokens 1048576
    """
    from dataclasses import asdict
    from math import inf, prod

    from encodax import hub, saved_model
    from encodax.tasks import task_named
    from encodax.training import planning
    from encodax.training.planning_table import table_of
    from encodax.training.presets import PRESETS
    from encodax.training.settings import NewModel, TrainSettings
    from encodax.training.sharding import parse_mesh

    if (preset is None) == (model is None):
        raise EncodaxError("give --preset or --model, one of them")
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
    planning.simulate_devices(prod(parse_mesh(mesh).values()))
    if preset is not None:
        config = planning.new_config(NewModel(**PRESETS[preset]), chosen)
    else:
        directory = hub.directory_of(model or "", files=("*.json",))
        config = planning.with_head(saved_model.read_config(directory), chosen)
    found = planning.plan_step(config, chosen, settings, row_tokens=row_tokens)
    expected = None
    if peak_tflops is not None and (bandwidth_gbs is not None or not found.sent_bytes):
        bandwidth = inf if bandwidth_gbs is None else bandwidth_gbs * 1e9
        expected = found.expected(peak_tflops * 1e12, bandwidth, share)
    if as_json:
        times = None if expected is None else asdict(expected)
        sys.stdout.write(_line({**found.to_json(), "expected_seconds": times}))
        return
    _for_tables(width=100).print(table_of(found, expected))


def _check_output(
    output: str, model: str, input: str | None = None, *, option: str = "--output"
) -> None:
    """Refuse, before any work, an output that cannot be written, or would replace what is read."""
    from encodax import overlap, saved_model

    sources.check_output(output)
    overlap.check_apart({option: output}, {"--input": input})
    if output != "-" and saved_model.is_of_model(Path(output), Path(model)):
        raise EncodaxError(f"{option} {output} is a file of the model: write to another place")


def _names(columns: str | None) -> list[str] | dict[str, str] | None:
    """`text,label`, the columns in order; or `text=content,label=stars`, fields by other names."""
    if columns is None:
        return None
    pairs = [[name.strip() for name in part.split("=", 1)] for part in columns.split(",")]
    if all(len(pair) == 1 for pair in pairs):
        return [name for (name,) in pairs]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise EncodaxError(
            f"columns {columns!r}: wants the names of all columns, such as text,label, or fields "
            "with the names that they have there, such as text=content,label=stars"
        )
    return dict(pairs)


def _records(
    texts: list[str] | None,
    input: str | None,
    *,
    columns: str | None = None,
    format: str | None = None,
) -> Iterator[sources.Record]:
    """The texts given on the command line, or those of a file or of standard input."""
    if texts and input:
        raise EncodaxError("give texts or --input, not both")
    if texts:
        return sources.records_of(({"text": text} for text in texts), name="text")
    if input is None and sys.stdin is not None and sys.stdin.isatty():
        raise EncodaxError("nothing to read: give texts, or --input FILE, or --input -")
    return sources.read(input or "-", columns=_names(columns), format=format)


def _live(
    texts: list[str] | None,
    input: str | None,
    max_wait: float | None,
    flush: Callable[[], object],
) -> Live | None:
    """How texts are read that come in their own time, and what is done when there are none.

    It is None where all are there: what is answered together is then always the same.
    """
    from encodax.data.stream import MAX_WAIT, Live

    if texts or not formats.is_live(input or "-"):
        return None
    return Live(MAX_WAIT if max_wait is None else max_wait, flush)


def _examples_of(records: Iterable[sources.Record], empties: Empties) -> Iterator[Example]:
    """The text of each record, checked, with the record's number from 0 as the target."""
    from encodax.tasks.embedding import document_of

    for number, example in enumerate(empties.parsed(document_of, records, ("text",))):
        yield replace(example, target=number)


def _note_scores(config: ModelConfig, *, is_cross_encoder: bool) -> None:
    """Say where sentence-transformers would give other scores."""
    from encodax.inference.scores import difference

    if told := difference(config, is_cross_encoder=is_cross_encoder):
        logging.getLogger("encodax").warning("scores: %s", told)


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


class _Notes(logging.Handler):
    """Shows what the library has to say, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.print(f"note: {record.getMessage()}", highlight=False, markup=False, soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **how: Any) -> None:
    """A warning of a library, in a line, without the place in its code."""
    errors.print(f"warning: {message}", soft_wrap=True)


STOPPED = tuple(map(signals.exit_code, (signal.SIGINT, *signals.ENDING)))
"""Exit codes of a command that a signal has ended."""


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        _run()
    except (BrokenPipeError, SystemExit) as end:  # Typer and rich make the one into the other
        if not isinstance(end, BrokenPipeError) and not isinstance(
            end.__context__, BrokenPipeError
        ):
            if end.code in STOPPED:
                signals.end(end.code)
            raise
        _forget_output()  # the reader has seen enough, as `head` does
        sys.exit(141)


@contextmanager
def _notes_shown() -> Iterator[None]:
    """Print notes and warnings of the library, and restore how the process showed them."""
    logger, notes, show = logging.getLogger("encodax"), _Notes(), warnings.showwarning
    logger.addHandler(notes)
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = show
        logger.removeHandler(notes)


@_notes_shown()
def _run() -> None:
    # What Orbax logs, it raises too: a line of our own says it.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        try:
            _open_streams()
            with terminable():
                app()
        finally:
            sys.stdout.flush()  # here, where what it raises is caught
    except BrokenPipeError:
        raise
    except (EncodaxError, OSError) as error:
        code = getattr(error, "EXIT_CODE", 2)
        line = "; ".join([f"error: {error}", *_notes_of(error)]).replace("\n", " ")
        errors.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
        try:
            sys.stdout.flush()
        except OSError:  # the disk that standard output goes to is full
            _forget_output()
        sys.exit(code)
    except (KeyboardInterrupt, SystemExit) as end:
        interrupt = _interrupt_behind(end)
        if interrupt is None:
            raise
        for note in _notes_of(interrupt):
            logging.getLogger("encodax").warning("%s", note)
        if isinstance(interrupt, Terminated):
            errors.print(f"error: {interrupt}", style="red", highlight=False)
        number = interrupt.signal if isinstance(interrupt, Terminated) else signal.SIGINT
        sys.exit(signals.exit_code(number))


def _open_streams() -> None:
    """Have all three standard streams; what is written is UTF-8, whatever the locale.

    Half a character, as JSON and names of files may hold, is written as its escape.

    Raises:
        EncodaxError: standard output is closed.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # or the next file that is opened would have the number of one that is closed
    os.close(number)
    is_closed = sys.stdout is None
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if is_closed:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    shown = sys.__stderr__  # not a stream that stands in for it, as a test's
    if shown is not None and shown is sys.stderr and shown.isatty():
        raw = io.BufferedWriter(Screen(shown.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, shown.encoding, line_buffering=True)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if is_closed:
        raise EncodaxError("standard output is closed; send it to a file, or to /dev/null")


def _interrupt_behind(end: BaseException | None) -> KeyboardInterrupt | None:
    """Ctrl-C, of which Typer makes an exit."""
    return next((each for each in signals.causes(end) if isinstance(each, KeyboardInterrupt)), None)


def _notes_of(error: BaseException) -> list[str]:
    """What was added to an error on its way: what is kept of the work."""
    return list(getattr(error, "__notes__", ()))


def _forget_output() -> None:
    """Let nobody try to write again what could not be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    main()
