"""Choosing parameters by their names, and parting a tree of them in two."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from encodax.errors import EncodaxError
from encodax.types.batches import Params

Flags = Mapping[str, Mapping[str, bool]]
"""A tree of the shape of parameters, of what is true of each leaf."""

EXAMPLES = 3
"""Names that an error shows."""


def matching(params: Params, pattern: str) -> dict[str, dict[str, bool]]:
    r"""Which leaves have a name in which a regular expression is found.

    Args:
        params: parameters; the name of a leaf is such as `encoder/layer_3/attention/query/w`.
        pattern: such as `encoder/embeddings`, `layer_[0-3]/` or `/b$`; it is found anywhere in the
            name unless ^ and $ say where.

    Raises:
        EncodaxError: it is no regular expression, or is found in no name.
    """
    found = compiled(pattern)
    flags = {
        path: {leaf: found.search(f"{path}/{leaf}") is not None for leaf in leaves}
        for path, leaves in params.items()
    }
    if not any(any(leaves.values()) for leaves in flags.values()):
        raise no_match(pattern, [f"{path}/{leaf}" for path, own in params.items() for leaf in own])
    return flags


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression.

    Raises:
        EncodaxError: it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise EncodaxError(f"{pattern!r} is no regular expression: {error}") from error


def no_match(pattern: str, names: list[str]) -> EncodaxError:
    """What is raised where a pattern is found in none of these names."""
    step = max(1, len(names) // EXAMPLES)
    shown = ", ".join(itertools.islice(names[::step], EXAMPLES))
    return EncodaxError(f"the pattern {pattern!r} is found in no parameter; there are: {shown}")


def partition(params: Params, is_trained: Flags) -> tuple[Params, Params]:
    """Part a tree in two: leaves that are trained, and the others; neither has empty modules."""
    return _where(params, is_trained, True), _where(params, is_trained, False)


def _where(params: Params, flags: Flags, wanted: bool) -> Params:
    parts = {
        path: {leaf: array for leaf, array in leaves.items() if flags[path][leaf] is wanted}
        for path, leaves in params.items()
    }
    return {path: leaves for path, leaves in parts.items() if leaves}


def combine(trained: Params, frozen: Params) -> Params:
    """The tree that was split. Its modules and leaves are in the order of their names.

    That is the order that JAX gives a tree which has been through `jit`, so that what is joined
    does not depend on what was frozen.
    """
    return {
        path: dict(sorted({**frozen.get(path, {}), **trained.get(path, {})}.items()))
        for path in sorted(frozen.keys() | trained.keys())
    }
