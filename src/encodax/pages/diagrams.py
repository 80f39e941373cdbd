"""Figures of arrays: each function returns one SVG element, for a page or a file.

Equal arrays give equal bytes. Colours follow the page if it sets `--ink`, `--paper`, `--accent` and
`--second` (a dark page, for example), and otherwise suit a light page. Nothing is fetched: text is
drawn in the fonts of the viewer.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from xml.sax import saxutils

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, PercentFormatter, StrMethodFormatter

from encodax.errors import escape_invisible

COLOURS = {
    "#010101": "var(--ink, #1f2328)",
    "#020202": "var(--paper, #ffffff)",
    "#030303": "var(--accent, #0b6bcb)",
    "#040404": "var(--second, #c2410c)",
}
"""Fixed colours given to matplotlib -> the CSS variables that replace them in the figure."""
INK, PAPER, ACCENT, SECOND = COLOURS

FONTS = "system-ui, sans-serif"

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small and searchable
    "text.parse_math": False,  # no formulas between dollar signs
    "svg.hashsalt": "encodax",  # equal ids in every run
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
}

CELL = 16  # width of a token in an attention map
DENSE = 100  # minimum number of points of a curve that is smoothed
MOST = 1_000  # pieces of a curve, drawn as their minimum and maximum
FAINTEST = 0.01  # minimum attention that is drawn; lower values look empty


Series = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]
"""Steps, and a value at each step."""


def learning_curve(
    curve: Sequence[Mapping[str, int | float]],
    value: str,
    title: str,
    *,
    is_logarithmic: bool = False,
) -> str:
    """Return one value of a training run at each step that has it, and its running mean if noisy.

    Args:
        curve: entries of a learning curve: `step`, and values such as `loss` or `eval_f1`.
        value: name of the value.
        title: title of the figure.
        is_logarithmic: whether the scale is logarithmic, for values that span powers of ten.
    """
    return line_chart({"": series_of(curve, value)}, title, is_logarithmic=is_logarithmic)


def line_chart(
    series: Mapping[str, Series],
    title: str,
    *,
    is_logarithmic: bool = False,
    is_share: bool = False,
    is_noisy: bool = True,
    across: str = "step",
    doubles: bool = False,
) -> str:
    """Return a chart of values over the steps of a run, or over another quantity.

    Args:
        series: at most two series, by their names in the legend; "" for no legend.
        title: title of the figure.
        is_logarithmic: whether the scale is logarithmic; values not above 0 are left out.
        is_share: whether values are shares, shown in percent.
        is_noisy: whether a series of many points is drawn pale, under its running mean (of the
            logarithms on a logarithmic scale).
        across: label of the horizontal axis.
        doubles: whether each step is twice the previous one: they are then equally spaced.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes, is_drawn = figure.subplots(), False
        for (name, (steps, values)), colour in zip(series.items(), (ACCENT, SECOND), strict=False):
            drawn = np.isfinite(values) & (values > 0 if is_logarithmic else True)
            steps, values = steps[drawn], values[drawn]
            if is_noisy and len(steps) > DENSE:
                axes.plot(*_thinned(steps, values), color=colour, alpha=0.3, linewidth=0.6)
                values = np.exp(_smooth(np.log(values))) if is_logarithmic else _smooth(values)
            marker = "" if len(steps) > DENSE else "o"
            line: dict[str, Any] = {
                "color": colour,
                "linewidth": 1.8,
                "marker": marker,
                "markersize": 4,
            }
            axes.plot(*_thinned(steps, values), label=escape_invisible(name), **line)
            is_drawn |= len(steps) > 0
        axes.set(title=escape_invisible(title), xlabel=escape_invisible(across))
        if doubles:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        if is_logarithmic and is_drawn:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        elif is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        elif is_drawn and axes.get_ylim()[1] >= 10_000:
            axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.grid(visible=True)
        if any(series):
            axes.legend(frameon=False)
        return _svg(figure, f"Curve: {title}")


def series_of(curve: Sequence[Mapping[str, int | float]], name: str) -> Series:
    """Return steps and values of the entries of a learning curve that have this value."""
    entries = [(entry["step"], entry[name]) for entry in curve if name in entry]
    steps, values = np.array(entries, float).reshape(-1, 2).T
    return steps, values


def _thinned(steps: Any, values: Any) -> Series:
    """Return at most 2 `MOST` points, minimum and maximum of each piece: no peak is lost."""
    if len(steps) <= 2 * MOST:
        return steps, values
    pieces = np.array_split(np.arange(len(steps)), MOST)
    ends = [(piece[values[piece].argmin()], piece[values[piece].argmax()]) for piece in pieces]
    kept = np.unique(ends)
    return steps[kept], values[kept]


