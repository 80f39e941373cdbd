"""Sizes of BERT that are known by name.

tiny, mini and small: Turc et al. 2019, arXiv:1908.08962, table 1, whose heads are 64 wide; base:
Devlin et al. 2019, section 3.
"""

from __future__ import annotations


def _of(layers: int, width: int) -> dict[str, int]:
    return {"layers": layers, "width": width, "heads": width // 64, "ffn": 4 * width}


PRESETS: dict[str, dict[str, int]] = {
    "tiny": _of(2, 128),
    "mini": _of(4, 256),
    "small": _of(4, 512),
    "base": _of(12, 768),
}
"""Fields of `NewModel`."""
