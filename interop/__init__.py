"""What compares Encodax with other libraries, each a command: `python -m interop.NAME`.

Commands run with the project's Python, from the root. They start others with the Python of an
environment made of `requirements.txt`, which has no Encodax; `generate/` is for that one too.
"""

from pathlib import Path

PARITY = Path(__file__).resolve().parents[1] / "tests" / "parity"
"""Where the goldens are, and the tests that read them."""
