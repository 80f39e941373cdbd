"""Explorer page: one HTML file that shows how a model processed a text.

The page fetches nothing: its content security policy forbids it. Names and texts are stored as
JSON, and the page's script inserts them as text; numbers are stored as gzip in base64, attention in
thousandths.
The script is in pieces by what they draw, joined here.
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
"""Units of a whole: attention is stored and shown to a tenth of a percent."""


def render(inspection: Inspection, *, model: str) -> str:
    """Return the page as HTML; equal arrays give equal bytes.

    Args:
        inspection: content of the page.
        model: name of the model.
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
    """Return all but the numbers of maps and norms, with the shapes of these."""
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
    """Return the arrays in the order of the names: of attention, cells and strongest keys."""
    pieces = [piece for maps in inspection.attention for piece in _maps(maps)]
    pieces += [norms.values.astype("<f4").tobytes() for norms in inspection.norms]
    packed = gzip.compress(b"".join(pieces), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _maps(maps: AttentionMaps) -> list[bytes]:
    # Cells of a column (one key, all queries) are similar: adjacent, they compress better.
    pieces = _planes(_thousandths(maps.cells).swapaxes(2, 3))
    if maps.strongest is not None:
        pieces += _planes(maps.strongest.keys)
        pieces += _planes(_thousandths(maps.strongest.weights))
    return pieces


def _planes(numbers: Int[np.ndarray, "..."]) -> list[bytes]:
    """Return all low bytes, then all high bytes, which are almost always zero."""
    return [(numbers & 255).astype(np.uint8).tobytes(), (numbers >> 8).astype(np.uint8).tobytes()]


def _thousandths(weights: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    return np.rint(weights * PARTS).astype(np.int32)


def _tokens(tokens: Sequence[Token]) -> list[tuple[str, str, int]]:
    return [(token.text, token.entry, token.token_id) for token in tokens]


def _words(tokens: Sequence[Token]) -> list[str]:
    """Return the tokens that represent a piece of the text, unlike special ones such as [CLS]."""
    return [token.text for token in tokens if token.text != token.entry or token.text.isalpha()]


def _rounded(values: Float[np.ndarray, " T"]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _json(data: Any) -> str:
    """Return JSON that is safe inside a `script` element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _hash(text: str) -> str:
    """Return the hash of a script or style in the form of a content security policy."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
