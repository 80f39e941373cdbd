"""The explorer's page as text: what is in it, what cannot get into it, and how large it is."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from inspections import HOSTILE, in_blocks, inspection, tokens_of, words

from encodax.pages.explorer import page as explorer

SOURCES = [
    path
    for path in Path(explorer.__file__).parent.rglob("*.*")
    if not path.suffix.startswith(".py")
]


def element(page: str, name: str) -> str:
    found = re.search(rf'<script [^>]*id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found.group(1)


def numbers(page: str) -> bytes:
    return gzip.decompress(base64.b64decode(element(page, "numbers")))


def test_the_same_arrays_give_the_same_bytes() -> None:
    assert explorer.render(inspection(), model="m") == explorer.render(inspection(), model="m")


def test_names_are_those_of_the_inspection() -> None:
    inspected = inspection()
    names = json.loads(element(explorer.render(inspected, model="m"), "names"))
    assert names["tokens"] == [[t.text, t.entry, t.token_id] for t in inspected.tokens]
    assert names["answer"] == [["positive", "98.1 %"], ["negative", "1.9 %"]]
    (stack,) = names["attention"]
    assert stack["views"] == ["head 1", "head 2", "head 3", "mean of heads", "rollout"]
    assert [stack[key] for key in ("layers", "rows", "columns", "block", "strongest")] == [
        *(2, 7, 7),
        *(1, 0),
    ]
    assert [a["target"] for a in names["attributions"]] == ["positive", "negative"]
    np.testing.assert_allclose(
        names["attributions"][0]["shares"], inspected.attributions[0].shares, rtol=1e-4
    )
    assert names["masks"][0] == json.loads(json.dumps(dataclasses.asdict(inspected.masks[0])))


def planes(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers whose low bytes come first, then their high bytes."""
    low, high = np.frombuffer(data, np.uint8).astype(int).reshape(2, *shape)
    return low + 256 * high


def test_cells_are_the_weights_in_thousandths() -> None:
    inspected = inspection()
    data, cells = (
        numbers(explorer.render(inspected, model="m")),
        inspected.attention[0].cells,
    )
    found = planes(data[: 2 * cells.size], cells.swapaxes(2, 3).shape).swapaxes(2, 3)
    np.testing.assert_array_equal(found, np.rint(1000 * cells.astype(np.float64)))
    rest = np.frombuffer(data[2 * cells.size :], np.float32)
    np.testing.assert_array_equal(rest, inspected.norms[0].values.ravel())


def test_of_blocks_the_strongest_follow() -> None:
    tokens = words(20)
    long = dataclasses.replace(
        inspection(), tokens=tokens, attention=(in_blocks(tokens, 8, 4),), norms=()
    )
    data, attention = numbers(explorer.render(long, model="m")), long.attention[0]
    assert attention.strongest is not None
    kept, first = attention.strongest.keys, 2 * attention.cells.size
    keys = planes(data[first : first + 2 * kept.size], kept.shape)
    np.testing.assert_array_equal(keys, kept)
    weights = planes(data[first + 2 * kept.size :], kept.shape)
    np.testing.assert_array_equal(weights, np.rint(1000 * attention.strongest.weights))


def test_hostile_text_ends_nothing() -> None:
    hostile = inspection(tokens_of(HOSTILE))
    hostile = dataclasses.replace(hostile, answer=tuple((text, text) for text in HOSTILE))
    page = explorer.render(hostile, model=HOSTILE[0])
    assert page.count("<script") == page.count("</script>") == 3
    assert "<img" not in page
    names = json.loads(element(page, "names"))
    assert [token[0] for token in names["tokens"]] == list(HOSTILE)
    assert f"<title>Inside {html.escape(HOSTILE[0])}</title>" in page


def test_the_policy_names_the_script_and_the_style_and_nothing_else() -> None:
    page = explorer.render(inspection(), model="m")
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    for text in (script, style):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"""(?:src|href)=["']?[^"' >]+""", page) == []


def test_every_piece_of_the_script_is_in_the_page() -> None:
    page = explorer.render(inspection(), model="m")
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    assert script.startswith('"use strict";\n')
    pieces = {
        path.stem: path.read_text(encoding="utf-8") for path in SOURCES if path.suffix == ".js"
    }
    assert sorted(explorer.PIECES) == sorted(pieces)
    for name, text in pieces.items():
        assert text.startswith("// "), f"{name} says at its head what it draws"
        assert text.strip() in script, name


def test_lines_are_short() -> None:
    assert {path.suffix for path in SOURCES} == {".css", ".jinja", ".js"}
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert len(line) < 120, f"{path.name}:{number}"


@pytest.mark.parametrize(
    ("texts", "direction"), [(("שלום", "hello"), "rtl"), (("hello", "שלום"), "ltr")]
)
def test_a_text_runs_as_its_first_letter_does(texts: tuple[str, ...], direction: str) -> None:
    tokens = tokens_of(texts)
    names = json.loads(element(explorer.render(inspection(tokens), model="m"), "names"))
    assert names["direction"] == direction
