"""Module files of sentence-transformers, which make an embedder or a cross-encoder of an encoder.

`modules.json` lists the modules in order. An embedder has Transformer and Pooling, then optionally
Dense, LayerNorm, Dropout and Normalize; a cross-encoder has only Transformer. Any other module is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from encodax.config import (
    DenseConfig,
    HeadConfig,
    InferenceConfig,
    ModelConfig,
    NormConfig,
    Pooling,
    Similarity,
)
from encodax.errors import EncodaxError
from encodax.families.tensors import LINEAR, NORM, Leaves
from encodax.model_files import weights
from encodax.storage import json_files
from encodax.storage.json_files import FileKeys, ModelFiles, Settings, is_there, shown
from encodax.types.batches import Params

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
LENGTH_FILE = "sentence_bert_config.json"
LENGTH_FILES = (
    LENGTH_FILE,
    *(
        f"sentence_{family}_config.json"
        for family in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)
"""Names of the file with the maximum sequence length, in the order in which they are tried."""
PACKAGE = "sentence_transformers."
"""Package of the known modules; others need separate code, which is not run."""
CROSS_ENCODER = "CrossEncoder"
"""`model_type` of a model that scores pairs."""
ORDER = re.compile(
    "Transformer Pooling (Dropout )?(?P<dense>(Dense )*)(LayerNorm )?(Dropout )?(Normalize )?"
)
"""Allowed order of the modules of an embedder."""
KINDS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dropout", "Normalize")
TORCH_NORM = NormConfig(eps=1e-5)

POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_length",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
"""`pooling_mode` -> `Pooling`."""
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flags of older files -> `Pooling`; vectors of several modes are concatenated in this order."""
ACTIVATIONS = {
    "Tanh": "tanh",
    "Identity": "linear",
    "ReLU": "relu",
    "GELU": "gelu_erf",
    "ELU": "elu",
    "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_swish",
    "Hardtanh": "hard_tanh",
    "LeakyReLU": "leaky_relu",
    "LogSigmoid": "log_sigmoid",
    "Mish": "mish",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
}
"""Class of torch with its default arguments -> activation."""
SCORE_ACTIVATIONS = {**ACTIVATIONS, "LogSoftmax": "log_softmax", "Softmax": "softmax"}
"""Class of torch -> activation of a cross-encoder's scores."""
SIMILARITIES: dict[str, Similarity] = {
    "cosine": "cosine",
    "dot": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
}
DEFAULT_PROMPTS = ("query", "document")
"""Prompts that every embedder of sentence-transformers has; empty if no file defines them."""

ACTIVATION_PLACE = "sentence_transformers"
OLD_ACTIVATION = "sbert_ce_default_activation_function"
"""Keys of `config.json` in which older versions keep the activation of a cross-encoder's scores."""

UNREAD = "sentence-transformers does not read it"
LOADING = "it says where and how files are found, not what is computed"
EXACT = "all is computed in the precision that the caller chooses"
OF_MODULES = {
    "idx": "the order of the list counts",
    "name": "it is what messages call the module",
    "kwargs": "it names what a caller may pass to the module, and none does",
}
OF_SETTINGS = {
    "__version__": "it says what wrote the file",
    "requirements": "it lists packages of sentence-transformers",
    "keep_in_fp32_modules": EXACT,
}
OF_LENGTHS = {"unpad_inputs": "it is about padding, which changes no number"}
OF_ARGUMENTS = {
    **dict.fromkeys(("cache_dir", "local_files_only", "revision", "subfolder", "token"), LOADING),
    **dict.fromkeys(("device_map", "low_cpu_mem_usage", "use_safetensors"), LOADING),
    **dict.fromkeys(("dtype", "torch_dtype"), EXACT),
    "add_pooling_layer": "the pooler is not used",
    "attn_implementation": "it trades memory for time, and changes no number",
    "padding": "padding changes no number",
    "padding_side": "padding changes no number",
    "trust_remote_code": "no code of a directory is run",
    "use_fast": "both give the same tokens",
}
"""Loading arguments of transformers that a module file may hold -> why they change no number."""
ARGUMENTS = (
    "model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args",
    "config_kwargs",
)  # fmt: skip
REMOVE = "remove the key to do without it"


