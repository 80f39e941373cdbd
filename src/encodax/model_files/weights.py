"""Weights files: strict conversion between safetensors and parameters."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array

from encodax.config import DecoderConfig, EncoderConfig, RelativeBiasConfig
from encodax.errors import EncodaxError, library_errors
from encodax.families.tensors import TensorNames
from encodax.model_files import tensor_file
from encodax.model_files.tensor_file import TensorFile
from encodax.storage import json_files
from encodax.storage.json_files import check_content, is_there
from encodax.types.batches import Params, Shapes

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")
"""Patterns of files that are never read: most of these formats run code on opening."""
FLOATS = ("F32", "F16", "BF16")
"""Supported types; all are converted to float32."""
BUFFER = re.compile(r".*(position_ids|inv_freq)")
"""Pattern of buffers in the file that the model computes itself."""
MOST_PROBLEMS = 20
"""Maximum number of problems listed in one error, as files have hundreds of tensors."""


@dataclass(frozen=True)
class Loaded:
    """Content of a weights file."""

    params: Params
    extra_tensors: Mapping[str, np.ndarray]
    """Tensors that belong to no parameter, and that the family allows in the file."""


def load(
    directory: Path,
    shapes: Mapping[str, Mapping[str, Any]],
    family: TensorNames,
    config: Any,
    *,
    file: str = WEIGHTS_FILE,
) -> Loaded:
    """Read parameters; the file must have exactly the expected tensors.

    Args:
        directory: directory with the file, or with an index of several files.
        shapes: parameter tree whose leaves have a `shape`.
        family: family, which maps parameters to tensors of the file.
        config: configuration of the model.
        file: name of the file.

    Raises:
        EncodaxError: a file is missing or broken, or tensors are missing, unexpected, not finite,
            or of another shape or dtype; all such problems are listed in one line.
    """
    files = _files(directory / file)
    reader = _Reader(_places(files), family, config)
    params: dict[str, dict[str, Array]] = {}
    for path, leaves in shapes.items():
        for leaf, wanted in leaves.items():
            tensor = family.tensor(config, path, leaf)
            array = reader.take(tensor.name, tensor.file_shape(wanted.shape))
            if array is not None:
                parameter = tensor.to_parameter(array, wanted.shape)
                params.setdefault(path, {})[leaf] = jax.device_put(parameter)
    carried = reader.rest()
    reader.check(files[0][0] if len(files) == 1 else _index(directory / file))
    return Loaded(params, carried)


def checked_shapes(
    directory: Path,
    family: TensorNames,
    config: Any,
    stacks: Mapping[str, EncoderConfig | DecoderConfig],
    shapes_of: Callable[[Any], Shapes],
) -> Shapes:
    """Return the shapes of a configuration's parameters, after checking its sizes.

    Args:
        directory: model directory.
        family: family, which maps parameters to tensors of the file.
        config: configuration of the model.
        stacks: as in `check_sizes`.
        shapes_of: function from a configuration to the shapes of its parameters.

    Raises:
        EncodaxError: the weights have other sizes; or the configuration is invalid, such as heads
            that do not fit the width.
    """
    with library_errors(f"{directory / 'config.json'}: no model can be made from it"):
        check_sizes(directory, family, config, stacks)
        return shapes_of(config)


def check_sizes(
    directory: Path,
    family: TensorNames,
    config: Any,
    stacks: Mapping[str, EncoderConfig | DecoderConfig],
) -> None:
    """Refuse a configuration whose sizes differ from the weights, before anything is allocated.

    Only the headers of the files are read. Missing tensors are left to `load`.

    Args:
        directory: directory with the file, or with an index of several files.
        family: family, which maps parameters to tensors of the file.
        config: configuration of the model.
        stacks: `encoder`, and `decoder` if there is one -> its configuration.

    Raises:
        EncodaxError: a file is missing or broken; or a size differs, and the error names both.
    """
    files = _files(directory / WEIGHTS_FILE)
    place = files[0][0] if len(files) == 1 else _index(directory / WEIGHTS_FILE)
    reader = _Reader(_places(files), family, config)
    for side, stack in stacks.items():
        first = family.tensor(config, f"{side}/layer_0/attention/output", "w").name
        stored, wanted = reader.layers(first), layers_of(stack)
        if wanted > stored:
            key = getattr(family, "keys", {}).get("layers", f"layers of the {side}")
            raise EncodaxError(
                f"{place}: the configuration says {key} = {wanted}, and the weights have {stored}"
            )
        for (path, leaf), shape in sizes_of(side, stack).items():
            try:
                tensor = family.tensor(config, path, leaf)
            except KeyError:  # the family has another tensor for it, or none
                continue
            reader.check_shape(tensor.name, tensor.file_shape(shape))
    reader.check(place)


def layers_of(stack: EncoderConfig | DecoderConfig) -> int:
    """Return the number of layers that have their own parameters."""
    groups = getattr(stack, "parameter_groups", None)
    return len(set(groups or range(len(stack.layers))))


def sizes_of(
    side: str, stack: EncoderConfig | DecoderConfig
) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return the parameters that determine the sizes of a stack: (path, leaf) -> shape."""
    embeddings, layer, relative = stack.embeddings, stack.layers[0], stack.relative_positions
    attention, width = layer.attention, embeddings.model_width
    found = {
        (f"{side}/embeddings/token", "w"): (embeddings.vocabulary_size, embeddings.width),
        (f"{side}/layer_0/attention/query", "w"): (width, attention.heads, attention.head_width),
        (f"{side}/layer_0/feed_forward/up", "w"): (width, layer.feed_forward.width),
    }
    if embeddings.positions == "learned" and embeddings.max_positions is not None:
        rows = embeddings.max_positions + embeddings.position_offset
        found[f"{side}/embeddings/position", "w"] = rows, embeddings.width
    if embeddings.type_vocabulary_size:
        rows = embeddings.type_vocabulary_size
        found[f"{side}/embeddings/type", "w"] = rows, embeddings.width
    if isinstance(relative, RelativeBiasConfig):
        found[f"{side}/relative_bias", "w"] = relative.buckets, attention.heads
    elif relative is not None:
        found[f"{side}/relative_embeddings", "w"] = 2 * relative.span, width
    return found


