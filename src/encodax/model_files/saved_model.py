"""Model directory: reading and writing the parts of a model.

config.json, model.safetensors, tokenizer files    as in transformers
modules.json, 1_Pooling/...                        of an embedder (`sentence_modules.py`)
head.json, head.safetensors                        a head that the published family lacks
adapter_config.json, adapter_model.safetensors     adapter of another model (`peft.py`),
adapted_config.json                                 and config.json of the adapted model
generation_config.json                             generation settings (`seq2seq_model.py`)
README.md                                          model card
"""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from encodax import families
from encodax.config import InferenceConfig, ModelConfig
from encodax.errors import EncodaxError, library_errors
from encodax.families import Family, native
from encodax.families.labels import count_of_labels, labels_of
from encodax.model_files import model_card, sentence_modules, weights
from encodax.model_files.sentence_modules import SentenceModules
from encodax.storage import json_files, outputs, reading
from encodax.storage.json_files import ModelFiles, Settings, is_there
from encodax.text import published as tokenizer_files
from encodax.text.tokenizer import Tokenizer
from encodax.types.batches import Params, Shapes

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
HEAD_FILE = "head.json"
HEAD_WEIGHTS_FILE = "head.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTED_CONFIG_FILE = "adapted_config.json"
_OF_MODEL = (
    CONFIG_FILE,
    GENERATION_FILE,
    HEAD_FILE,
    HEAD_WEIGHTS_FILE,
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    ADAPTED_CONFIG_FILE,
    weights.WEIGHTS_FILE,
    weights.INDEX_FILE,
    "model-*-of-*.safetensors",
    tokenizer_files.TOKENIZER_FILE,
    *tokenizer_files.CARRIED_FILES,
    *tokenizer_files.FOREIGN_FILES,
    *sentence_modules.LENGTH_FILES,
)
MODEL_FILES = (
    *_OF_MODEL,
    sentence_modules.MODULES_FILE,
    sentence_modules.SETTINGS_FILE,
    *(
        f"{number}_{kind}/{name}"
        for number in ("[0-9]", "[0-9][0-9]")
        for kind in sentence_modules.KINDS
        for name in (_OF_MODEL if kind == "Transformer" else (CONFIG_FILE, weights.WEIGHTS_FILE))
    ),
)
"""Files of an older model that would affect a newer one; saving over the old one removes them."""


def is_of_model(path: Path, directory: Path) -> bool:
    """Return whether `path` is a file that a model in `directory` is read from."""
    place, folder = path.resolve(), directory.resolve()
    if not directory.is_dir() or not place.exists() or not place.is_relative_to(folder):
        return False
    first = place.relative_to(folder).parts[0]
    return any(fnmatch.fnmatch(first, name.partition("/")[0]) for name in MODEL_FILES)


