"""JSON files of a model directory: errors of one line, and every key accounted for."""

from __future__ import annotations

import itertools
import json
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from encodax.errors import EncodaxError

LARGEST = 1 << 28
"""Largest number of bytes of a JSON file or vocabulary; a million tokens take a quarter of it."""


def is_there(path: Path) -> bool:
    """Return whether there is a file at a path; False where there is nothing.

    Raises:
        EncodaxError: there is something other than a file (a folder, a pipe, a broken link), or it
            cannot be read. It would be wrong to continue as if there were nothing.
    """
    try:
        os.lstat(path)  # its error says why it cannot be seen
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if not path.exists():
            raise EncodaxError(f"{path} is a link to nothing: put the file there, or remove it")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            raise EncodaxError(f"{path} is {what}; put the file there, or remove it")
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error
    if not os.access(path, os.R_OK):
        raise EncodaxError(f"{path} cannot be read: Permission denied; make it readable")
    return True


def names_in(directory: Path) -> list[str]:
    """Return the names in a folder, a thousand at most; none where it cannot be read."""
    try:
        return sorted(path.name for path in itertools.islice(directory.iterdir(), 1_000))
    except OSError:
        return []


def check_content(path: Path, *, may_be_empty: bool = False) -> None:
    """Refuse a file that clearly holds something other than its name says.

    Args:
        path: an existing file.
        may_be_empty: whether an empty file is accepted.

    Raises:
        EncodaxError: it is empty, a git-lfs pointer, or an HTML page; with the way out.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start and not may_be_empty:
        raise EncodaxError(f"{path} cannot be read: it is empty; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise EncodaxError(
            f"{path} cannot be read: it is a pointer of git-lfs, not the file itself; fetch that: "
            f"git -C {path.parent} lfs pull"
        )
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise EncodaxError(
            f"{path} cannot be read: it is a web page (HTML), which a server may send instead of a "
            "file; fetch it again"
        )


def read_whole(path: Path) -> bytes:
    """Read a file that is no larger than its kind can be.

    Raises:
        EncodaxError: it is larger, and would fill the memory.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise EncodaxError(
            f"{path} cannot be read: it has {size:,} bytes, and no such file has more than "
            f"{LARGEST >> 20} MiB; fetch it again"
        )
    return path.read_bytes()


def read(path: Path, kind: type = dict, *, hint: str) -> Any:
    """Read a JSON file that holds an object or a list.

    Args:
        path: the file.
        kind: `dict` or `list`.
        hint: text that the error adds where the file is missing.

    Raises:
        EncodaxError: it is missing, not JSON, or not of that kind.
    """
    if not is_there(path):
        raise EncodaxError(f"{path} does not exist{hint}")
    check_content(path)
    try:
        return parse(read_whole(path), path, kind)
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error


def parse(content: bytes, path: Path, kind: type = dict) -> Any:
    """Parse the bytes of a file that holds an object or a list.

    Raises:
        EncodaxError: they are not JSON in UTF-8, or not of that kind.
    """
    try:
        found = json.loads(content.decode("utf-8"))
    except (RecursionError, ValueError) as error:
        raise EncodaxError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, kind):
        wanted = "an object" if kind is dict else "a list"
        raise EncodaxError(f"{path} must hold {wanted}, not a {type(found).__name__}")
    return found


def write(path: Path, content: Any) -> None:
    """Write an object or a list as JSON."""
    path.write_text(written(content), encoding="utf-8")