@dataclass(frozen=True)
class SentenceModules:
    """Content of the module files."""

    encoder: Path
    """Directory of the encoder's files."""
    head: HeadConfig | None
    """Head of an embedder; None for a cross-encoder, whose head is in the encoder's files."""
    dense: tuple[Path, ...]
    """Paths of the weights of dense layers."""
    norm: Path | None
    """Path of the weights of the layer norm; None without a layer norm."""
    max_length: int | None
    usage: InferenceConfig
    widths: tuple[tuple[str, int, bool], ...] = ()
    """Widths in the files: source, width, and whether it is that of the pooling's input."""
    files: ModelFiles = field(default_factory=dict)
    """Keys of each of these files: used, or kept with a reason; by file name in the directory."""


class _Files:
    """Reader of the files of a directory that records which keys are used."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.keys: dict[str, FileKeys] = {}

    def read(self, path: Path) -> Settings:
        """Read a file that `modules.json` requires."""
        return Settings(_json(path, dict), where=path)

    def settle(
        self, settings: Settings, ignored_keys: Mapping[str, str], unknown: str | None = None
    ) -> None:
        """Check that every key of a file was used or is in `ignored_keys`."""
        name = str(Path(settings.where).relative_to(self.directory))
        self.keys[name] = settings.settle(ignored_keys, unknown=unknown)


def read(directory: Path) -> SentenceModules | None:
    """Read the module files of a directory; return None if it has none.

    Raises:
        EncodaxError: a file is broken, or needs an unknown module or option.
    """
    path = directory / MODULES_FILE
    if not is_there(path):
        return None
    files = _Files(directory)
    modules = _modules(files, path)
    kinds = [kind for kind, _ in modules]
    usage, kind = _usage(files)
    encoder = modules[0][1] if modules else directory
    if kind == CROSS_ENCODER:
        _check_cross_encoder(path, kinds)
        usage, length = _transformer(files, encoder, usage, is_cross_encoder=True)
        return SentenceModules(encoder, None, (), None, length, usage, files=files.keys)
    _check_order(path, kinds)
    usage, length = _transformer(files, encoder, usage, is_cross_encoder=False)
    folders = {kind: [place for name, place in modules if name == kind] for kind in KINDS}
    widths: list[tuple[str, int, bool]] = []
    poolings, pools_prompt = _pooling(files, folders["Pooling"][0], widths)
    head = HeadConfig("embedding", pooling=poolings, normalize="Normalize" in kinds)
    dense = [_dense(files, folder, widths) for folder in folders["Dense"]]
    if dense:
        first, *others = dense
        head = replace(
            head,
            dense_width=first.width,
            dense_bias=first.bias,
            activation=first.activation,
            further_dense=tuple(others),
        )
    for folder in folders["LayerNorm"]:
        settings = files.read(folder / "config.json")
        widths.append((f"{settings.where}: dimension", _whole(settings, "dimension"), False))
        files.settle(settings, {})
        head = replace(head, norm=TORCH_NORM)
    return SentenceModules(
        encoder=encoder,
        head=_with_dropout(files, head, modules),
        dense=tuple(folders["Dense"]),
        norm=next(iter(folders["LayerNorm"]), None),
        max_length=length,
        usage=replace(usage, include_prompt=pools_prompt),
        widths=tuple(widths),
        files=_with_normalize(files, folders["Normalize"]),
    )


def _modules(files: _Files, path: Path) -> list[tuple[str, Path]]:
    """Return the kind and the folder of each module."""
    found: list[tuple[str, Path]] = []
    kept: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    names = set()
    for index, item in enumerate(_json(path, list)):
        if not isinstance(item, dict):
            raise EncodaxError(f"{path}: module {index} is {shown(item)}, which is not an object")
        settings = Settings(item, where=f"{path}, module {index}")
        kind, place = (_string(settings, key) for key in ("type", "path"))
        name = shown(item.get("name", index))
        if name in names:
            raise EncodaxError(f"{path}: two modules have the name {name}: give each its own name")
        names.add(name)
        found.append((_kind(kind), _inside(files.directory, place)))
        keys = settings.settle(OF_MODULES, unknown=UNREAD)
        kept |= {f"{index}.{key}": value for key, value in keys.kept.items()}
        reasons |= {f"{index}.{key}": reason for key, reason in keys.reasons.items()}
    files.keys[MODULES_FILE] = FileKeys(("type", "path"), kept, reasons)
    places = [place for _, place in found]
    if len(set(places)) < len(places):
        raise EncodaxError(f"{path}: two modules have the same path: give each its own folder")
    return found


def _kind(name: str) -> str:
    return name.rsplit(".", 1)[-1] if name.startswith(PACKAGE) else name


def _inside(directory: Path, place: str) -> Path:
    """Return a module's folder: directly inside the directory, or the directory itself."""
    is_plain = Path(place).name == place and place != ".." and place.isprintable()
    if place not in ("", ".") and not is_plain:
        raise EncodaxError(
            f"{directory / MODULES_FILE}: {place!r} is outside the directory; name a folder in it"
        )
    return directory / place


