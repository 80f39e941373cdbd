"""PyTorch once more, under the rule for freed memory that `encodax train` sets itself."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Before the threads of PyTorch begin; the package is not there in this environment.
runpy.run_path(str(ROOT / "src" / "encodax" / "host_memory.py"))["keep_freed_memory"]()

sys.path.insert(1, str(ROOT / "benchmarks" / "speed"))
from protocol import serve  # noqa: E402
from torch_worker import Trainer  # noqa: E402

if __name__ == "__main__":
    serve(Trainer)
