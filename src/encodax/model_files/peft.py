"""Low-rank adapters (LoRA): what they add to parameters, and the files that PEFT keeps them in.

Beside its weight `w` a module has the leaves `lora_a` (in, r), `lora_b` (r, *out) and the number
`lora_scale`. `merge` makes ordinary parameters of them.

adapter_config.json         which model they are for, ranks and scales, as PEFT has it
adapter_model.safetensors   lora_A (r, in) and lora_B (out, r) of each module, and whole modules
adapted_config.json         config.json of the model that it gives: its head, and names of classes
tokenizer.json, ...         the tokenizer's files
modules.json, 1_Pooling/... of an embedder (`sentence_modules.py`)

There is no `config.json`: transformers would take the directory for a whole model. Where one stands
beside an adapter, with weights, the base is the directory itself; without, it is read as
`adapted_config.json`.
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
    Parts,
    family_and_config,
    family_of,
    named_as,
    of_encoder,
    put_in_place,
)
from encodax.model_files.sentence_modules import SentenceModules
from encodax.storage import json_files, overlap
from encodax.storage.json_files import ModelFiles, Settings, is_there
from encodax.types.batches import Params

A, B, SCALE = "lora_a", "lora_b", "lora_scale"
"""The leaves of an adapter."""

PEFT_PREFIX = "base_model.model."
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
SAVED_WHOLE = ("classifier", "score")
"""Modules that PEFT trains and saves with all that is in them, of these tasks."""

UNMAPPED_FAMILIES = ("nomic_bert",)
"""Families whose modules transformers names otherwise than their files do."""


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
    parts: Parts,
    adapter: Params,
    *,
    rank: int,
    alpha: float,
    base: str,
    max_length: int | None,
    overwrite: bool = False,
) -> None:
    """Write an adapter as PEFT does, whole or not at all.

    Args:
        directory: where to.
        parts: the model that is adapted, with its head, which is saved whole; of the encoder's
            parameters none is used.
        adapter: `lora_a` and `lora_b` of the modules that have them; every other leaf is saved
            whole.
        rank: r.
        alpha: the scale is alpha / r.
        base: the model that it is added to: a directory, or an id of the hub.
        max_length: most tokens of a sequence.
        overwrite: whether the directory may exist.

    Raises:
        EncodaxError: PEFT's layout has no place for a leaf; the directory is the base, exists and
            is not to be overwritten, or cannot be written.
    """
    overlap.check_apart({"the adapter": directory}, {"its base": base})
    config = parts.config
    family, stored = family_and_config(config)
    bare = replace(stored, head=None, labels=())  # such names are found with any head, and none
    is_embedder = config.head is not None and config.head.kind == "embedding"
    trained = {path: own for path, own in adapter.items() if of_encoder(path) or not is_embedder}
    head = {
        p: {**own, **adapter.get(p, {})} for p, own in parts.params.items() if not of_encoder(p)
    }
    if stored.head is not None and stored.head.kind in peft_config.KINDS.values():
        trained |= head  # PEFT wants all of it, whatever was trained
    tensors: dict[str, np.ndarray] = {}
    targets, whole = set(), set()
    for path, leaves in trained.items():
        if A in leaves:
            module = _module(family, stored, path)
            targets.add(family.file_name(bare, module))
            name = f"{PEFT_PREFIX}{module}.lora_"
            b = np.asarray(leaves[B])
            tensors[f"{name}A.weight"] = np.ascontiguousarray(np.asarray(leaves[A]).T)  # (r, in)
            tensors[f"{name}B.weight"] = np.ascontiguousarray(b.reshape(len(b), -1).T)  # (out, r)
        for leaf in leaves.keys() - {A, B}:
            tensor = _whole_tensor(family, stored, path, leaf)
            module = family.file_name(bare, tensor.name.rpartition(".")[0])
            whole.add(next((name for name in SAVED_WHOLE if module.startswith(f"{name}.")), module))
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

    put_in_place(directory, write_to, overwrite=overwrite)


MERGE_HINT = "merge the adapter and save the whole model"


def check_savable(config: ModelConfig, adapter: Params) -> None:
    """Refuse, before it is trained, an adapter that `write` would refuse.

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
                f"{path}: PEFT wants both lora_a and lora_b, and one is frozen: freeze both, or "
                f"{MERGE_HINT}"
            )
        if is_embedder and not of_encoder(path):
            continue  # it stands in the module files
        if A in leaves:
            _module(family, stored, path)
        for leaf in leaves.keys() - {A, B}:
            _whole_tensor(family, stored, path, leaf)


