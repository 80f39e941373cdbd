"""PyTorch once more, under the rule for freed memory that `encodax train` sets itself."""

from __future__ import annotations

import runpy

from benchmarks.harness.children import ROOT

# Before the threads of PyTorch begin; the package is not there in this environment.
HOST_MEMORY = ROOT / "src" / "encodax" / "process" / "host_memory.py"
runpy.run_path(str(HOST_MEMORY))["keep_freed_memory"]()

from benchmarks.harness.protocol import serve  # noqa: E402
from benchmarks.training_step.torch_worker import Trainer  # noqa: E402

if __name__ == "__main__":
    serve(Trainer)