@dataclass(frozen=True)
class ModelParts:
    """Parts of a model, as a model directory holds them."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    extra_tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: ModelFiles = field(default_factory=dict)
    """Keys of each JSON file: used, or kept with a reason and saved again."""


AnyParts = TypeVar("AnyParts", bound=ModelParts)
"""Parts of a model, or the model itself."""


def read(
    directory: Path,
    shapes_of: Callable[[ModelConfig], Shapes],
    *,
    encoder_only: bool = False,
) -> ModelParts:
    """Read a model directory.

    Args:
        directory: the directory.
        shapes_of: function from a configuration to the shapes of its parameters.
        encoder_only: drop the head, of any kind; no effect on an embedder.

    Raises:
        EncodaxError: a file is missing or broken, or needs a feature that is not supported.
    """
    modules = sentence_modules.read(directory)
    place = directory if modules is None else modules.encoder
    is_embedder = modules is not None and modules.head is not None
    # An embedder's file may have any head: sentence-transformers uses only its encoder.
    encoder_only = encoder_only or is_embedder
    family, config, published = _published(place, encoder_only=encoder_only)
    activation = sentence_modules.activation_of(published) if _is_sequence(config) else None
    stacks = {"encoder": config.encoder}
    shapes = weights.checked_shapes(place, family, config, stacks, shapes_of)
    loaded = weights.load(place, shapes, family, config)
    rows = config.encoder.embeddings.vocabulary_size
    tokenizer = Tokenizer.load(place, model_type=family.MODEL_TYPE, rows=rows)
    _check_tokenizer(place, tokenizer, config)
    files = {
        CONFIG_FILE: family.account(published),
        **tokenizer.keys,
        **({} if modules is None else modules.files),
    }
    if modules is None:
        config = _limited(config, sentence_modules.tokenizer_length(place))
    parts = ModelParts(config, loaded.params, tokenizer, loaded.extra_tensors, files)
    if modules is not None and is_embedder:
        return _as_embedder(parts, modules)
    if encoder_only:
        return replace(parts, config=_bare(config, modules, published))
    if is_there(place / HEAD_FILE):
        parts = _with_own_head(parts, place, shapes_of)
    return _as_cross_encoder(parts, place, modules, activation)


SEQUENCE = "ForSequenceClassification"
"""Suffix of the published classes of sequence classifiers."""


def _limited(config: ModelConfig, length: int | None) -> ModelConfig:
    """Return a configuration with `max_length`, if that is below its number of positions."""
    positions = config.encoder.embeddings.max_positions
    is_shorter = length is not None and (positions is None or length < positions)
    return replace(config, max_length=length if is_shorter else None)


def _bare(config: ModelConfig, modules: SentenceModules | None, published: Settings) -> ModelConfig:
    """Return the configuration of an encoder, and whether a head that gives scores was dropped.

    The files have such a head if they are those of a cross-encoder of any version, or if the head
    has one score.
    """
    if modules is not None:
        return replace(config, usage=InferenceConfig(head_dropped=modules.head is None))
    values = published.plain()
    names = values.get("architectures")
    is_sequence = isinstance(names, list) and any(str(name).endswith(SEQUENCE) for name in names)
    gives_scores = count_of_labels(values) == 1 or sentence_modules.names_activation(values)
    return replace(config, usage=InferenceConfig(head_dropped=is_sequence and gives_scores))


def _is_sequence(config: ModelConfig) -> bool:
    return config.head is not None and config.head.kind == "sequence"


def read_config(directory: Path) -> ModelConfig:
    """Return the configuration of the encoder in a model directory, without a head or weights.

    Raises:
        EncodaxError: a file is missing or broken, or needs a feature that is not supported.
    """

    def read_whole() -> ModelConfig:
        modules = sentence_modules.read(directory)
        place = directory if modules is None else modules.encoder
        _, config, published = _published(place, encoder_only=True)
        return _bare(config, modules, published)

    return reading.read_consistently(directory, read_whole)


def _published(place: Path, *, encoder_only: bool) -> tuple[Family, ModelConfig, Settings]:
    """Read `config.json`: the family, the configuration, and the original settings."""
    path = place / CONFIG_FILE
    published = Settings(_object(path), where=path)
    if "model_type" not in published:
        raise EncodaxError(f"{path}: the key 'model_type' is missing")
    with named_as(path):
        architectures = published.plain().get("architectures")
        family = families.family_named(published["model_type"], architectures)
        config = family.read_config(published, encoder_only=encoder_only)
    return family, config, published


@contextmanager
def named_as(path: Path) -> Iterator[None]:
    """Replace the prefix `config.json` of errors by the path of the file."""
    try:
        yield
    except EncodaxError as error:
        if not str(error).startswith(f"{CONFIG_FILE}: "):
            raise
        raise EncodaxError(f"{path}{str(error).removeprefix(CONFIG_FILE)}") from error


def _as_embedder(parts: AnyParts, modules: SentenceModules) -> AnyParts:
    config = replace(
        parts.config, head=modules.head, max_length=modules.max_length, usage=modules.usage
    )
    params = dict(parts.params)
    width = config.encoder.embeddings.model_width
    for path, leaves in sentence_modules.read_parameters(modules, width).items():
        params[path] = {leaf: jax.device_put(array) for leaf, array in leaves.items()}
    return _lowered(replace(parts, config=config, params=params))


def _as_cross_encoder(
    parts: AnyParts, place: Path, modules: SentenceModules | None, activation: str | None
) -> AnyParts:
    """Return a sequence classifier with the known settings of its scores.

    By default scores go through the sigmoid if there is one class, as in sentence-transformers. A
    directory without module files may hold a cross-encoder of an older version, or none.
    """
    config = parts.config
    if modules is None:
        if not _is_sequence(config):
            return parts
        usage = replace(config.usage, activation=activation)
    elif not _is_sequence(config):
        raise EncodaxError(
            f"{place / CONFIG_FILE}: a CrossEncoder needs the head of a sequence classifier, and "
            "'architectures' names none; without modules.json the encoder loads by itself"
        )
    else:
        usual = sentence_modules.default_activation(len(config.labels))
        config = _limited(config, modules.max_length)
        usage = replace(modules.usage, activation=modules.usage.activation or activation or usual)
    return _lowered(replace(parts, config=replace(config, usage=usage)))


def _lowered(parts: AnyParts) -> AnyParts:
    usage = parts.config.usage
    return replace(parts, tokenizer=parts.tokenizer.lowered()) if usage.do_lower_case else parts


def adapted(parts: AnyParts, place: Path, modules: SentenceModules | None) -> AnyParts:
    """Return a model with the tokenizer and the modules of its adapter's directory.

    Args:
        parts: base model with the adapter merged; without a head if the modules make an embedder.
        place: directory of the adapter.
        modules: its sentence-transformers modules, if any.

    Raises:
        EncodaxError: a file is broken, or the tokenizer does not fit the model.
    """
    names = (tokenizer_files.TOKENIZER_FILE, *tokenizer_files.CARRIED_FILES)
    if any(is_there(place / name) for name in names):
        family = family_of(parts.config)
        tokenizer = Tokenizer.load(place, model_type=family.MODEL_TYPE)
        _check_tokenizer(place, tokenizer, parts.config)
        parts = replace(parts, tokenizer=tokenizer, files={**parts.files, **tokenizer.keys})
    if modules is None:
        return parts
    if modules.head is not None:
        return _as_embedder(parts, modules)
    return _as_cross_encoder(parts, place, modules, parts.config.usage.activation)


def _with_own_head(
    parts: ModelParts, place: Path, shapes_of: Callable[[ModelConfig], Shapes]
) -> ModelParts:
    """Return the model with the head of `head.json`, whose weights have Encodax's names."""
    content = _object(place / HEAD_FILE)
    head = native.read_head(content, str(place / HEAD_FILE))
    config = replace(parts.config, head=head, labels=labels_of(content, str(place / HEAD_FILE)))
    with library_errors(f"{place / HEAD_FILE}: no head can be made from it"):
        of_head = {path: own for path, own in shapes_of(config).items() if not of_encoder(path)}
    names = {(path, leaf): f"{path}/{leaf}" for path, own in of_head.items() for leaf in own}
    shapes = {name: of_head[path][leaf].shape for (path, leaf), name in names.items()}
    stored = weights.read(place / HEAD_WEIGHTS_FILE, shapes)
    params = dict(parts.params)
    for (path, leaf), name in names.items():
        params[path] = {**params.get(path, {}), leaf: jax.device_put(stored[name])}
    return replace(parts, config=config, params=params)