def check_base(directory: Path) -> None:
    """Refuse a base that is an adapter itself.

    Raises:
        EncodaxError: it is one.
    """
    if is_adapter(directory):
        raise EncodaxError(
            f"{directory} is an adapter, and an adapter of it could not be loaded: load it, save "
            "the model whole, and begin from that (or write a whole model: --merge)"
        )


def _module(family: Family, stored: ModelConfig, path: str) -> str:
    """The name in the file of a module that has an adapter."""
    if family.MODEL_TYPE == native.MODEL_TYPE:
        raise EncodaxError(f"no published family has this model, and so PEFT cannot: {MERGE_HINT}")
    if family.MODEL_TYPE in UNMAPPED_FAMILIES:
        raise EncodaxError(
            f"{path}: the modules of {family.MODEL_TYPE} have other names in PEFT than in files, "
            f"which are not known here: {MERGE_HINT}"
        )
    tensor = family.tensor(stored, path, "w")
    if tensor.parts > 1:
        raise EncodaxError(
            f"{path}: {family.MODEL_TYPE} keeps it as a part of {tensor.name}, which PEFT adapts "
            f"as one: choose other targets, such as attention/output, or {MERGE_HINT}"
        )
    return family.file_name(stored, tensor.name).removesuffix(".weight")


def _whole_tensor(family: Family, stored: ModelConfig, path: str, leaf: str) -> Tensor:
    """Where a leaf stands that is saved whole."""
    of_head = path.startswith("head/")
    has_place = stored.head is not None and stored.head.kind != "vocabulary"
    if family.MODEL_TYPE == native.MODEL_TYPE or (of_head and not has_place):
        raise EncodaxError(
            f"{path}/{leaf}: PEFT has no place for it: leave it as it is (freeze), or {MERGE_HINT}"
        )
    tensor = family.tensor(stored, path, leaf)
    return replace(tensor, name=family.file_name(stored, tensor.name))


# Reading


