"""Model card: the README.md of a model directory, shown on the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encodax.config import ModelConfig, Seq2SeqConfig
from encodax.errors import EncodaxError, escape_invisible
from encodax.storage import outputs

CARD_FILE = "README.md"
SAVED_BY = "[Encodax](https://pypi.org/project/encodax)"
"""Text in every card that Encodax writes."""

PIPELINES = {
    None: "feature-extraction",
    "embedding": "sentence-similarity",
    "sequence": "text-classification",
    "token": "token-classification",
    "span": "question-answering",
    "vocabulary": "fill-mask",
}
"""Kind of head -> the hub's `pipeline_tag`."""
PREDICTORS = {
    "embedding": 'encodax.Embedder.load({0}).encode(["some text"])',
    "sequence": 'encodax.Classifier.load({0}).predict(["some text"])',
    "token": 'encodax.TokenClassifier.load({0}).predict(["some text"])',
    "span": 'encodax.QuestionAnswerer.load({0}).predict([("a question", "a context")])',
    "vocabulary": 'encodax.FillMask.load({0}).predict(["a text with a [MASK] in it"])',
    None: "encodax.load({0})",
}


def text(config: ModelConfig, model_type: str, name: str) -> str:
    """Return the card of a model: metadata for the hub, a description, and how to use it."""
    kind = config.head.kind if config.head else None
    is_embedder = kind == "embedding"
    encoder = config.encoder
    embeddings = encoder.embeddings
    library = "sentence-transformers" if is_embedder else "transformers"
    loadable = "" if model_type == "encodax" else f"library_name: {library}\n"
    names = ", ".join(escape_invisible(" ".join(label.split())) for label in config.labels)
    labels = f"\nLabels: {names}.\n" if names else ""
    limit = config.max_length or embeddings.max_positions
    about = f"""A Transformer encoder of the family `{model_type}`, saved by
{SAVED_BY}: {len(encoder.layers)} layers of width
{embeddings.model_width}, {embeddings.vocabulary_size:,} tokens, sequences of up to
{limit or "any number of"} tokens.
{labels}"""
    use = PREDICTORS[kind].format(json.dumps(name))
    return _card(f"{loadable}pipeline_tag: {PIPELINES[kind]}", model_type, name, about, use)


def text_of_seq2seq(config: Seq2SeqConfig, model_type: str, name: str) -> str:
    """Return the card of a sequence-to-sequence model."""
    encoder, decoder = config.transformer.encoder, config.transformer.decoder
    embeddings = encoder.embeddings
    native = model_type.startswith("encodax")
    loadable = "" if native else "library_name: transformers\n"
    about = f"""A Transformer of the family `{model_type}`, saved by
{SAVED_BY}: {len(encoder.layers)} encoder and
{len(decoder.layers)} decoder layers of width {embeddings.model_width},
{embeddings.vocabulary_size:,} tokens.
"""
    use = f'encodax.Translator.load({json.dumps(name)}).translate(["some text"])'
    return _card(f"{loadable}pipeline_tag: translation", model_type, name, about, use)


BEGIN, END = "<!-- encodax: training -->", "<!-- encodax: end of training -->"
"""Marks around the section of a card that each run rewrites."""


def write_origin(card: Path, origin: Mapping[str, Any]) -> None:
    """Write the origin of a trained model into its card, unless a user wrote the card.

    Args:
        card: path of the card.
        origin: `data`, `base` and `teacher` of the run, as in `run.json`.

    Raises:
        EncodaxError: the file cannot be read or written.
    """
    try:
        before = card.read_text(encoding="utf-8") if card.is_file() else ""
        own = _own_part(before)
        kept, _, rest = (before if own is None else own).partition(BEGIN)
        has_section = END in rest
        if not has_section and (rest or SAVED_BY not in kept):
            return
        section = f"{BEGIN}\n{_origin(origin)}{END}"
        after = f"{kept.rstrip()}\n\n{section}{rest.partition(END)[2] or chr(10)}"
        after = after if own is None else _sealed(after)
        if after != before:
            with outputs.open_file(card) as stream:
                stream.write(after)
    except UnicodeError:  # not a card of Encodax
        return
    except OSError as error:
        raise EncodaxError(f"{card} cannot be written: {error.strerror}") from error


def _origin(origin: Mapping[str, Any]) -> str:
    lines = ["## Training", ""]
    for name, title in (("base", "Trained on from"), ("teacher", "Taught by")):
        if name in origin:
            lines.append(f"- {title} {_model(origin[name])}")
    for name, title in (("train", "Training data"), ("eval", "Evaluation data")):
        own = origin["data"][name]
        lines.append(f"- {title}: {own['examples']:,} examples" + (", of" if own["files"] else ""))
        for file in own["files"]:
            path = file["path"].rsplit("/", 1)[-1]
            lines.append(f"  - {_code(path)}: {file['rows']:,} rows, sha256 `{file['sha256']}`")
    return "\n".join(lines) + "\n"


def _model(model: Mapping[str, Any]) -> str:
    name = _code(model["name"]) if "name" in model else "a model in memory"
    commit = f" at commit `{model['revision']}`" if "revision" in model else ""
    return f"{name}{commit}, sha256 of parameters and configuration `{model['sha256']}`"


def _code(text: str) -> str:
    """Return a name as Markdown code that shows it unchanged."""
    shown = json.dumps(text, ensure_ascii=False)[1:-1]  # no line breaks
    fence = "``" if "`" in shown else "`"
    return f"{fence} {shown} {fence}" if fence == "``" else f"`{shown}`"


def _card(head: str, model_type: str, name: str, about: str, use: str) -> str:
    return f"""---
{head}
tags:
- encodax
- jax
- {model_type}
---

# {name}

{about}
```python
import encodax

{use}
```
"""


SEAL = re.compile(r"\n<!-- Written by Encodax, and not changed since: ([0-9a-f]{16}) -->\n\Z")
"""End of a card: a digest of the text before it."""


def write(directory: Path, card: str) -> None:
    """Write a card with a digest, so that later changes can be detected."""
    (directory / CARD_FILE).write_text(_sealed(card), encoding="utf-8")


def may_write(directory: Path) -> bool:
    """Return whether a card may be written: there is none, or it is an unchanged one of Encodax."""
    path = directory / CARD_FILE
    if not path.is_file() or path.is_symlink():
        return not path.is_symlink() and not path.exists()
    try:
        return _own_part(path.read_bytes().decode()) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _sealed(card: str) -> str:
    return f"{card}\n<!-- Written by Encodax, and not changed since: {_digest(card)} -->\n"


def _own_part(found: str) -> str | None:
    """Return a card without its seal, or None if it was changed."""
    seal = SEAL.search(found)
    is_own = seal is not None and seal[1] == _digest(found[: seal.start()])
    return found[: seal.start()] if seal is not None and is_own else None


def _digest(card: str) -> str:
    return hashlib.sha256(card.encode()).hexdigest()[:16]
