"""Low-rank adapters (LoRA): their parameters, and their files in PEFT's layout.

An adapted module has, besides its weight `w`, the leaves `lora_a` (in, r), `lora_b` (r, *out) and
the scalar `lora_scale`. `merge` returns ordinary parameters.

adapter_config.json         base model, ranks and scales, in PEFT's format
adapter_model.safetensors   lora_A (r, in) and lora_B (out, r) of each module; fully saved modules
adapted_config.json         config.json of the adapted model: its head, and the class names
tokenizer.json, ...         tokenizer files
modules.json, 1_Pooling/... of an embedder (`sentence_modules.py`)

There is no `config.json`: transformers would take the directory for a full model. If a directory
holds an adapter, `config.json` and full weights, the base model is that directory itself; without
the weights, `config.json` is read as `adapted_config.json`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encodax.config import HeadConfig, HeadKind, ModelConfig
from encodax.errors import EncodaxError
from encodax.families import Family, family_named, native
from encodax.families.tensors import Tensor
from encodax.model_files import hub, peft_config, sentence_modules, weights
from encodax.model_files.peft_config import PeftConfig
from encodax.model_files.saved_model import (
    ADAPTED_CONFIG_FILE,
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    CONFIG_FILE,
    ModelParts,
    family_and_config,
    family_of,
    named_as,
    of_encoder,
    write_directory,
)
from encodax.model_files.sentence_modules import SentenceModules
from encodax.storage import json_files, overlap
from encodax.storage.json_files import ModelFiles, Settings, is_there
from encodax.types.batches import Params

A, B, SCALE = "lora_a", "lora_b", "lora_scale"
"""Names of the leaves of an adapter."""

PEFT_PREFIX = "base_model.model."
"""Prefix that PEFT puts before the names of the model it wraps."""
FACTORS = {".lora_A.weight": A, ".lora_B.weight": B}
"""Suffixes of PEFT's names of the two low-rank factors."""

TASKS: dict[HeadKind | None, str | None] = {
    "sequence": "SEQ_CLS",
    "token": "TOKEN_CLS",
    "span": "QUESTION_ANS",
    "embedding": "FEATURE_EXTRACTION",
    None: "FEATURE_EXTRACTION",
    "vocabulary": None,
}
"""Kind of head -> PEFT's `task_type`."""
FULLY_SAVED_MODULES = ("classifier", "score")
"""Modules that PEFT trains and saves in full, for `SEQ_CLS` and `TOKEN_CLS`."""

UNMAPPED_FAMILIES = ("nomic_bert",)
"""Families whose module names in transformers differ from those in their files."""


def merge(params: Params) -> Params:
    """Merge adapters into ordinary parameters: W = W_0 + s A B for each adapted module.

    Here s = alpha / r (Hu et al. 2021, arXiv:2106.09685, section 4.1). The function is pure and
    differentiable: gradients of a loss on the merged parameters reach A and B.

    Args:
        params: modules with `w` (in, *out); adapted ones also have `lora_a` (in, r),
            `lora_b` (r, *out) and `lora_scale`.
    """
    return {path: _merged(leaves) if A in leaves else leaves for path, leaves in params.items()}


def _merged(leaves: Mapping[str, Any]) -> dict[str, Any]:
    product = jnp.tensordot(leaves[A], leaves[B], axes=1)  # (in, *out)
    others = {leaf: array for leaf, array in leaves.items() if leaf not in (A, B, SCALE)}
    return {**others, "w": leaves["w"] + leaves[SCALE] * product}


# Writing


