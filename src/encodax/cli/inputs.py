"""Inputs and outputs of commands; imported when a command runs, so that `--help` is quick."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from encodax.cli.app import json_line
from encodax.cli.options import column_names
from encodax.config import ModelConfig
from encodax.data import formats, sources
from encodax.data.stream import MAX_WAIT, Live
from encodax.errors import EncodaxError
from encodax.inference.scores import difference
from encodax.model_files import saved_model
from encodax.storage import overlap
from encodax.tasks.embedding import Document, document_of
from encodax.tasks.empty import EmptyTextRule
from encodax.tasks.task import Example


def check_output(
    output: str, model: str, input: str | None = None, *, option: str = "--output"
) -> None:
    """Refuse, before any work, an output that cannot be written or would replace an input."""
    sources.check_output(output)
    overlap.check_apart({option: output}, {"--input": input})
    if output != "-" and saved_model.is_of_model(Path(output), Path(model)):
        raise EncodaxError(f"{option} {output} is a file of the model: write to another place")


def records_of(
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
    return sources.read(source_of(input), columns=column_names(columns), format=format)


def source_of(input: str | None) -> str:
    """Return the file to read; where none is given, standard input, unless it is a terminal."""
    if input is None and sys.stdin is not None and sys.stdin.isatty():
        raise EncodaxError("nothing to read: give texts, or --input FILE, or --input -")
    return input or "-"


def live_of(
    texts: list[str] | None,
    input: str | None,
    max_wait: float | None,
    flush: Callable[[], object],
) -> Live | None:
    """Return the settings for reading a source that may pause, and for flushing when it does.

    None if the source cannot pause: then the same texts are always answered together.
    """
    if texts or not formats.is_live(input or "-"):
        return None
    return Live(MAX_WAIT if max_wait is None else max_wait, flush)


def examples_of(records: Iterable[sources.Record], empties: EmptyTextRule) -> Iterator[Example]:
    """Yield the text of each record, checked, with the record's number from 0 as the target."""
    for number, example in enumerate(empties.parsed(document_of, records, ("text",))):
        yield replace(example, target=number)


def hit_line(query: str, score: float, index: int, document: Example) -> str:
    """Return a result of a search or a ranking as a line of JSON."""
    line: dict[str, Any] = {"query": query, "score": score, "index": index}
    if isinstance(document, Document) and document.id is not None:
        line["_id"] = document.id
    return json_line({**line, "text": document.text})


def note_scores(config: ModelConfig, *, is_cross_encoder: bool) -> None:
    """Log where sentence-transformers would give other scores."""
    if other := difference(config, is_cross_encoder=is_cross_encoder):
        logging.getLogger("encodax").warning("scores: %s", other)