def place_of(directory: Path) -> Path | None:
    """Where the adapter of a directory stands; None where it holds a model of its own.

    That is the directory, or the folder of the encoder among modules of sentence-transformers.

    Raises:
        EncodaxError: the list of modules is broken.
    """
    if is_there(directory / ADAPTER_CONFIG_FILE):
        return directory
    if not any(directory.glob(f"*/{ADAPTER_CONFIG_FILE}")):
        return None
    modules = sentence_modules.read(directory)
    place = directory if modules is None else modules.encoder
    return place if is_there(place / ADAPTER_CONFIG_FILE) else None


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter, and so no model of its own."""
    return place_of(directory) is not None


def base_directory(settings: PeftConfig, token: str | None = None) -> Path:
    """The directory of the model that an adapter names as the one it is for.

    Args:
        settings: of the adapter.
        token: for a private model on the hub.

    Raises:
        EncodaxError: it names none, or there is no such model.
    """
    if settings.base is None:
        raise EncodaxError(
            f"{settings.where.parent}: it names no base_model_name_or_path: load the model that it "
            "was made for, and take model.with_adapter(directory)"
        )
    try:
        return hub.directory_of(settings.base, revision=settings.revision, token=token)
    except EncodaxError as error:
        raise EncodaxError(
            f"{settings.where}: base_model_name_or_path: {error}; a path is from the working "
            "directory, and model.with_adapter(directory) takes a base that is loaded"
        ) from error


def directories_of(directory: Path) -> list[Path]:
    """The directories that a model is read from: its own, and of an adapter that of its base.

    Raises:
        EncodaxError: the adapter's settings are broken, or its base is not there.
    """
    place = place_of(directory)
    if place is None or _has_base(place):
        return [directory]
    return [directory, base_directory(peft_config.read(place / ADAPTER_CONFIG_FILE))]


def _has_base(place: Path) -> bool:
    """Whether the base of an adapter stands beside it."""
    return is_there(place / CONFIG_FILE) and any(
        is_there(place / name) for name in (weights.WEIGHTS_FILE, weights.INDEX_FILE)
    )


@dataclass(frozen=True)
class Adapter:
    """An adapter's directory, read and not yet put on a model."""

    place: Path
    settings: PeftConfig
    modules: SentenceModules | None
    """What makes an embedder or a cross-encoder of it; None where nothing is said."""
    has_base: bool
    """Whether the base stands in the same directory."""
    config: ModelConfig | None
    """Of the model that it gives; None where PEFT wrote it."""
    tensors: Mapping[str, np.ndarray]
    """By their names in the file, without PEFT's beginning."""
    files: ModelFiles
    """What became of the keys of each JSON file."""

    @property
    def makes_embedder(self) -> bool:
        """Whether its modules make an embedder of the bare encoder."""
        return self.modules is not None and self.modules.head is not None

    @property
    def kind(self) -> HeadKind | None:
        """Of the head that it is for; None where it says nothing."""
        if self.modules is not None:
            return "sequence" if self.modules.head is None else None
        return self.settings.kind

    def classes(self, base: ModelConfig, kind: HeadKind) -> int | None:
        """The number of scores of the head that stands in the file; None where none does."""
        family = family_of(base)
        head = family.new_head(base, kind, 1)
        name = family.tensor(replace(base, head=head), "head/output", "w").name
        found = self._by_place(family).get((name, "w"))
        return None if found is None or found[1].ndim == 0 else len(found[1])

    def leaves(self, config: ModelConfig, params: Params) -> dict[str, dict[str, jax.Array]]:
        """The leaves that it adds to the parameters of a model, or puts in place of some.

        Raises:
            EncodaxError: a tensor has no place in the model, or the wrong shape; or it is not one
                that the settings ask for.
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
            shape = params[path][leaf].shape
            for kind in ("w", A, B):
                if (tensor.name, kind) in found:
                    array = self._parameter(*found[tensor.name, kind], kind, tensor, shape)
                    name = leaf if kind == "w" else kind
                    leaves.setdefault(path, {})[name] = jax.device_put(array)
            if (tensor.name, A) in found:
                module = _module_of(found[tensor.name, A][0])
                leaves[path][SCALE] = jnp.asarray(self.settings.scale_of(module), jnp.float32)
        for name in {tensor.name for tensor in places.values() if (tensor.name, A) in found}:
            parts = {place: tensor for place, tensor in places.items() if tensor.name == name}
            starts = self._starts(found[name, A][0], parts, params)
            for (path, leaf), weight in starts.items():
                leaves[path][leaf] = weight
        return leaves

    @property
    def _file(self) -> Path:
        return self.place / ADAPTER_WEIGHTS_FILE

    def _by_place(self, family: Family) -> dict[tuple[str, str], tuple[str, np.ndarray]]:
        """(canonical name of the weight, `lora_a`, `lora_b` or `w`) -> (name in the file, it)."""
        places: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
        for name, array in self.tensors.items():
            factor = next((end for end in FACTORS if name.endswith(end)), None)
            weight = name if factor is None else name.removesuffix(factor) + ".weight"
            key = family.canonical(weight), "w" if factor is None else FACTORS[factor]
            if key in places:
                raise EncodaxError(f"{self._file}: {places[key][0]} and {name} are the same")
            places[key] = name, array
        return places

    def _check_names(
        self,
        family: Family,
        stored: ModelConfig,
        found: Mapping[tuple[str, str], tuple[str, np.ndarray]],
        known: Collection[str],
    ) -> None:
        """Refuse tensors that the model or the settings have no place for, and missing ones.

        Raises:
            EncodaxError: names the tensor.
        """
        table = family.tensor(stored, "encoder/embeddings/token", "w").name
        # What adapts a tensor that the model does not compute with changes nothing.
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
                    raise EncodaxError(f"{self._file}: {name} stands whole beside its factors")
                if is_tied and at == table and self.settings.saves(_module_of(name)):
                    raise EncodaxError(
                        f"{self._file}: {name} was trained apart from the head that shares it "
                        "(ensure_weight_tying is off), and here the two are one"
                    )
                continue
            if (at, A) not in found or (at, B) not in found:
                raise EncodaxError(f"{self._file}: {name} is one of lora_A and lora_B alone")
            if not self.settings.adapts(_module_of(name)):
                raise EncodaxError(
                    f"{self.settings.where}: it adapts no {_module_of(name)}, and the file has its "
                    "factors, which PEFT would leave: see target_modules, exclude_modules, "
                    "modules_to_save and layers_to_transform"
                )
        for at in known:
            name = family.file_name(stored, at)
            if self.settings.wants(_module_of(name)) and (at, "w") not in found:
                raise EncodaxError(
                    f"{self._file}: {name} is missing, which modules_to_save names: it was trained "
                    "and not saved, or another model's module has that name"
                )

    def _parameter(
        self, name: str, array: np.ndarray, kind: str, tensor: Tensor, shape: tuple[int, ...]
    ) -> np.ndarray:
        """A tensor of the file as ours: of a fused weight, what concerns this part of it."""
        rank = self.settings.rank_of(_module_of(name))
        if kind == "w":
            wanted = tensor.file_shape(shape)
            shape_of_it = shape
        elif tensor.layout != "transposed":
            raise EncodaxError(f"{self._file}: {name}: only linear layers take an adapter")
        elif kind == A:
            wanted, shape_of_it = (rank, shape[0]), (shape[0], rank)
            tensor = replace(tensor, part=0, parts=1)  # all parts see the same
        else:
            shape_of_it = (rank, *shape[1:])
            wanted = tensor.file_shape(shape_of_it)
        if array.shape != wanted:
            said = "" if kind == "w" else f", with the rank {rank} of {ADAPTER_CONFIG_FILE}"
            raise EncodaxError(
                f"{self._file}: {name} has the shape {array.shape}; the model wants {wanted}{said}"
            )
        return tensor.to_parameter(array, shape_of_it)

    def _starts(
        self, name: str, parts: Mapping[tuple[str, str], Tensor], params: Params
    ) -> dict[tuple[str, str], jax.Array]:
        """The weights that PEFT adds A B to, where it changed those of the base when it began."""
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
        else:  # U_r S_r V_r: s is a factor of neither more nor less
            u, values, v = np.linalg.svd(weight, full_matrices=False)
            weight = weight - (u[:, :rank] * values[:rank]) @ v[:rank]
        weight = weight.astype(np.float32)
        return {
            (path, leaf): jax.device_put(tensor.to_parameter(weight, params[path][leaf].shape))
            for (path, leaf), tensor in ordered
        }


def _module_of(name: str) -> str:
    """The module of a tensor, by its name in the file."""
    factor = next((end for end in FACTORS if name.endswith(end)), None)
    return name.removesuffix(factor) if factor else name.rpartition(".")[0]


def read(directory: Path) -> Adapter:
    """Read an adapter that PEFT, sentence-transformers or `write` wrote.

    Raises:
        EncodaxError: a file is missing or broken, or asks for what is not computed here.
    """
    place = place_of(directory) or directory
    settings = peft_config.read(place / ADAPTER_CONFIG_FILE)
    modules = sentence_modules.read(directory)
    file = place / ADAPTER_WEIGHTS_FILE
    tensors = weights.read(file, weights.shapes(file))
    if odd := [name for name in tensors if not name.startswith(PEFT_PREFIX)]:
        raise EncodaxError(
            f"{file}: {odd[0]} does not begin with {PEFT_PREFIX}, as PEFT's names do"
        )
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
    """The configuration of the model that an adapter gives, where its directory has one."""
    for name in (ADAPTED_CONFIG_FILE, CONFIG_FILE):
        if is_there(place / name):
            settings = Settings(json_files.read(place / name, hint=""), where=place / name)
            family = family_named(settings.get("model_type"))
            with named_as(place / name):
                return family.read_config(settings), {name: family.account(settings)}
    return None, {}


def head_of(adapter: Adapter, base: ModelConfig) -> tuple[HeadConfig, tuple[str, ...]] | None:
    """The head that an adapter wants, with its labels, where the base has another one.

    Raises:
        EncodaxError: the adapter was made for another encoder; or neither it nor its base has the
            head.
    """
    if adapter.config is not None and adapter.config.encoder != base.encoder:
        raise EncodaxError(f"{adapter.place}: it was made for another encoder than its base's")
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
        raise EncodaxError(f"{adapter.place}: neither it nor its base has a {adapter.kind} head")
    labels = tuple(f"LABEL_{index}" for index in range(classes))
    head = family_of(base).new_head(base, adapter.kind, classes)
    if adapter.kind == "sequence" and classes == 1:
        head = replace(head, problem="regression")  # as transformers has it
    return head, labels if adapter.kind != "span" else ()
