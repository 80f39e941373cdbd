"""A model: made, applied, trained by Optax, saved and loaded."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from blocks import assert_close, drawn

from encodax.config import HeadConfig, ModelConfig, NormConfig, Pooling
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.models.forward import initial_params
from encodax.text.tokenizer import Tokenizer

FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def same(first: Any, second: Any) -> bool:
    """Whether two trees are equal, bit by bit."""
    return jax.tree.structure(first) == jax.tree.structure(second) and jax.tree.all(
        jax.tree.map(np.array_equal, first, second)
    )


def of(model: Model, **changes: Any) -> Model:
    """The same model with another configuration, and parameters for it."""
    config = dataclasses.replace(model.config, **changes)
    shapes = jax.eval_shape(lambda key: initial_params(config, key), jax.random.key(0))
    return dataclasses.replace(model, config=config, params=drawn(shapes))


def with_encoder(model: Model, **changes: Any) -> Model:
    return of(model, encoder=dataclasses.replace(model.config.encoder, **changes))


def one_layer(model: Model) -> Model:
    return with_encoder(model, layers=model.config.encoder.layers[:1])


def pre_norm(model: Model) -> Model:
    layers = tuple(
        dataclasses.replace(layer, placement="pre") for layer in model.config.encoder.layers
    )
    return with_encoder(model, layers=layers, final_norm=NormConfig())


@pytest.fixture
def saved(tiny_model: Model, tmp_path: Path) -> Path:
    tiny_model.save(tmp_path / "model")
    return tmp_path / "model"


# Made.


def test_a_new_model_is_drawn_from_its_seed(tiny_config: ModelConfig, tiny_model: Model) -> None:
    encoder = dataclasses.replace(tiny_config.encoder, layers=())  # little to compile
    config = dataclasses.replace(tiny_config, encoder=encoder, head=None, labels=())
    first, again, other = (
        Model.create(config, tiny_model.tokenizer, seed=seed).params for seed in (0, 0, 1)
    )
    assert same(first, again)
    assert not same(first, other)
    for table in ("token", "position", "type"):
        wanted = tiny_model.params[f"encoder/embeddings/{table}"]["w"]
        assert first[f"encoder/embeddings/{table}"]["w"].shape == wanted.shape


def test_parameters_are_counted(tiny_model: Model) -> None:
    V, D, F = tiny_model.tokenizer.vocabulary_size, 16, 32
    embeddings = (V + 32 + 2) * D + 2 * D
    layer = 4 * (D * D + D) + (D * F + F) + (F * D + D) + 4 * D
    head = (D * D + D) + (D * 3 + 3)
    assert tiny_model.parameter_count() == embeddings + 2 * layer + head


# Batched.


def test_a_batch_has_a_text_a_row_in_order(tiny_model: Model, texts: tuple[str, ...]) -> None:
    batch = tiny_model.batch(texts)
    assert batch.token_ids.shape == (len(texts), 32)  # 20 tokens, rounded up
    encodings = tiny_model.tokenizer.encode(texts)
    for row, encoding in enumerate(encodings):
        length = len(encoding)
        assert batch.token_ids[row, :length].tolist() == encoding.token_ids.tolist()
        assert batch.segment_ids[row].tolist() == [1] * length + [0] * (32 - length)
        assert batch.lengths[row].tolist() == [length]


def test_a_batch_marks_the_two_texts_of_a_pair(tiny_model: Model) -> None:
    batch = tiny_model.batch([("the cat", "a dog")])
    assert batch.type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 0]]


@pytest.mark.parametrize(("text", "width"), [("the cat", 4), ("the mat", 8), ("a film", 4)])
def test_a_batch_is_as_wide_as_a_power_of_two(tiny_model: Model, text: str, width: int) -> None:
    assert tiny_model.batch([text]).token_ids.shape == (1, width)


LONG = "the cat sat on the mat " * 8  # 8 * 8 + 2 = 66 tokens, where 32 is the limit


def test_a_text_that_is_too_long_is_named_with_both_numbers(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match=r"^text 1: 66 tokens, and the model takes 32; "):
        tiny_model.batch(["the cat", LONG])


def test_a_text_that_is_too_long_may_be_cut(tiny_model: Model) -> None:
    batch = tiny_model.batch(["the cat", LONG], truncate=True)
    assert batch.lengths.tolist() == [[4], [32]]
    (whole,) = tiny_model.tokenizer.encode([LONG])
    assert batch.token_ids[1].tolist() == [*whole.token_ids[:31], whole.token_ids[-1]]
    encodings, cut = tiny_model.encode(["the cat", LONG, LONG], truncate=True)
    assert (len(encodings), cut) == (3, 2)


def test_an_empty_text_is_named(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match=r"^text 1: the text is empty$"):
        tiny_model.batch(["the cat", " "])


def test_the_names_of_texts_are_those_given(tiny_model: Model) -> None:
    with pytest.raises(EncodaxError, match=r"^a\.txt, line 7: "):
        tiny_model.encode([LONG], names=["a.txt, line 7"])


def test_a_model_without_a_limit_takes_any_length(tiny_model: Model) -> None:
    embeddings = dataclasses.replace(
        tiny_model.config.encoder.embeddings, positions="sinusoidal", max_positions=None
    )
    model = with_encoder(tiny_model, embeddings=embeddings)
    assert model.max_length is None
    assert model.batch([LONG]).lengths.tolist() == [[66]]
    assert model.batch([]).token_ids.shape == (0, 1)


def test_ids_and_positions_out_of_range_are_named(tiny_model: Model) -> None:
    batch = tiny_model.batch(["the cat sat on the mat"])
    tiny_model.check(batch)
    for field, bad, message in (
        ("token_ids", 120, r"token id 120 is outside 0\.\.119"),
        ("token_ids", -1, r"token id -1 is outside 0\.\.119"),
        ("position_ids", 32, r"position 32 is outside 0\.\.31"),
    ):
        array = getattr(batch, field).copy()
        array[0, 1] = bad
        with pytest.raises(EncodaxError, match=message):
            tiny_model.check(dataclasses.replace(batch, **{field: array}))


def test_a_batch_is_checked_against_the_embedding(tiny_model: Model) -> None:
    embeddings = dataclasses.replace(tiny_model.config.encoder.embeddings, vocabulary_size=60)
    model = with_encoder(tiny_model, embeddings=embeddings)
    with pytest.raises(EncodaxError, match=r"text 0: the model has no row for the token 'the'"):
        model.batch(["the cat sat on the mat"])


# Applied.


def test_apply_is_pure_and_works_under_jit_and_grad_with_optax(
    tiny_model: Model, texts: tuple[str, ...]
) -> None:
    model = one_layer(tiny_model)
    batch, labels = model.batch(texts[:4]), jnp.array([0, 0, 2, 1])
    before = jax.tree.map(np.array, model.params)
    optimizer = optax.adam(0.03)

    def loss_of(params: Any, batch: Any) -> jax.Array:
        logits = model.apply(params, batch).logits[:, 0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params: Any, state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        loss, gradient = jax.value_and_grad(loss_of)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    params, state, losses = model.params, optimizer.init(model.params), []
    for _ in range(60):
        params, state, loss = step(params, state, batch)
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]
    assert same(model.params, before)


def test_apply_closes_over_a_batch_under_jit(tiny_model: Model) -> None:
    model = one_layer(tiny_model)
    batch = model.batch(["the cat", "a dog"])
    wanted = model.apply(model.params, batch).logits
    for constant in (batch, jax.tree.map(jnp.asarray, batch)):
        logits = jax.jit(lambda params, batch=constant: model.apply(params, batch).logits)
        assert_close(logits(model.params), wanted)


def test_apply_records_the_stages_asked_for(tiny_model: Model) -> None:
    batch = tiny_model.batch(["the cat", "a dog sat"])
    out = tiny_model.apply(tiny_model.params, batch, record=frozenset({"attention", "hidden"}))
    assert [array.shape for array in out.records["attention"]] == [(2, 2, 8, 8)] * 2
    assert [array.shape for array in out.records["hidden"]] == [(2, 8, 16)] * 3
    assert_close(out.records["hidden"][-1], out.hidden)
    plain = tiny_model.apply(tiny_model.params, batch)
    assert plain.records == {}
    assert_close(out.logits, plain.logits)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_answer_alone_is_the_same_answer(tiny_model: Model, pooling: Pooling) -> None:
    model = tiny_model.with_embeddings(pooling)
    batch = model.batch(["the cat sat on the mat", "a dog"])
    whole, alone = (
        model.apply(model.params, batch, head_only=head_only) for head_only in (False, True)
    )
    np.testing.assert_allclose(alone.vectors, whole.vectors, rtol=1e-5, atol=1e-6)
    rows, tokens = batch.token_ids.shape
    assert whole.hidden.shape[:2] == (rows, tokens)
    assert alone.hidden.shape[:2] == (rows, 1 if pooling == "cls" else tokens)


def test_a_model_without_a_head_has_no_logits(tiny_model: Model) -> None:
    model = of(tiny_model, head=None, labels=())
    out = model.apply(model.params, model.batch(["the cat"]))
    assert out.logits is None
    assert out.hidden.shape == (1, 4, 16)


# Saved and loaded.


KINDS = {
    "sequence": {},
    "token": {"head": HeadConfig("token", 3, dropout_rate=0.1)},
    "span": {"head": HeadConfig("span", 2), "labels": ()},
    "no head": {"head": None, "labels": ()},
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_load_after_save_is_the_identity(
    tiny_model: Model, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = of(tiny_model, **changes) if changes else tiny_model
    model.save(tmp_path / "model")
    loaded = Model.load(str(tmp_path / "model"))
    assert loaded.config == dataclasses.replace(model.config, family="bert")
    assert same(loaded.params, model.params)
    assert loaded.extra_tensors == {}
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_type"] == "bert"
    texts = ["the cat sat", ("a dog", "ran")]
    assert same(loaded.batch(texts), model.batch(texts))


def test_what_no_family_has_is_saved_as_encodax_with_a_warning(
    tiny_model: Model, tmp_path: Path
) -> None:
    model = pre_norm(tiny_model)
    with pytest.warns(UserWarning, match="no published family has .* which only Encodax loads"):
        model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_type"] == "encodax"
    loaded = Model.load(tmp_path / "model")
    assert loaded.config == dataclasses.replace(model.config, family="encodax")
    assert same(loaded.params, model.params)


def test_the_weights_file_is_that_of_berts_classifier(tiny_model: Model, saved: Path) -> None:
    V = tiny_model.tokenizer.vocabulary_size
    wanted: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (V, 16),
        "bert.embeddings.position_embeddings.weight": (32, 16),
        "bert.embeddings.token_type_embeddings.weight": (2, 16),
        "bert.embeddings.LayerNorm.weight": (16,),
        "bert.embeddings.LayerNorm.bias": (16,),
        "bert.pooler.dense.weight": (16, 16),
        "bert.pooler.dense.bias": (16,),
        "classifier.weight": (3, 16),
        "classifier.bias": (3,),
    }
    for layer in range(2):
        for module, shape in (
            ("attention.self.query", (16, 16)),
            ("attention.self.key", (16, 16)),
            ("attention.self.value", (16, 16)),
            ("attention.output.dense", (16, 16)),
            ("attention.output.LayerNorm", (16,)),
            ("intermediate.dense", (32, 16)),
            ("output.dense", (16, 32)),
            ("output.LayerNorm", (16,)),
        ):
            wanted[f"bert.encoder.layer.{layer}.{module}.weight"] = shape
            wanted[f"bert.encoder.layer.{layer}.{module}.bias"] = shape[:1]
    tensors = safetensors.numpy.load_file(saved / "model.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == wanted
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"float32"}
    query = tiny_model.params["encoder/layer_1/attention/query"]
    stored = tensors["bert.encoder.layer.1.attention.self.query.weight"]
    np.testing.assert_array_equal(stored.reshape(2, 8, 16).transpose(2, 0, 1), query["w"])


def test_every_wrong_tensor_is_reported_at_once(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    del tensors["classifier.bias"]
    tensors["bert.pooler.dense.weight"] = np.zeros((16, 15), np.float32)
    tensors["cls.predictions.bias"] = np.zeros(3, np.float32)
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(EncodaxError) as caught:
        Model.load(saved)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for problem in (
        "classifier.bias is missing",
        "bert.pooler.dense.weight is F32 (16, 15), wanted F32, F16, BF16 (16, 16)",
        "cls.predictions.bias belongs to no parameter",
    ):
        assert problem in message
    assert message.count(";") == 2


def spoilt(model: Path, name: str, content: str | None) -> None:
    if content is None:
        (model / name).unlink()
    else:
        (model / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"config\.json does not exist: .* holds only a tokenizer, and no"),
        ("config.json", "{", r"config\.json is not JSON"),
        ("config.json", "[]", r"config\.json must hold an object, not a list"),
        ("config.json", "{}", r"config\.json: the key 'model_type' is missing"),
        ("config.json", '{"model_type": "gpt2"}', r"model_type 'gpt2' is not supported"),
        ("config.json", '{"model_type": "bert"}', r"the key '\w+' is missing"),
        ("model.safetensors", None, r"model\.safetensors does not exist"),
        ("model.safetensors", "nothing", r"model\.safetensors cannot be read"),
        ("tokenizer.json", None, r"tokenizer\.json does not exist"),
        ("tokenizer.json", "{}", r"tokenizer\.json cannot be read as a tokenizer"),
    ],
)
def test_a_directory_that_is_no_model_is_refused(
    saved: Path, name: str, content: str | None, message: str
) -> None:
    spoilt(saved, name, content)
    with pytest.raises(EncodaxError, match=message):
        Model.load(saved)


def test_a_tokenizer_of_another_model_is_refused(saved: Path) -> None:
    Tokenizer.train(["the cat"], "bpe", vocabulary_size=300).save(saved)
    with pytest.raises(EncodaxError, match=r"the tokenizer has \d+ tokens and the embedding 120"):
        Model.load(saved)


def test_a_model_that_is_there_is_not_overwritten_unasked(tiny_model: Model, saved: Path) -> None:
    (saved / "metrics.jsonl").write_text("mine")
    other = of(tiny_model, labels=("a", "b", "c"))
    with pytest.raises(EncodaxError, match="exists; choose another place"):
        other.save(saved)
    assert Model.load(saved).config.labels == tiny_model.config.labels
    other.save(saved, overwrite=True)
    loaded = Model.load(saved)
    assert loaded.config.labels == ("a", "b", "c")
    assert same(loaded.params, other.params)
    assert (saved / "metrics.jsonl").read_text() == "mine"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_all_files_can_be_read_by_the_same_people(saved: Path) -> None:
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


# Killed, and with a full disk.

SAVER = """
import dataclasses, os, signal, sys, time
import jax, numpy as np
from pathlib import Path
from encodax.models.encoder_model import Model

