"""Forks: one that JAX cannot run in says so at once, and any other works."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys

import pytest
import toys
from directories import refusal

import encodax
from encodax.inference.embedder import Embedder
from encodax.inference.engine import Engine
from encodax.inference.translator import Translator
from encodax.models.encoder_model import Model
from encodax.process import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

# Forks, asks the child one thing, and prints what it answers, or that it hangs.
FORKING = """
import json, os, select, signal, sys, warnings
warnings.simplefilter("ignore")

def in_a_fork(name, ask):
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(ask())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(theirs, answer.encode())
        os._exit(0)
    os.close(theirs)
    readable, _, _ = select.select([ours], [], [], 60)
    print(json.dumps([name, os.read(ours, 10_000).decode() if readable else "hangs"]))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

directory, translation = sys.argv[1:]
import encodax
import encodax.text.tokenizer
from encodax.data.sources import records_of
from encodax.inference.evaluation import evaluate

# Before JAX has run: the fork loads the model itself, though the tokenizer has been used.
tokenizer = encodax.Tokenizer.load(directory)
tokenizer.encode(["a text", "another"] * 100)
in_a_fork("loads", lambda: encodax.Classifier.load(directory).predict(["the film"])[0].label)

classifier = encodax.Classifier.load(directory)
model = classifier.model
inspector = encodax.Inspector(model)
translator = encodax.Translator.load(translation)
embedder = encodax.Embedder(model.with_embeddings())
stream = classifier.stream(f"text {number}" for number in range(10_000))
next(stream)
records = [{"text": "good", "label": "yes"}, {"text": "bad", "label": "no"}] * 4
for name, ask in {
    "predict": lambda: classifier.predict(["the film"]),
    "a stream that had begun": lambda: list(stream),
    "evaluate": lambda: evaluate(model, records_of(records)),
    "warm_up": lambda: classifier.warm_up(),
    "encode": lambda: embedder.encode(["the film"]),
    "load": lambda: encodax.load(directory),
    "a new one": lambda: encodax.Classifier(model),
    "apply": lambda: model.apply(model.params, None),
    "translate": lambda: translator.translate(["ab"]),
    "load a translator": lambda: encodax.Translator.load(translation),
    "inspect": lambda: inspector.inspect("the film"),
    "train": lambda: encodax.train("classification", train=records, eval=records, steps=1),
}.items():
    in_a_fork(name, ask)
in_a_fork("tokenize", lambda: len(tokenizer.encode(["a text"])))
print(json.dumps(["the parent", str(classifier.predict(["the film"])[0].label)]))
"""


@pytest.fixture(scope="module")
def answers(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each child of a fork answered."""
    folder = tmp_path_factory.mktemp("forks")
    tiny_model.save(folder / "model")
    toys.writer().save(folder / "translation")
    command = [sys.executable, "-c", FORKING, folder / "model", folder / "translation"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def test_a_fork_before_jax_has_run_works(answers: dict[str, str]) -> None:
    assert answers.pop("loads") == answers.pop("the parent") != ""
    assert answers.pop("tokenize") == "1"  # without JAX


def test_a_fork_after_it_is_refused_at_every_entry(answers: dict[str, str]) -> None:
    refused = {name: answer for name, answer in answers.items() if name not in ELSEWHERE}
    assert len(refused) == 12
    for name, answer in refused.items():
        assert re.fullmatch(
            r"EncodaxError: process \d+ was forked from one that had used JAX, .*"
            r'gunicorn without --preload.* multiprocessing\.get_context\("spawn"\)',
            answer,
        ), f"{name}: {answer}"


ELSEWHERE = ("loads", "the parent", "tokenize")


def predicted(model: Model) -> str:
    return str(encodax.Classifier(model).predict(["the film"])[0].label)


def test_the_way_out_works(tiny_model: Model) -> None:
    """A model goes to a process that is spawned, and what holds its programs stays."""
    classifier = encodax.Classifier(tiny_model)
    message = refusal(lambda: pickle.dumps(classifier))
    assert message.startswith("Classifier belongs to the process that made it")
    assert "pickle its model, and make Classifier(model) in the other process" in message
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(predicted, (tiny_model,)) == predicted(tiny_model)


def test_nothing_of_one_process_is_pickled(tiny_model: Model) -> None:
    embedder = Embedder(tiny_model.with_embeddings())
    translator = Translator(toys.writer())
    for one in (embedder, embedder._engine, translator):
        for take in (pickle.dumps, copy.deepcopy):
            assert "cannot be pickled or copied" in refusal(lambda one=one, take=take: take(one))
    assert isinstance(embedder._engine, Engine)


def test_the_flag_is_set_by_a_fork_alone() -> None:
    forks.check()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitpid(pid, 0)
    subprocess.run([sys.executable, "-c", ""], check=True)
    forks.check()


def test_a_fork_of_a_fork_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_is_forked", False)
    forks._after_fork()  # JAX has run here
    assert "does not run in forks" in refusal(forks.check)
    monkeypatch.setattr(sys, "modules", {})
    forks._after_fork()
    assert "does not run in forks" in refusal(forks.check)
    monkeypatch.setattr(forks, "_is_forked", False)
    forks._after_fork()  # nor has it been imported
    forks.check()


def test_importing_the_package_is_enough_to_notice() -> None:
    script = (
        "import encodax, sys; print('encodax.process.forks' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "True False\n", done.stderr
