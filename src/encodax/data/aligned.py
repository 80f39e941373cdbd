"""Two aligned text files: a sentence on each line, and its translation on the same line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from encodax.data.records import Records, open_records
from encodax.data.sources import Record
from encodax.errors import EncodaxError


class Aligned(Sequence[Record]):
    """Records `{"source": ..., "target": ...}` of two files; they need not fit in memory."""

    def __init__(self, source: Path | str, target: Path | str):
        """Read through both files once.

        Args:
            source: file with one text on each line, plain or gzip, whatever its ending.
            target: file with the translation of each of these lines, in the same order.

        Raises:
            EncodaxError: a file cannot be read, is empty, or the numbers of lines differ.
        """
        self.sides: tuple[Records, Records]
        """Lines of the source and of the target file."""
        self.sides = open_records(source, format="txt"), open_records(target, format="txt")
        counts = [len(side) for side in self.sides]
        if counts[0] != counts[1]:
            raise EncodaxError(
                f"{source} has {counts[0]:,} lines, and {target} has {counts[1]:,}: lines are "
                "matched one to one, so both need the same number"
            )

    @property
    def paths(self) -> list[str]:
        """Paths of the two files."""
        return [path for side in self.sides for path in side.paths]

    def __len__(self) -> int:
        return len(self.sides[0])

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """Return the pair of the line with this index, from 0."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return _pair(*(side[index] for side in self.sides))

    def __iter__(self) -> Iterator[Record]:
        return (_pair(*records) for records in zip(*self.sides, strict=True))


def _pair(source: Record, target: Record) -> Record:
    texts = source.fields["text"], target.fields["text"]
    is_hole = bool(texts[0].strip()) and not texts[1].strip()  # an empty text names its own line
    return Record(
        {"source": texts[0], "target": texts[1]}, target.where if is_hole else source.where
    )