def bar_chart(values: Mapping[str, float], title: str, *, is_share: bool = False) -> str:
    """Return a chart of horizontal bars from top to bottom, each with its number.

    Args:
        values: values by name; none is negative.
        title: title of the figure.
        is_share: whether values are shares, shown in percent.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.7 + 0.3 * len(values)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(
            list(map(escape_invisible, values)), list(values.values()), color=ACCENT, height=0.6
        )
        number_format = "{:.0%}" if is_share else EngFormatter(sep=" ", places=1)
        axes.bar_label(bars, fmt=number_format, padding=4)
        axes.set(title=escape_invisible(title), xticks=[])
        axes.margins(x=0.2)
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        return _svg(figure, f"Bars: {title}")


def positional_encodings(table: Float[np.ndarray, "T D"], title: str) -> str:
    """Return a heat map of a table of positional encodings, with a row for each position."""
    return heat_map(table, title, across="feature", down="position")


def position_similarity(table: Float[np.ndarray, "T D"], title: str) -> str:
    """Return a heat map of the cosine similarity of the encodings of every two positions."""
    lengths = np.linalg.norm(table, axis=1, keepdims=True)  # (T, 1)
    directions = table / np.where(lengths == 0, 1, lengths)  # (T, D)
    cosines = directions @ directions.T
    return heat_map(cosines, title, across="position", down="position", most=1.0)


def heat_map(
    table: Float[np.ndarray, "rows columns"],
    title: str,
    *,
    across: str = "",
    down: str = "",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    most: float | None = None,
    has_scale: bool = True,
) -> str:
    """Return numbers as colours: white at 0, red up to `most`, blue down to -`most`.

    Args:
        table: the numbers.
        title: title of the figure.
        across: label of the columns.
        down: label of the rows.
        rows: a name for each row; by default their numbers.
        columns: a name for each column; by default their numbers.
        most: number of the deepest colour, which larger ones have too; by default the largest
            absolute value in the table.
        has_scale: whether to draw the colour scale.

    Raises:
        ValueError: there are not as many names as rows or columns.
    """
    most = (float(np.abs(table).max()) or 1.0) if most is None else most
    for names, size in zip((rows, columns), table.shape, strict=True):
        if len(names) not in (0, size):
            raise ValueError(f"{len(names)} names, but a table of the shape {table.shape}")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, max(3.4, 1.2 + 0.2 * len(rows))), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            table, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, interpolation="none"
        )
        axes.set(
            title=escape_invisible(title),
            xlabel=escape_invisible(across),
            ylabel=escape_invisible(down),
        )
        if rows:
            axes.set_yticks(range(len(rows)), list(map(escape_invisible, rows)))
        if columns:
            turned = 90 if max(map(len, columns)) > 2 else 0
            axes.set_xticks(
                range(len(columns)), list(map(escape_invisible, columns)), rotation=turned
            )
        if has_scale:
            scale = figure.colorbar(image, ax=axes)
            if np.min(table) >= 0:
                scale.ax.set_ylim(0, most)
        return _svg(figure, f"Heat map: {title}")


BOX_WIDTH, BOX_HEIGHT, GAP = 150, 28, 34
"""Sizes of the boxes of a diagram, and the vertical gap between them."""
PACE = BOX_HEIGHT + GAP
MARGIN = 40
"""Room for the lines that lead around boxes, on their left."""
CHARACTER = 7
"""Approximate width of a character."""


def flow_diagram(
    steps: Sequence[str],
    title: str,
    *,
    shapes: Sequence[str],
    skips: Sequence[tuple[int, int]] = (),
    others: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Return boxes from top to bottom, with the data between them at the arrows.

    Args:
        steps: names of the boxes.
        title: title of the figure.
        shapes: one more than there are boxes: the input, and the output of each box.
        skips: (i, j) for a line from arrow i around boxes to box j, as in a residual connection.
        others: further input of a box, by the box's number.

    Raises:
        ValueError: there are not as many shapes as arrows.
    """
    if len(shapes) != len(steps) + 1:
        raise ValueError(f"{len(steps)} boxes have {len(steps) + 1} arrows, not {len(shapes)}")
    right = max(BOX_WIDTH / 2 + 12 + CHARACTER * len(shape) for shape in shapes)
    right = max(right, *(BOX_WIDTH + 30 + CHARACTER * len(name) for name in ("", *others.values())))
    width = max(MARGIN + right, CHARACTER * len(title))
    parts = [
        _drawn_here(float(width), 30.0 + PACE * len(steps) + GAP),
        f"<title>{escape(title)}: {escape(', '.join(steps))}</title>",
        f'<text x="0" y="13">{escape(title)}</text>',
        f'<g transform="translate({MARGIN} 24)">',
        *(_arrow(PACE * i, shape) for i, shape in enumerate(shapes)),
        *(_way_around(*skip) for skip in skips),
        *(_box(PACE * i + GAP, step) for i, step in enumerate(steps)),
        *(_from_the_side(PACE * i + GAP, other) for i, other in others.items()),
        "</g></svg>",
    ]
    return "\n".join(parts)


