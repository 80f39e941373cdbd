"""The learning curve for TensorBoard, where the library tensorboardX is installed.

An event file is a row of records, each a protocol buffer between its length and its checksum:

    uint64 length | uint32 checksum of it | Event | uint32 checksum of that        little-endian

tensorboardX knows the protocol buffers and the checksum. Its own writers keep the file open, which
would be lost where saving a model puts a copy of it in its place; here it is opened for each write,
as `metrics.jsonl` is, and a run that is killed has lost nothing.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from encodax.model_files.run_files import AVERAGE, EVALUATION, Entry
from encodax.storage import outputs

EVENTS_FOLDER = "tensorboard"
OWN_FILE = re.compile(r"events\.out\.tfevents\.\d{10}\..*\.encodax", re.DOTALL)
"""Names of the files that are written here; TensorBoard reads whatever has `tfevents` in it."""
NOT_DRAWN = frozenset({"step", "seconds"})  # TensorBoard has axes of its own for these


class Events:
    """Writes entries of a learning curve as scalars, `train/loss` or `eval/f1` say."""

    def __init__(self, directory: Path, done: int = 0):
        """Choose the place; nothing is written yet.

        Args:
            directory: of the run; the events go into a folder in it.
            done: steps that an earlier part of the run has done: what it drew after them is taken
                back. With none, what another run has drawn is removed.
        """
        self._folder, self._done = directory / EVENTS_FOLDER, done
        self._file: Path | None = None

    def write(self, entries: Iterable[Entry]) -> None:
        """Append some entries; nothing happens where tensorboardX is missing.

        The mean of checkpoints is no point of the curve, and is left out.

        Raises:
            OSError: they cannot be written.
        """
        try:
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.proto.summary_pb2 import Summary
        except Exception:  # not there, or not of the version of protobuf that is: a run needs none
            return

        def scalars(entry: Entry) -> Any:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _tagged(entry)]
            return Event(wall_time=now, step=entry["step"], summary=Summary(value=values))

        now = time.time()
        events = [scalars(entry) for entry in entries if AVERAGE not in entry]
        if self._file is None:
            self._file = self._new_file(int(now))
            start = SessionLog(status=SessionLog.START)
            events[:0] = [
                Event(wall_time=now, file_version="brain.Event:2"),
                # From this step on TensorBoard forgets what it has seen.
                Event(wall_time=now, step=self._done + 1, session_log=start),
            ]
        with self._file.open("ab") as stream:
            stream.writelines(_record(event.SerializeToString()) for event in events)

    def _new_file(self, now: int) -> Path:
        self._folder.mkdir(exist_ok=True)
        if not self._done and not self._folder.is_symlink():
            outputs.remove_files(self._folder, OWN_FILE)
        return self._folder / f"events.out.tfevents.{now:010d}.{socket.gethostname()}.encodax"


def _tagged(entry: Entry) -> Iterator[tuple[str, float]]:
    for name, value in entry.items():
        if name.startswith(EVALUATION):
            yield f"eval/{name.removeprefix(EVALUATION)}", value
        elif name not in NOT_DRAWN:
            yield f"train/{name}", value


def _record(content: bytes) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(content))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
    return b"".join((length, next(checksums), content, next(checksums)))
