"""Options of commands, built from the fields of the settings that they set."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

import typer

from encodax.errors import EncodaxError

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
InputFormat = Annotated[
    Format | None, typer.Option(help="Format of the input, if its name does not show it.")
]
OutputFile = Annotated[str, typer.Option(help="File to write, or -.")]
TargetLanguage = Annotated[
    str | None,
    typer.Option(help="Code of the target language, such as fra, for a model with several."),
]
VectorType = Literal["float32", "int8", "binary"]
Precision = Annotated[
    Literal["float32", "bfloat16", "int8"] | None,
    typer.Option(
        help="Number format of products: fewer bits are faster, and less exact.  "
        "\\[default: float32 on CPU]"
    ),
]
SEARCH_PANEL = "Search (default: the model's generation_config.json)"
SAMPLING_PANEL = "Sampling"
LENGTHS_PANEL = "Lengths and repetitions (default: the model's generation_config.json)"
Beams = Annotated[
    int | None,
    typer.Option(
        help="Number of beams; 1 is greedy search.  \\[default: 4]",
        min=1,
        rich_help_panel=SEARCH_PANEL,
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        help="Beam score: log-probability / tokens^penalty.  \\[default: the paper's]",
        rich_help_panel=SEARCH_PANEL,
    ),
]
EarlyStopping = Annotated[
    str | None,
    typer.Option(
        help="When to stop: true (enough beams have ended), false (none better is likely), never.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of a translation.  \\[default: 50 more than the text]",
        rich_help_panel=LENGTHS_PANEL,
    ),
]
MinTokens = Annotated[
    int | None,
    typer.Option(
        help="Least tokens of a translation, without the end.", rich_help_panel=LENGTHS_PANEL
    ),
]
NoRepeatNgram = Annotated[
    int | None,
    typer.Option(
        help="Size of the n-grams that may not occur twice.", rich_help_panel=LENGTHS_PANEL
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        help="Above 1, tokens that have occurred become less likely.", rich_help_panel=LENGTHS_PANEL
    ),
]
Suppress = Annotated[
    list[int] | None,
    typer.Option(
        help="Token id that is never generated; may be repeated.", rich_help_panel=LENGTHS_PANEL
    ),
]


def early_stopping_of(value: str | None) -> bool | str | None:
    """Convert the option to what transformers takes; invalid values are refused later by name."""
    words: dict[str | None, bool] = {"true": True, "false": False}
    return words.get(value, value)


def column_names(columns: str | None) -> list[str] | dict[str, str] | None:
    """Parse `text,label` to column names in order, or `text=content,label=stars` to a mapping."""
    if columns is None:
        return None
    pairs = [[name.strip() for name in part.split("=", 1)] for part in columns.split(",")]
    if all(len(pair) == 1 for pair in pairs):
        return [name for (name,) in pairs]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise EncodaxError(
            f"columns {columns!r}: give the names of all columns, such as text,label, or fields "
            "with their names in the file, such as text=content,label=stars"
        )
    return dict(pairs)


Command = Callable[..., None]
PRETRAINING = frozenset(
    [
        "steps",
        "epochs",
        "batch_size",
        "batch_tokens",
        "learning_rate",
        "warmup",
        "schedule",
        "weight_decay",
        "evaluate_every",
        "metric",
        "patience",
        "seed",
        "save_every",
        "keep",
        "mesh",
        "accumulate",
        "remat",
        "scan",
        "precision",
        "profile_steps",
        "bad_steps",
        "max_positions",
        "dropout_rate",
        "tokenizer",
        "lowercase",
        "mask_rate",
        "whole_words",
        "resume",
        "resume_step",
        "checkpoints",
        "distributed",
        "coordinator",
        "processes",
        "process",
        "dry_run",
    ]
)
"""Fields that are options of `encodax pretrain`."""


def with_fields(
    *kinds: type,
    only: Collection[str] | None = None,
    help: Mapping[str, str] | None = None,
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command an option for each field of these dataclasses.

    The command takes them as `**choices`, by the names of the fields. An option that is not given
    is None, or False.

    Args:
        kinds: dataclasses whose fields are declared with `encodax.options.fields.option`.
        only: names of the fields that are options of this command; None for all.
        help: descriptions that differ for this command, by field.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        named = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        found = [
            _parameter(field, hint, (help or {}).get(field.name))
            for kind in kinds
            for field, hint in _fields(kind)
            if only is None or field.name in only
        ]
        parameters = [*named, *found]
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _fields(kind: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.metadata:
            yield field, hints[field.name]


def _parameter(field: dataclasses.Field[Any], hint: Any, help: str | None) -> inspect.Parameter:
    """Return the parameter of a command for a field."""
    declared = field.metadata
    name = f"--{declared['name'] or field.name.replace('_', '-')}"
    kind = declared["type"] or _plain(hint)
    option = typer.Option(name, help=help or declared["help"], rich_help_panel=declared["panel"])
    annotation: Any = kind
    default: Any = False
    if declared["show_default"]:
        default = field.default
    elif kind is not bool:
        annotation, default = kind | None, None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, option],
    )


def _plain(hint: Any) -> Any:
    """Return the type that the command line reads for a field: the settings check what it says."""
    if typing.get_origin(hint) is Literal:
        return str
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = [_plain(each) for each in typing.get_args(hint) if each is not NoneType]
        return float if float in kinds else kinds[0]
    return hint