def _check_order(path: Path, kinds: list[str]) -> None:
    if not ORDER.fullmatch("".join(f"{kind} " for kind in kinds)):
        raise EncodaxError(
            f"{path}: the modules {kinds} are not supported, and code of a directory is not run; "
            "known, in this order: Transformer, Pooling, and then any of Dense (several too), "
            "LayerNorm, Dropout, Normalize. Without modules.json the encoder loads by itself"
        )


def _check_cross_encoder(path: Path, kinds: list[str]) -> None:
    if kinds == ["Transformer"]:
        return
    hint = "; LogitScore is for language models, which write yes or no" * ("LogitScore" in kinds)
    raise EncodaxError(
        f"{path}: the modules {kinds} of a CrossEncoder are not supported, and code of a directory "
        f"is not run{hint}; known: only Transformer. Choose a CrossEncoder that is a sequence "
        "classifier, such as cross-encoder/ms-marco-MiniLM-L6-v2"
    )


# --- settings of each module


def _pooling(
    files: _Files, folder: Path, widths: list[tuple[str, int, bool]]
) -> tuple[Pooling | tuple[Pooling, ...], bool]:
    """Return the pooling modes, and whether prompt tokens are pooled."""
    settings = files.read(folder / "config.json")
    path = settings.where
    pools_prompt = _flag(settings, "include_prompt", True)
    flags = {flag: _flag(settings, flag, False) for flag in POOLING_FLAGS if flag in settings}
    on = [mode for flag, mode in POOLING_FLAGS.items() if flags.get(flag)]
    modes = settings.get("pooling_mode", on or "mean")
    named = [modes] if isinstance(modes, str) else modes
    is_list = isinstance(named, list) and all(isinstance(mode, str) for mode in named)
    if not is_list or not named or not set(named) <= set(POOLINGS):
        known = ", ".join(POOLINGS)
        raise EncodaxError(
            f"{path}: pooling_mode {shown(modes)} is not supported; known, alone or as a list: "
            f"{known}"
        )
    for key in ("embedding_dimension", "word_embedding_dimension"):
        if key in settings:
            widths.append((f"{path}: {key}", _whole(settings, key), True))
    files.settle(settings, {})
    poolings = tuple(POOLINGS[mode] for mode in named)
    return poolings[0] if len(poolings) == 1 else poolings, pools_prompt


