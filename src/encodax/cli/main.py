"""Command line: a thin layer over the functions of the Python interface.

Answers go to standard output, everything else to standard error, so that output can be piped. An
error that the user can correct is one line, with exit code 2.
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

from encodax import __version__
from encodax.cli.options import PRETRAINING, with_fields
from encodax.data import formats, sources
from encodax.errors import EncodaxError, escape_invisible
from encodax.inference.progress import with_progress
from encodax.options.loss import LossOptions
from encodax.options.training import NewModel, RunOptions, TrainSettings
from encodax.process import signals
from encodax.process.host_memory import keep_freed_memory
from encodax.process.signals import Terminated, terminable
from encodax.process.terminal import Screen, Terminal, table
from encodax.storage.json_files import ModelFiles, shown

if TYPE_CHECKING:
    from encodax.config import ModelConfig
    from encodax.data.stream import Live
    from encodax.tasks.empty import EmptyTextRule
    from encodax.tasks.task import Example

# JAX is imported inside the commands, so that `encodax --help` does not wait for it.


class _Commands(TyperGroup):
    """Group of the commands, whose errors about arguments are printed as plain text."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _plain_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, context: Any) -> Any:
        with _plain_errors():
            return super().invoke(context)


class _Command(TyperCommand):
    """Command that refuses empty values: an empty path would mean the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.get_params(ctx):
            name, value = parameter.opts[0], given.get(parameter.name or "")
            if parameter.param_type_name == "argument":
                name = getattr(parameter, "metavar", None) or name
                if name not in ("MODEL", "OUT"):  # a text; its errors name it by its number
                    continue
            if "" in (value if isinstance(value, list) else [value]):
                raise EncodaxError(
                    f"{name} is empty: give it a value (is a variable of the shell not set?)"
                )
        return super().parse_args(ctx, args)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Make errors of click plain text: they quote the user's input, which may contain anything."""
    try:
        yield
    except Exception as error:
        if isinstance(told := getattr(error, "message", None), str):
            error.message = escape_invisible(told)  # type: ignore[attr-defined]
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
"""Most characters that `explore` reads from standard input."""

