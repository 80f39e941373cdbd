"""Runs the blocks of one page in order, as somebody who follows it would: see `test_blocks.py`.

They come on standard input, as JSON: pairs of a language and a text. What is Python shares one
session.
"""

import json
import subprocess
import sys
from typing import Any

SHELL = ["bash", "-euo", "pipefail", "-c"]


def main() -> None:
    session: dict[str, Any] = {"__name__": "__main__"}
    for language, block in json.load(sys.stdin):
        print(f"--- {language}\n{block}", flush=True)
        if language == "sh":
            subprocess.run([*SHELL, block], stdin=subprocess.DEVNULL, check=True)
        else:
            exec(compile(block, "<block>", "exec"), session)


if __name__ == "__main__":
    main()
