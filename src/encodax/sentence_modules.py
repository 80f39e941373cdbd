"""The module files of sentence-transformers: how an encoder becomes an embedder, read and written.

`modules.json` lists the modules in order. We know Transformer, Pooling, Dense and Normalize; any
other is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from encodax import json_files, weights
from encodax.config import HeadConfig, ModelConfig, Pooling, Similarity, Usage
from encodax.errors import EncodaxError
from encodax.families.tensors import LINEAR
from encodax.json_files import ModelFiles, is_there
from encodax.types import Params

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
LENGTH_FILE = "sentence_bert_config.json"
PACKAGE = "sentence_transformers."
"""Whose modules are known; others bring code of their own, which is not run."""

POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
"""`pooling_mode` -> ours."""
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
"""The older form: a flag a mode."""
ACTIVATIONS = {"Tanh": "tanh", "Identity": "linear", "ReLU": "relu", "GELU": "gelu_erf"}
"""Class of torch -> ours."""
SIMILARITIES: dict[str, Similarity] = {
    "cosine": "cosine",
    "dot": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
}


@dataclass(frozen=True)
class SentenceModules:
    """What the module files say."""

    encoder: Path
    """Where the encoder's own files are."""
    head: HeadConfig
    dense: Path | None
    """Where the dense layer's weights are; None where there is no such layer."""
    max_length: int | None
    usage: Usage
    files: ModelFiles = field(default_factory=dict)
    """What became of the keys of each of these files, by its name in the directory."""


def read(directory: Path) -> SentenceModules | None:
    """Read the module files of a directory; None where it has none.

    Raises:
        EncodaxError: a file is broken, or asks for a module or option that is not known.
    """
    path = directory / MODULES_FILE
    if not is_there(path):
        return None
    listed = _json(path, list)
    try:
        modules = [(_kind(item["type"]), item["path"]) for item in listed]
        kinds = tuple(kind for kind, _ in modules)
        places = {kind: _inside(directory, place) for kind, place in modules}
    except (AttributeError, KeyError, TypeError) as error:
        raise EncodaxError(f"{path} is no list of modules: {error!r}") from error
    if len(places) < len(kinds) or kinds not in (
        ("Transformer", "Pooling"),
        ("Transformer", "Pooling", "Normalize"),
        ("Transformer", "Pooling", "Dense"),
        ("Transformer", "Pooling", "Dense", "Normalize"),
    ):
        raise EncodaxError(
            f"{path}: the modules {list(kinds)} are not supported, nor is code of a directory run; "
            "known, in this order: Transformer, Pooling, and then Dense, Normalize or both"
        )
    head = HeadConfig(
        "embedding", pooling=_pooling(places["Pooling"]), normalize="Normalize" in places
    )
    if "Normalize" in places and is_there(path := places["Normalize"] / "config.json"):
        _check_place(path, _json(path, dict))
    dense = places.get("Dense")
    return SentenceModules(
        encoder=places["Transformer"],
        head=head if dense is None else _with_dense(head, dense),
        dense=dense,
        max_length=_max_length(places["Transformer"]),
        usage=_usage(directory),
    )


def _kind(name: str) -> str:
    return name.rsplit(".", 1)[-1] if name.startswith(PACKAGE) else name


def _inside(directory: Path, place: str) -> Path:
    """A module's folder: a plain name in the directory, or the directory itself."""
    is_plain = Path(place).name == place and place != ".." and place.isprintable()
    if place not in ("", ".") and not is_plain:
        raise EncodaxError(f"{directory / MODULES_FILE}: {place!r} leaves the directory")
    return directory / place


def _pooling(folder: Path) -> Pooling:
    path = folder / "config.json"
    config = _json(path, dict)
    if config.get("include_prompt", True) is not True:
        raise EncodaxError(f"{path}: include_prompt = false is not supported")
    mode = config.get("pooling_mode")
    if mode is None:
        usual = {"pooling_mode_mean_tokens": True}
        on = [name for flag, name in POOLING_FLAGS.items() if config.get(flag, usual.get(flag))]
        mode = on[0] if len(on) == 1 else on
    if not isinstance(mode, str) or mode not in POOLINGS:
        known = ", ".join(POOLINGS)
        raise EncodaxError(f"{path}: the pooling {mode!r} is not supported; known: {known}")
    return POOLINGS[mode]


def _with_dense(head: HeadConfig, folder: Path) -> HeadConfig:
    path = folder / "config.json"
    config = _json(path, dict)
    _check_place(path, config)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, name = activation.rpartition(".")
    if not package.startswith("torch.nn.") or name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise EncodaxError(f"{path}: activation {activation!r} is not supported; known: {known}")
    if config.get("use_residual"):
        raise EncodaxError(f"{path}: use_residual = true is not supported")
    width, bias = config.get("out_features"), config.get("bias", True)
    if type(width) is not int or width < 1:
        raise EncodaxError(f"{path}: out_features = {width!r} is not a whole number >= 1")
    if not isinstance(bias, bool):
        raise EncodaxError(f"{path}: bias = {bias!r} is not true or false")
    return replace(head, dense_width=width, dense_bias=bias, activation=ACTIVATIONS[name])


