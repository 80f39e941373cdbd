"""Low-rank adapters (LoRA): what they add to parameters, and the files that PEFT keeps them in.

Beside its weight `w` a module has the leaves `lora_a` (in, r), `lora_b` (r, *out) and the number
`lora_scale`. `merge` makes ordinary parameters of them.

adapter_config.json         which model they are for, rank and scale, as PEFT has it
adapter_model.safetensors   lora_A (r, in) and lora_B (out, r) of each module, and whole modules
config.json                 the model that it gives: its head and the names of its classes
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encodax import atomic, json_files, weights
from encodax.config import HeadConfig, HeadKind, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import Family, family_named, native
from encodax.families.tensors import Tensor
from encodax.saved_model import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    CONFIG_FILE,
    MODEL_FILES,
    family_and_config,
    family_of,
)
from encodax.types import Params

A, B, SCALE = "lora_a", "lora_b", "lora_scale"
"""The leaves of an adapter."""

ROOT = "base_model.model."
"""What PEFT writes before the names of the model that it wraps."""
FACTORS = {".lora_A.weight": A, ".lora_B.weight": B}
"""How PEFT's names of the two factors end."""

TASKS: dict[HeadKind | None, str | None] = {
    "sequence": "SEQ_CLS",
    "token": "TOKEN_CLS",
    "span": "QUESTION_ANS",
    "embedding": "FEATURE_EXTRACTION",
    None: "FEATURE_EXTRACTION",
    "vocabulary": None,
}
"""Kind of head -> PEFT's `task_type`."""
KINDS: dict[str, HeadKind] = {"SEQ_CLS": "sequence", "TOKEN_CLS": "token", "QUESTION_ANS": "span"}
"""`task_type` -> the kind of head that it asks for."""
WHOLE = ("classifier", "score")
"""Modules that PEFT trains and saves with all that is in them, of these tasks."""

RENAMED = ("nomic_bert",)
"""Families whose modules transformers names otherwise than their files do."""

PLAIN: dict[str, tuple[Any, ...]] = {
    "alpha_pattern": ({}, None),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "layer_replication": (None,),
    "lora_bias": (False,),
    "peft_type": ("LORA",),
    "trainable_token_indices": (None,),
    "use_dora": (False,),
}
"""Keys of `adapter_config.json` that change what is computed, and the values that are read."""


def merge(params: Params) -> Params:
    """Ordinary parameters: W = W_0 + s A B in place of each module that has an adapter.

    With s = alpha / r (Hu et al. 2021, arXiv:2106.09685, section 4.1). It is a pure function, and
    gradients of a loss of what it gives reach A and B.

    Args:
        params: modules with `w` (in, *out), and of some also `lora_a` (in, r), `lora_b` (r, *out)
            and `lora_scale`.
    """
    return {path: _merged(leaves) if A in leaves else leaves for path, leaves in params.items()}


def _merged(leaves: Mapping[str, Any]) -> dict[str, Any]:
    product = jnp.tensordot(leaves[A], leaves[B], axes=1)  # (in, *out)
    others = {leaf: array for leaf, array in leaves.items() if leaf not in (A, B, SCALE)}
    return {**others, "w": leaves["w"] + leaves[SCALE] * product}


# Writing


def write(
    directory: Path,
    config: ModelConfig,
    adapter: Params,
    *,
    rank: int,
    alpha: float,
    base: str,
    overwrite: bool = False,
) -> None:
    """Write an adapter as PEFT does, whole or not at all.

    Args:
        directory: where to.
        config: of the model that is adapted, with its head.
        adapter: `lora_a` and `lora_b` of the modules that have them; every other leaf is saved
            whole, as a head that was trained.
        rank: r.
        alpha: the scale is alpha / r.
        base: the model that it is added to: a directory, or an id of the hub.
        overwrite: whether the directory may exist.

    Raises:
        EncodaxError: PEFT's layout has no place for a leaf; the directory exists and is not to be
            overwritten, or cannot be written.
    """
    family, stored = family_and_config(config)
    tensors: dict[str, np.ndarray] = {}
    targets, whole = set(), set()
    for path, leaves in adapter.items():
        if A in leaves:
            module = _module(family, stored, path)
            targets.add(module)
            name = f"{ROOT}{module}.lora_"
            b = np.asarray(leaves[B])
            tensors[f"{name}A.weight"] = np.ascontiguousarray(np.asarray(leaves[A]).T)  # (r, in)
            tensors[f"{name}B.weight"] = np.ascontiguousarray(b.reshape(len(b), -1).T)  # (out, r)
        for leaf in leaves.keys() - {A, B}:
            tensor = _whole_tensor(family, stored, path, leaf)
            module, _, _ = tensor.name.rpartition(".")
            whole.add(next((name for name in WHOLE if module.startswith(f"{name}.")), module))
            tensors[ROOT + tensor.name] = tensor.to_file(np.asarray(leaves[leaf]))
    content = {
        "peft_type": "LORA",
        "task_type": TASKS[config.head.kind if config.head else None],
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(targets),
        "modules_to_save": sorted(whole) or None,
        "inference_mode": True,
    }

    def write_to(place: Path) -> None:
        json_files.write(place / ADAPTER_CONFIG_FILE, content)
        json_files.write(place / CONFIG_FILE, family.write_config(stored))
        weights.write(place / ADAPTER_WEIGHTS_FILE, tensors)
        # The library makes files that their owner alone can read.
        shutil.copymode(place / CONFIG_FILE, place / ADAPTER_WEIGHTS_FILE)

    atomic.write_directory(directory, write_to, overwrite=overwrite, replaces=MODEL_FILES)


