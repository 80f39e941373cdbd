"""Cost of a compiled step from its HLO: matrix products, and bytes between devices.

XLA's own cost analysis counts the body of a loop once, and does not count communication. Here a
body counts as often as it runs (scanned layers, micro-batches, blocks of attention), if the
compiler knows the trip count.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

SENT: dict[str, Callable[[float, int], float]] = {
    "all-reduce": lambda size, n: 2 * (n - 1) / n * size,
    "all-gather": lambda size, n: (n - 1) / n * size,
    "reduce-scatter": lambda size, n: (n - 1) * size,
    "all-to-all": lambda size, n: (n - 1) / n * size,
    "collective-permute": lambda size, n: size,
}
"""Bytes that each of n devices sends, from the bytes of a collective's result.

For all-gather, reduce-scatter, and all-reduce as one after the other, these are the bytes of the
ring algorithm, the fewest possible (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce
algorithms for clusters of workstations", section 3): with S bytes in total, (n - 1) / n * S each,
and 2 (n - 1) / n * S. The result of a reduce-scatter is S / n. In an all-to-all each device keeps
one piece of n, and sends the others.
"""


@dataclass(frozen=True)
class Costs:
    """Cost of one run of a program, on one device."""

    flops: float = 0.0
    """Operations of matrix products: 2 for each multiplication and the addition after it."""
    sent: dict[str, float] = field(default_factory=dict)
    """Bytes that the device sends, by kind of collective."""
    unknown_loops: int = 0
    """Number of loops with products or collectives whose trip count is unknown: they count once."""

    def plus(self, other: Costs, times: int = 1) -> Costs:
        """Return the sum of these costs and `times` the other ones."""
        kinds = [*self.sent, *(kind for kind in other.sent if kind not in self.sent)]
        return Costs(
            self.flops + times * other.flops,
            {kind: self.sent.get(kind, 0) + times * other.sent.get(kind, 0) for kind in kinds},
            self.unknown_loops + other.unknown_loops,
        )


def costs_of(text: str) -> Costs:
    """Return the costs of a compiled program from its HLO text."""
    computations, entry, devices = _parsed(text)

    @functools.cache
    def of(name: str) -> Costs:
        own = computations[name]
        shapes = {instruction.name: instruction.type for instruction in own}
        total = Costs()
        for instruction in own:
            total = total.plus(_own_costs(instruction, shapes, devices))
            called = Costs()
            for other in _called(instruction.rest):
                called = called.plus(of(other))
            times = _rounds(instruction)
            if times is None and (called.flops or called.sent):
                called = called.plus(Costs(unknown_loops=1))
            total = total.plus(called, 1 if times is None else times)
        return total

    return of(entry)


@dataclass(frozen=True)
class _Instruction:
    name: str
    type: str
    """Type such as `f32[8,16]{1,0}`, or several in parentheses."""
    kind: str
    rest: str
    """Operands and attributes."""


_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%?([\w.-]+) = (\((?:[^()]|\([^()]*\))*\)|\S+) ([\w-]+)\((.*)"
)
_ARRAY = re.compile(r"([a-z]+)(\d*)[a-z0-9]*\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations)=(\{[^}]*\}|%?[\w.-]+)")


def _parsed(text: str) -> tuple[dict[str, list[_Instruction]], str, int]:
    """Return the computations by name, the name of the entry, and the number of devices."""
    computations: dict[str, list[_Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            current.append(_Instruction(*found.groups()))
    devices = re.search(r"num_partitions=(\d+)", text)
    return computations, entry, int(devices[1]) if devices else 1


def _own_costs(instruction: _Instruction, shapes: dict[str, str], devices: int) -> Costs:
    kind = instruction.kind
    if kind == "dot":
        first = re.search(r"%([\w.-]+)", instruction.rest)
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
        assert first is not None and summed is not None
        sizes = _shape(shapes[first[1]])
        depth = math.prod(sizes[int(axis)] for axis in summed[1].split(",") if axis)
        return Costs(2.0 * math.prod(_shape(instruction.type)) * depth)
    if kind in SENT:
        size = sum(map(_bytes, _ARRAY.findall(instruction.type)))
        return Costs(0.0, {kind: SENT[kind](size, _group_size(instruction.rest, devices))})
    return Costs()


def _shape(type: str) -> list[int]:
    found = _ARRAY.match(type)
    assert found is not None
    return [int(size) for size in found[3].split(",") if size]


def _bytes(array: tuple[str, str, str]) -> float:
    kind, bits, sizes = array
    of_one = 1.0 if kind == "pred" else int(bits or 0) / 8
    return of_one * math.prod(int(size) for size in sizes.split(",") if size)


def _group_size(rest: str, devices: int) -> int:
    """Return the number of devices in a replica group, in any of HLO's notations."""
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(found[1].split(","))
    return devices  # `{}`: all of them


def _called(rest: str) -> list[str]:
    return [
        name
        for names in _CALLED.findall(rest)
        for name in re.findall(r"[\w.-]+", names.replace("%", ""))
    ]


def _rounds(instruction: _Instruction) -> int | None:
    """Return how often the called computations run; None if that is unknown."""
    if instruction.kind != "while":
        return 1
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', instruction.rest)
    return int(found[1]) if found else None