def _dense(files: _Files, folder: Path, widths: list[tuple[str, int, bool]]) -> DenseConfig:
    settings = files.read(folder / "config.json")
    path = settings.where
    _check_place(settings)
    activation = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    ours = _activation(path, "activation_function", activation, ACTIVATIONS)
    if _flag(settings, "use_residual", False):
        raise EncodaxError(f"{path}: use_residual = true is not supported; {REMOVE}")
    if "in_features" in settings:
        widths.append((f"{path}: in_features", _whole(settings, "in_features"), False))
    width = _whole(settings, "out_features")
    widths.append(("", width, False))
    layer = DenseConfig(width, _flag(settings, "bias", True), ours)
    files.settle(settings, {}, unknown=UNREAD)
    return layer


def _with_dropout(files: _Files, head: HeadConfig, modules: list[tuple[str, Path]]) -> HeadConfig:
    """Return the head with the dropout of its modules, which acts only in training."""
    kinds = [kind for kind, _ in modules]
    for index, (kind, folder) in enumerate(modules):
        if kind != "Dropout":
            continue
        settings = files.read(folder / "config.json")
        rate = settings.get("dropout", 0.2)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise EncodaxError(f"{settings.where}: dropout = {shown(rate)} is not in 0..1")
        files.settle(settings, {})
        is_first = {"Dense", "LayerNorm", "Dropout"} & set(kinds[index + 1 :])
        if is_first:
            head = replace(head, input_dropout_rate=float(rate))
        else:
            head = replace(head, dropout_rate=float(rate))
    return head


def _with_normalize(files: _Files, folders: list[Path]) -> ModelFiles:
    for folder in folders:
        if is_there(folder / "config.json"):
            settings = files.read(folder / "config.json")
            _check_place(settings)
            files.settle(settings, {}, unknown=UNREAD)
    return files.keys


def _check_place(settings: Settings) -> None:
    """Refuse modules that work on anything but the vector of the text."""
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, "sentence_embedding"):
            raise EncodaxError(
                f"{settings.where}: {key} = {shown(settings[key])} is not supported; known: "
                "sentence_embedding"
            )


def _activation(path: Path | str, key: str, name: object, known: Mapping[str, str]) -> str:
    package, _, last = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not f"{package}.".startswith("torch.nn.") or last not in known:
        names = ", ".join(known)
        raise EncodaxError(
            f"{path}: {key} = {shown(name)} is not supported; known, of torch.nn: {names}"
        )
    return known[last]


# --- the Transformer module: lengths


def _transformer(
    files: _Files, folder: Path, usage: InferenceConfig, *, is_cross_encoder: bool
) -> tuple[InferenceConfig, int | None]:
    """Return the settings of the length file, and the maximum sequence length.

    This is `max_seq_length`, or the tokenizer's limit, where newer files keep it.
    """
    length = None
    for name in LENGTH_FILES:
        if is_there(folder / name) and len(settings := files.read(folder / name)):
            usage, length = _lengths(settings, usage, is_cross_encoder)
            files.settle(settings, OF_LENGTHS)
            break
    return usage, tokenizer_length(folder) if length is None else length


