"""PyTorch once more, under the rule for freed memory that `encodax train` sets itself."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[1:1] = [str(HERE.parent / "speed"), str(HERE.parents[1] / "src" / "encodax")]
from host_memory import keep_freed_memory

keep_freed_memory()  # before the threads of PyTorch begin

from protocol import serve  # noqa: E402
from torch_worker import Trainer  # noqa: E402

if __name__ == "__main__":
    serve(Trainer)