def write(directory: Path, parts: ModelParts, *, max_length: int | None, overwrite: bool) -> None:
    """Write a model directory, atomically.

    Args:
        directory: output directory.
        parts: model to write.
        max_length: maximum number of tokens of a sequence.
        overwrite: whether the directory may exist.

    Raises:
        EncodaxError: the directory exists and `overwrite` is False, or it cannot be written.
    """
    family, stored = family_and_config(parts.config)
    if family.MODEL_TYPE == native.MODEL_TYPE:
        warnings.warn(
            f"{directory}: no published family has this combination of blocks; "
            f"saved as model_type {native.MODEL_TYPE}, which only Encodax loads",
            stacklevel=3,
        )
    head = parts.config.head
    of_file = {p: leaves for p, leaves in parts.params.items() if stored.head or of_encoder(p)}

    def write_to(place: Path) -> None:
        published = with_kept(family.write_config(stored), parts.files, CONFIG_FILE)
        if _is_sequence(parts.config):
            sentence_modules.put_activation(published, parts.config.usage.activation)
        json_files.write(place / CONFIG_FILE, published)
        weights.save(place / weights.WEIGHTS_FILE, of_file, family, stored, parts.extra_tensors)
        types = stored.encoder.embeddings.type_vocabulary_size
        parts.tokenizer.save(
            place, max_length=max_length, model_type=family.MODEL_TYPE, has_types=types > 1
        )
        if head is not None and head.kind == "embedding":
            sentence_modules.write(place, parts.config, parts.params, parts.files)
        elif head is not None and stored.head is None:
            labels = {str(index): label for index, label in enumerate(parts.config.labels)}
            json_files.write(place / HEAD_FILE, {**asdict(head), "id2label": labels})
            own = {p: leaves for p, leaves in parts.params.items() if not of_encoder(p)}
            weights.save(place / HEAD_WEIGHTS_FILE, own, native, parts.config)
        if sentence_modules.is_cross_encoder(parts.config):
            sentence_modules.write_cross_encoder(place, parts.config, parts.files)
        if model_card.may_write(directory):
            card = model_card.text(parts.config, family.MODEL_TYPE, directory.name)
            model_card.write(place, card)

    write_directory(directory, write_to, overwrite=overwrite)