def _lengths(
    settings: Settings, usage: InferenceConfig, is_cross_encoder: bool
) -> tuple[InferenceConfig, int | None]:
    task, output, scores = (
        ("sequence-classification", "logits", "scores")
        if is_cross_encoder
        else ("feature-extraction", "last_hidden_state", "token_embeddings")
    )
    text = {"method": "forward", "method_output_name": output}
    named = {
        "transformer_task": (task,),
        "modality_config": ({"text": text},),
        "module_output_name": (scores,),
    }
    if is_cross_encoder and "transformer_task" not in settings:
        raise EncodaxError(
            f"{settings.where}: a CrossEncoder needs transformer_task = {shown(task)}: add it"
        )
    for key, known in named.items():
        if key in settings and settings[key] not in known:
            raise EncodaxError(
                f"{settings.where}: {key} = {shown(settings[key])} is not supported; known: "
                f"{shown(known[0])}"
            )
    length = _length(settings, "max_seq_length")
    arguments = {key: _object(settings, key) for key in ARGUMENTS}
    for key, values in arguments.items():
        is_of_tokenizer = key in ("tokenizer_args", "processor_kwargs")
        if is_of_tokenizer:
            own = _tokenizer_length(values)
            length = length if own is None else own
        values.settle(OF_ARGUMENTS)
    processing = _object(settings, "processing_kwargs")
    for part in ("common", "text"):
        values = _object(processing, part)
        if values.get("truncation", True) not in (True, "longest_first"):
            raise EncodaxError(
                f"{values.where}: truncation = {shown(values['truncation'])} is not supported; "
                'known: true, "longest_first"'
            )
        if values.get("max_length") is not None:
            length = _length(values, "max_length")
        values.settle(OF_ARGUMENTS)
    processing.settle({})
    lowercases = _flag(settings, "do_lower_case", False)
    return replace(usage, do_lower_case=lowercases), length


def tokenizer_length(folder: Path) -> int | None:
    """Return `model_max_length` of `tokenizer_config.json`.

    Raises:
        EncodaxError: the value is not a length.
    """
    path = folder / "tokenizer_config.json"
    if not is_there(path):
        return None
    return _tokenizer_length(Settings(_json(path, dict), where=path))


def _tokenizer_length(settings: Settings) -> int | None:
    """Return `model_max_length`, which is `max_len` in old files."""
    return _length(settings, "model_max_length" if "model_max_length" in settings else "max_len")


def _length(settings: Settings, key: str) -> int | None:
    value = settings.get(key)
    if value is None or value == int(1e30):  # transformers writes this for "no limit"
        return None
    return _whole(settings, key)


# --- settings of the directory


def _usage(files: _Files) -> tuple[InferenceConfig, str]:
    """Return how scores are computed from texts, and the kind of the model."""
    path = files.directory / SETTINGS_FILE
    if not is_there(path):
        return InferenceConfig(), "SentenceTransformer"
    settings = files.read(path)
    kind = settings.get("model_type", "SentenceTransformer")
    if kind not in ("SentenceTransformer", CROSS_ENCODER):
        raise EncodaxError(
            f"{path}: model_type = {shown(kind)} is not supported; known: SentenceTransformer, "
            f"{CROSS_ENCODER}. Without {MODULES_FILE} the encoder loads by itself"
        )
    usage = _prompts(settings, always=() if kind == CROSS_ENCODER else DEFAULT_PROMPTS)
    ignored_keys = dict(OF_SETTINGS)
    if kind == CROSS_ENCODER:
        found = settings.get("activation_fn")
        if found is not None:
            ours = _activation(path, "activation_fn", found, SCORE_ACTIVATIONS)
            usage = replace(usage, activation=ours)
    else:
        similarity = settings.get("similarity_fn_name") or "cosine"
        if not isinstance(similarity, str) or similarity not in SIMILARITIES:
            known = ", ".join(SIMILARITIES)
            raise EncodaxError(
                f"{path}: similarity_fn_name = {shown(similarity)} is not supported; known: {known}"
            )
        width = None if settings.get("truncate_dim") is None else _whole(settings, "truncate_dim")
        usage = replace(usage, similarity=SIMILARITIES[similarity], truncate_dim=width)
    files.settle(settings, ignored_keys, unknown=UNREAD)
    return usage, kind


