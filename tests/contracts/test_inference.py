"""What every predictor promises about streams: order, shapes, threads, errors, memory."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import goldens
import jax
import numpy as np
import pytest
from blocks import assert_close, drawn

from encodax import Embedder
from encodax.data import stream
from encodax.data.packing import assemble, slots_of
from encodax.errors import EncodaxError
from encodax.inference.engine import head_output
from encodax.model_files import weights
from encodax.models.encoder_model import Model
from encodax.models.forward import parameter_shapes
from encodax.text.tokenizer import Encoding, Tokenizer

WORDS = ("cat", "dog", "film", "wonderful", "the", "Paris", "ran", "2021", "dull", "and")


def texts_of(count: int, longest: int, seed: int = 0) -> list[str]:
    """Texts of 1 .. longest words, most of them short."""
    random = np.random.default_rng(seed)
    words = np.minimum(random.geometric(0.1, count), longest)
    words[random.integers(count, size=count // 50)] = longest
    return [" ".join(random.choice(WORDS, number)) for number in words]


def sequence(token_ids: np.ndarray) -> Encoding:
    """Token ids as an encoding of one text."""
    zeros = np.zeros_like(token_ids)
    return Encoding(
        token_ids, zeros, np.stack([zeros, zeros], axis=1), zeros.astype(bool), np.zeros_like(zeros)
    )


@pytest.fixture(scope="module")
def long_model(tiny_model: Model) -> Model:
    """The tiny model, for texts of up to 600 tokens."""
    encoder = tiny_model.config.encoder
    embeddings = dataclasses.replace(encoder.embeddings, max_positions=600)
    config = dataclasses.replace(
        tiny_model.config, encoder=dataclasses.replace(encoder, embeddings=embeddings)
    )
    return Model(config, drawn(parameter_shapes(config)), tiny_model.tokenizer)


@pytest.fixture(scope="module")
def saved(long_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "long"
    long_model.save(directory)
    return directory


@pytest.fixture(scope="module")
def embedder(long_model: Model) -> Embedder:
    embedder = Embedder(long_model)
    embedder.warm_up()
    return embedder


# Shapes.


def test_after_warm_up_no_text_compiles_anything(
    embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    texts = texts_of(10_000, longest=300)
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        found = embedder.encode(texts)
        for count in (1, 2, 3, 7, 40, 300):
            again = embedder.encode(texts[:count])
            assert_close(again, found[:count], 1e-5)
    assert [record.getMessage() for record in caplog.records] == []
    assert found.shape == (10_000, 16)


# Packed and alone.


@pytest.mark.parametrize("golden", goldens.ALL)
def test_packed_is_alone_for_every_family_and_head(golden: str) -> None:
    """Four sequences that share a row, and each in a row of its own, in one batch."""
    config, family = goldens.read(golden), goldens.family_of(golden)
    params = weights.load(goldens.FOLDER / golden, parameter_shapes(config), family, config).params
    model = Model(config, params, Tokenizer.train(WORDS))
    read, level = (lambda output: output.hidden), "token"
    if config.head is not None:
        read, level = head_output(config.head)
    random = np.random.default_rng(0)
    limit = config.encoder.embeddings.vocabulary_size
    encodings = [
        sequence(random.integers(5, limit, size=length, dtype=np.int32)) for length in (9, 1, 14, 6)
    ]
    rows = [[0, 1, 2, 3], [0], [1], [2], [3]]
    packed = [[encodings[index] for index in row] for row in rows]
    batch = assemble(packed, row_count=5, row_tokens=32, slots=8)
    answers = np.asarray(jax.jit(lambda p, b: read(model.apply(p, b)))(params, batch))
    places = {(b, index): (n, tokens) for index, b, n, tokens in slots_of(rows, batch)}
    for index in range(4):
        (n, tokens), (_, own) = places[0, index], places[1 + index, index]
        together, by_itself = (n, 0) if level == "sequence" else (tokens, own)
        assert_close(answers[0, together], answers[1 + index, by_itself], 1e-5)


# Order.


def test_answers_come_in_the_order_of_the_texts(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WINDOW_ITEMS", 50)
    texts = texts_of(500, longest=200, seed=1)
    alone = np.concatenate([embedder.encode([text]) for text in texts[::25]])
    assert_close(embedder.encode(texts)[::25], alone, 1e-5)
    assert_close(embedder.encode(texts[::-1])[::-1][::25], alone, 1e-5)


# Threads.


def test_threads_share_a_predictor_and_get_equal_bits(long_model: Model) -> None:
    embedder = Embedder(long_model)  # not warm: they compile together too
    texts = texts_of(3_000, longest=60, seed=2)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: embedder.encode(texts), range(8)))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_what_a_source_raises_reaches_the_caller_and_leaves_no_thread(embedder: Embedder) -> None:
    def source() -> Iterator[str]:
        yield from texts_of(2 * stream.WINDOW_ITEMS + 100, longest=20)
        raise RuntimeError("the disk is gone")

    before = set(threading.enumerate())
    answered = 0
    with pytest.raises(RuntimeError, match="the disk is gone"):
        for _ in embedder.stream(source()):
            answered += 1
    assert answered == 2 * stream.WINDOW_ITEMS + 100  # what came before it is answered
    assert [t for t in set(threading.enumerate()) - before if t.name.startswith("encodax")] == []


def test_a_bad_text_is_named_after_what_came_before_is_answered(embedder: Embedder) -> None:
    texts = texts_of(stream.WINDOW_ITEMS + 10, longest=20)
    answers = embedder.stream([*texts, "cat " * 700])
    with pytest.raises(EncodaxError, match=f"text {len(texts)}: .* tokens, and the model takes"):
        answered = []
        for answer in answers:
            answered.append(answer)
    assert len(answered) == len(texts)


def test_who_stops_reading_leaves_no_thread(embedder: Embedder) -> None:
    before = set(threading.enumerate())
    answers = embedder.stream(itertools.cycle(["the cat", "a dog ran"]))
    assert len(list(itertools.islice(answers, 3))) == 3
    answers.close()
    assert [t for t in set(threading.enumerate()) - before if t.name.startswith("encodax")] == []


def test_a_silent_source_has_been_answered(embedder: Embedder) -> None:
    """All that has come, before more does: one text, and several of many lengths."""
    texts = texts_of(40, longest=200, seed=3)
    go_on = threading.Semaphore(0)

    def source() -> Iterator[str]:
        yield texts[0]
        assert go_on.acquire(timeout=100), "what had come was not answered"
        yield from texts[1:]
        assert go_on.acquire(timeout=100), "what had come was not answered"

    found = []
    for vector in embedder.stream(source()):
        found.append(vector)
        if len(found) in (1, len(texts)):
            go_on.release()
    assert_close(np.stack(found), embedder.encode(texts), 1e-5)


def test_a_text_that_no_row_holds_is_refused(tiny_model: Model) -> None:
    encoder = tiny_model.config.encoder
    embeddings = dataclasses.replace(encoder.embeddings, positions="sinusoidal", max_positions=None)
    config = dataclasses.replace(
        tiny_model.config, encoder=dataclasses.replace(encoder, embeddings=embeddings)
    )
    model = Model(config, drawn(parameter_shapes(config)), tiny_model.tokenizer)
    text = "cat " * 8_200
    with pytest.raises(
        EncodaxError, match="text 1: 8202 tokens, and the model takes 8192; shorten"
    ):
        Embedder(model).encode(["the cat", text])


# Processes.

STREAM = """
import itertools, signal, sys
from encodax import Embedder
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
embedder = Embedder.load(sys.argv[1])
for number, _ in enumerate(embedder.stream(itertools.cycle(["the cat ran", "a dull film"]))):
    if number % 1000 == 0:
        print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_stops_within_a_second(saved: Path) -> None:
    """The best of three: another process may have the processor for a while."""
    seconds = []
    while len(seconds) < 3 and min(seconds, default=1.0) >= 1:
        with subprocess.Popen(
            [sys.executable, "-c", STREAM, str(saved)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                for _ in range(3):
                    assert process.stdout.readline()
                start = time.monotonic()
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=60)
                seconds.append(time.monotonic() - start)
            finally:
                process.kill()  # nothing once it has ended
        assert process.returncode != 0
        assert errors.rstrip().endswith("KeyboardInterrupt")
    assert min(seconds) < 1, seconds


MEMORY = """
import json, sys
from pathlib import Path
from encodax import Embedder
embedder = Embedder.load(sys.argv[1])
embedder.warm_up()
short = int(sys.argv[2])
def texts():
    for number in range(short):
        yield "the cat ran after a dog"
        if number == short // 2:
            yield "cat " * 590
count = sum(1 for _ in embedder.stream(texts()))
lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(lines["VmHWM"].split()[0])  # getrusage begins at that of the parent
print(json.dumps({"count": count, "peak": peak}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_one_long_text_among_50_000_short_ones_stays_within_memory(saved: Path) -> None:
    def peak(short: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(saved), str(short)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert found["count"] == short + 1
        return int(found["peak"])

    assert peak(50_000) <= 1.2 * peak(1_000)


DEVICES = """
import sys
import jax, numpy as np
from encodax import Embedder
assert jax.device_count() == int(sys.argv[2])
texts = open(sys.argv[3]).read().splitlines()
embedder = Embedder.load(sys.argv[1])
np.save(sys.argv[4], np.concatenate([embedder.encode(texts), embedder.encode(texts[:1])]))
"""


def test_eight_devices_give_what_one_gives(saved: Path, tmp_path: Path) -> None:
    texts = texts_of(400, longest=100, seed=3)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    for devices in (1, 8):
        flags = f"--xla_force_host_platform_device_count={devices}"
        arguments = [str(saved), str(devices), "texts.txt", f"{devices}.npy"]
        subprocess.run(
            [sys.executable, "-c", DEVICES, *arguments],
            check=True,
            cwd=tmp_path,
            env={**os.environ, "XLA_FLAGS": flags},
        )
    one, eight = (np.load(tmp_path / f"{devices}.npy") for devices in (1, 8))
    assert_close(eight, one, 1e-6)