def write_directory(directory: Path, write_to: Callable[[Path], None], *, overwrite: bool) -> None:
    """Write a model directory of any kind, and remove all files of an older model in it.

    Args:
        directory: output directory.
        write_to: function that writes the files into the directory it is given.
        overwrite: whether the directory may exist.

    Raises:
        EncodaxError: the directory exists and `overwrite` is False, or it cannot be written.
    """
    card = (model_card.CARD_FILE,) if model_card.may_write(directory) else ()
    outputs.write_directory(
        directory, write_to, overwrite=overwrite, replaces=(*MODEL_FILES, *card)
    )


NOT_KEPT = ("auto_map", "label2id")
"""Keys that are not saved again: no code is saved, and labels may have changed."""


def kept(files: ModelFiles, name: str) -> dict[str, Any]:
    """Return the keys of a file that do not change any output, to be saved again."""
    found = files.get(name, json_files.FileKeys()).kept
    return {key: value for key, value in found.items() if key not in NOT_KEPT}


def with_kept(published: Mapping[str, Any], files: ModelFiles, name: str) -> dict[str, Any]:
    """Return a configuration to be saved, with the keys of its file that change no output."""
    others = {key: value for key, value in kept(files, name).items() if key not in published}
    return {**published, **others, "dtype": "float32"}


def family_and_config(config: ModelConfig) -> tuple[Family, ModelConfig]:
    """Return the family that a model is saved as, and the configuration for `config.json`.

    For an embedder this is the encoder without a head. The same holds if the family has the encoder
    but no such head: the head then has separate files.
    """
    plain = replace(config, max_length=None, usage=InferenceConfig())
    bare = replace(plain, head=None, labels=())
    if config.head is not None and config.head.kind == "embedding":
        return families.ENCODERS.holding(bare), bare
    family = families.ENCODERS.holding(plain)
    if family.MODEL_TYPE != native.MODEL_TYPE or config.head is None:
        return family, plain
    of_encoder_alone = families.ENCODERS.holding(bare)
    if of_encoder_alone.MODEL_TYPE == native.MODEL_TYPE or config.head.tied:
        return family, plain
    return of_encoder_alone, bare


def family_of(config: ModelConfig) -> Family:
    """Return the family of the encoder."""
    return families.ENCODERS.holding(
        replace(config, head=None, labels=(), max_length=None, usage=InferenceConfig())
    )


def of_encoder(path: str) -> bool:
    """Return whether a module belongs to the encoder rather than the head."""
    return path.startswith("encoder/")


def _check_tokenizer(place: Path, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Refuse a tokenizer that visibly belongs to another model.

    Special and added tokens may lack a row: only texts that contain them are refused. The padding
    id is checked only where positions depend on it, since nothing attends to padding.

    Raises:
        EncodaxError: the tokenizer has more tokens than the embedding; or positions depend on
            another padding id.
    """
    embeddings = config.encoder.embeddings
    rows, counted = embeddings.vocabulary_size, embeddings.uncounted_id
    if tokenizer.least_rows > rows:
        raise EncodaxError(
            f"{place}: the tokenizer has {tokenizer.vocabulary_size} tokens and the embedding "
            f"{rows} rows; they are from different models"
        )
    pads = counted is not None and "pad_token" in tokenizer.special_tokens
    if pads and tokenizer.pad_id != counted:
        raise EncodaxError(
            f"{place}: the tokenizer pads with id {tokenizer.pad_id}, and the model counts "
            f"positions by the padding {counted}; they are from different models"
        )


def _object(path: Path) -> dict[str, Any]:
    content: dict[str, Any]
    content = json_files.read(path, hint=missing_model_hint(path.parent))
    return content


def missing_model_hint(directory: Path) -> str:
    """Return an addition to an error about a directory without a model: its content, and advice."""
    names = json_files.names_in(directory)
    inside = [p.parent for depth in ("*", "*/*") for p in directory.glob(f"{depth}/{CONFIG_FILE}")]
    converted = next((name for name in names if name.endswith(weights.CONVERTED)), None)
    if not names:
        return f": {directory} is empty"
    steps = (directory, *(directory / name for name in names if name.isdecimal()))
    if any((place / "record").exists() for place in steps):
        return (
            ": these are checkpoints of a training run; give the model that it writes (OUT), or "
            "continue the run (--resume)"
        )
    if inside:
        return f": give the model directory in it: {min(inside)}"
    if converted is not None:
        return f": {weights.converted_file_hint(converted)}"
    if tokenizer_files.TOKENIZER_FILE in names:
        return f": {directory} holds only a tokenizer, and no model"
    return f": is {directory} a model directory?"
