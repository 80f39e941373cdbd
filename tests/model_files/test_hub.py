"""Ids of the hub: offline, from a cache as huggingface_hub lays it out."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from directories import assert_same_parameters, published, refusal

from encodax.model_files import hub
from encodax.models.encoder_model import Model

# Answers in one process, since importing takes a while: a line of JSON for each question.
OFFLINE = """
import json, sys
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model

for name, revision in json.loads(sys.argv[1]):
    try:
        model = Model.load(name, revision=revision)
        print(json.dumps({"labels": model.config.labels}))
    except EncodaxError as error:
        print(json.dumps({"error": str(error)}))
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def ask(
    home: Path, *questions: tuple[str, str | None], endpoint: str | None = None
) -> list[dict[str, Any]]:
    """What loading gives or says, offline or with another hub."""
    hub = {"HF_HUB_OFFLINE": "1"} if endpoint is None else {"HF_ENDPOINT": endpoint}
    environment = {**os.environ, "HF_HOME": str(home), **hub}
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, json.dumps(questions)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def cached(home: Path, name: str, source: Path) -> Path:
    """Lay a directory out as the library's cache does; gives the snapshot."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    blobs.mkdir(parents=True)
    (repository / "refs").mkdir()
    for reference in ("main", "v1"):
        (repository / "refs" / reference).write_text(COMMIT)
    for number, path in enumerate(sorted(source.rglob("*"))):
        if path.is_file():
            link = snapshot / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            blob = blobs / f"{number:040x}"
            blob.write_bytes(path.read_bytes())
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_cached_model_loads_offline_and_others_are_refused_in_a_line(tmp_path: Path) -> None:
    source = published(tmp_path / "source")
    Model.load(source).with_embeddings("mean").save(tmp_path / "embedder")
    cached(tmp_path / "home", "org/name", source)
    cached(tmp_path / "home", "org/embedder", tmp_path / "embedder")
    *found, wrong_revision, unknown, single = ask(
        tmp_path / "home",
        ("org/name", None),
        ("org/name", "v1"),
        ("org/name", COMMIT),
        ("org/embedder", None),
        ("org/name", "v2"),
        ("org/other", None),
        ("other", None),
    )
    labels = ["negative", "neutral", "positive"]
    assert found == [{"labels": labels}, {"labels": labels}, {"labels": labels}, {"labels": []}]
    for name, answer in (
        ("org/name", wrong_revision),
        ("org/other", unknown),
        ("other", single),
    ):
        message = answer["error"]
        assert message.isprintable()
        assert message.startswith(
            f"{name} is no directory here, and cannot be fetched from the hub"
        )
        assert message.endswith("give the path of a model directory that you have")


def test_an_empty_cache_is_refused_in_a_line(tmp_path: Path) -> None:
    (answer,) = ask(tmp_path / "home", ("org/name", None))
    message = answer["error"]
    assert message.isprintable()
    assert "org/name is no directory here" in message
    assert re.search(r"cache|HF_HUB_OFFLINE", message)
    assert "give the path of a model directory" in message


class Hub(http.server.BaseHTTPRequestHandler):
    """Refuses all: the name of a repository says how."""

    def do_GET(self) -> None:
        private, status = "private" in self.path, 404 if "missing" in self.path else 503
        self.send_response(401 if private else status)
        self.send_header("X-Error-Code", "RepoNotFound" if status == 404 or private else "x")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass


def test_a_hub_that_refuses_or_cannot_be_reached_is_a_line(tmp_path: Path) -> None:
    questions = [(f"org/{name}", None) for name in ("missing", "private", "broken")]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        missing, private, broken = ask(tmp_path / "home", *questions, endpoint=endpoint)
        server.shutdown()
    (gone,) = ask(tmp_path / "home", ("org/name", None), endpoint=endpoint)
    for answer in (missing, private, broken, gone):
        assert answer["error"].isprintable()
    for answer in (missing, private):
        assert "is neither a directory here nor a repository of the hub" in answer["error"]
        assert "HF_TOKEN" in answer["error"]
    for answer in (broken, gone):
        assert "cannot be fetched from the hub" in answer["error"]
        assert "give the path of a model directory" in answer["error"]


def test_a_snapshot_loads_by_its_path_too(tmp_path: Path) -> None:
    source = published(tmp_path / "source")
    snapshot = cached(tmp_path / "home", "org/name", source)
    assert_same_parameters(Model.load(snapshot), Model.load(source))


@pytest.mark.parametrize(
    "name",
    ["./absent", "../absent", "/no/such/place", "a/b/c", "~/absent", "a b", "x" * 5_000 + "/é y"],
)
def test_a_path_that_is_absent_is_never_looked_up(name: str) -> None:
    message = refusal(lambda: hub.directory_of(name))
    assert message.startswith(name[:1_000])
    assert message.endswith(" does not exist: give a model directory, or the id of one on the hub")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    path = published(tmp_path / "model") / "config.json"
    message = refusal(lambda: hub.directory_of(path))
    assert message == f"{path} is a file: give its directory, {path.parent}"
    path.rename(tmp_path / "weights.gguf")
    message = refusal(lambda: hub.directory_of(tmp_path / "weights.gguf"))
    assert message.endswith("is a file: give a model directory, or the id of one on the hub")


def test_a_name_nearby_is_told(tmp_path: Path) -> None:
    published(tmp_path / "sentiment")
    message = refusal(lambda: hub.directory_of(tmp_path / "sentimnet"))
    assert f"does not exist (did you mean {tmp_path / 'sentiment'}?): give a model" in message


def test_a_directory_comes_before_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path / "org" / "name")
    monkeypatch.chdir(tmp_path)
    assert hub.directory_of("org/name") == Path("org/name")
    assert Model.load("org/name").config.labels


@pytest.mark.parametrize(
    "name", ["modeling.py", "pytorch_model.bin", "weights.pkl", "x.pt", "a.so"]
)
def test_neither_code_nor_pickles_are_fetched(name: str) -> None:
    assert not any(Path(name).match(pattern) for pattern in hub.FILES)
