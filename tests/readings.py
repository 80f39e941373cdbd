"""Files read in every possible way; all ways must give the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from encodax.data.records import open_records
from encodax.data.sources import Record, read


def read_alike(path: Path | str, **options: Any) -> list[Record]:
    """The records of a file: in a row, by their number, and in another process."""
    wanted = list(read(path, **options))
    found = open_records(path, **options)
    assert list(found) == wanted
    assert [found[index] for index in reversed(range(len(found)))][::-1] == wanted
    copied = pickle.loads(pickle.dumps(found))
    assert copied[-1] == wanted[-1]
    assert copied.fingerprint == found.fingerprint == open_records(path, **options).fingerprint
    return wanted
