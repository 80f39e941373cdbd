"""Commands to look around: `demo`, `info`, `explore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encodax.cli.app import command, for_tables, stderr_console
from encodax.cli.options import ModelPath, Overwrite, Revision, TopK, Truncate
from encodax.errors import EncodaxError
from encodax.process.host_memory import keep_freed_memory
from encodax.process.terminal import Terminal, table

if TYPE_CHECKING:
    from encodax.storage.json_files import ModelFiles


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


LONGEST_READ = 500_000
"""Most characters that `explore` reads from standard input."""


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
        raise EncodaxError("--open needs a file to show: --output page.html")
    from encodax.cli import inputs
    from encodax.data import sources

    inputs.check_output(output, model)
    if text == "-":
        text = _whole_input()
    from encodax.inspection.inspector import Inspector

    try:
        from encodax.pages.explorer import page
    except ImportError as error:
        raise EncodaxError(f"the page needs {error.name}: pip install 'encodax[report]'") from error
    with sources.open_output(output) as stream, stderr_console.status("Looking inside the model"):
        inspector = Inspector.load(model, revision=revision, steps=steps, top_k=top_k)
        inspection = inspector.inspect(text, second, truncate=truncate)
        stream.write(page.render(inspection, model=model.rstrip("/").rpartition("/")[2]))
    if output != "-":
        print(output)
    if open_:
        import webbrowser

        webbrowser.open(Path(output).resolve().as_uri())


def _whole_input() -> str:
    """Read standard input as one text."""
    from encodax.data import formats, sources

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
    console = for_tables(width=120)
    console.print(modules)
    if loaded.labels:
        console.print("labels: " + ", ".join(loaded.labels), soft_wrap=True)
    if isinstance(loaded, Model) and (scores := describe_scores(loaded.config)):
        console.print(f"scores: {scores}", soft_wrap=True)


def _print_files(files: ModelFiles) -> None:
    """Print a table of the keys of JSON files: those that were used, then those that are kept."""
    from encodax.storage.json_files import shown

    listing = table("file", "key", "value", "status")
    for name, keys in files.items():
        rows = [(key, "", "used") for key in sorted(keys.used)]
        rows += [(key, shown(keys.kept[key]), f"ignored: {keys.reasons[key]}") for key in keys.kept]
        for key, value, fate in rows:
            listing.add_row(name, key, value, fate)
        listing.add_section()
    for_tables(width=160).print(listing)
