"""Every key of every published `config.json` is used, ignored with a reason, or refused by name.

`published_keys.json` says of each key what other values change in the reference, by head. What
changes its answers must change our configuration, or be refused: it is never ignored here.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import goldens
import pytest
from directories import refusal

from encodax import families
from encodax.families import ignored_keys
from encodax.families.published import PublishedFamily
from encodax.storage.json_files import Settings

PARITY = Path(__file__).parents[1] / "parity"
LISTS = json.loads((PARITY / "published_keys.json").read_text())["config.json"]
FAMILIES, SEQ2SEQ_FAMILIES = families.ENCODERS.by_name, families.SEQ2SEQ.by_name
ENCODERS = [family for family in LISTS if family in FAMILIES]
SEQ2SEQ = [family for family in LISTS if family in SEQ2SEQ_FAMILIES]
HEADS = ("encoder", "vocabulary", "sequence", "token", "span")
ELSEWHERE = {
    "return_dict": "the form of the answers, which is what was tried",
    "legacy": "the names of the tensors, of which ours are read by theirs",
}
"""Keys that matter in the reference in a way that is none of the configuration."""


@functools.cache
def stored(family: str, head: str) -> dict[str, Any]:
    """The configuration of a golden, as the reference wrote it."""
    folder = "goldens" if family in FAMILIES else "goldens-seq2seq"
    place = PARITY / folder / family / (head if family in FAMILIES else "")
    return json.loads((place / "config.json").read_text())  # type: ignore[no-any-return]


@functools.cache
def heads_of(family: str) -> tuple[str, ...]:
    if family in SEQ2SEQ_FAMILIES:
        return ("seq2seq",)
    return tuple(h for h in HEADS if (PARITY / "goldens" / family / h / "config.json").is_file())


def read(family: str, values: dict[str, Any]) -> tuple[Any, Settings, Any]:
    """Our configuration, and what became of the keys."""
    settings = Settings(values, where="config.json")
    own: Any = FAMILIES[family] if family in FAMILIES else SEQ2SEQ_FAMILIES[family]
    config = own.read_config(settings)
    return config, settings, own.account(settings)


@functools.cache
def first(family: str, head: str) -> Any:
    """The configuration before any key is changed."""
    return read(family, stored(family, head))[0]


def tried(family: str, matters: list[str]) -> tuple[str, ...]:
    """The heads to try a value on: all, where it matters to some alone."""
    heads = heads_of(family)
    alike = len(matters) in (0, len(heads))
    return tuple(head for head in heads if head in ("encoder", "sequence")) if alike else heads


def fate(family: str, head: str, key: str, value: Any) -> str:
    """`used`, `ignored` or `refused`: what becomes of a key with another value; or a fault."""
    before = stored(family, head)
    values = {**before, key: value}
    if key == "id2label":
        values.pop("label2id", None)
    try:
        config, settings, keys = read(family, values)
    except families.EncodaxError as error:
        named = {"architectures": "architecture"}.get(key, key)
        return "refused" if named in str(error) else f"refused without its name: {error}"
    assert set(keys.used) | keys.kept.keys() == set(settings)
    if config != first(family, head):
        return "used" if key in keys.used else "used without a note of it"
    if key in keys.kept:
        assert keys.kept[key] == value and keys.reasons[key]
    return "ignored"


@pytest.mark.parametrize("family", [*ENCODERS, *SEQ2SEQ])
def test_no_key_falls_through(family: str) -> None:
    """The whole list, on every head of the family."""
    wrong = []
    for key, entry in LISTS[family].items():
        for other in entry["others"]:
            for head in tried(family, other["matters"]) or heads_of(family):
                if other["value"] == stored(family, head).get(key, entry.get("default")):
                    continue
                found = fate(family, head, key, other["value"])
                may_be_ignored = head not in other["matters"] or key in ELSEWHERE
                if found not in ("used", "refused", *(["ignored"] if may_be_ignored else [])):
                    wrong.append(f"{family}/{head}: {key} = {other['value']!r}: {found}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", ENCODERS)
def test_a_key_that_is_left_out_is_what_the_published_class_takes(family: str) -> None:
    own = FAMILIES[family]
    assert isinstance(own, PublishedFamily)
    published = {
        key: entry["default"] for key, entry in LISTS[family].items() if "default" in entry
    }
    for key, value in own.defaults.items():
        if key in published and key not in OUR_DEFAULTS.get(family, ()):
            assert value == published[key], key


OUR_DEFAULTS = {
    # The class has none, and can't be made without; layers and positions are worked out of others.
    "esm": ("mask_token_id", "pad_token_id"),
    "modernbert": ("layer_types", "rope_parameters"),
    "nomic_bert": ("rope_parameters",),
}


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("value", ["7", [7], {"7": 7}, -7, float("nan"), True], ids=str)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_key(family: str, value: Any) -> None:
    own = FAMILIES[family]
    assert isinstance(own, PublishedFamily)
    for head in ("encoder", "sequence"):
        for key in {*own.keys.values(), "architectures", "id2label", "problem_type"}:
            if head == "encoder" and key in ("id2label", "problem_type"):
                continue
            broken = {**stored(family, head), key: value}
            if value is True and key.endswith("_id"):
                continue
            message = refusal(lambda broken=broken: read(family, broken))  # type: ignore[misc]
            assert message.startswith("config.json: ")
            assert key in message, message


def test_reasons_are_sentences_that_say_why() -> None:
    published = [each for each in FAMILIES.values() if isinstance(each, PublishedFamily)]
    tables = [ignored_keys.ANY, *(family.ignored_keys for family in published)]
    for table in tables:
        for key, reason in table.items():
            assert len(reason.split()) >= 4, f"{key}: {reason}"


def test_every_family_that_is_read_has_a_list() -> None:
    assert {f for f in FAMILIES if f != "encodax"} == set(ENCODERS)
    assert goldens.ENCODERS.keys() >= set(ENCODERS)
    known = {f for f in SEQ2SEQ_FAMILIES if f != "encodax-seq2seq"}
    assert known == set(SEQ2SEQ)