def _box(top: int, name: str) -> str:
    return (
        f'<rect y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4" '
        f'fill="{COLOURS[ACCENT]}" fill-opacity="0.15" stroke="{COLOURS[ACCENT]}"/>'
        f'<text x="{BOX_WIDTH / 2}" y="{top + BOX_HEIGHT / 2}" dy="0.35em" '
        f'text-anchor="middle">{escape(name)}</text>'
    )


def _arrow(top: int, shape: str) -> str:
    """Return an arrow from a box down to the next one, with the shape of the data."""
    middle = BOX_WIDTH / 2
    return (
        f'<path d="M{middle} {top}v{GAP - 6}" stroke="{COLOURS[INK]}"/>'
        f'<path d="M{middle} {top + GAP}l-4 -8h8z"/>'
        f'<text x="{middle + 9}" y="{top + GAP / 2}" dy="0.35em">{escape(shape)}</text>'
    )


def _way_around(arrow: int, box: int) -> str:
    """Return a line from an arrow around boxes, on their left, into a box below."""
    start, end = PACE * arrow + GAP / 3, PACE * box + GAP + BOX_HEIGHT / 2
    return (
        f'<path d="M{BOX_WIDTH / 2} {start:.0f}H-24V{end:.0f}H-6" fill="none" '
        f'stroke="{COLOURS[SECOND]}" stroke-width="1.5"/>'
        f'<path d="M0 {end:.0f}l-8 -4v8z" fill="{COLOURS[SECOND]}"/>'
    )


def _from_the_side(top: int, name: str) -> str:
    """Return an arrow into a box from the right."""
    middle = top + BOX_HEIGHT / 2
    return (
        f'<path d="M{BOX_WIDTH + 24} {middle}h-18" stroke="{COLOURS[INK]}"/>'
        f'<path d="M{BOX_WIDTH} {middle}l8 -4v8z"/>'
        f'<text x="{BOX_WIDTH + 28}" y="{middle}" dy="0.35em">{escape(name)}</text>'
    )


def attention_map(
    weights: Float[np.ndarray, "T S"],
    tokens: Sequence[str],
    title: str,
    *,
    keys: Sequence[str] | None = None,
) -> str:
    """Return the attention weights of one head: rows are queries, columns are keys.

    It is drawn without matplotlib, so that the browser finds a font for every script.

    Args:
        weights: (T, S), each row sums to 1.
        tokens: the T query tokens.
        title: title of the figure.
        keys: the S key tokens; by default, the query tokens.

    Raises:
        ValueError: there are not as many tokens as rows and columns.
    """
    weights = np.asarray(weights, np.float32)
    to_each_other = keys is None
    keys = tokens if keys is None else keys
    if weights.shape != (len(tokens), len(keys)):
        raise ValueError(
            f"{len(tokens)} x {len(keys)} tokens, but weights of the shape {weights.shape}"
        )
    rows, columns = [escape(token) for token in tokens], [escape(token) for token in keys]
    left, above = (CELL * (0.7 + 0.5 * max(map(len, side))) for side in (tokens, keys))
    width, height = CELL * len(keys), CELL * len(tokens)
    size = left + max(width, CELL * 0.45 * len(title)), above + height + CELL
    whom = "each other" if to_each_other else f"{len(keys)} others"
    parts = [
        _drawn_here(*size),
        f"<title>{escape(title)}: attention of {len(tokens)} tokens to {whom}</title>",
        f'<text x="{left:.0f}" y="{CELL * 0.75:.0f}">{escape(title)}</text>',
        f'<g transform="translate({left:.0f} {above + CELL:.0f})">',
        *map(_row_label, range(len(rows)), rows),
        *map(_column_label, range(len(columns)), columns),
        *_cells(weights, rows, columns),
        f'<rect width="{width}" height="{height}" fill="none" '
        f'stroke="{COLOURS[INK]}" stroke-opacity="0.3"/>',
        "</g></svg>",
    ]
    return "\n".join(parts)