def _check_place(path: Path, config: dict[str, Any]) -> None:
    """Newer modules can work on other things than the vector of the text."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise EncodaxError(f"{path}: {key} = {config[key]!r} is not supported")


def _max_length(folder: Path) -> int | None:
    """`max_seq_length`, or the tokenizer's own limit: newer files keep it there."""
    for name, key in (
        (LENGTH_FILE, "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        path = folder / name
        if not is_there(path):
            continue
        config = _json(path, dict)
        if name == LENGTH_FILE and config.get("do_lower_case"):
            raise EncodaxError(f"{path}: do_lower_case = true is not supported")
        value = config.get(key)
        if value is None or value == int(1e30):  # transformers writes it for none
            continue
        if type(value) is not int or value < 1:
            raise EncodaxError(f"{path}: {key} = {value!r} is not a whole number >= 1")
        return value
    return None


def _usage(directory: Path) -> Usage:
    path = directory / SETTINGS_FILE
    if not is_there(path):
        return Usage()
    config = _json(path, dict)
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    similarity = config.get("similarity_fn_name") or "cosine"
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise EncodaxError(f"{path}: prompts = {prompts!r} is no object of strings")
    if default is not None and default not in list(prompts):
        raise EncodaxError(f"{path}: default_prompt_name {default!r} is not one of the prompts")
    if not isinstance(similarity, str) or similarity not in SIMILARITIES:
        known = ", ".join(SIMILARITIES)
        raise EncodaxError(f"{path}: similarity {similarity!r} is not supported; known: {known}")
    return Usage(tuple(prompts.items()), default, SIMILARITIES[similarity])


def read_dense(folder: Path, head: HeadConfig, width: int) -> dict[str, Any]:
    """The parameters of the dense layer.

    Raises:
        EncodaxError: the file is missing or broken, or its tensors are not those of the layer.
    """
    shapes = {"w": (width, head.dense_width or 0), "b": (head.dense_width or 0,)}
    wanted = {leaf: LINEAR[leaf] for leaf in shapes if leaf == "w" or head.dense_bias}
    names = {leaf: f"linear.{tensor.name}" for leaf, tensor in wanted.items()}
    stored = weights.read(
        folder / weights.WEIGHTS_FILE,
        {names[leaf]: tensor.file_shape(shapes[leaf]) for leaf, tensor in wanted.items()},
    )
    return {
        leaf: tensor.to_parameter(stored[names[leaf]], shapes[leaf])
        for leaf, tensor in wanted.items()
    }


def write(directory: Path, config: ModelConfig, params: Params, files: ModelFiles) -> None:
    """Write the module files of an embedder beside the encoder's own files.

    Args:
        directory: the model directory.
        config: of the model.
        params: of the model.
        files: keys that change no answer, which are saved back.
    """
    head = config.head
    assert head is not None and head.pooling is not None
    folders = ["", "1_Pooling"]
    kinds = ["Transformer", "Pooling"]
    if head.dense_width is not None:
        kinds, folders = [*kinds, "Dense"], [*folders, f"{len(kinds)}_Dense"]
        _write_dense(directory / folders[-1], config, params["head/dense"])
    if head.normalize:
        kinds, folders = [*kinds, "Normalize"], [*folders, f"{len(kinds)}_Normalize"]
        (directory / folders[-1]).mkdir()
        json_files.write(directory / folders[-1] / "config.json", {})
    modules = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
    ]
    json_files.write(directory / MODULES_FILE, modules)
    named = {ours: published for published, ours in POOLINGS.items()}[head.pooling]
    flags = {flag: mode == named for flag, mode in POOLING_FLAGS.items()}
    width = config.encoder.embeddings.model_width
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, **flags, "include_prompt": True}
    json_files.write(directory / "1_Pooling" / "config.json", pooling)
    length = config.max_length or config.encoder.embeddings.max_positions
    json_files.write(directory / LENGTH_FILE, {"max_seq_length": length, "do_lower_case": False})
    settings = {
        "prompts": dict(config.usage.prompts),
        "default_prompt_name": config.usage.default_prompt,
        "similarity_fn_name": config.usage.similarity,
    }
    json_files.write(directory / SETTINGS_FILE, settings)


def _write_dense(folder: Path, config: ModelConfig, dense: Any) -> None:
    head = config.head
    assert head is not None
    folder.mkdir()
    classes = {ours: name for name, ours in ACTIVATIONS.items()}
    module = "linear" if head.activation == "linear" else "activation"
    json_files.write(
        folder / "config.json",
        {
            "in_features": config.encoder.embeddings.model_width,
            "out_features": head.dense_width,
            "bias": head.dense_bias,
            "activation_function": f"torch.nn.modules.{module}.{classes[head.activation]}",
        },
    )
    tensors = {f"linear.{LINEAR[leaf].name}": LINEAR[leaf].to_file(np.asarray(array))
               for leaf, array in dense.items()}  # fmt: skip
    weights.write(folder / weights.WEIGHTS_FILE, tensors)


def _json(path: Path, kind: type) -> Any:
    return json_files.read(path, kind, hint=f", and {MODULES_FILE} wants it")
