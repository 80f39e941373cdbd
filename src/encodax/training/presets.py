"""Sizes of BERT by name, for models that are trained from scratch.

Devlin et al. 2019, arXiv:1810.04805, section 3 (base); Turc et al. 2019, arXiv:1908.08962, section
4.1 (the smaller ones). A head is 64 wide in all of them.
"""

from __future__ import annotations

from typing import Any

VOCABULARY_SIZE = 30_522
"""V of BERT."""


def _preset(layers: int, width: int) -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": width // 64,
        "vocabulary_size": VOCABULARY_SIZE,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _preset(2, 128),
    "mini": _preset(4, 256),
    "small": _preset(4, 512),
    "base": _preset(12, 768),
}
"""Fields of `NewModel`, by name."""
