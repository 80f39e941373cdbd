"""Public names of the package: every module, class, function and method without an underscore."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import encodax


def modules() -> list[str]:
    """Names of all public modules, `encodax` first."""
    found = pkgutil.walk_packages(encodax.__path__, "encodax.")
    return ["encodax", *(module.name for module in found if "._" not in module.name)]


def members(module: str) -> Iterator[tuple[str, Any]]:
    """The public classes and functions that a module defines, and methods of each class."""
    for name, thing in vars(importlib.import_module(module)).items():
        is_defined = inspect.isclass(thing) or inspect.isroutine(inspect.unwrap(thing))
        if name.startswith("_") or not is_defined or thing.__module__ != module:
            continue
        yield f"{module}.{name}", thing
        if inspect.isclass(thing):
            yield from _methods(f"{module}.{name}", thing)


def _methods(of: str, kind: type) -> Iterator[tuple[str, Any]]:
    for name, thing in vars(kind).items():
        plain = getattr(thing, "__func__", thing)
        plain = getattr(plain, "fget", None) or getattr(plain, "func", None) or plain
        is_public = not name.startswith("_") or name == "__call__"
        is_field = name in getattr(kind, "__dataclass_fields__", {})  # with a function by default
        if (
            is_public
            and not is_field
            and inspect.isroutine(plain)
            and plain.__module__ == kind.__module__
        ):
            yield f"{of}.{name}", plain