def _prompts(settings: Settings, always: tuple[str, ...]) -> InferenceConfig:
    path = settings.where
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(
        isinstance(p, str | None) for p in prompts.values()
    ):
        raise EncodaxError(f"{path}: prompts = {shown(prompts)} is not an object of strings")
    try:
        "".join([*prompts, *(prompt or "" for prompt in prompts.values())]).encode()
    except UnicodeEncodeError as error:
        raise EncodaxError(f"{path}: prompts hold a character that is not Unicode") from error
    if default is not None and (not isinstance(default, str) or default not in (*prompts, *always)):
        raise EncodaxError(
            f"{path}: default_prompt_name = {shown(default)} is not one of the prompts: add it to "
            "them, or set it to null"
        )
    return InferenceConfig(tuple((name, prompt or "") for name, prompt in prompts.items()), default)


def activation_of(published: Settings) -> str | None:
    """Return the activation in `config.json` of a cross-encoder's scores; None without one.

    Versions of sentence-transformers before 5.4 kept it there, before 4.0 under a longer name.

    Raises:
        EncodaxError: the activation is unknown.
    """
    own = _object(published, ACTIVATION_PLACE)
    if "activation_fn" in own:
        key, name, where = "activation_fn", own["activation_fn"], own.where
    else:
        key, where = OLD_ACTIVATION, published.where
        name = published.get(key)
    return None if name is None else _activation(where, key, name, SCORE_ACTIVATIONS)


def names_activation(published: Mapping[str, Any]) -> bool:
    """Return whether `config.json` names the activation of a cross-encoder's scores."""
    return ACTIVATION_PLACE in published or OLD_ACTIVATION in published


def default_activation(classes: int) -> str:
    """Return the default activation of sentence-transformers for a cross-encoder's scores."""
    return "sigmoid" if classes == 1 else "linear"


def put_activation(published: dict[str, Any], activation: str | None) -> None:
    """Put the activation into `config.json`, where versions before 5.4 look for it."""
    for key in (ACTIVATION_PLACE, OLD_ACTIVATION):
        published.pop(key, None)  # may belong to another head
    if activation is not None:
        published[ACTIVATION_PLACE] = {"activation_fn": published_activation(activation)}


# --- checks


def _string(settings: Settings, key: str) -> str:
    value = settings.get(key)
    if not isinstance(value, str):
        raise EncodaxError(f"{settings.where}: {key} = {shown(value)} is not a string")
    return value


def _flag(settings: Settings, key: str, default: bool) -> bool:
    value = settings.get(key, default)
    if not isinstance(value, bool):
        raise EncodaxError(f"{settings.where}: {key} = {shown(value)} is not true or false")
    return value


def _whole(settings: Settings, key: str) -> int:
    value = settings.get(key)
    if type(value) is not int or value < 1:
        raise EncodaxError(f"{settings.where}: {key} = {shown(value)} is not a whole number >= 1")
    return value


def _object(settings: Settings, key: str) -> Settings:
    """Return an object in an object; an empty one if the key is missing."""
    value = settings.get(key) or {}
    if not isinstance(value, dict):
        raise EncodaxError(f"{settings.where}: {key} = {shown(value)} is not an object")
    return Settings(value, where=f"{settings.where}, {key}")


def check_widths(modules: SentenceModules, model_width: int) -> None:
    """Refuse modules that were made for vectors of another width.

    Raises:
        EncodaxError: widths differ; the error names the key, its value and the actual width.
    """
    if modules.head is None:
        return
    poolings = modules.head.pooling
    given = model_width * (1 if isinstance(poolings, str) else len(poolings or ()))
    for where, width, is_of_pooling in modules.widths:
        wanted = model_width if is_of_pooling else given
        if not where:  # an entry without a source sets the width of the next input
            given = width
        elif width != wanted:
            raise EncodaxError(
                f"{where} = {width}, and the module before it gives {wanted}: they are from "
                f"different models, or the key must be {wanted}"
            )


# --- weights


