"""Installation: the locks, the wheel and the metadata."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("base", "demo", "test")  # each holds the one before it
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
NOT_LOCKED = {"cuda"}  # the extra for GPUs: gigabytes, on one platform
FOR_TESTS = {"ray"}  # the demo works without it, and it is large

# Each line of a lock file is one of these, so that no option and no address gets in.
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.+!]*( ; [\w <>=!'.()]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
COMMENT = re.compile(r" *#( [a-z0-9 ():.-]*|   [a-z0-9 ():.-]+)", re.IGNORECASE)


def lock_lines(lock: str) -> list[str]:
    return (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()


def pins(lock: str) -> list[Requirement]:
    """The pins of a lock, several of one name where they differ by Python."""
    return [Requirement(line.rstrip(" \\")) for line in lock_lines(lock) if PIN.fullmatch(line)]


def pinned(lock: str, python: str) -> dict[str, Version]:
    """Name to version, as Linux with the given Python reads the lock."""
    environment = {
        **default_environment(),
        "sys_platform": "linux",
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    found = {}
    for pin in pins(lock):
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in found, f"{pin.name} is pinned twice for Python {python}"
            (specifier,) = pin.specifier
            found[canonicalize_name(pin.name)] = Version(specifier.version)
    return found


def declared(lock: str) -> list[Requirement]:
    """The requirements of pyproject.toml that a lock is made from."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    groups = PROJECT["dependency-groups"]
    texts = [*project["dependencies"]]
    if lock != "base":
        texts += PROJECT["build-system"]["requires"] + groups["build"]
        left_out = NOT_LOCKED if lock == "test" else NOT_LOCKED | FOR_TESTS
        texts += [text for extra in extras.keys() - left_out for text in extras[extra]]
    if lock == "test":
        texts += groups["docs"] + groups["test"]
    requirements = [Requirement(text) for text in texts]
    return [r for r in requirements if canonicalize_name(r.name) != project["name"]]


@pytest.mark.parametrize("lock", [*LOCKS, "model"])
def test_a_lock_holds_pins_and_hashes_and_nothing_else(lock: str) -> None:
    strange = [
        line
        for line in lock_lines(lock)
        if not any(shape.fullmatch(line) for shape in (PIN, HASH, COMMENT))
    ]
    assert strange == []
    text = "\n".join(lock_lines(lock))
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    lines = lock_lines(lock)
    bare = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if PIN.fullmatch(line) and not HASH.fullmatch(following)
    ]
    assert bare == []
    assert len(pins(lock)) > 30


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_declared_is_locked(lock: str, python: str) -> None:
    versions = pinned(lock, python)
    unmet = [
        str(requirement)
        for requirement in declared(lock)
        if not requirement.specifier.contains(
            versions.get(canonicalize_name(requirement.name), Version("0")), prereleases=True
        )
    ]
    assert unmet == []


@pytest.mark.parametrize("python", PYTHONS)
def test_each_lock_holds_the_smaller_one(python: str) -> None:
    for smaller, larger in pairwise(LOCKS):
        assert pinned(smaller, python).items() <= pinned(larger, python).items()


@pytest.mark.parametrize("lock", LOCKS)
def test_jax_is_0_10_on_the_oldest_python_and_newer_on_the_others(lock: str) -> None:
    assert pinned(lock, "3.11")["jax"].release[:2] == (0, 10)
    for python in PYTHONS[1:]:
        assert pinned(lock, python)["jax"] > Version("0.10.999")


def test_torch_and_transformers_are_dependencies_of_nothing() -> None:
    unwanted = {"torch", "transformers", "sentence-transformers", "tensorflow"}
    for lock in LOCKS:
        assert unwanted.isdisjoint(canonicalize_name(pin.name) for pin in pins(lock))
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    everything = {canonicalize_name(Requirement(text).name) for texts in lists for text in texts}
    assert unwanted.isdisjoint(everything)


def test_the_base_is_light() -> None:
    heavier = {"babel", "dateparser", "grain", "hatchling", "jinja2", "matplotlib", "nervaluate"}
    base = {canonicalize_name(pin.name) for pin in pins("base")}
    assert base.isdisjoint(heavier | {"orbax-checkpoint", "pandas", "pytest", "scikit-learn"})


def test_the_installed_metadata_is_this_project() -> None:
    metadata = importlib.metadata.metadata("encodax")
    assert metadata["Version"] == PROJECT["project"]["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == {
        "cuda",
        "demo",
        "parquet",
        "ray",
        "report",
        "sentencepiece",
        "train",
    }
    assert metadata["Description-Content-Type"] == "text/markdown"
    (script,) = importlib.metadata.distribution("encodax").entry_points.select(name="encodax")
    assert script.value == "encodax.cli.main:main"


def test_the_wheel_holds_the_whole_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "encodax").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert held == wanted
