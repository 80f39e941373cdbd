"""Nothing that is written may be, hold or lie in what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from encodax.errors import EncodaxError
from encodax.storage.overlap import check_apart, is_within


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "base")
    (tmp_path / "base-2").mkdir()
    (tmp_path / "data.jsonl").write_text("{}")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("written", "how"),
    [
        ("base", "is the same as"),
        ("base/", "is the same as"),
        ("link", "is the same as"),
        ("base-2/../base", "is the same as"),
        ("link/sub/..", "is the same as"),
        ("base/sub/new", "lies in"),
        ("link/new", "lies in"),
        (".", "holds"),
    ],
)
def test_what_overlaps_is_refused(
    base: Path, written: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    with pytest.raises(EncodaxError, match=f"^out {Path(written)} {how} model {base}, which"):
        check_apart({"out": Path(written)}, {"model": base})


@pytest.mark.parametrize("written", ["base-2", "other/base", "basement", "base.checkpoints"])
def test_what_is_apart_is_not(base: Path, written: str) -> None:
    check_apart({"out": base.parent / written}, {"model": base, "train": [], "teacher": None})


def test_outputs_are_apart_too(base: Path) -> None:
    with pytest.raises(EncodaxError, match=r"checkpoints .* lies in out .*: give each"):
        check_apart({"checkpoints": base / "new/checkpoints", "out": base / "new"}, {})


def test_ids_and_streams_overlap_with_nothing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    check_apart({"out": "org/model", "--output": "-"}, {"model": "org/model", "--input": "-"})


def test_one_file_under_two_names_is_one(base: Path) -> None:
    data = base.parent / "data.jsonl"
    (base.parent / "same.jsonl").hardlink_to(data)
    assert is_within(base.parent / "same.jsonl", data)
    assert not is_within(base, data)