def packed_rows(
    segment_ids: Int[np.ndarray, "B T"],
    title: str,
    *,
    tokens: Sequence[Sequence[str]] | None = None,
) -> str:
    """Return the rows of a packed batch: each token with its segment's number, padding empty.

    Args:
        segment_ids: as in `PackedBatch`, 0 at padding.
        title: title of the figure.
        tokens: the T tokens of each row, written into their cells if given.
    """
    segment_ids = np.asarray(segment_ids)
    rows, columns = segment_ids.shape
    longest = max((len(token) for row in tokens or () for token in row), default=0)
    height = CELL * (1 + 0.5 * longest)
    size = float(max(CELL * columns, CELL * 0.45 * len(title))), CELL * 1.5 + rows * (height + 4)
    parts = [
        _drawn_here(*size),
        f"<title>{escape(title)}: {rows} rows of {columns} tokens</title>",
        f'<text x="0" y="{CELL * 0.75:.0f}">{escape(title)}</text>',
    ]
    for b, row in enumerate(segment_ids.tolist()):
        above = CELL * 1.4 + b * (height + 4)
        names = map(escape, tokens[b]) if tokens else [""] * columns
        parts += [
            f'<g transform="translate(0 {above:.0f})">',
            f'<rect width="{CELL * columns}" height="{height:.0f}" fill="none" '
            f'stroke="{COLOURS[INK]}" stroke-opacity="0.3"/>',
            *(
                _segment_cell(t, height, segment, name)
                for t, (segment, name) in enumerate(zip(row, names, strict=True))
                if segment
            ),
            "</g>",
        ]
    return "\n".join([*parts, "</svg>"])


def _segment_cell(index: int, height: float, segment: int, name: str) -> str:
    """Return a token of a packed row: its segment's number at the bottom, its text above."""
    middle, foot = CELL * (index + 0.5), height - CELL
    colour = COLOURS[ACCENT if segment % 2 else SECOND]
    return (
        f"<g><title>{name} segment {segment}</title>"
        f'<rect x="{CELL * index}" width="{CELL}" height="{height:.0f}" '
        f'fill="{colour}" fill-opacity="0.3"/>'
        f'<text x="{middle:.0f}" y="{foot:.0f}" dy="0.35em" '
        f'transform="rotate(-90 {middle:.0f} {foot:.0f})">{name}</text>'
        f'<text x="{middle:.0f}" y="{foot + CELL * 0.75:.0f}" text-anchor="middle">{segment}</text>'
        "</g>"
    )


def _drawn_here(width: float, height: float) -> str:
    """Return the start tag of a figure that is drawn without matplotlib."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'font-family="{FONTS}" font-size="{CELL * 0.75:.0f}" fill="{COLOURS[INK]}">'
    )


def _row_label(index: int, name: str) -> str:
    """Return a token's text, left of its row."""
    middle = CELL * (index + 0.5)
    return f'<text x="-5" y="{middle:.0f}" dy="0.35em" text-anchor="end">{name}</text>'


def _column_label(index: int, name: str) -> str:
    """Return a token's text above its column, rotated if it is long."""
    middle = CELL * (index + 0.5)
    turned = f' transform="rotate(-90 {middle:.0f} -4)"' if len(name) > 1 else ""
    anchor, down = ("start", ' dy="0.35em"') if turned else ("middle", "")
    return f'<text x="{middle:.0f}" y="-4"{down} text-anchor="{anchor}"{turned}>{name}</text>'


def _cells(
    weights: Float[np.ndarray, "T S"], rows: Sequence[str], columns: Sequence[str]
) -> list[str]:
    """Return a square for each pair, as opaque as its weight, which its title shows."""
    return [
        f'<rect x="{CELL * s}" y="{CELL * t}" width="{CELL}" height="{CELL}" '
        f'fill="{COLOURS[ACCENT]}" fill-opacity="{weights[t, s]:.2f}">'
        f"<title>{rows[t]} → {columns[s]}: {weights[t, s]:.2f}</title></rect>"
        for t, s in np.argwhere(weights >= FAINTEST).tolist()
    ]


def escape(text: str) -> str:
    """Escape a text for an XML element; control characters are made visible."""
    return saxutils.escape(escape_invisible(text))


def _smooth(values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Return a running mean over about 20 values, or 2 %, on each side; far ones weigh less."""
    before, after = _mean_so_far(values), _mean_so_far(values[::-1])[::-1]
    return np.asarray((before + after) / 2)


def _mean_so_far(values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    kept = 1 - 1 / max(20, len(values) / 50)
    means = np.zeros(len(values))
    mean = seen = 0.0
    for index, value in enumerate(values):
        mean, seen = kept * mean + value, kept * seen + 1
        means[index] = mean / seen
    return means


def _svg(figure: Figure, description: str) -> str:
    """Return the figure as one SVG element, without XML declaration, document type and metadata."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :].rstrip()
    for given, shown in COLOURS.items():
        text = text.replace(given, shown)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", rf"font: \1 {FONTS}", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # ids would repeat on a page
    # matplotlib's CSS rule for `*` would apply to the whole page.
    text, _ = re.subn(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    title = f"<title>{escape(description)}</title>"
    return text.replace(">", f' role="img" stroke-linejoin="round">\n {title}', 1)
