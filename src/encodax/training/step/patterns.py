"""Selection of parameters by name patterns, and partition of their tree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from encodax.errors import EncodaxError
from encodax.options.training import compiled as compiled
from encodax.types.batches import Params

Flags = Mapping[str, Mapping[str, bool]]
"""Tree with the structure of parameters and a bool for each leaf."""

EXAMPLES = 3
"""Number of names that an error shows."""


def matching(params: Params, pattern: str) -> dict[str, dict[str, bool]]:
    r"""Mark the leaves whose name a regular expression matches.

    Args:
        params: parameters; a leaf has a name such as `encoder/layer_3/attention/query/w`.
        pattern: such as `encoder/embeddings`, `layer_[0-3]/` or `/b$`; it may match anywhere in
            the name unless it has ^ or $.

    Raises:
        EncodaxError: it is not a regular expression, or matches no name.
    """
    found = compiled(pattern)
    flags = {
        path: {leaf: found.search(f"{path}/{leaf}") is not None for leaf in leaves}
        for path, leaves in params.items()
    }
    if not any(any(leaves.values()) for leaves in flags.values()):
        raise no_match(pattern, [f"{path}/{leaf}" for path, own in params.items() for leaf in own])
    return flags


def no_match(pattern: str, names: list[str]) -> EncodaxError:
    """Return the error for a pattern that matches none of these names."""
    step = max(1, len(names) // EXAMPLES)
    shown = ", ".join(itertools.islice(names[::step], EXAMPLES))
    return EncodaxError(f"the pattern {pattern!r} matches no parameter; there are: {shown}")


def partition(params: Params, is_trained: Flags) -> tuple[Params, Params]:
    """Split a tree into trained leaves and the others; neither part has empty modules."""
    return _where(params, is_trained, True), _where(params, is_trained, False)


def _where(params: Params, flags: Flags, wanted: bool) -> Params:
    parts = {
        path: {leaf: array for leaf, array in leaves.items() if flags[path][leaf] is wanted}
        for path, leaves in params.items()
    }
    return {path: leaves for path, leaves in parts.items() if leaves}


def combine(trained: Params, frozen: Params) -> Params:
    """Join the two parts of a tree; its modules and leaves are sorted by name.

    JAX gives a tree this order when it has been through `jit`, so the result does not depend on
    what was frozen.
    """
    return {
        path: dict(sorted({**frozen.get(path, {}), **trained.get(path, {})}.items()))
        for path in sorted(frozen.keys() | trained.keys())
    }