def write(
    directory: Path,
    parts: ModelParts,
    adapter: Params,
    *,
    rank: int,
    alpha: float,
    base: str,
    max_length: int | None,
    overwrite: bool = False,
) -> None:
    """Write an adapter in PEFT's layout, atomically.

    Args:
        directory: output directory.
        parts: adapted model with its head, which is saved in full; its encoder parameters are
            not used.
        adapter: `lora_a` and `lora_b` of the adapted modules; every other leaf is saved in full.
        rank: r.
        alpha: alpha; the scale is alpha / r.
        base: base model: a directory, or an id on the hub.
        max_length: maximum number of tokens of a sequence.
        overwrite: whether the directory may exist.

    Raises:
        EncodaxError: PEFT's layout has no place for a leaf; the directory is that of the base
            model, exists and `overwrite` is False, or cannot be written.
    """
    overlap.check_apart({"the adapter": directory}, {"its base": base})
    config = parts.config
    family, stored = family_and_config(config)
    bare = replace(stored, head=None, labels=())  # these names are the same for every head, or none
    is_embedder = config.head is not None and config.head.kind == "embedding"
    trained = {path: own for path, own in adapter.items() if of_encoder(path) or not is_embedder}
    head = {
        p: {**own, **adapter.get(p, {})} for p, own in parts.params.items() if not of_encoder(p)
    }
    if stored.head is not None and stored.head.kind in peft_config.KINDS.values():
        trained |= head  # PEFT expects the full head, whether trained or not
    tensors: dict[str, np.ndarray] = {}
    targets, whole = set(), set()
    for path, leaves in trained.items():
        if A in leaves:
            module = _module(family, stored, path)
            targets.add(family.stored_name(bare, module))
            name = f"{PEFT_PREFIX}{module}.lora_"
            b = np.asarray(leaves[B])
            tensors[f"{name}A.weight"] = np.ascontiguousarray(np.asarray(leaves[A]).T)  # (r, in)
            tensors[f"{name}B.weight"] = np.ascontiguousarray(b.reshape(len(b), -1).T)  # (out, r)
        for leaf in leaves.keys() - {A, B}:
            tensor = _whole_tensor(family, stored, path, leaf)
            module = family.stored_name(bare, tensor.name.rpartition(".")[0])
            whole.add(
                next(
                    (name for name in FULLY_SAVED_MODULES if module.startswith(f"{name}.")), module
                )
            )
            tensors[PEFT_PREFIX + tensor.name] = tensor.to_file(np.asarray(leaves[leaf]))
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
        json_files.write(place / ADAPTED_CONFIG_FILE, family.write_config(stored))
        weights.write(place / ADAPTER_WEIGHTS_FILE, tensors)
        types = stored.encoder.embeddings.type_vocabulary_size
        parts.tokenizer.save(
            place, max_length=max_length, model_type=family.MODEL_TYPE, has_types=types > 1
        )
        if is_embedder:
            sentence_modules.write(place, config, head, parts.files)
        elif sentence_modules.is_cross_encoder(config):
            sentence_modules.write_cross_encoder(place, config, parts.files)

    write_directory(directory, write_to, overwrite=overwrite)


MERGE_HINT = "merge the adapter and save the whole model"


def check_savable(config: ModelConfig, adapter: Params) -> None:
    """Refuse, before training, an adapter that `write` would refuse.

    Raises:
        EncodaxError: PEFT's layout has no place for a leaf.
    """
    family, stored = family_and_config(config)
    is_embedder = config.head is not None and config.head.kind == "embedding"
    if not any(A in leaves or B in leaves for leaves in adapter.values()):
        raise EncodaxError(f"no part of an adapter is trained: freeze less, or {MERGE_HINT}")
    for path, leaves in adapter.items():
        if (A in leaves) != (B in leaves):
            raise EncodaxError(
                f"{path}: PEFT needs both lora_a and lora_b, and one is frozen: freeze both, or "
                f"{MERGE_HINT}"
            )
        if is_embedder and not of_encoder(path):
            continue  # the module files hold it
        if A in leaves:
            _module(family, stored, path)
        for leaf in leaves.keys() - {A, B}:
            _whole_tensor(family, stored, path, leaf)


def check_base(directory: Path) -> None:
    """Refuse a base model that is itself an adapter.

    Raises:
        EncodaxError: the base model is an adapter.
    """
    if is_adapter(directory):
        raise EncodaxError(
            f"{directory} is an adapter, and an adapter of it could not be loaded: load it, save "
            "the whole model, and start from that (or write a whole model: --merge)"
        )


