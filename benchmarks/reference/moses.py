"""Lines lowercased and tokenized as Moses does it, for `benchmarks/multi30k.py`.

    python -m benchmarks.reference.moses LANGUAGE < LINES > TOKENIZED

For a Python of `benchmarks/requirements.txt`; Encodax is not needed.
"""

from __future__ import annotations

import sys

from sacremoses import MosesTokenizer


def main() -> None:
    """Tokenize standard input."""
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    tokenizer = MosesTokenizer(lang=sys.argv[1])
    for line in sys.stdin:
        print(tokenizer.tokenize(line.strip().lower(), return_str=True, escape=False))


if __name__ == "__main__":
    main()