ModelPath = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model directory, or the id of a model on the Hub."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the Hub.")]
TextInput = Annotated[
    str | None,
    typer.Option("--input", help="File of texts (JSON, CSV, TSV, Parquet, .txt), or -."),
]
TopK = Annotated[int, typer.Option(help="Number of results.", min=1)]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Names of all columns of a table without a header: text,label; or, for any "
        "file, fields with their names in it: text=content,label=stars"
    ),
]
Truncate = Annotated[
    bool, typer.Option("--truncate", help="Cut texts that are longer than the model takes.")
]
AggregationKind = Annotated[
    Literal["none", "simple", "first", "average", "max"] | None,
    typer.Option(
        "--aggregation",
        help="Taggers: the unit with one tag, a token (none, simple) or a word (first, average, "
        "max).  \\[default: simple; for parts of speech each word]",
    ),
]
TagSchemeName = Annotated[
    Literal["iob", "iobes", "bilou", "bmes", "io", "none"] | None,
    typer.Option(
        "--tag-scheme",
        help="Taggers: scheme of labels and tags; none for a label of each word.  "
        "\\[default: inferred]",
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        help="Taggers: read texts longer than the model takes in windows that overlap by this many "
        "tokens, such as 64; spans across windows are kept whole.  \\[default: refuse them]",
    ),
]
MaxAnswerTokens = Annotated[
    int | None,
    typer.Option(
        help="Question answering: most tokens of an answer.  \\[default: 30]",
    ),
]
EmptyTexts = Annotated[
    Literal["error", "skip", "keep"],
    typer.Option(
        "--on-empty",
        help="Empty texts: refuse them, leave them out, or keep them with null answers.",
    ),
]
EmptyInputs = Annotated[
    Literal["error", "skip"],
    typer.Option("--on-empty", help="Empty texts: refuse them, or leave them out."),
]
MaxWait = Annotated[
    float | None,
    typer.Option(
        help="Longest wait of a text from a pipe for others in its batch, in seconds.  "
        "\\[default: 0.1]",
        min=0,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Format = Literal["jsonl", "csv", "tsv", "txt", "conll", "conllu", "json", "parquet"]
VectorType = Literal["float32", "int8", "binary"]
Precision = Annotated[
    Literal["float32", "bfloat16", "int8"] | None,
    typer.Option(
        help="Number format of products: fewer bits are faster, and less exact.  "
        "\\[default: float32 on CPU]"
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
    seed: Annotated[int, typer.Option(help="Random seed of dates, parameters and order.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Run the demo: train an encoder to read dates, then answer questions with published weights.

    Act one trains an encoder from scratch on dates in 68 languages, and compares it with
    dateparser. Act two finds answers in Python's own help with all-MiniLM-L6-v2. Together they
    take a few minutes on two cores. Writes OUT/model, OUT/summary.json, OUT/passages.jsonl and
    OUT/report.html, a page with the learning curve, the accuracy for each language, attention maps,
    and the answers.
    """
    keep_freed_memory()
    try:
        from encodax.demo.run import run_demo
    except ImportError as error:
        raise EncodaxError(f"the demo needs {error.name}: pip install 'encodax[demo]'") from error

    run_demo(out, seed=seed, overwrite=overwrite, console=Terminal())


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
        model=model, teacher=teacher, format=format, columns=_names(columns), on_empty=on_empty,
        overwrite=overwrite, **choices,
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
            format=format, columns=_names(columns), overwrite=overwrite, **choices,
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
        raise EncodaxError(f"widths {text!r}: wants numbers, such as 192,96") from None


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


_SEARCHING = "Searching (what the model's generation_config.json says, where it says it)"
_SAMPLING = "Drawing"
_LENGTHS = "Lengths and repetitions (what generation_config.json says, where it says it)"
Beams = Annotated[
    int | None,
    typer.Option(
        help="Number of beams; 1 is greedy search.  \\[default: 4]",
        min=1,
        rich_help_panel=_SEARCHING,
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help="Beam score: log-probability / tokens^penalty.  \\[default: the paper's]",
        rich_help_panel=_SEARCHING,
    ),
]
EarlyStopping = Annotated[
    str | None,
    typer.Option(
        help="When to stop: true (enough beams have ended), false (none better is likely), never.",
        rich_help_panel=_SEARCHING,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of a translation.  \\[default: 50 more than the text]",
        rich_help_panel=_LENGTHS,
    ),
]
MinTokens = Annotated[
    int | None,
    typer.Option(help="Least tokens of a translation, without the end.", rich_help_panel=_LENGTHS),
]
NoRepeatNgram = Annotated[
    int | None,
    typer.Option(help="Size of the n-grams that may not occur twice.", rich_help_panel=_LENGTHS),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        help="Above 1, tokens that have occurred become less likely.", rich_help_panel=_LENGTHS
    ),
]
Suppress = Annotated[
    list[int] | None,
    typer.Option(
        help="Token id that is never generated; may be repeated.", rich_help_panel=_LENGTHS
    ),
]


def _early_stopping(value: str | None) -> bool | str | None:
    """Convert the option to what transformers takes; invalid values are refused later by name."""
    words: dict[str | None, bool] = {"true": True, "false": False}
    return words.get(value, value)


@command()
def evaluate(
    model: ModelPath,
    data: Annotated[Path, typer.Option(help="Labelled examples, or - for standard input.")],
    target: Annotated[
        Path | None,
        typer.Option(help="File of translations, one a line, for --data with the sources."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Code of the target language, such as fra, for a model with several."),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Format of the data, if its name does not show it.")
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
        str, typer.Option(help="Tokenizer of sacrebleu; none for tokenized texts.")
    ] = "13a",
) -> None:
    """Measure a model on labelled examples; print one JSON object.

    Examples:
      encodax evaluate runs/sentiment --data test.jsonl

      encodax evaluate runs/en-de --data test.en --target test.de
    """
    from encodax.data.aligned import Aligned
    from encodax.data.records import open_records
    from encodax.models.seq2seq_model import Seq2SeqModel
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

        decoding_of(translation, asked)  # refuses options: translation has none
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
    output: Annotated[str, typer.Option(help="File to write, or -.")] = "-",
    format: Annotated[
        Format | None, typer.Option(help="Format of the input, if its name does not show it.")
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
            help="Question answering: number of answers, the next best under `alternatives`.  "
            "\\[default: 1]",
        ),
    ] = None,
    max_answer_tokens: MaxAnswerTokens = None,
) -> None:
    """Print the answer to each text: JSON Lines, one line for each input, in order.

    Examples:
      encodax predict runs/sentiment "a wonderful film"

      cat texts.txt | encodax predict runs/sentiment --input - > answers.jsonl

      encodax predict runs/names --input reports.txt --stride 64

    A question-answering model takes records: {"question": ..., "context": ...}

      encodax predict runs/answers --input ask.jsonl --top-k 3

    Class scores are probabilities. A cross-encoder takes records {"query": ...,
    "text": ...}; its files define its scores: see `encodax info`.
    """
    from encodax.inference.predictors import Predictor
    from encodax.tasks import reranking, task_of_records
    from encodax.tasks.empty import NO_ANSWER, EmptyTextRule

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
    empties = EmptyTextRule(on_empty)
    parse = functools.partial(task.parse, labelled=False)
    examples = empties.parsed(parse, records, task.FIELDS)
    with sources.open_output(output) as stream:
        live = _live(texts, input, max_wait, stream.flush)
        answers = predictor.answers(examples, truncate=truncate, empties=empties, live=live)
        for example, answer in with_progress(answers, shown=None if input else False):
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
        str, typer.Option(help="File to write (.npy, .parquet, .jsonl); - for JSON Lines.")
    ] = "-",
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt to put before each text.")
    ] = None,
    vector_type: Annotated[
        VectorType,
        typer.Option(
            "--vectors", help="Number format of the vectors; int8 and binary take fewer bytes."
        ),
    ] = "float32",
    ranges: Annotated[
        Path | None,
        typer.Option(help="File of ranges for int8, the same for a corpus and its queries."),
    ] = None,
    save_ranges: Annotated[
        Path | None,
        typer.Option(help="File to write the ranges of these vectors to, for --ranges."),
    ] = None,
    precision: Precision = None,
    format: Annotated[
        Format | None, typer.Option(help="Format of the input, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            "--on-empty",
            help="Empty texts: refuse them, leave them out, or keep them as rows of zeros.",
        ),
    ] = "error",
    max_wait: MaxWait = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Convert each text to a vector.

    Examples:
      encodax embed sentence-transformers/all-MiniLM-L6-v2 "a text" "another"

      encodax embed MODEL --input texts.txt --output vectors.npy

    int8 needs the ranges of a corpus, or of a sample of it. Use the same ranges
    for the corpus and for its queries:

      encodax embed MODEL --input texts.txt --output v.npy --save-ranges r.json

      encodax embed MODEL "a query" --vectors int8 --ranges r.json
    """
    import numpy as np

    from encodax.inference import vector_files, vectors
    from encodax.inference.embedder import Embedder
    from encodax.storage import overlap
    from encodax.tasks.empty import EmptyTextRule

    vector_files.kind_of(output)
    if ranges is not None and save_ranges is not None:
        raise EncodaxError("give --ranges or --save-ranges, not both: what is read is not made")
    _check_output(output, model, input)
    if save_ranges is not None:
        _check_output(str(save_ranges), model, input, option="--save-ranges")
    overlap.check_apart({"--output": output, "--save-ranges": save_ranges}, {"--ranges": ranges})
    stored = vectors.converter(vector_type, None if ranges is None else vectors.read_ranges(ranges))
    empties = EmptyTextRule(on_empty)
    examples = _examples_of(_records(texts, input, columns=columns, format=format), empties)
    embedder = Embedder.load(model, revision=revision, precision=precision)
    before = embedder.model.config.usage.prompt(prompt)
    none = stored(np.zeros((0, embedder.width), np.float32))
    seen = vectors.RunningRanges(embedder.width)
    live = _live(texts, input, max_wait, sys.stdout.flush) if output == "-" else None
    answers = embedder.answers(examples, before, truncate=truncate, empties=empties, live=live)
    with vector_files.opened(output, none.shape[1], none.dtype) as file:
        for example, vector in with_progress(answers, shown=None if input else False):
            seen.add(vector)
            file.write(example.parts[0], stored(vector[None])[0])
    if save_ranges is not None:
        seen.save(save_ranges)


@command("embed-corpus")
def embed_corpus(
    model: ModelPath,
    input: Annotated[
        str, typer.Option(help="A folder, a glob or a file (.parquet), or the URI of one.")
    ],
    output: Annotated[str, typer.Option(help="Folder (or URI) to write, or to resume.")],
    column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    actors: Annotated[
        int | None,
        typer.Option(
            help="Number of workers.  \\[default: one a GPU, or one a machine without any]"
        ),
    ] = None,
    partition_rows: Annotated[int, typer.Option(help="Number of rows in an output file.")] = 65_536,
    on_empty: Annotated[
        Literal["error", "keep"],
        typer.Option(
            "--on-empty", help="Empty texts and nulls: refuse them, or give them vectors of zeros."
        ),
    ] = "error",
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Name of the model's prompt to put before each text.  "
            "\\[default: the one for documents]"
        ),
    ] = None,
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Compute a vector for each row of Parquet files, on all devices of a Ray cluster.

    Without a cluster (RAY_ADDRESS) it runs on this machine. Repeat the command to
    resume after a stop: it writes the files that are missing, and rewrites those
    whose input rows have changed. A different model or different options are
    refused, and so is an output with vectors of rows that are no longer in the
    input: these are named.

    Example: encodax embed-corpus MODEL --input texts/ --output vectors/
    """
    from dataclasses import asdict

    from encodax.corpus import embed as corpus

    with redirect_stdout(sys.stderr):  # Ray prints there which actors it restarts
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
    output: Annotated[str, typer.Option(help="File to write, or -.")] = "-",
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    early_stopping: EarlyStopping = None,
    n_best: Annotated[
        int | None,
        typer.Option(
            help="Number of translations of each text (with --json): the best ones, at most one "
            "for each beam; or with --sample, the number of samples.",
            min=1,
            rich_help_panel=_SEARCHING,
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", help="Sample tokens instead of beam search.", rich_help_panel=_SAMPLING
        ),
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Divisor of the logits.", rich_help_panel=_SAMPLING)
    ] = None,
    sample_top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", help="Sample from this many most probable tokens.", rich_help_panel=_SAMPLING
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from the fewest tokens whose probabilities reach this sum.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from tokens with at least this share of the largest probability.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    typical_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from tokens nearest to the entropy that reach this sum.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of sampling.", rich_help_panel=_SAMPLING)
    ] = 0,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    no_repeat_ngram: NoRepeatNgram = None,
    repetition_penalty: RepetitionPenalty = None,
    suppress: Suppress = None,
    to: Annotated[
        str | None,
        typer.Option(help="Code of the target language, such as fra, for a model with several."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines with scores, instead of lines of text.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option(help="Number of texts translated together.", min=1)
    ] = 32,
    format: Annotated[
        Format | None, typer.Option(help="Format of the input, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            "--on-empty",
            help="Empty texts: refuse them, leave them out, or keep them as empty lines.",
        ),
    ] = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
) -> None:
    """Translate texts, or generate what the model is for: one line for each input, in order.

    Examples:
      encodax translate runs/en-de "two men are running"

      cat texts.txt | encodax translate runs/en-de --input - > translated.txt

      encodax translate runs/en-de --input texts.txt --n-best 4 --json

      encodax translate runs/en-de "two men" --sample --n-best 3 --json

    Records have a field "source" or "text".
    """
    from encodax.inference.translator import Translator
    from encodax.tasks import translation
    from encodax.tasks.empty import EmptyTextRule

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
    empties = EmptyTextRule(on_empty)
    sources_of = empties.parsed(translation.source_of, records, ("source", "text"))
    translator = Translator.load(
        model, revision=revision, precision=precision, batch_size=batch_size
    )
    options = translator.generation_options(
        beams=beams,
        length_penalty=length_penalty,
        early_stopping=_early_stopping(early_stopping),
        n_best=n_best if as_json else 1,
        sampling=dataclasses.replace(translator.model.default_generation_config.sampling, **given)
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
            sources_of, options, truncate=truncate, empties=empties, live=live
        )
        for example, answer in with_progress(answers, shown=None if input else False):
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
            help="Word to choose from, one token of the vocabulary; may be repeated. For models "
            "like RoBERTa, ' word' is the one after a space."
        ),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Format of the input, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
) -> None:
    """Fill the mask: JSON Lines, one line for each mask, the most probable guesses first.

    The mask is a token of the model's vocabulary, such as [MASK] (BERT) or <mask> (RoBERTa).

    Example: encodax fill-mask google-bert/bert-base-uncased "Paris is the [MASK] of France."
    """
    from dataclasses import asdict

    from encodax.inference.fill_mask import FillMask
    from encodax.tasks.empty import IN_DATA, EmptyTextRule

    empties = EmptyTextRule(on_empty, IN_DATA)
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
        str, typer.Option(help="File of texts (JSON, CSV, TSV, Parquet, .txt; BEIR), or -.")
    ],
    top_k: TopK = 5,
    format: Annotated[
        Format | None, typer.Option(help="Format of the corpus, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Find the texts of a corpus that are most similar to each query: JSON Lines, best first.

    In a corpus in BEIR's format a text is the title and the text, and the results
    contain its _id.

    Example: encodax search MODEL --corpus texts.txt "how do I mend a tyre"
    """
    from encodax.inference.embedder import Embedder
    from encodax.inference.vectors import search_stream
    from encodax.tasks.embedding import Document
    from encodax.tasks.empty import IN_DATA, EmptyTextRule

    empties = EmptyTextRule(on_empty, IN_DATA)
    examples = _examples_of(_records(None, corpus, columns=columns, format=format), empties)
    embedder = Embedder.load(model, revision=revision, precision=precision)
    queried, before = embedder.prompt_of("query"), embedder.prompt_of("document")
    nearest = embedder.nearest(queries, top_k=top_k, truncate=truncate)
    answers = embedder.answers(examples, before, truncate=truncate, empties=empties)
    kept = search_stream(answers, nearest)  # the texts of hits only
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
    top_k: Annotated[
        int | None, typer.Option(help="Number of results.  \\[default: all]", min=1)
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt to put before the query.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Format of the input, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Rank texts by how well they answer a query, with a cross-encoder: JSON Lines, best first.

    Example: encodax rerank cross-encoder/ms-marco-MiniLM-L6-v2 "a question" --input texts.txt
    """
    from array import array

    import numpy as np

    from encodax.data.records import open_records
    from encodax.inference.predictors import Reranker
    from encodax.tasks.empty import IN_DATA, EmptyTextRule
    from encodax.tasks.task import text_of

    records = open_records(input or "-", columns=_names(columns), format=format)
    empties = EmptyTextRule(on_empty, IN_DATA)
    examples = _examples_of(records, empties)
    reranker = Reranker.load(model, revision=revision, precision=precision)
    _note_scores(reranker.model.config, is_cross_encoder=True)
    numbers, scores = array("q"), array("d")  # texts are read a second time, so that none is held
    for example, score in reranker.answers(
        query, examples, prompt=prompt, truncate=truncate, empties=empties
    ):
        numbers.append(example.target)
        scores.append(score)
    for place in np.argsort(-np.asarray(scores), kind="stable")[:top_k].tolist():
        index = numbers[place]
        line = {"query": query, "score": scores[place], "index": index}
        sys.stdout.write(_line({**line, "text": text_of(records[index])}))


@command()
def explore(
    model: ModelPath,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Text, or - to read it from standard input.")
    ],
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT_PAIR",
            help="Second text of a pair: a context, a text to compare with, a translation.",
        ),
    ] = None,
    output: Annotated[str, typer.Option(help="Page to write, or -.")] = "explorer.html",
    open_: Annotated[bool, typer.Option("--open", help="Show the page in a browser.")] = False,
    steps: Annotated[
        int,
        typer.Option(
            help="Integration steps of attributions: more are more exact, and slower; 0 for none.",
            min=0,
        ),
    ] = 16,
    top_k: TopK = 5,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Look inside a model: write a page, in one file, about how it processes a text.

    It shows the attention of every layer and head as maps and as lines between words, with mean and
    rollout; the attribution of the answer to tokens; the norms of hidden states; the mask fillings
    of each layer; for a translation, the source words of each target word.

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
    from encodax.inspection.inspector import Inspector

    try:
        from encodax.pages.explorer import page
    except ImportError as error:
        raise EncodaxError(f"the page needs {error.name}: pip install 'encodax[report]'") from error
    with sources.open_output(output) as stream, errors.status("Looking inside the model"):
        inspector = Inspector.load(model, revision=revision, steps=steps, top_k=top_k)
        inspection = inspector.inspect(text, second, truncate=truncate)
        stream.write(page.render(inspection, model=model.rstrip("/").rpartition("/")[2]))
    if output != "-":
        print(output)
    if open_:
        webbrowser.open(Path(output).resolve().as_uri())


def _whole_input() -> str:
    """Read standard input as one text."""
    text = ""
    with sources.open_input("-") as content:
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
            help="Print the keys of the model's JSON files instead, and how each was treated.",
        ),
    ] = False,
) -> None:
    """Print a table of a model's modules, with their shapes, parameters and bytes.

    Below it are the labels, and the kind of their scores: logits, or the
    activation applied to them.

    With --files, print a table of the keys of its JSON files instead: those that
    were used, and those that change no answer, with the reason. Any other key is
    refused by name when the model is loaded.

    Example:
      encodax info my-model --files
    """
    from encodax.inference.scores import describe_scores
    from encodax.models.encoder_model import Model
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
    if isinstance(loaded, Model) and (scores := describe_scores(loaded.config)):
        console.print(f"scores: {scores}", soft_wrap=True, highlight=False, markup=False)


def _for_tables(width: int) -> Terminal:
    """Return a console on standard output; `width` applies if that is not a terminal."""
    return Terminal() if sys.stdout.isatty() else Terminal(width=width)


def _print_files(files: ModelFiles) -> None:
    """Print a table of the keys of JSON files: those that were used, then those that are kept."""
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
        sys.stdout.write(_line({**found.to_json(), "expected_seconds": times}))
        return
    _for_tables(width=100).print(table_of(found, expected))


def _check_output(
    output: str, model: str, input: str | None = None, *, option: str = "--output"
) -> None:
    """Refuse, before any work, an output that cannot be written or would replace an input."""
    from encodax.model_files import saved_model
    from encodax.storage import overlap

    sources.check_output(output)
    overlap.check_apart({option: output}, {"--input": input})
    if output != "-" and saved_model.is_of_model(Path(output), Path(model)):
        raise EncodaxError(f"{option} {output} is a file of the model: write to another place")


def _names(columns: str | None) -> list[str] | dict[str, str] | None:
    """Parse `text,label` to column names in order, or `text=content,label=stars` to a mapping."""
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
    """Return records of the texts on the command line, in a file, or on standard input."""
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
    """Return the settings for reading a source that may pause, and for flushing when it does.

    None if the source cannot pause: then the same texts are always answered together.
    """
    from encodax.data.stream import MAX_WAIT, Live

    if texts or not formats.is_live(input or "-"):
        return None
    return Live(MAX_WAIT if max_wait is None else max_wait, flush)


def _examples_of(records: Iterable[sources.Record], empties: EmptyTextRule) -> Iterator[Example]:
    """Yield the text of each record, checked, with the record's number from 0 as the target."""
    from encodax.tasks.embedding import document_of

    for number, example in enumerate(empties.parsed(document_of, records, ("text",))):
        yield replace(example, target=number)


def _note_scores(config: ModelConfig, *, is_cross_encoder: bool) -> None:
    """Log where sentence-transformers would give other scores."""
    from encodax.inference.scores import difference

    if told := difference(config, is_cross_encoder=is_cross_encoder):
        logging.getLogger("encodax").warning("scores: %s", told)


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


class _Notes(logging.Handler):
    """Handler that prints the library's log messages, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.print(f"note: {record.getMessage()}", highlight=False, markup=False, soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **how: Any) -> None:
    """Print a warning of a library in one line, without its place in the code."""
    errors.print(f"warning: {message}", soft_wrap=True)


STOPPED = tuple(map(signals.exit_code, (signal.SIGINT, *signals.TERMINATION_SIGNALS)))
"""Exit codes of commands that a signal ended."""


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        _run()
    except (BrokenPipeError, SystemExit) as end:  # Typer and rich turn one into the other
        if not isinstance(end, BrokenPipeError) and not isinstance(
            end.__context__, BrokenPipeError
        ):
            if end.code in STOPPED:
                signals.exit_process(end.code)
            raise
        _redirect_to_null()  # the reader has closed the pipe, as `head` does
        sys.exit(141)


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    """Print log messages and warnings inside this context; restore the previous handlers after."""
    logger, notes, show = logging.getLogger("encodax"), _Notes(), warnings.showwarning
    logger.addHandler(notes)
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = show
        logger.removeHandler(notes)


@_logging_to_stderr()
def _run() -> None:
    # Orbax logs what it also raises: only the one-line error is printed.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        try:
            _open_streams()
            with terminable():
                app()
        finally:
            sys.stdout.flush()  # here, where its errors are caught
    except BrokenPipeError:
        raise
    except (EncodaxError, OSError) as error:
        code = getattr(error, "EXIT_CODE", 2)
        line = "; ".join([f"error: {error}", *_notes_of(error)]).replace("\n", " ")
        errors.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
        try:
            sys.stdout.flush()
        except OSError:  # the disk of standard output is full
            _redirect_to_null()
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
    """Ensure that all three standard streams exist; output is UTF-8 in any locale.

    A lone surrogate, which JSON and file names may contain, is written as its escape.

    Raises:
        EncodaxError: standard output is closed.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # otherwise the next file opened would get the number of a closed stream
    os.close(number)
    is_closed = sys.stdout is None
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if is_closed:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    shown = sys.__stderr__  # not a replacement of it, as in tests
    if shown is not None and shown is sys.stderr and shown.isatty():
        raw = io.BufferedWriter(Screen(shown.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, shown.encoding, line_buffering=True)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    if is_closed:
        raise EncodaxError("standard output is closed; send it to a file, or to /dev/null")


def _interrupt_behind(end: BaseException | None) -> KeyboardInterrupt | None:
    """Return the Ctrl-C that Typer turned into an exit, if there was one."""
    while end is not None and not isinstance(end, KeyboardInterrupt):
        end = end.__cause__ or end.__context__
    return end


def _notes_of(error: BaseException) -> list[str]:
    """Return the notes added to an error, such as what is kept of the work."""
    return list(getattr(error, "__notes__", ()))


def _redirect_to_null() -> None:
    """Redirect output to nowhere, so that nothing tries to write it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    main()
