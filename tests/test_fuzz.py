"""Damaged files are read, or refused in one line, in a limited time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import fuzz
import pytest

MEBIBYTES = 1_500
"""Of a process, at most; the libraries alone take some 400."""


def assert_clean(found: list[fuzz.Found], cases: int) -> None:
    troubles = {
        number: f"{fuzz.case_of(number)[0]}: {trouble}"
        for one in found
        for number, trouble in one.troubles.items()
    }
    assert not troubles
    assert sum(one.done for one in found) == cases
    assert max(one.mebibytes for one in found) < MEBIBYTES


def test_some_damaged_files_are_read_or_refused_in_one_line() -> None:
    assert_clean([fuzz.run(0, 300)], 300)


@pytest.mark.soak
def test_fifty_thousand_damaged_files_are_read_or_refused_in_one_line() -> None:
    workers = os.cpu_count() or 1
    ends = [50_000 * part // workers for part in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        assert_clean(list(pool.map(fuzz.run, ends, ends[1:])), 50_000)


def test_a_case_depends_on_its_number_alone() -> None:
    name, chance = fuzz.case_of(7)
    again = fuzz.case_of(7)
    content = b'{"a": [1, 2], "b": {"c": "d"}}'
    found = fuzz.damaged(content, chance, is_json=True)
    assert (again[0], fuzz.damaged(content, again[1], is_json=True)) == (name, found)
    assert found != content