model = Model.load(sys.argv[1])
as_numpy = lambda scale: jax.tree.map(lambda leaf: scale * np.asarray(leaf), model.params)
versions = [dataclasses.replace(model, params=as_numpy(scale)) for scale in (1.0, 2.0)]
"""
KILLED = (
    SAVER
    + """
for line in sys.stdin:
    child = os.fork()
    if not child:
        while True:
            for version in versions:
                version.save(sys.argv[1], overwrite=True)
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""
)
LIMITED = (
    SAVER
    + """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    versions[1].save(sys.argv[1], overwrite=True)
except ValueError as error:
    print(error)
"""
)


def script(code: str, *arguments: object) -> tuple[list[str], dict[str, str]]:
    source = Path(__file__).parents[2] / "src"
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)]
    return command, {**os.environ, "PYTHONPATH": str(source)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_killed_save_leaves_a_model_that_loads_old_or_new(saved: Path) -> None:
    first = Model.load(saved).params
    versions = (first, jax.tree.map(lambda leaf: 2 * leaf, first))
    command, environment = script(KILLED, saved)
    moments = random.Random(0)
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as saver:
        assert saver.stdin is not None
        assert saver.stdout is not None
        for _ in range(12):
            print(moments.uniform(0.01, 0.1), file=saver.stdin, flush=True)
            assert saver.stdout.readline() == "killed\n"
            loaded = Model.load(saved)
            assert any(same(loaded.params, version) for version in versions)
        saver.stdin.close()
    assert saver.returncode == 0
    loaded.save(saved, overwrite=True)  # and nothing of the killed ones stays
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("limit", [0, 100, 20_000])  # before, in and after the small files
def test_a_limit_on_the_size_of_files_leaves_the_old_model(saved: Path, limit: int) -> None:
    pytest.importorskip("resource")
    before = Model.load(saved).params
    command, environment = script(LIMITED, saved, limit)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{saved} cannot be written: ")
    assert done.stdout.endswith("what was there is unchanged\n")
    assert same(Model.load(saved).params, before)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes the rights of root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_model(tiny_model: Model, small_disk: Path) -> None:
    target = small_disk / "model"
    tiny_model.save(target)
    for room in (300_000, 30_000, 5_000, 0):
        ballast = small_disk / "ballast"
        size = shutil.disk_usage(small_disk).free - room
        ballast.write_bytes(bytes(max(0, size)))
        wide = wider(tiny_model) if room == 300_000 else tiny_model
        with pytest.raises(
            EncodaxError, match=r"model cannot be written: .*No space left"
        ) as error:
            wide.save(target, overwrite=True)
        assert str(error.value).endswith("what was there is unchanged")
        assert same(Model.load(target).params, tiny_model.params)
        assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "model"]
        ballast.unlink()
    tiny_model.save(target, overwrite=True)


def wider(model: Model) -> Model:
    """The same model, with 1 MB of parameters."""
    embeddings = dataclasses.replace(model.config.encoder.embeddings, max_positions=20_000)
    return with_encoder(model, embeddings=embeddings)
