"""Type checks at run time of every function of `encodax`, which `conftest.py` installs.

Arrays are checked by jaxtyping, shapes included; where no array is annotated, beartype is enough,
at a third of the cost. A function inside a function is checked if it takes arrays: others are made
anew in each call, and mypy knows them.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source
from types import CodeType, FunctionType, ModuleType
from typing import Any, get_type_hints
from unittest.mock import patch

import jax
import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

PACKAGE = "encodax"
ARRAYS = re.compile(r"\b(Bool|Float|Inexact|Int|Integer|Key|Num|PyTree|Shaped|UInt\d*)\[")
"""Annotations of jaxtyping, as they are written."""
CONFIGURATION = BeartypeConf(violation_type=jaxtyping.TypeCheckError)
VERSION = "checked2"
"""Part of the names of compiled files; another one when this file decorates in another way."""


def install() -> None:
    """Check what is imported of the package from here on."""
    sys.meta_path.insert(0, _Finder())


def with_shapes(function: Any) -> Any:
    """Check the types and the shapes of a function, or of the fields of a dataclass."""
    return jaxtyping.jaxtyped(function, typechecker=check)


def checked(function: FunctionType) -> Callable[..., Any]:
    """Check the types of a function; the shapes too, if it has arrays, under whatever name."""
    written = function.__annotations__
    meant = {name: _evaluated(hint, function) for name, hint in written.items()}
    if "jaxtyping." in repr(meant):
        return with_shapes(function)
    function.__annotations__ = meant
    try:
        strict = _strict(function, CONFIGURATION)
    finally:
        function.__annotations__ = written

    @functools.wraps(function)
    def switched(*args: Any, **kwargs: Any) -> Any:
        is_off = jaxtyping.config.jaxtyping_disable
        return (function if is_off else strict)(*args, **kwargs)

    return switched


def _strict(function: Callable[..., Any], configuration: BeartypeConf) -> Callable[..., Any]:
    """Return the function with beartype's check; with `Self`, whose class is unknown, as it is."""
    try:
        return beartype(function, conf=configuration)
    except BeartypeDecorHintPep673Exception:
        return function


def _evaluated(hint: Any, function: FunctionType) -> Any:
    """Return what an annotation means; anything, if that is not known yet, or of endless depth."""

    def named(value: Any) -> None: ...

    named.__annotations__ = {"value": hint}
    try:
        meant = get_type_hints(named, function.__globals__)["value"]
    except NameError:
        return Any
    return Any if "ForwardRef(" in repr(meant) else meant


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check as jaxtyping asks; a pytree may be rebuilt around anything."""
    strict = _strict(function, BeartypeConf())
    if not function.__qualname__.endswith(".__init__"):
        return strict

    @functools.wraps(function)
    def init(self: Any, *args: Any, **kwargs: Any) -> Any:
        # JAX rebuilds a pytree around what is no array: shapes, None, one row of a batch.
        is_pytree = not jax.tree_util.all_leaves([self])
        return (function if is_pytree else strict)(self, *args, **kwargs)

    return init


class _Decorating(ast.NodeTransformer):
    """Puts a check on functions and classes."""

    def __init__(self) -> None:
        self._is_inside = False

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        late = [isinstance(part, ast.Expr | ast.ImportFrom) for part in node.body]
        place = late.index(False) if False in late else len(late)  # after docstring and __future__
        node.body.insert(place, ast.Import([ast.alias(__name__, "_typechecking")]))
        return ast.fix_missing_locations(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        node.decorator_list.insert(0, _decorator("with_shapes"))  # once it is a dataclass
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        was_inside, self._is_inside = self._is_inside, True
        self.generic_visit(node)
        self._is_inside = was_inside
        if not was_inside or _has_arrays(node):
            node.decorator_list.append(_decorator("checked"))  # before any other decorator
        return node


def _has_arrays(node: ast.FunctionDef) -> bool:
    parts = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    hints = [*(part.annotation for part in parts), node.returns]
    return any(ARRAYS.search(ast.unparse(hint)) for hint in hints if hint is not None)


def _decorator(name: str) -> ast.expr:
    return ast.parse(f"_typechecking.{name}", mode="eval").body


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        own = functools.partial(cache_from_source, optimization=VERSION)
        with patch("importlib._bootstrap_external.cache_from_source", own):
            return super().get_code(fullname)

    def source_to_code(self, data: Any, path: Any, **options: Any) -> CodeType:  # type: ignore[override]
        tree = _Decorating().visit(ast.parse(data, path))
        return compile(tree, path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
