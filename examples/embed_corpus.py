"""Embeds a small corpus with two actors, kills one on the way, and counts the vectors.

    python examples/embed_corpus.py [MODEL] [FOLDER]

MODEL is a model directory or the id of one on the hub. FOLDER is made; where it was left half done,
the same command goes on. It needs `pip install 'encodax[ray]'`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet

from encodax import embed_corpus

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
FILES, ROWS = 2, 1_000
WEATHER = ("rain", "snow", "fog", "hail", "a clear sky")


def write_corpus(folder: Path) -> None:
    """Weather reports, each with a number of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(FILES):
        ids = range(file * ROWS, (file + 1) * ROWS)
        texts = [
            f"Station {id % 97} has {WEATHER[id % 5]} and a wind of {id % 40} knots." for id in ids
        ]
        path = folder / f"reports-{file}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"id": list(ids), "text": texts}), path)


def main(model: str, folder: Path) -> None:
    if not (folder / "texts").exists():
        write_corpus(folder / "texts")
    pids: list[int] = []

    def watch(written) -> None:
        print(f"{written.name}: {written.rows} vectors by process {written.pid}")
        pids.append(written.pid)
        if len(pids) == 1:
            print(f"killing process {written.pid}, which has begun its next file")
            os.kill(written.pid, signal.SIGKILL)

    result = embed_corpus(
        model, folder / "texts", folder / "vectors", actors=2, partition_rows=200, each=watch
    )
    table = pyarrow.parquet.read_table(folder / "vectors")
    assert sorted(table["id"].to_pylist()) == list(range(FILES * ROWS)), "a row is not there once"
    assert table["vector"].null_count == 0
    print(f"{result.embedded:,} vectors in {result.seconds:.0f} s, {len(set(pids))} processes")
    print(f"{len(table):,} rows, {len(set(table['id'].to_pylist())):,} ids: one vector for each")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        arguments[0] if arguments else MODEL,
        Path(arguments[1] if len(arguments) > 1 else "runs/corpus"),
    )