def _module(family: Family, stored: ModelConfig, path: str) -> str:
    """Return the name in the weights file of an adapted module."""
    if family.MODEL_TYPE == native.MODEL_TYPE:
        raise EncodaxError(
            f"this model is of no published family, so PEFT cannot load it: {MERGE_HINT}"
        )
    if family.MODEL_TYPE in UNMAPPED_FAMILIES:
        raise EncodaxError(
            f"{path}: the modules of {family.MODEL_TYPE} have other names in PEFT than in files, "
            f"and these are not supported: {MERGE_HINT}"
        )
    tensor = family.tensor(stored, path, "w")
    if tensor.parts > 1:
        raise EncodaxError(
            f"{path}: {family.MODEL_TYPE} keeps it as a part of {tensor.name}, which PEFT adapts "
            f"as one: choose other targets, such as attention/output, or {MERGE_HINT}"
        )
    return family.stored_name(stored, tensor.name).removesuffix(".weight")


def _whole_tensor(family: Family, stored: ModelConfig, path: str, leaf: str) -> Tensor:
    """Return the place in the weights file of a leaf that is saved in full."""
    of_head = path.startswith("head/")
    has_place = stored.head is not None and stored.head.kind != "vocabulary"
    if family.MODEL_TYPE == native.MODEL_TYPE or (of_head and not has_place):
        raise EncodaxError(
            f"{path}/{leaf}: PEFT has no place for it: leave it as it is (freeze), or {MERGE_HINT}"
        )
    tensor = family.tensor(stored, path, leaf)
    return replace(tensor, name=family.stored_name(stored, tensor.name))


# Reading


def adapter_directory(directory: Path) -> Path | None:
    """Return the directory of the adapter files; None if the directory holds a full model.

    This is the directory itself, or the folder of the encoder among sentence-transformers modules.

    Raises:
        EncodaxError: `modules.json` is broken.
    """
    if is_there(directory / ADAPTER_CONFIG_FILE):
        return directory
    if not any(directory.glob(f"*/{ADAPTER_CONFIG_FILE}")):
        return None
    modules = sentence_modules.read(directory)
    place = directory if modules is None else modules.encoder
    return place if is_there(place / ADAPTER_CONFIG_FILE) else None


def is_adapter(directory: Path) -> bool:
    """Return whether a directory holds an adapter rather than a full model."""
    return adapter_directory(directory) is not None


def base_directory(settings: PeftConfig, token: str | None = None) -> Path:
    """Return the directory of an adapter's base model.

    Args:
        settings: settings of the adapter.
        token: access token for a private model on the hub.

    Raises:
        EncodaxError: the settings name no base model, or it does not exist.
    """
    if settings.base is None:
        raise EncodaxError(
            f"{settings.where.parent}: it names no base_model_name_or_path: load the model that it "
            "was made for, and use model.with_adapter(directory)"
        )
    try:
        return hub.directory_of(settings.base, revision=settings.revision, token=token)
    except EncodaxError as error:
        raise EncodaxError(
            f"{settings.where}: base_model_name_or_path: {error}; a path is relative to the "
            "working directory, and model.with_adapter(directory) takes a base that is loaded"
        ) from error


def directories_of(directory: Path) -> list[Path]:
    """Return the directories that a model is read from; for an adapter, that of its base as well.

    Raises:
        EncodaxError: the adapter's settings are broken, or its base model does not exist.
    """
    place = adapter_directory(directory)
    if place is None or _has_base(place):
        return [directory]
    return [directory, base_directory(peft_config.read(place / ADAPTER_CONFIG_FILE))]


def _has_base(place: Path) -> bool:
    """Return whether the base model of an adapter is in the same directory."""
    return is_there(place / CONFIG_FILE) and any(
        is_there(place / name) for name in (weights.WEIGHTS_FILE, weights.INDEX_FILE)
    )


