"""Pictures are XML, the same from call to call, without anything from outside."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from encodax.pages import diagrams

CURVE = [
    *({"step": step, "loss": 3.0 / step} for step in range(1, 201)),
    *({"step": step, "eval_f1": step / 200} for step in (100, 200)),
]
STEPS = np.arange(1.0, 201.0)
TOKENS = ["[CLS]", "<", "日", "ب", "[SEP]"]
WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(5), size=5)
SEGMENTS = np.array([[1, 1, 2, 2], [1, 2, 3, 0]])
TABLE = np.random.default_rng(0).normal(size=(12, 8))

PICTURES: dict[str, Callable[[], str]] = {
    "loss": lambda: diagrams.learning_curve(CURVE, "loss", "training loss", is_logarithmic=True),
    "metric": lambda: diagrams.learning_curve(CURVE, "eval_f1", "F1 & more"),
    "doubles": lambda: diagrams.line_chart(
        {"a": (2.0 ** np.arange(4), np.arange(4.0))}, "by width", across="width & K", doubles=True
    ),
    "packed_rows": lambda: diagrams.packed_rows(
        SEGMENTS, "rows & slots", tokens=[["<s>", "a", "b", "c"], ["d", "e", "f", "[PAD]"]]
    ),
    "two series": lambda: diagrams.line_chart(
        {"padding": (STEPS, STEPS / 400), "waiting": (STEPS[::20], STEPS[::20] / 900)},
        "what is lost",
        is_share=True,
        is_noisy=False,
    ),
    "position_similarity": lambda: diagrams.position_similarity(TABLE, "learned"),
    "positional_encodings": lambda: diagrams.positional_encodings(TABLE, "learned <table>"),
    "heat_map": lambda: diagrams.heat_map(
        TABLE[:2], "two & more", rows=["<s>", "b"], columns=[*"abcdefg", "long"], most=1.0
    ),
    "bar_chart": lambda: diagrams.bar_chart({"<a>": 0.25, "b": 0.75}, "of all", is_share=True),
    "flow_diagram": lambda: diagrams.flow_diagram(
        ["attention & co", "+"],
        "a layer",
        shapes=["(B, T)", "<D>", "(B, T, D)"],
        skips=[(0, 1)],
        others={0: "source & co"},
    ),
    "attention_map": lambda: diagrams.attention_map(WEIGHTS, TOKENS, "layer 1 & head 2"),
}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter()]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_one_svg_element(name: str) -> None:
    svg = PICTURES[name]()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["role"] == "img"
    assert root[0].tag.endswith("title")
    assert root[0].text


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_each_time(name: str) -> None:
    assert PICTURES[name]() == PICTURES[name]()


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_names_nothing_outside(name: str) -> None:
    svg = PICTURES[name]()
    for namespace in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        svg = svg.replace(f'"{namespace}"', "")
    assert "http" not in svg
    assert "@import" not in svg
    assert "<style" not in svg  # it would be one for the whole page


def test_pictures_follow_the_colours_of_the_page() -> None:
    for picture in PICTURES.values():
        svg = picture()
        assert "var(--ink, " in svg
        assert not any(given in svg for given in diagrams.COLOURS)


def test_pictures_leave_the_settings_of_matplotlib_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    PICTURES["loss"]()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("name", "title"), [("loss", "training loss"), ("metric", "F1 & more")])
def test_a_curve_is_labelled(name: str, title: str) -> None:
    assert {title, "step"} <= set(texts(PICTURES[name]()))


def lines(svg: str, colour: str = "--accent") -> list[str]:
    """The paths of the lines of a colour."""
    paths = [e.attrib for e in ElementTree.fromstring(svg).iter() if "clip-path" in e.attrib]
    return [path["d"] for path in paths if f"stroke: var({colour}, #" in path.get("style", "")]


def test_a_curve_of_many_points_has_a_running_mean() -> None:
    assert [len(lines(PICTURES[name]())) for name in ("loss", "metric", "two series")] == [2, 1, 1]


def test_a_running_mean_lags_behind_neither_way() -> None:
    ramp = np.arange(400.0)
    np.testing.assert_allclose(diagrams._smooth(ramp)[150:250], ramp[150:250], atol=0.1)
    np.testing.assert_allclose(diagrams._smooth(ramp[::-1]), diagrams._smooth(ramp)[::-1])
    np.testing.assert_allclose(diagrams._smooth(np.ones(400)), 1)


def test_two_series_have_two_colours_and_a_legend() -> None:
    svg = PICTURES["two series"]()
    assert {"padding", "waiting", "what is lost"} <= set(texts(svg))
    assert len(lines(svg, "--second")) == 1
    assert any(text.endswith("%") for text in texts(svg))


def test_steps_that_double_are_told_as_they_are() -> None:
    assert {"width & K", "by width", "1", "2", "4", "8"} <= set(texts(PICTURES["doubles"]()))


def test_packed_rows_show_each_token_and_leave_padding_out() -> None:
    svg = PICTURES["packed_rows"]()
    found = texts(svg)
    assert {"rows & slots", "<s>", "f"} <= set(found)
    assert "[PAD]" not in found
    assert [found.count(number) for number in "0123"] == [0, 3, 3, 1]
    rects = [e.attrib for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("rect")]
    cells = [rect for rect in rects if "fill-opacity" in rect]
    assert [int(cell["x"]) // 16 for cell in cells] == [0, 1, 2, 3, 0, 1, 2]
    assert [cell["fill"] == diagrams.COLOURS[diagrams.ACCENT] for cell in cells] == [
        *(True, True, False, False),
        *(True, False, True),
    ]


def test_packed_rows_without_tokens_are_low() -> None:
    heights = [
        float(ElementTree.fromstring(svg).attrib["height"])
        for svg in (PICTURES["packed_rows"](), diagrams.packed_rows(SEGMENTS, "rows"))
    ]
    assert heights[0] > heights[1] == 24 + 2 * 20


def test_what_is_drawn_here_has_room_for_its_title() -> None:
    title = "a title that is far longer than two tokens"
    for svg in (
        diagrams.attention_map(np.eye(2), ["a", "b"], title),
        diagrams.packed_rows(SEGMENTS, title),
    ):
        size = ElementTree.fromstring(svg).attrib
        assert float(size["width"]) > 7 * len(title)
        assert size["viewBox"] == f"0 0 {size['width']} {size['height']}"


def test_what_cannot_be_drawn_is_left_out() -> None:
    values = np.array([1.0, np.nan, 10.0, np.inf, 0.0, 5.0])
    steps = np.arange(6.0)
    for is_logarithmic, drawn in ((True, [0, 2, 5]), (False, [0, 2, 4, 5])):
        found, wanted = (
            diagrams.line_chart({"": (x, y)}, "norm", is_logarithmic=is_logarithmic)
            for x, y in ((steps, values), (steps[drawn], values[drawn]))
        )
        assert found == wanted
    none = diagrams.line_chart({"": (steps[:0], steps[:0])}, "norm", is_logarithmic=True)
    assert lines(none) == []


def test_a_long_curve_is_thinned_and_keeps_its_peaks() -> None:
    steps = np.arange(100_000.0)
    values = np.zeros(100_000)
    values[34_567], values[76_543] = 7, -7
    svg = diagrams.line_chart({"": (steps, values)}, "long", is_noisy=False)
    assert len(svg) < 100_000
    peaks = np.zeros(100_000)
    peaks[34_567] = 7
    assert svg != diagrams.line_chart({"": (steps, peaks)}, "long", is_noisy=False)
    kept, of_them = diagrams._thinned(steps, values)
    assert len(kept) <= 2 * diagrams.MOST
    assert (of_them.min(), of_them.max()) == (-7, 7)
    assert (np.diff(kept) > 0).all()


def test_a_curve_without_a_point() -> None:
    ElementTree.fromstring(diagrams.learning_curve(CURVE[:3], "eval_f1", "none yet"))


def test_positional_encodings_are_labelled() -> None:
    found = texts(PICTURES["positional_encodings"]())
    assert {"learned <table>", "feature", "position"} <= set(found)


def test_positional_encodings_of_zeros() -> None:
    for draw in (diagrams.positional_encodings, diagrams.position_similarity):
        ElementTree.fromstring(draw(np.zeros((4, 6)), "zeros"))


def test_a_heat_map_names_its_rows_and_columns() -> None:
    assert {"two & more", "<s>", "b", "long"} <= set(texts(PICTURES["heat_map"]()))
    for names in ({"rows": ["a"]}, {"columns": ["a"]}):
        with pytest.raises(ValueError, match=r"1 names, but a table of the shape \(12, 8\)"):
            diagrams.heat_map(TABLE, "too few", **names)


def test_a_heat_map_has_a_scale_of_what_is_there() -> None:
    def numbers(least: float, **options: Any) -> set[float]:
        table = np.array([[least, 1.0]])
        svg = diagrams.heat_map(table, "title", rows=["a"], columns=["b", "c"], **options)
        found = (text.replace("−", "-") for text in texts(svg))
        return {float(text) for text in found if re.fullmatch(r"-?\d\.\d+", text)}

    signed, shares = numbers(-1.0), numbers(0.0)
    assert (min(signed), max(signed)) == (-1, 1)
    assert (min(shares), max(shares)) == (0, 1)
    assert numbers(0.0, has_scale=False) == set()


def test_a_chart_says_what_grows() -> None:
    svg = diagrams.line_chart({"": (STEPS, STEPS)}, "title", across="layer")
    assert {"title", "layer"} <= set(texts(svg))


def test_bars_have_their_numbers() -> None:
    assert {"<a>", "b", "25%", "75%", "of all"} <= set(texts(PICTURES["bar_chart"]()))
    assert "1.2 k" in texts(diagrams.bar_chart({"a": 1200.0}, "numbers"))


def test_bars_are_as_long_as_their_values() -> None:
    found = [element.attrib for element in ElementTree.fromstring(PICTURES["bar_chart"]()).iter()]
    bars = [a["d"] for a in found if "fill: var(--accent" in a.get("style", "")]
    first, second = (np.ptp([float(x) for x in re.findall(r"[ML] ([\d.]+)", bar)]) for bar in bars)
    assert second == pytest.approx(3 * first, rel=1e-5)


def test_a_flow_diagram_names_boxes_and_arrows() -> None:
    found = texts(PICTURES["flow_diagram"]())
    assert {"a layer", "attention & co", "+", "(B, T)", "<D>", "(B, T, D)", "source & co"} <= set(
        found
    )
    with pytest.raises(ValueError, match="2 boxes have 3 arrows, not 2"):
        diagrams.flow_diagram(["a", "b"], "too few", shapes=["c", "d"])


def test_attention_map_names_each_token_twice_and_each_weight() -> None:
    found = texts(PICTURES["attention_map"]())
    assert all(found.count(token) == 2 for token in TOKENS)
    assert "layer 1 & head 2" in found
    assert f"日 → [SEP]: {WEIGHTS[2, 4]:.2f}" in found


def test_attention_map_is_as_strong_as_its_weights() -> None:
    svg = diagrams.attention_map(np.array([[0.25, 0.75], [0.0, 1.0]]), ["a", "b"], "head")
    cells = [
        element.attrib
        for element in ElementTree.fromstring(svg).iter()
        if "fill-opacity" in element.attrib
    ]
    assert [(cell["x"], cell["y"], cell["fill-opacity"]) for cell in cells] == [
        ("0", "0", "0.25"),
        ("16", "0", "0.75"),
        ("16", "16", "1.00"),
    ]


def test_attention_map_wants_a_token_for_each_row() -> None:
    with pytest.raises(ValueError, match="3 tokens, but weights of the shape"):
        diagrams.attention_map(np.eye(2), ["a", "b", "c"], "head")


def test_names_are_plain_text_in_every_picture() -> None:
    name = "$\\frac $x_ <b>&\x1b[31m\u202e\x00"
    shown = r"$\frac $x_ &lt;b&gt;&amp;\x1b[31m\u202e\x00"
    table = np.eye(2)
    curve = {name: (np.arange(3.0), np.arange(3.0)), "b": (np.arange(3.0), np.arange(3.0))}
    for picture in (
        diagrams.line_chart(curve, name),
        diagrams.bar_chart({name: 1.0, "b": 2.0}, name),
        diagrams.heat_map(
            table, name, across=name, down=name, rows=[name, "b"], columns=["a", name]
        ),
        diagrams.attention_map(table, [name, "b"], name),
    ):
        assert shown in picture
        ElementTree.fromstring(picture)
