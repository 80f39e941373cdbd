"""The explorer's page in a real browser, as somebody with a pointer or a keyboard meets it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from inspections import HOSTILE, in_blocks, inspection, norms, tokens_of, translation, words
from playwright.sync_api import Browser, Page, sync_playwright

from encodax.inspection.inspector import Inspector
from encodax.models.encoder_model import Model
from encodax.pages.explorer import page as explorer
from encodax.types.inspection import Inspection

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install one, or name it by CHROMIUM; CI does"
)

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens an inspection's page; in the end, nothing was asked for and nothing went wrong."""
    contexts, troubles, requests = [], [], []

    def open_page(inspected: Inspection, *, width: int = 1280, scheme: str = "light") -> Page:
        file = tmp_path / "page.html"
        file.write_text(explorer.render(inspected, model="a model"), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("main[aria-busy=false]")
        page.wait_for_selector("html[data-grid=painted]", state="attached")
        requests.remove(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []
    assert [url for url in requests if not url.startswith("blob:")] == []


def percent(weight: float) -> str:
    return f"{np.rint(1000 * weight) / 10:.1f} %"


def readout(page: Page) -> str:
    """Without the signs that keep the directions of two scripts apart."""
    return (page.text_content("#readout") or "").replace("\u2068", "").replace("\u2069", "")


def point(page: Page, row: int, column: int) -> None:
    """The pointer in the middle of a cell of the large map."""
    plan = page.evaluate("large.plan")
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.move(
        box["x"] + plan["left"] + (column + 0.5) * plan["width"],
        box["y"] + plan["top"] + (row + 0.5) * plan["height"],
    )


def test_every_number_is_that_of_the_arrays(opened: Open) -> None:
    inspected = translation()
    page = opened(inspected)
    for index, maps in enumerate(inspected.attention):
        shape = list(maps.cells.shape)
        found = page.evaluate(
            """([stack, [layers, views, rows, columns]]) => {
                const numbers = [];
                for (let l = 0; l < layers; l++) for (let v = 0; v < views; v++)
                    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++)
                        numbers.push(explorer.weight(explorer.names.attention[stack], l, v, r, c));
                return numbers;
            }""",
            [index, shape],
        )
        thousandths = np.rint(1000 * maps.cells.astype(np.float64))
        np.testing.assert_array_equal(np.reshape(found, shape), thousandths)
    for index, norms_ in enumerate(inspected.norms):
        found = page.evaluate(f"Array.from(explorer.names.norms[{index}].values)")
        np.testing.assert_array_equal(np.float32(found), norms_.values.ravel())


def test_the_pointer_reads_a_weight(opened: Open) -> None:
    inspected = inspection()
    page = opened(inspected)
    point(page, 2, 4)
    assert (
        readout(page) == f"“word2” → “word4”: {percent(inspected.attention[0].cells[0, 0, 2, 4])}"
    )
    rows = page.locator("#strongest tbody tr").all_inner_texts()
    weights = inspected.attention[0].cells[0, 0, 2]
    order = [key for key in np.argsort(-weights) if weights[key] >= 0.0005]
    assert [row.split("\t")[0] for row in rows] == [f"word{key} ({key + 1})" for key in order]
    assert [row.split("\t")[1] for row in rows] == [percent(weights[key]) for key in order]


def test_the_keyboard_reads_every_weight_of_a_row(opened: Open) -> None:
    cells = inspection().attention[0].cells
    page = opened(inspection())
    page.focus("#large")
    page.keyboard.press("ArrowDown")
    for key in range(7):
        assert readout(page) == f"“word1” → “word{key}”: {percent(cells[0, 0, 1, key])}"
        page.keyboard.press("ArrowRight")
    assert readout(page).startswith("“word1” → “word6”"), "the edge holds"
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    assert readout(page) == f"“word6” → “word0”: {percent(cells[0, 0, 6, 0])}"


def test_layer_and_head_are_switched_by_list_by_map_and_by_key(opened: Open) -> None:
    cells = inspection().attention[0].cells
    page = opened(inspection())

    def shows(layer: int, view: int) -> None:
        assert readout(page) == f"“word0” → “word0”: {percent(cells[layer, view, 0, 0])}"
        (chosen,) = page.locator("#grid [aria-checked=true]").all()
        name = inspection().attention[0].views[view]
        assert chosen.get_attribute("aria-label") == f"layer {layer + 1}, {name}"
        assert page.locator("#grid [tabindex='0']").count() == 1
        assert (page.text_content("#large-title") or "").startswith(f"Layer {layer + 1}, {name}:")

    shows(0, 0)
    page.select_option("#layer", label="2")
    shows(1, 0)
    page.select_option("#view", label="rollout")
    shows(1, 4)
    page.click("#grid [aria-label='layer 1, head 2']")
    shows(0, 1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    shows(1, 2)


def test_lines_go_between_words(opened: Open) -> None:
    cells = inspection().attention[0].cells[0, 0]
    page = opened(inspection())
    page.check("input[value=lines]")
    assert page.is_hidden("#map")
    seen = (np.rint(1000 * cells) >= 10).sum()
    assert page.locator("#lines line").count() == seen
    assert page.locator("#lines text").all_text_contents()[:14] == 2 * [
        f"word{i}" for i in range(7)
    ]
    page.focus("#large")
    page.keyboard.press("ArrowDown")
    assert readout(page) == f"“word1” → “word0”: {percent(cells[1, 0])}"
    box = page.locator("#lines").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 3.5 * 20)
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 5.5 * 20)
    assert readout(page) == f"“word3” → “word5”: {percent(cells[3, 5])}"


@pytest.mark.parametrize(
    ("mode", "kind", "begins"), [("map", "png", b"\x89PNG"), ("lines", "svg", b"<svg")]
)
def test_a_picture_is_saved(opened: Open, mode: str, kind: str, begins: bytes) -> None:
    page = opened(inspection())
    page.check(f"input[value={mode}]")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == f"text-to-text-layer-1-head-1.{kind}"
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(begins)
    assert len(content) > 2_000


def test_the_pointer_reads_the_same_cell_after_a_picture_is_saved(opened: Open) -> None:
    """The saved picture is larger than the map of a narrow window."""
    inspected = inspection(words(17))
    page = opened(inspected, width=390)
    plan = page.evaluate("large.plan")
    with page.expect_download():
        page.click("#save")
    assert page.evaluate("large.plan") == plan
    page.locator("#readout").scroll_into_view_if_needed()
    point(page, 9, 12)
    weight = inspected.attention[0].cells[0, 0, 9, 12]
    assert readout(page) == f"“word9” → “word12”: {percent(weight)}"


def test_attribution_shows_who_adds_and_who_takes(opened: Open) -> None:
    inspected = inspection()
    page = opened(inspected)
    for index, attribution in enumerate(inspected.attributions):
        page.select_option("#target", index=index)
        shares = attribution.shares
        most = int(np.argmax(np.abs(shares)))
        first = page.locator("#shares tbody tr").first.inner_text()
        sign = "−" if shares[most] < 0 else "+"
        name, value = first.split("\t")
        assert (name, value[0]) == (f"word{most} ({most + 1})", sign)
        assert float(value[1:]) == pytest.approx(abs(shares[most]), rel=5e-3)
        tokens = page.locator("#text .token")
        classes = tokens.evaluate_all("spans => spans.map((span) => span.className)")
        for share, kind in zip(shares, classes, strict=True):
            if abs(share) > 0.03 * abs(shares[most]):
                assert ("plus" in kind, "minus" in kind) == (share > 0, share < 0)
    page.hover("#text .token:nth-child(2)")
    assert "token 2: " in (page.text_content("#token-readout") or "")
    page.click("#text .token:nth-child(3)")
    assert readout(page).startswith("“word2” →")


def test_guesses_of_each_layer(opened: Open) -> None:
    page = opened(inspection())
    rows = page.locator("#guesses tbody tr")
    assert rows.all_inner_texts()[0].split("\t") == [
        "embeddings",
        *("guess00 50.0 %", "guess01 25.0 %", "guess02 16.7 %"),
    ]
    assert [text.split("\t")[0] for text in rows.all_inner_texts()] == [
        "embeddings",
        "layer 1",
        "layer 2",
    ]
    page.select_option("#mask", index=1)
    assert "guess20" in rows.first.inner_text()


def test_norms_are_read_by_keys(opened: Open) -> None:
    inspected = inspection()
    page = opened(inspected)
    frame = page.locator("#norms .heat")
    frame.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    text = page.locator("#norms .readout").inner_text()
    assert "layer 1: " in text
    assert float(text.split(": ")[1]) == pytest.approx(inspected.norms[0].values[1, 1], rel=1e-3)


@pytest.mark.parametrize(("spread", "is_flat"), [(1e-7, True), (0.1, False)])
def test_what_differs_by_rounding_alone_is_drawn_as_equal(
    opened: Open, spread: float, is_flat: bool
) -> None:
    inspected = inspection()
    chance = np.random.default_rng(0)
    values = 20 * (1 + spread * chance.uniform(size=inspected.norms[0].values.shape))
    shares = spread * chance.uniform(size=len(inspected.tokens)).astype(np.float32)
    attribution = dataclasses.replace(inspected.attributions[0], score=2.0, shares=shares)
    page = opened(
        dataclasses.replace(
            inspected,
            norms=(dataclasses.replace(inspected.norms[0], values=np.float32(values)),),
            attributions=(attribution,),
        )
    )
    shares_of_colours = page.evaluate(
        """() => {
            const { width, height } = document.querySelector("#norms canvas");
            const context = document.querySelector("#norms canvas").getContext("2d");
            const right = context.getImageData(width / 2, height / 2, width / 2, height / 2);
            const pixels = new Uint32Array(right.data.buffer), counts = {};
            for (const pixel of pixels) counts[pixel] = (counts[pixel] ?? 0) + 1;
            return Object.values(counts).map((count) => count / pixels.length);
        }"""
    )
    assert (max(shares_of_colours) > 0.7) is is_flat
    marked = page.locator("#text .plus, #text .minus").count()
    assert (marked == 0) is is_flat


def test_a_translation_has_three_attentions(opened: Open) -> None:
    inspected = translation()
    page = opened(inspected)
    assert readout(page).startswith("“eins” → “word0”")
    page.focus("#large")
    page.keyboard.press("End")
    assert readout(page).startswith("“eins” → “word5”")
    page.select_option("#stack", label="translation to translation")
    assert readout(page).startswith("“eins” → “drei”")
    page.select_option("#stack", label="source to source")
    assert page.locator("#grid button").count() == 3 * 5
    assert page.locator("#norms .heat").count() == 2


def test_two_thousand_tokens_answer_at_once(opened: Open) -> None:
    """Blocks in the map, exact weights in the lines; and no more elements than tokens want."""
    tokens = words(2_000)
    attention = in_blocks(tokens, 8, 16)
    assert attention.strongest is not None
    long = Inspection(tokens, (), (attention,), (norms("text", tokens),))
    page = opened(long)
    point(page, 100, 30)
    assert readout(page) == (
        "tokens 801–808 (“word800” … “word807”) → tokens 241–248 (“word240” … “word247”): "
        + percent(attention.cells[0, 0, 100, 30])
    )
    keys, weights = attention.strongest.keys[0, 0, 800], attention.strongest.weights[0, 0, 800]
    first = page.locator("#strongest tbody tr").first.inner_text().split("\t")
    assert first == [f"word{keys[0]} ({keys[0] + 1})", percent(weights[0])]
    page.check("input[value=lines]")
    assert page.locator("#lines text").count() == 2 * 40 + 1
    page.focus("#large")
    page.keyboard.press("ArrowDown")
    assert readout(page).startswith("“word801” → “word240”")
    assert page.evaluate("document.querySelectorAll('*').length") < 2 * 2_000 + 2_000


def test_hostile_text_is_shown_and_never_run(opened: Open) -> None:
    tokens = tokens_of(HOSTILE)
    hostile = inspection(tokens)
    hostile = dataclasses.replace(
        hostile,
        answer=tuple((text, text) for text in HOSTILE),
        attributions=tuple(
            dataclasses.replace(each, target=HOSTILE[0]) for each in hostile.attributions
        ),
        masks=(dataclasses.replace(hostile.masks[0], layers=(((HOSTILE[1], 0.5),),)),),
    )
    page = opened(hostile)
    page.check("input[value=lines]")
    page.click("#text .token:nth-child(2)")
    with page.expect_download():
        page.click("#save")
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0
    shown = page.locator("#text .token").all_inner_texts()
    assert [text.strip() for text in shown] == [text.strip() for text in HOSTILE]
    assert HOSTILE[1] in readout(page)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_anybody(
    opened: Open, scheme: str, width: int
) -> None:
    page = opened(inspection(), scheme=scheme, width=width)
    for mode in ("map", "lines"):
        page.check(f"input[value={mode}]")
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling"


def test_a_change_of_the_scheme_is_followed(opened: Open) -> None:
    page = opened(inspection())
    light = page.locator("#map").screenshot()
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(100)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"
    least = page.evaluate("Array.from(new Uint8Array(ramp.buffer.slice(0, 3)))")
    assert least == [15, 20, 25]
    assert page.locator("#map").screenshot() != light


def test_the_model_that_answers_is_the_one_that_is_shown(opened: Open, minilm: Path) -> None:
    """MiniLM with 256 tokens: at most 3 MB, and its numbers those of the model."""
    model = Model.load(minilm)
    text = " ".join(
        f"{index} bottles of beer on the wall, and {index % 7} fell." for index in range(60)
    )
    inspected = Inspector(model).inspect(text, truncate=True)
    assert len(inspected.tokens) == 256
    assert len(explorer.render(inspected, model="all-MiniLM-L6-v2").encode()) < 3_000_000
    page = opened(inspected)
    batch = model.batch([text], truncate=True)
    (weights,) = [
        np.asarray(layer[0])
        for layer in model.apply(model.params, batch, record=frozenset({"attention"})).records[
            "attention"
        ][-1:]
    ]
    page.select_option("#layer", label="6")
    page.select_option("#view", label="head 7")
    found = page.evaluate(
        "Array.from({length: 256}, (_, key) => explorer.weight(stackNow(), 5, 6, 10, key))"
    )
    np.testing.assert_allclose(found, 1000 * weights[6, 10], atol=0.51)