@dataclass(frozen=True)
class Adapter:
    """Adapter that was read from its directory, and is not yet merged into a model."""

    place: Path
    settings: PeftConfig
    modules: SentenceModules | None
    """Sentence-transformers modules of an embedder or a cross-encoder; None without them."""
    has_base: bool
    """Whether the base model is in the same directory."""
    config: ModelConfig | None
    """Configuration of the adapted model; None if PEFT wrote the adapter."""
    tensors: Mapping[str, np.ndarray]
    """Tensors by their names in the file, without PEFT's prefix."""
    files: ModelFiles
    """Keys of each JSON file: used, or kept with a reason."""

    @property
    def makes_embedder(self) -> bool:
        """Whether the modules make an embedder of the encoder."""
        return self.modules is not None and self.modules.head is not None

    @property
    def kind(self) -> HeadKind | None:
        """Kind of the head that the adapter was trained with; None if unknown."""
        if self.modules is not None:
            return "sequence" if self.modules.head is None else None
        return self.settings.kind

    def classes(self, base: ModelConfig, kind: HeadKind) -> int | None:
        """Return the number of classes of the head in the file; None if it has no head."""
        family = family_of(base)
        head = family.new_head(base, kind, 1)
        name = family.tensor(replace(base, head=head), "head/output", "w").name
        found = self._by_place(family).get((name, "w"))
        return None if found is None or found[1].ndim == 0 else len(found[1])

    def leaves(self, config: ModelConfig, params: Params) -> dict[str, dict[str, jax.Array]]:
        """Return the leaves that the adapter adds to a model's parameters, or replaces in them.

        Raises:
            EncodaxError: a tensor has no place in the model, or the wrong shape; or the settings do
                not ask for it.
        """
        family, stored = family_and_config(config)
        found = self._by_place(family)
        places = {
            (path, leaf): family.tensor(stored, path, leaf)
            for path, own in params.items()
            if stored.head is not None or of_encoder(path)
            for leaf in own
        }
        self._check_names(family, stored, found, dict.fromkeys(t.name for t in places.values()))
        leaves: dict[str, dict[str, jax.Array]] = {}
        for (path, leaf), tensor in places.items():
            if own := self._leaves_of(tensor, leaf, params[path][leaf].shape, found):
                leaves.setdefault(path, {}).update(own)
        for name in {tensor.name for tensor in places.values() if (tensor.name, A) in found}:
            parts = {place: tensor for place, tensor in places.items() if tensor.name == name}
            for (path, leaf), weight in self._starts(found[name, A][0], parts, params).items():
                leaves[path][leaf] = weight
        return leaves

    def _leaves_of(
        self,
        tensor: Tensor,
        leaf: str,
        shape: tuple[int, ...],
        found: Mapping[tuple[str, str], tuple[str, np.ndarray]],
    ) -> dict[str, jax.Array]:
        """Return the leaves for one parameter: its whole value, or its factors and their scale."""
        own: dict[str, jax.Array] = {}
        for kind in ("w", A, B):
            if (tensor.name, kind) in found:
                array = self._parameter(*found[tensor.name, kind], kind, tensor, shape)
                own[leaf if kind == "w" else kind] = jax.device_put(array)
        if (tensor.name, A) in found:
            scale = self.settings.scale_of(_module_of(found[tensor.name, A][0]))
            own[SCALE] = jnp.asarray(scale, jnp.float32)
        return own

    @property
    def _file(self) -> Path:
        return self.place / ADAPTER_WEIGHTS_FILE

    def _by_place(self, family: Family) -> dict[tuple[str, str], tuple[str, np.ndarray]]:
        """Return (canonical weight name, `lora_a`, `lora_b` or `w`) -> (file name, array)."""
        places: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
        for name, array in self.tensors.items():
            factor = next((end for end in FACTORS if name.endswith(end)), None)
            weight = name if factor is None else name.removesuffix(factor) + ".weight"
            key = family.canonical(weight), "w" if factor is None else FACTORS[factor]
            if key in places:
                raise EncodaxError(
                    f"{self._file}: {places[key][0]} and {name} are the same tensor; remove one"
                )
            places[key] = name, array
        return places

    def _check_names(
        self,
        family: Family,
        stored: ModelConfig,
        found: Mapping[tuple[str, str], tuple[str, np.ndarray]],
        known: Collection[str],
    ) -> None:
        """Refuse missing tensors, and tensors that do not fit the model or the settings.

        Raises:
            EncodaxError: there is such a tensor; the error names it.
        """
        table = family.tensor(stored, "encoder/embeddings/token", "w").name
        # An adapter of a tensor that the model does not use has no effect.
        strange = [
            name for (at, _), (name, _) in found.items()
            if at not in known and not family.is_ignored(stored, at)
        ]  # fmt: skip
        if strange:
            raise EncodaxError(f"{self._file}: the model has no place for {', '.join(strange[:5])}")
        is_tied = stored.head is not None and stored.head.tied and not self.settings.is_tied
        for (at, kind), (name, _) in found.items():
            if kind == "w":
                if (at, A) in found:
                    raise EncodaxError(
                        f"{self._file}: {name} is there both whole and as factors; remove one of "
                        "them"
                    )
                if is_tied and at == table and self.settings.saves(_module_of(name)):
                    raise EncodaxError(
                        f"{self._file}: {name} was trained apart from the head that shares it "
                        "(ensure_weight_tying is off), and here both are one tensor"
                    )
                continue
            if (at, A) not in found or (at, B) not in found:
                raise EncodaxError(
                    f"{self._file}: {name}: lora_A and lora_B belong together, and one is missing"
                )
            if not self.settings.adapts(_module_of(name)):
                raise EncodaxError(
                    f"{self.settings.where}: it does not adapt {_module_of(name)}, but the file "
                    "has its factors, which PEFT would ignore: see target_modules, "
                    "exclude_modules, modules_to_save and layers_to_transform"
                )
        for at in known:
            name = family.stored_name(stored, at)
            if self.settings.wants(_module_of(name)) and (at, "w") not in found:
                raise EncodaxError(
                    f"{self._file}: {name}, which modules_to_save names, is missing: it was "
                    "trained and not saved, or another model's module has that name"
                )

    def _parameter(
        self, name: str, array: np.ndarray, kind: str, tensor: Tensor, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Convert a tensor of the file to a parameter; of a fused weight, to this part of it."""
        rank = self.settings.rank_of(_module_of(name))
        if kind == "w":
            wanted = tensor.file_shape(shape)
            shape_of_it = shape
        elif tensor.layout != "transposed":
            raise EncodaxError(f"{self._file}: {name}: only linear layers take an adapter")
        elif kind == A:
            wanted, shape_of_it = (rank, shape[0]), (shape[0], rank)
            tensor = replace(tensor, part=0, parts=1)  # A is shared by all parts
        else:
            shape_of_it = (rank, *shape[1:])
            wanted = tensor.file_shape(shape_of_it)
        if array.shape != wanted:
            hint = "" if kind == "w" else f", with the rank {rank} of {ADAPTER_CONFIG_FILE}"
            raise EncodaxError(
                f"{self._file}: {name} has the shape {array.shape}; the model needs {wanted}{hint}"
            )
        return tensor.to_parameter(array, shape_of_it)

    def _starts(
        self, name: str, parts: Mapping[tuple[str, str], Tensor], params: Params
    ) -> dict[tuple[str, str], jax.Array]:
        """Return the weights that A B is added to, if PEFT changed those of the base at first."""
        if self.settings.start == "as it is":
            return {}
        module = _module_of(name)
        ordered = sorted(parts.items(), key=lambda part: part[1].part)
        weight = np.concatenate([  # (out, in)
            tensor.to_file(np.asarray(params[path][leaf])) for (path, leaf), tensor in ordered
        ]).astype(np.float64)  # fmt: skip
        rank = self.settings.rank_of(module)
        if self.settings.start == "less QR":  # s Q_r R_r, the part of W that Q_r spans
            q = np.linalg.qr(weight)[0][:, :rank]
            weight = weight - self.settings.scale_of(module) * (q @ (q.T @ weight))
        elif len(ordered) > 1:
            raise EncodaxError(
                f'{self._file}: {name}: init_lora_weights = "pissa" of a weight of several parts '
                "is not supported: its singular vectors are too sensitive to rounding to be found "
                f"again; {peft_config.MERGE_HINT}"
            )
        else:  # U_r S_r V_r: the scale s does not apply here
            u, values, v = np.linalg.svd(weight, full_matrices=False)
            weight = weight - (u[:, :rank] * values[:rank]) @ v[:rank]
        weight = weight.astype(np.float32)
        return {
            (path, leaf): jax.device_put(tensor.to_parameter(weight, params[path][leaf].shape))
            for (path, leaf), tensor in ordered
        }


def _module_of(name: str) -> str:
    """Return the module of a tensor, from its name in the file."""
    factor = next((end for end in FACTORS if name.endswith(end)), None)
    return name.removesuffix(factor) if factor else name.rpartition(".")[0]


def read(directory: Path) -> Adapter:
    """Read an adapter written by PEFT, sentence-transformers or `write`.

    Raises:
        EncodaxError: a file is missing or broken, or needs a feature that is not supported.
    """
    place = adapter_directory(directory) or directory
    settings = peft_config.read(place / ADAPTER_CONFIG_FILE)
    modules = sentence_modules.read(directory)
    file = place / ADAPTER_WEIGHTS_FILE
    tensors = weights.read(file, weights.shapes(file))
    if odd := [name for name in tensors if not name.startswith(PEFT_PREFIX)]:
        raise EncodaxError(f"{file}: {odd[0]} must start with {PEFT_PREFIX}, as PEFT's names do")
    if not any(name.endswith(factor) for name in tensors for factor in FACTORS):
        raise EncodaxError(f"{file}: there is no lora_A and lora_B of any module")
    has_base = _has_base(place)
    config, files = (None, {}) if has_base else _adapted(place)
    return Adapter(
        place=place,
        settings=settings,
        modules=modules,
        has_base=has_base,
        config=config,
        tensors={name.removeprefix(PEFT_PREFIX): array for name, array in tensors.items()},
        files={
            ADAPTER_CONFIG_FILE: settings.keys,
            **files,
            **({} if modules is None else modules.files),
        },
    )


def _adapted(place: Path) -> tuple[ModelConfig | None, ModelFiles]:
    """Return the configuration of the adapted model, if the directory has one."""
    for name in (ADAPTED_CONFIG_FILE, CONFIG_FILE):
        if is_there(place / name):
            settings = Settings(json_files.read(place / name, hint=""), where=place / name)
            family = family_named(settings.get("model_type"))
            with named_as(place / name):
                return family.read_config(settings), {name: family.account(settings)}
    return None, {}


def head_of(adapter: Adapter, base: ModelConfig) -> tuple[HeadConfig, tuple[str, ...]] | None:
    """Return the head of an adapter, with its labels, if it differs from the base's head.

    Raises:
        EncodaxError: the adapter was made for another encoder; or neither it nor its base has
            such a head.
    """
    if adapter.config is not None and adapter.config.encoder != base.encoder:
        raise EncodaxError(
            f"{adapter.place}: it was made for another encoder than that of its base"
        )
    if adapter.makes_embedder:
        return None
    if adapter.config is not None and (adapter.config.head is not None or adapter.kind is None):
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
        raise EncodaxError(f"{adapter.place}: it has no {adapter.kind} head, and its base has none")
    labels = tuple(f"LABEL_{index}" for index in range(classes))
    head = family_of(base).new_head(base, adapter.kind, classes)
    if adapter.kind == "sequence" and classes == 1:
        head = replace(head, problem="regression")  # as in transformers
    return head, labels if adapter.kind != "span" else ()
