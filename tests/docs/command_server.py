"""Runs `encodax` commands in one process, which loads JAX once: see `test_blocks.py`.

`python command_server.py FOLDER` makes FOLDER/encodax, a command that hands its arguments, its
folder and its standard streams to this process, and ends with the exit code of what ran here.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from encodax.cli.main import main

LONGEST = 2**20
"""Bytes of a call: its arguments and its folder."""
CLIENT = """#!{python} -IS
import json, os, socket, sys
if "XLA_FLAGS" in os.environ or sys.argv[1:2] == ["plan"]:  # of devices that this process has not
    os.execv({python!r}, [{python!r}, "-m", "encodax", *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([os.getcwd(), sys.argv])
socket.send_fds(server, [call.encode()], [0, 1, 2])
sys.exit(int(server.recv(8) or 70))
"""


def serve(folder: Path) -> None:
    """Answer calls, one after another, until the process is ended."""
    with socket.socket(socket.AF_UNIX) as listener:
        address = str(folder / "calls")
        listener.bind(address)
        listener.listen()
        client = folder / "encodax"
        client.write_text(CLIENT.format(python=sys.executable, address=address))
        client.chmod(0o755)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                call, streams, *_ = socket.recv_fds(connection, LONGEST, 3)
                connection.send(str(run(streams, *json.loads(call))).encode())


def run(streams: Sequence[int], folder: str, arguments: list[str]) -> int:
    """Run a command with the streams of another process; its exit code."""
    own = [os.dup(number) for number in range(3)]
    before = sys.stdin, sys.stdout, sys.stderr
    _replace(streams)
    os.chdir(folder)
    sys.argv = arguments
    try:
        with (
            open(0, encoding="utf-8", closefd=False) as sys.stdin,
            open(1, "w", encoding="utf-8", closefd=False) as sys.stdout,
            open(2, "w", encoding="utf-8", closefd=False) as sys.stderr,
        ):
            main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        _replace(own)
    return 0


def _replace(streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import compiled

    compiled.install()
    serve(Path(sys.argv[1]))