def read_parameters(modules: SentenceModules, model_width: int) -> dict[str, dict[str, Any]]:
    """Read the parameters of the head, by their paths.

    Raises:
        EncodaxError: a file is missing or broken, or has other tensors than the layer.
    """
    check_widths(modules, model_width)
    head, params = modules.head, {}
    if head is None:
        return {}
    width = model_width * (1 if isinstance(head.pooling, str) else len(head.pooling or ()))
    for (path, layer), folder in zip(dense_layers(head).items(), modules.dense, strict=True):
        shapes = {"w": (width, layer.width), "b": (layer.width,)}
        used = {leaf: shape for leaf, shape in shapes.items() if leaf == "w" or layer.bias}
        params[path] = _stored(folder, "linear", LINEAR, used)
        width = layer.width
    if modules.norm is not None:
        params["head/norm"] = _stored(
            modules.norm, "norm", NORM, {"alpha": (width,), "beta": (width,)}
        )
    return params


def dense_layers(head: HeadConfig) -> dict[str, DenseConfig]:
    """Return the dense layers of an embedder, by the paths of their parameters."""
    if head.dense_width is None:
        return {}
    first = DenseConfig(head.dense_width, head.dense_bias, head.activation)
    others = {f"head/dense_{n}": layer for n, layer in enumerate(head.further_dense, 2)}
    return {"head/dense": first, **others}


def _stored(
    folder: Path, prefix: str, leaves: Leaves, shapes: dict[str, tuple[int, ...]]
) -> dict[str, Any]:
    names = {leaf: f"{prefix}.{leaves[leaf].name}" for leaf in shapes}
    stored = weights.read(
        folder / weights.WEIGHTS_FILE,
        {names[leaf]: leaves[leaf].file_shape(shape) for leaf, shape in shapes.items()},
    )
    return {
        leaf: leaves[leaf].to_parameter(stored[names[leaf]], shape)
        for leaf, shape in shapes.items()
    }


# --- writing


def is_cross_encoder(config: ModelConfig) -> bool:
    """Return whether a model is saved as a cross-encoder: its `sequence` head has a `usage`."""
    return (
        config.head is not None
        and config.head.kind == "sequence"
        and config.usage != InferenceConfig()
    )


def write_cross_encoder(directory: Path, config: ModelConfig, files: ModelFiles) -> None:
    """Write the module files of a cross-encoder.

    Args:
        directory: model directory.
        config: configuration of the model.
        files: keys that do not change any output, which are saved again.
    """
    kind = "base.modules.transformer.Transformer"
    _write_modules(directory, [("", kind)], files)
    text = {"method": "forward", "method_output_name": "logits"}
    _write_lengths(directory, config, files, {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": text},
        "module_output_name": "scores",
    })  # fmt: skip
    activation = config.usage.activation
    settings = {
        "model_type": CROSS_ENCODER,
        "activation_fn": None if activation is None else published_activation(activation),
    }
    _write_settings(directory, config, files, settings)


def published_activation(activation: str) -> str:
    """Return the class of torch for an activation."""
    name = {ours: name for name, ours in SCORE_ACTIVATIONS.items()}[activation]
    return f"torch.nn.modules.{'linear' if name == 'Identity' else 'activation'}.{name}"