WAY_OUT = "merge the adapter and save the whole model"


def check_savable(config: ModelConfig, adapter: Params) -> None:
    """Refuse, before it is trained, an adapter that `write` would refuse.

    Raises:
        EncodaxError: PEFT's layout has no place for a leaf.
    """
    family, stored = family_and_config(config)
    for path, leaves in adapter.items():
        if A in leaves:
            _module(family, stored, path)
        for leaf in leaves.keys() - {A, B}:
            _whole_tensor(family, stored, path, leaf)


def _module(family: Family, stored: ModelConfig, path: str) -> str:
    """The name in the file of a module that has an adapter."""
    if family.MODEL_TYPE == native.MODEL_TYPE:
        raise EncodaxError(f"no published family has this model, and so PEFT cannot: {WAY_OUT}")
    if family.MODEL_TYPE in RENAMED:
        raise EncodaxError(
            f"{path}: the modules of {family.MODEL_TYPE} have other names in PEFT than in files, "
            f"which are not known here: {WAY_OUT}"
        )
    tensor = family.tensor(stored, path, "w")
    if tensor.parts > 1:
        raise EncodaxError(
            f"{path}: {family.MODEL_TYPE} keeps it as a part of {tensor.name}, which PEFT adapts "
            f"as one: choose other targets, such as attention/output, or {WAY_OUT}"
        )
    return family.file_name(stored, tensor.name).removesuffix(".weight")


def _whole_tensor(family: Family, stored: ModelConfig, path: str, leaf: str) -> Tensor:
    """Where a leaf stands that is saved whole."""
    of_head = path.startswith("head/")
    has_place = stored.head is not None and stored.head.kind != "vocabulary"
    if family.MODEL_TYPE == native.MODEL_TYPE or (of_head and not has_place):
        raise EncodaxError(
            f"{path}/{leaf}: PEFT has no place for it: leave it as it is (freeze), or {WAY_OUT}"
        )
    tensor = family.tensor(stored, path, leaf)
    return replace(tensor, name=family.file_name(stored, tensor.name))


# Reading


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter, and so no model of its own."""
    return json_files.is_there(directory / ADAPTER_CONFIG_FILE)


@dataclass(frozen=True)
class Adapter:
    """An adapter's directory, read and not yet put on a model."""

    place: Path
    base: str | None
    """The model that it is for: a directory, or an id of the hub."""
    revision: str | None
    """Of that model on the hub."""
    scale: float
    """s: how much of A B is added."""
    kind: HeadKind | None
    """Of the head that it is for; None where it says nothing."""
    config: ModelConfig | None
    """Of the model that it gives; None where PEFT wrote it."""
    tensors: Mapping[str, np.ndarray]
    """By their names in the file, without PEFT's beginning."""

    def classes(self, base: ModelConfig, kind: HeadKind) -> int | None:
        """The number of scores of the head that stands in the file; None where none does."""
        family = family_of(base)
        head = family.new_head(base, kind, 1)
        name = family.tensor(replace(base, head=head), "head/output", "w").name
        found = self._by_place(family).get((name, "w"))
        return None if found is None else len(found[1])

    def leaves(self, config: ModelConfig, params: Params) -> dict[str, dict[str, jax.Array]]:
        """The leaves that it adds to the parameters of a model, or puts in place of some.

        Raises:
            EncodaxError: a tensor has no place in the model, or the wrong shape.
        """
        family, stored = family_and_config(config)
        found = self._by_place(family)
        used: set[tuple[str, str]] = set()
        leaves: dict[str, dict[str, jax.Array]] = {}
        for path, own in params.items():
            if stored.head is None and path.startswith("head/"):
                continue
            for leaf, parameter in own.items():
                tensor = family.tensor(stored, path, leaf)
                for key in ((tensor.name, kind) for kind in ("w", A, B)):
                    if key in found:
                        used.add(key)
                        array = self._parameter(*found[key], key[1], tensor, parameter.shape)
                        name = leaf if key[1] == "w" else key[1]
                        leaves.setdefault(path, {})[name] = jax.device_put(array)
        rest = {key: name for key, (name, _) in found.items() if key not in used}
        # What adapts a tensor that the model does not compute with changes nothing.
        if strange := [name for (at, _), name in rest.items() if not family.is_stray(stored, at)]:
            raise EncodaxError(f"{self._file}: the model has no place for {', '.join(strange[:5])}")
        for path, own in leaves.items():
            if (A in own) != (B in own):
                raise EncodaxError(f"{self._file}: {path} has one of lora_A and lora_B alone")
            if A in own:
                own[SCALE] = jnp.asarray(self.scale, jnp.float32)
        return leaves

    @property
    def _file(self) -> Path:
        return self.place / ADAPTER_WEIGHTS_FILE

    def _by_place(self, family: Family) -> dict[tuple[str, str], tuple[str, np.ndarray]]:
        """(canonical name of the weight, `lora_a`, `lora_b` or `w`) -> (name in the file, it)."""
        places = {}
        for name, array in self.tensors.items():
            factor = next((end for end in FACTORS if name.endswith(end)), None)
            weight = name if factor is None else name.removesuffix(factor) + ".weight"
            kind = "w" if factor is None else FACTORS[factor]
            places[family.canonical(weight), kind] = name, array
        return places

    def _parameter(
        self, name: str, array: np.ndarray, kind: str, tensor: Tensor, shape: tuple[int, ...]
    ) -> np.ndarray:
        """A tensor of the file as ours: of a fused weight, what concerns this part of it."""
        if kind == "w":
            wanted = tensor.file_shape(shape)
            shape_of_it = shape
        elif tensor.layout != "transposed":
            raise EncodaxError(f"{self._file}: {name}: only linear layers take an adapter")
        elif kind == A:
            wanted, shape_of_it = (len(array), shape[0]), (shape[0], len(array))
            tensor = replace(tensor, part=0, parts=1)  # all parts see the same
        else:
            rank = array.shape[-1]
            shape_of_it = (rank, *shape[1:])
            wanted = tensor.file_shape(shape_of_it)
        if array.shape != wanted:
            raise EncodaxError(
                f"{self._file}: {name} has the shape {array.shape}; the model wants {wanted}"
            )
        return tensor.to_parameter(array, shape_of_it)


