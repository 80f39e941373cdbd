"""Learning curve for TensorBoard, if the library tensorboardX is installed.

An event file is a sequence of records, each a protocol buffer between its length and its checksum:

    uint64 length | uint32 checksum of it | Event | uint32 checksum of that        little-endian

tensorboardX provides the protocol buffers and the checksum. Its own writers keep the file open,
which loses entries when saving a model replaces the file by a copy. Here it is opened for each
write, like `metrics.jsonl`, and a run that is killed loses nothing.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from encodax.model_files.run_files import AVERAGED_COUNT_KEY, EVALUATION_PREFIX, Entry
from encodax.storage import outputs

EVENTS_FOLDER = "tensorboard"
OWN_FILE = re.compile(r"events\.out\.tfevents\.\d{10}\..*\.encodax", re.DOTALL)
"""Names of the files that are written here; TensorBoard reads all with `tfevents` in their name."""
NOT_DRAWN = frozenset({"step", "seconds"})  # TensorBoard has its own axes for these


class Events:
    """Writer of learning-curve entries as scalars, such as `train/loss` or `eval/f1`."""

    def __init__(self, directory: Path, done: int = 0):
        """Choose the folder; nothing is written yet.

        Args:
            directory: directory of the run; the events go into a folder in it.
            done: number of steps that an earlier part of the run has done; its events after them
                are revoked. With 0, the events of another run are removed.
        """
        self._folder, self._done = directory / EVENTS_FOLDER, done
        self._file: Path | None = None

    def write(self, entries: Iterable[Entry]) -> None:
        """Append entries; do nothing if tensorboardX is missing.

        An average of checkpoints is not a point of the curve, and is left out.

        Raises:
            OSError: the events cannot be written.
        """
        try:
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.proto.summary_pb2 import Summary
        except Exception:  # missing, or for another version of protobuf: a run does not need it
            return

        def scalars(entry: Entry) -> Any:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _tagged(entry)]
            return Event(wall_time=now, step=entry["step"], summary=Summary(value=values))

        now = time.time()
        events = [scalars(entry) for entry in entries if AVERAGED_COUNT_KEY not in entry]
        if self._file is None:
            self._file = self._new_file(int(now))
            start = SessionLog(status=SessionLog.START)
            events[:0] = [
                Event(wall_time=now, file_version="brain.Event:2"),
                # TensorBoard discards all events that it has seen from this step on.
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
        if name.startswith(EVALUATION_PREFIX):
            yield f"eval/{name.removeprefix(EVALUATION_PREFIX)}", value
        elif name not in NOT_DRAWN:
            yield f"train/{name}", value


def _record(content: bytes) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(content))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
    return b"".join((length, next(checksums), content, next(checksums)))
