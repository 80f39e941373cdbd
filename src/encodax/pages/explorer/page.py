"""The explorer: one page of HTML that shows what a model did with a text.

The page is one file and fetches nothing: its policy forbids it. Names and texts go in as JSON, and
the page's script puts them in as text; numbers go in as gzip in base64, attention in thousandths.
The script is in pieces by what they draw, which are joined here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from encodax.pages.report import direction_of, from_template
from encodax.types.inspection import AttentionMaps, Inspection, Token

HERE = Path(__file__).parent
TEMPLATE = "explorer/explorer.html.jinja"
STYLE = HERE / "explorer.css"
PIECES = (
    "elements",
    "labels",
    "data",
    "colours",
    "heat_map",
    "pointing",
    "selection",
    "tokens",
    "attributions",
    "attention",
    "grid",
    "lines",
    "weights",
    "picture",
    "controls",
    "guesses",
    "norms",
    "main",
)
"""Files of `js/`: first what all use, then the page from its top; the last one starts."""
PARTS = 1_000
"""What a whole is counted in: attention is shown to a tenth of a percent, and kept so."""


def render(inspection: Inspection, *, model: str) -> str:
    """The page as HTML; the same arrays give the same bytes.

    Args:
        inspection: what to show.
        model: what the model is called.
    """
    script, style = _script(), STYLE.read_text(encoding="utf-8").rstrip("\n")
    return from_template(
        TEMPLATE,
        model=model,
        inspection=inspection,
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
        names=_json(_names(inspection)),
        numbers=_numbers(inspection),
    )


def _script() -> str:
    """The pieces as one strict script: what one declares, all others see."""
    pieces = ((HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in PIECES)
    return "\n".join(('"use strict";\n', *pieces)).rstrip("\n")


def _names(inspection: Inspection) -> dict[str, Any]:
    """All but the numbers of maps and norms, whose shapes are there."""
    return {
        "tokens": _tokens(inspection.tokens),
        "direction": direction_of("".join(_words(inspection.tokens))),
        "answer": inspection.answer,
        "attention": [
            {
                "name": maps.name,
                "queries": _tokens(maps.queries),
                "keys": _tokens(maps.keys),
                "views": maps.views,
                "block": maps.block,
                "layers": maps.cells.shape[0],
                "rows": maps.cells.shape[2],
                "columns": maps.cells.shape[3],
                "strongest": 0 if maps.strongest is None else maps.strongest.keys.shape[-1],
            }
            for maps in inspection.attention
        ],
        "norms": [
            {"name": norms.name, "tokens": _tokens(norms.tokens), "layers": len(norms.values)}
            for norms in inspection.norms
        ],
        "attributions": [
            {**asdict(attribution), "shares": _rounded(attribution.shares)}
            for attribution in inspection.attributions
        ],
        "masks": [asdict(guesses) for guesses in inspection.masks],
    }


def _numbers(inspection: Inspection) -> str:
    """The arrays in the order of the names: of each attention its cells and what is strongest."""
    pieces = [piece for maps in inspection.attention for piece in _maps(maps)]
    pieces += [norms.values.astype("<f4").tobytes() for norms in inspection.norms]
    packed = gzip.compress(b"".join(pieces), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _maps(maps: AttentionMaps) -> list[bytes]:
    # Cells of a column, one key seen by all, are alike: they compress better side by side.
    pieces = _planes(_thousandths(maps.cells).swapaxes(2, 3))
    if maps.strongest is not None:
        pieces += _planes(maps.strongest.keys)
        pieces += _planes(_thousandths(maps.strongest.weights))
    return pieces


def _planes(numbers: Int[np.ndarray, "..."]) -> list[bytes]:
    """The low bytes of all, then the high bytes, which hardly ever are not zero."""
    return [(numbers & 255).astype(np.uint8).tobytes(), (numbers >> 8).astype(np.uint8).tobytes()]


def _thousandths(weights: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    return np.rint(weights * PARTS).astype(np.int32)


def _tokens(tokens: Sequence[Token]) -> list[tuple[str, str, int]]:
    return [(token.text, token.entry, token.token_id) for token in tokens]


def _words(tokens: Sequence[Token]) -> list[str]:
    """The tokens that stand for a piece of the text, which special ones such as [CLS] do not."""
    return [token.text for token in tokens if token.text != token.entry or token.text.isalpha()]


def _rounded(values: Float[np.ndarray, " T"]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _json(data: Any) -> str:
    """JSON that can stand in an element `script`, which nothing in it ends."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _hash(text: str) -> str:
    """How the page's policy names what may run."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