def read(directory: Path) -> Adapter:
    """Read an adapter that PEFT or `write` wrote.

    Raises:
        EncodaxError: a file is missing or broken, or asks for what is not computed here.
    """
    place = directory / ADAPTER_CONFIG_FILE
    content = json_files.read(place, hint=": is it the directory of an adapter?")
    for key, known in PLAIN.items():
        if content.get(key, known[0]) not in known:
            raise EncodaxError(f"{place}: {key} = {content[key]!r} is not supported")
    rank, alpha = (content.get(key) for key in ("r", "lora_alpha"))
    if not all(_is_number(value) for value in (rank, alpha)) or rank <= 0:
        raise EncodaxError(f"{place}: r = {rank!r}, lora_alpha = {alpha!r} are no numbers above 0")
    if content.get("rank_pattern"):
        raise EncodaxError(f"{place}: modules of different ranks (rank_pattern) are not supported")
    divisor = math.sqrt(rank) if content.get("use_rslora") else rank
    base, revision = (content.get(key) for key in ("base_model_name_or_path", "revision"))
    file = directory / ADAPTER_WEIGHTS_FILE
    tensors = weights.read(file, weights.shapes(file))
    if odd := [name for name in tensors if not name.startswith(ROOT)]:
        raise EncodaxError(f"{file}: {odd[0]} does not begin with {ROOT}, as PEFT's names do")
    return Adapter(
        place=directory,
        base=base if isinstance(base, str) and base else None,
        revision=revision if isinstance(revision, str) else None,
        scale=alpha / divisor,
        kind=KINDS.get(str(content.get("task_type"))),
        config=_config(directory / CONFIG_FILE),
        tensors={name.removeprefix(ROOT): array for name, array in tensors.items()},
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _config(path: Path) -> ModelConfig | None:
    if not json_files.is_there(path):
        return None
    published = json_files.read(path, hint="")
    return family_named(published.get("model_type")).read_config(published)


def head_of(adapter: Adapter, base: ModelConfig) -> tuple[HeadConfig, tuple[str, ...]] | None:
    """The head that an adapter wants, with its labels, where the base has another one.

    Raises:
        EncodaxError: the adapter was made for another encoder; or neither it nor its base has the
            head.
    """
    if adapter.config is not None:
        if adapter.config.encoder != base.encoder:
            raise EncodaxError(f"{adapter.place}: it was made for another encoder than its base's")
        head, labels = adapter.config.head, adapter.config.labels
        return (
            None if head is None or (head, labels) == (base.head, base.labels) else (head, labels)
        )
    if adapter.kind is None:
        return None
    classes = adapter.classes(base, adapter.kind)
    own = base.head if base.head and base.head.kind == adapter.kind else None
    if own is not None and classes in (None, own.classes):
        return None
    if classes is None:
        raise EncodaxError(f"{adapter.place}: neither it nor its base has a {adapter.kind} head")
    labels = tuple(f"LABEL_{index}" for index in range(classes))
    head = family_of(base).new_head(base, adapter.kind, classes)
    return head, labels if adapter.kind != "span" else ()