def written(content: Any) -> str:
    """Return the JSON text of an object or a list, as it is written."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # Half of a surrogate pair, as a label or a file name may hold, becomes its escape in JSON.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# Objects that represent dataclasses: every key and the type of every value are checked.

Spec = TypeVar("Spec")


def from_json(spec: type[Spec], values: Any, where: Path | str, key: str = "") -> Spec:
    """Make a dataclass from the JSON form of its `dataclasses.asdict`.

    Args:
        spec: the dataclass. Its fields are numbers, strings, flags, literals, lists, objects, and
            such dataclasses; of a union of these, the type that fits is chosen.
        values: JSON values.
        where: the file, for error messages.
        key: key of the values in the file.

    Raises:
        EncodaxError: a key is missing, unknown, or of another type; the message names it.
    """
    values = _of_type(values, dict, where, key)
    hints, inside = typing.get_type_hints(spec), f"{key}." if key else ""
    known = {field.name: field for field in fields(spec)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise EncodaxError(f"{where}: {inside}{name} is not known; remove it")
    for name, own in known.items():
        if name not in values and own.default is MISSING and own.default_factory is MISSING:
            raise EncodaxError(f"{where}: {inside}{name} is missing")
    return spec(
        **{name: _value(hints[name], values[name], where, inside + name) for name in values}
    )


def _value(hint: Any, value: Any, where: Path | str, key: str) -> Any:
    """Convert a JSON value to the type: dataclasses from objects, tuples from lists."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _value(_option(options, value), value, where, key)
    if origin is Literal:
        if value not in options or isinstance(value, bool):
            known = ", ".join(map(str, options))
            raise EncodaxError(f"{where}: {key} = {shown(value)} is not one of: {known}")
        return value
    if origin is tuple:
        items = enumerate(_of_type(value, list, where, key))
        each = options[:1] * len(value) if options[-1] is ... else options
        if len(each) != len(value):
            raise EncodaxError(f"{where}: {key} = {shown(value)} needs {len(each)} values")
        return tuple(_value(each[i], item, where, f"{key}[{i}]") for i, item in items)
    if origin is dict:
        items = _of_type(value, dict, where, key).items()
        return {name: _value(options[1], item, where, f"{key}.{name}") for name, item in items}
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value, where, key)
    return _of_type(value, hint, where, key)


def _option(options: tuple[Any, ...], value: Any) -> Any:
    """Return the type of a union that fits: of several dataclasses, the one with these fields."""
    if value is None and type(None) in options:
        return type(None)
    others = [option for option in options if option is not type(None)]
    if isinstance(value, dict):
        specs = [option for option in others if is_dataclass(option)]
        return next((s for s in specs if {f.name for f in fields(s)} == value.keys()), others[0])
    is_list = isinstance(value, list)
    fitting = (o for o in others if (typing.get_origin(o) is tuple) == is_list)
    return next(fitting, others[0])


NAMES_OF_TYPES = {
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _of_type(value: Any, kind: type, where: Path | str, key: str) -> Any:
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if kind is list and type(value) is tuple:  # of values that have not been written yet
        return list(value)
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) is not kind or not is_finite:
        message = f"{where}: {key} = " if key else f"{where}: "
        raise EncodaxError(f"{message}{shown(value)} is not {NAMES_OF_TYPES[kind]}")
    return value


# Keys: each one is used, ignored, or refused.


class Settings(Mapping[str, Any]):
    """Object of a JSON file, which records the keys that are read."""

    def __init__(self, values: Mapping[str, Any], *, where: Path | str):
        """Set the values; no key is recorded yet.

        Args:
            values: the object.
            where: the file, for error messages.
        """
        self._values = dict(values)
        self._used: dict[str, None] = {}  # in order
        self.where = where

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        self._used[key] = None
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def plain(self) -> dict[str, Any]:
        """Return a copy of the object; no key is recorded."""
        return dict(self._values)

    def settle(self, ignored_keys: Mapping[str, str], *, unknown: str | None = None) -> FileKeys:
        """Account for every key, once all has been read.

        Args:
            ignored_keys: key -> reason why it changes no answer.
            unknown: reason why any other key changes none; None to refuse other keys.

        Raises:
            EncodaxError: a key is neither read nor ignored; the message gives the first one, with
                its value. A key whose value is null, false or empty is off, and always ignored.
        """
        kept, reasons = {}, {}
        for key, value in self._values.items():
            if key in self._used:
                continue
            reason = ignored_keys.get(key) or (OFF if not value else unknown)
            if reason is None:
                raise EncodaxError(
                    f"{self.where}: {key} = {shown(value)} is not supported: it is not known here, "
                    "and may change the answers; remove the key if it does not"
                )
            kept[key], reasons[key] = value, reason
        return FileKeys(tuple(self._used), kept, reasons)


OFF = "it is off"
"""Reason why an unknown key that is null, false or empty is ignored."""


@dataclass(frozen=True)
class FileKeys:
    """Use of the keys of one JSON file of a model directory."""

    used: tuple[str, ...] = ()
    """Keys that were read."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Keys that change no answer, with their values: they are saved back."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Reason why each of these keys changes no answer."""


ModelFiles = Mapping[str, FileKeys]
"""Name of a JSON file in a model directory -> use of its keys."""


def shown(value: Any) -> str:
    """Return a value as JSON, shortened where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