def read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read the tensors of one file in float32; it must have exactly these names and shapes.

    Raises:
        EncodaxError: as in `load`.
    """
    if not is_there(path):
        raise EncodaxError(_missing(path))
    reader = _Reader(_places([(path, None)]))
    arrays = {name: reader.take(name, shape) for name, shape in shapes.items()}
    reader.rest()
    reader.check(path)
    return {name: array for name, array in arrays.items() if array is not None}


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of one file.

    Raises:
        EncodaxError: the file is missing or broken.
    """
    if not is_there(path):
        raise EncodaxError(_missing(path))
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def has_own(directory: Path, name: str, original: str) -> bool:
    """Return whether the weights have a tensor `name` that is not a copy of `original`.

    Raises:
        EncodaxError: a file is missing or broken.
    """
    places = _places(_files(directory / WEIGHTS_FILE))
    if name not in places or original not in places:
        return name in places

    def values(tensor: str) -> np.ndarray:
        with _opened(places[tensor]) as file:
            return np.asarray(file.get_tensor(tensor))

    return not np.array_equal(values(name), values(original))


class _Reader:
    """Reader of tensors that collects all problems it meets."""

    def __init__(
        self,
        places: Mapping[str, Path],
        family: TensorNames | None = None,
        config: Any = None,
    ):
        self._family = family
        self._config = config
        self._stored: dict[str, tuple[str, Path]] = {}
        self._taken: set[str] = set()
        self._last: tuple[str, np.ndarray | None] = ("", None)
        self._problems: dict[str, None] = {}  # used as an ordered set
        for name, path in places.items():
            canonical = family.canonical(name) if family else name
            if canonical in self._stored:
                other = self._stored[canonical][0]
                self._note(f"{name} and {other} are the same tensor")
            self._stored[canonical] = name, path
        # Files of transformers hold a shared table under any of its names.
        for copy, original in family.tensor_aliases.items() if family else ():
            if "embed" in copy and copy in self._stored and original not in self._stored:
                self._stored[original] = self._stored.pop(copy)

    def take(self, canonical: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return a tensor in float32, or None if it has a problem."""
        if self._last[0] != canonical:  # parts of a fused tensor are taken one after another
            self._last = canonical, self._read(canonical, shape)
        return self._last[1]

    def layers(self, of_first: str) -> int:
        """Return the number of layers in the file, given the name of a tensor of layer 0."""
        before = of_first[: re.search("0", of_first).start()]  # type: ignore[union-attr]
        numbers = (re.match(re.escape(before) + r"(\d+)\b", name) for name in self._stored)
        return max((int(number[1]) + 1 for number in numbers if number), default=0)

    def check_shape(self, canonical: str, shape: tuple[int, ...]) -> None:
        """Record a tensor of another shape as a problem, from its file's header."""
        if canonical in self._stored:
            name, path = self._stored[canonical]
            with _opened(path) as file:
                self._has_form(name, file.get_slice(name), shape)

    def _has_form(self, name: str, view: Any, shape: tuple[int, ...] | None) -> bool:
        """Return whether a tensor has a supported type and this shape; else record a problem."""
        dtype, found = view.get_dtype(), tuple(view.get_shape())
        if dtype in FLOATS and (shape is None or found == shape):
            return True
        wanted = f"wanted {', '.join(FLOATS)}" + (f" {shape}" if shape is not None else "")
        self._note(f"{name} is {dtype} {found}, {wanted}")
        return False

    def _read(self, canonical: str, shape: tuple[int, ...] | None) -> np.ndarray | None:
        if canonical not in self._stored:
            self._note(f"{canonical} is missing (wanted {shape})")
            return None
        self._taken.add(canonical)
        name, path = self._stored[canonical]
        with _opened(path) as file:  # reopened for each tensor, which frees memory
            if not self._has_form(name, file.get_slice(name), shape):
                return None
            array = np.asarray(file.get_tensor(name), np.float32)
        if not np.isfinite(array).all():
            self._note(f"{name} holds a value that is not finite")
            return None
        return array

    def rest(self) -> dict[str, np.ndarray]:
        """Return the tensors not taken: copies are checked, extra ones kept, others reported."""
        carried: dict[str, np.ndarray] = {}
        for canonical in sorted(self._stored.keys() - self._taken):
            name = self._stored[canonical][0]
            original = self._family.tensor_aliases.get(canonical) if self._family else None
            if original in self._stored:
                first, second = (self._read(each, None) for each in (canonical, original))
                if not (first is None or second is None or np.array_equal(first, second)):
                    self._note(f"{name} should repeat {original}, and does not")
            elif not self._may_carry(canonical):
                self._note(f"{name} belongs to no parameter")
            elif not BUFFER.fullmatch(canonical):
                array = self._read(canonical, None)
                carried |= {} if array is None else {canonical: array}
        self._tell_of_rounded_buffers()
        return carried

    def _tell_of_rounded_buffers(self) -> None:
        """Warn if frequencies that are recomputed were rounded in the file."""
        names = (name for name in sorted(self._stored) if name.endswith("inv_freq"))
        for stored, path in map(self._stored.__getitem__, itertools.islice(names, 1)):
            with _opened(path) as file:
                dtype = file.get_slice(stored).get_dtype()
            if dtype != "F32":
                logger.warning(
                    "%s: %s is rounded to %s; rotary frequencies are computed again in float32, "
                    "so answers differ slightly from those of libraries that use the rounded ones",
                    path, stored, dtype,
                )  # fmt: skip

    def _may_carry(self, canonical: str) -> bool:
        family, config = self._family, self._config
        return family is not None and config is not None and family.is_ignored(config, canonical)

    def check(self, place: Path) -> None:
        """Raise the recorded problems as one error.

        Raises:
            EncodaxError: there is a problem.
        """
        problems = list(self._problems)
        if (more := len(problems) - MOST_PROBLEMS) > 0:
            problems[MOST_PROBLEMS:] = [f"and {more} more problems"]
        if problems:
            raise EncodaxError(f"{place}: {'; '.join(problems)}")

    def _note(self, problem: str) -> None:
        self._problems[problem] = None


def _places(files: Sequence[tuple[Path, set[str] | None]]) -> dict[str, Path]:
    """Return the file of every tensor, by the tensor's name."""
    places: dict[str, Path] = {}
    for path, expected in files:
        with _opened(path) as file:
            names = set(file.keys())
        if expected is not None and names != expected:
            odd = ", ".join(map(repr, sorted(names ^ expected)[:5]))
            raise EncodaxError(f"{path}: the index and the file do not agree on {odd}")
        if odd := ", ".join(repr(name) for name in sorted(names) if not name.isprintable()):
            raise EncodaxError(f"{path}: {odd} is not the name of a tensor")
        places |= dict.fromkeys(sorted(names), path)
    return places


@contextmanager
def _opened(path: Path) -> Iterator[TensorFile]:
    check_content(path)
    try:
        with tensor_file.opened(path) as file:
            yield file
    except (safetensors.SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())  # the message quotes the file, with line breaks
        raise EncodaxError(
            f"{path} cannot be read: {reason}; if it was fetched, it may be incomplete: fetch it "
            "again"
        ) from error


def _index(single: Path) -> Path:
    return single.with_name(f"{single.name}.index.json")


def _files(single: Path) -> list[tuple[Path, set[str] | None]]:
    """Return the file, or those of its index, each with its tensors according to the index."""
    directory, index = single.parent, _index(single)
    if is_there(single):
        return [(single, None)]
    if not is_there(index):
        raise EncodaxError(_missing(single))
    try:
        places = json_files.read(index, hint="")["weight_map"]
        files: dict[str, set[str]] = {}
        for tensor, file in places.items():
            files.setdefault(file, set()).add(tensor)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodaxError(f"{index} is not an index of weights files: {error!r}") from error
    if not files:
        raise EncodaxError(f"{index} is not an index of weights files: it names none")
    for name in files:
        plain = isinstance(name, str) and Path(name).name == name and name.isprintable()
        if not plain or not name.endswith(".safetensors"):
            raise EncodaxError(f"{index}: {name!r} is not a safetensors file of this directory")
        if not is_there(directory / name):
            raise EncodaxError(f"{directory / name} does not exist, and {index.name} names it")
    return [(directory / name, tensors) for name, tensors in sorted(files.items())]


CONVERTED = (".gguf", ".onnx", ".tflite", ".mlmodel", ".mlpackage", ".ot", ".msgpack", ".h5")
"""Suffixes of files that were converted from a model's weights for other programs."""


def converted_file_hint(converted: str) -> str:
    """Return advice for a directory that holds only such a converted file."""
    return (
        f"{converted} is made from a model for other programs: fetch the model that it was made "
        f"from, with its config.json and {WEIGHTS_FILE}"
    )


def _missing(path: Path) -> str:
    pickles = sorted(found.name for kind in PICKLES for found in path.parent.glob(kind))
    if not pickles:
        names = json_files.names_in(path.parent)
        converted = next((name for name in names if name.endswith(CONVERTED)), None)
        way_out = f"; {converted_file_hint(converted)}" if converted else ""
        return f"{path} does not exist; weights are read only from safetensors{way_out}"
    return (
        f"{path} does not exist, and {pickles[0]} is not read: such a file can run code when it is "
        "opened; convert it once where you trust it: load it with the class of transformers or "
        "sentence-transformers that wrote it, and save_pretrained(NEW_DIRECTORY)"
    )


def save(
    path: Path,
    params: Params,
    family: TensorNames,
    config: Any,
    extra_tensors: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write parameters, with the names and layouts of the family.

    Raises:
        OSError: the file cannot be written.
    """
    parts: dict[str, dict[int, np.ndarray]] = {}
    for module, leaves in params.items():
        for leaf, array in leaves.items():
            tensor = family.tensor(config, module, leaf)
            parts.setdefault(tensor.name, {})[tensor.part] = tensor.to_file(np.asarray(array))
    tensors = {
        name: found[0] if len(found) == 1 else np.concatenate([found[i] for i in sorted(found)])
        for name, found in parts.items()
    }
    named = {
        family.stored_name(config, name): a
        for name, a in {**(extra_tensors or {}), **tensors}.items()
    }
    write(path, named)


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors to one file, in float32.

    Raises:
        OSError: the file cannot be written.
    """
    stored = {name: np.asarray(array, np.float32) for name, array in tensors.items()}
    try:
        safetensors.numpy.save_file(stored, path, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error
