"""Runs the blocks of pages in order, as somebody who follows them would: see `test_blocks.py`.

    python page_runner.py FOLDER

Standard input has a page a line, as JSON: the folder in which it runs, whether its commands run
here, and its blocks, pairs of a language and a text. Standard output gets a line for each page: its
exit code, and all that it wrote. What is Python in a page shares one session.

This process has JAX loaded, and answers `encodax`: FOLDER/encodax is a command that hands its
arguments, its folder and its standard streams over, and ends with the exit code of what ran here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from encodax.cli.main import main as encodax

SHELL = ["bash", "-euo", "pipefail", "-c"]
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


def run_page(blocks: Sequence[tuple[str, str]], run_shell: Callable[[str], object]) -> int:
    """Run blocks in this folder, up to the first that fails; 0, or 1 after its traceback."""
    session: dict[str, Any] = {"__name__": "__main__"}
    try:
        for language, block in blocks:
            print(f"--- {language}\n{block}", flush=True)
            if language == "sh":
                run_shell(block)
            else:
                exec(compile(block, "<block>", "exec"), session)
    except (Exception, SystemExit):
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def run_shell(block: str) -> None:
    """Run a block whose commands are processes."""
    subprocess.run([*SHELL, block], stdin=subprocess.DEVNULL, check=True)


def run_shell_here(block: str, listener: socket.socket, folder: Path) -> None:
    """Run a block, and its `encodax` commands in this process."""
    command = [*SHELL, block]
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, **path}) as shell:
        while shell.poll() is None:
            with contextlib.suppress(TimeoutError):
                answer(listener)
    if shell.returncode:
        raise subprocess.CalledProcessError(shell.returncode, command)


def answer(listener: socket.socket) -> None:
    """Run the command that calls, if any does so soon."""
    connection, _ = listener.accept()
    with connection:
        call, streams, *_ = socket.recv_fds(connection, LONGEST, 3)
        folder, arguments = json.loads(call)
        with in_place(streams, folder):
            code = run_command(arguments)
        connection.send(str(code).encode())


def run_command(arguments: list[str]) -> int:
    """Run the command line; its exit code."""
    sys.argv = arguments
    try:
        encodax()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextlib.contextmanager
def in_place(streams: Sequence[int], folder: str) -> Iterator[None]:
    """Take streams and a folder for those of this process, for a while; the streams are closed."""
    own, before = [os.dup(number) for number in range(3)], Path.cwd()
    python_streams = sys.stdin, sys.stdout, sys.stderr
    replace(streams)
    os.chdir(folder)
    try:
        with (
            open(0, encoding="utf-8", closefd=False) as sys.stdin,
            open(1, "w", encoding="utf-8", closefd=False) as sys.stdout,
            open(2, "w", encoding="utf-8", closefd=False) as sys.stderr,
        ):
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = python_streams
        os.chdir(before)
        replace(own)


def replace(streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)


def serve(folder: Path) -> None:
    """Run pages until standard input ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        address = str(folder / "calls")
        listener.bind(address)
        listener.listen()
        listener.settimeout(0.05)
        client = folder / "encodax"
        client.write_text(CLIENT.format(python=sys.executable, address=address))
        client.chmod(0o755)
        here = functools.partial(run_shell_here, listener=listener, folder=folder)
        for line in sys.stdin:
            place, is_here, blocks = json.loads(line)
            with tempfile.TemporaryFile() as written:
                both = [os.dup(written.fileno()) for _ in range(2)]
                with in_place([os.open(os.devnull, os.O_RDONLY), *both], place):
                    code = run_page(blocks, here if is_here else run_shell)
                written.seek(0)
                print(json.dumps([code, written.read().decode()]), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import compiled

    compiled.install()
    serve(Path(sys.argv[1]))