def write(directory: Path, config: ModelConfig, params: Params, files: ModelFiles) -> None:
    """Write the module files of an embedder.

    Args:
        directory: model directory.
        config: configuration of the model.
        params: parameters of the model.
        files: keys that do not change any output, which are saved again.
    """
    head = config.head
    assert head is not None and head.pooling is not None
    kinds = ["Transformer"]

    def put(kind: str, content: dict[str, Any]) -> Path:
        folder = directory / f"{len(kinds)}_{kind}"
        kinds.append(kind)
        folder.mkdir()
        name = f"{folder.name}/config.json"
        json_files.write(folder / "config.json", {**kept(files, name), **content})
        return folder

    width = config.encoder.embeddings.model_width
    named = {ours: published for published, ours in POOLINGS.items()}
    poolings = (head.pooling,) if isinstance(head.pooling, str) else head.pooling
    modes = [named[pooling] for pooling in poolings]
    in_order = [mode for mode in POOLING_FLAGS.values() if mode in modes]
    flags = {flag: mode in modes for flag, mode in POOLING_FLAGS.items()}
    put("Pooling", {
        "word_embedding_dimension": width,
        **(flags if modes == in_order else {"pooling_mode": modes}),
        "include_prompt": config.usage.include_prompt,
    })  # fmt: skip
    width *= len(modes)
    follows = head.dense_width is not None or head.norm is not None
    if head.input_dropout_rate and (follows or head.dropout_rate):
        put("Dropout", {"dropout": head.input_dropout_rate})
    for path, layer in dense_layers(head).items():
        content = {
            "in_features": width,
            "out_features": layer.width,
            "bias": layer.bias,
            "activation_function": published_activation(layer.activation),
        }
        _write_layer(put("Dense", content), "linear", LINEAR, params[path])
        width = layer.width
    if head.norm is not None:
        _write_layer(put("LayerNorm", {"dimension": width}), "norm", NORM, params["head/norm"])
    if head.dropout_rate:
        put("Dropout", {"dropout": head.dropout_rate})
    if head.normalize:
        put("Normalize", {})
    folders = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index)]
    modules = [(folder, f"models.{kind}") for folder, kind in zip(folders, kinds, strict=True)]
    _write_modules(directory, modules, files)
    _write_lengths(directory, config, files, {})
    cut = config.usage.truncate_dim
    settings = {
        "model_type": "SentenceTransformer",
        "similarity_fn_name": config.usage.similarity,
        **({} if cut is None else {"truncate_dim": cut}),
    }
    _write_settings(directory, config, files, settings)


def _write_modules(directory: Path, modules: list[tuple[str, str]], files: ModelFiles) -> None:
    found = kept(files, MODULES_FILE)
    content = [
        {
            **_of_module(found, index),
            "idx": index,
            "name": str(index),
            "path": folder,
            "type": f"{PACKAGE}{kind}",
        }
        for index, (folder, kind) in enumerate(modules)
    ]
    json_files.write(directory / MODULES_FILE, content)


def _of_module(found: Mapping[str, Any], index: int) -> dict[str, Any]:
    start = f"{index}."
    return {key[len(start) :]: value for key, value in found.items() if key.startswith(start)}


def _write_lengths(
    directory: Path, config: ModelConfig, files: ModelFiles, content: dict[str, Any]
) -> None:
    name = next((n for n in files if Path(n).name in LENGTH_FILES), LENGTH_FILE)
    lengths = {
        "max_seq_length": config.max_length or config.encoder.embeddings.max_positions,
        "do_lower_case": config.usage.do_lower_case,
    }
    json_files.write(directory / LENGTH_FILE, {**kept(files, name), **lengths, **content})


def _write_settings(
    directory: Path, config: ModelConfig, files: ModelFiles, content: dict[str, Any]
) -> None:
    prompts = {
        "prompts": dict(config.usage.prompts),
        "default_prompt_name": config.usage.default_prompt,
    }
    found = kept(files, SETTINGS_FILE)
    json_files.write(directory / SETTINGS_FILE, {**found, **prompts, **content})


def kept(files: ModelFiles, name: str) -> dict[str, Any]:
    """Return the keys of a file that do not change any output, to be saved again."""
    return dict(files.get(name, FileKeys()).kept)


def _write_layer(folder: Path, prefix: str, leaves: Leaves, params: Mapping[str, Any]) -> None:
    tensors = {
        f"{prefix}.{leaves[leaf].name}": leaves[leaf].to_file(np.asarray(array))
        for leaf, array in params.items()
    }
    weights.write(folder / weights.WEIGHTS_FILE, tensors)


def _json(path: Path, kind: type) -> Any:
    return json_files.read(path, kind, hint=f", and {MODULES_FILE} needs it")
