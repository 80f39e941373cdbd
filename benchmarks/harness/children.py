"""Modules of this repository in processes of their own, with any Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def command(python: str | Path, module: str, *arguments: object) -> list[str]:
    """What starts a module with a Python."""
    return [*map(str, (python, "-m", module, *arguments))]


def environment(**more: str) -> dict[str, str]:
    """That of a child: it finds this repository's packages, and fetches nothing."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", **more}


def run(
    python: str | Path, module: str, *arguments: object, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a module to its end; other options are those of `subprocess.run`."""
    made = {"env": environment(), **options}
    return subprocess.run(command(python, module, *arguments), check=check, **made)


def encodax(*arguments: object) -> Any:
    """What a command of Encodax answers, in JSON."""
    return json.loads(run(sys.executable, "encodax", *arguments, stdout=subprocess.PIPE).stdout)
