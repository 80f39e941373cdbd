"""What published files may look like, what loading costs, and that a save brings all of it back."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from directories import (
    BERT_HEADS,
    assert_same_parameters,
    edit_json,
    load_refusal,
    published,
    refusal,
    store,
    tensors_of,
)

from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Tokenizer

INDEX = "model.safetensors.index.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return published(tmp_path / "model")


# --- names


def old_names(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


@pytest.mark.parametrize("head", BERT_HEADS)
def test_gamma_and_beta_are_weight_and_bias(tmp_path: Path, head: str) -> None:
    directory = published(tmp_path / "model", f"bert/{head}")
    new = Model.load(directory)
    tensors = {old_names(name): array for name, array in tensors_of(directory).items()}
    assert any(name.endswith("gamma") for name in tensors)
    store(directory, tensors)
    assert_same_parameters(Model.load(directory), new)


@pytest.mark.parametrize("head", BERT_HEADS)
def test_the_prefix_of_the_family_may_be_there_or_not(tmp_path: Path, head: str) -> None:
    directory = published(tmp_path / "model", f"bert/{head}")
    first = Model.load(directory)
    bare = {name.removeprefix("bert."): a for name, a in tensors_of(directory).items()}
    store(directory, bare)
    assert_same_parameters(Model.load(directory), first)
    of_heads = ("classifier.", "qa_outputs.", "cls.")
    store(directory, {n if n.startswith(of_heads) else f"bert.{n}": a for n, a in bare.items()})
    assert_same_parameters(Model.load(directory), first)


# --- shards


def shard(directory: Path, **index: str) -> None:
    """Put the tensors in two files; `index` moves some of them in the index alone."""
    tensors = tensors_of(directory)
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2]}
    files["model-00002-of-00002.safetensors"] = names[1::2]
    for file, held in files.items():
        safetensors.numpy.save_file({name: tensors[name] for name in held}, directory / file)
    places = {name: file for file, held in files.items() for name in held}
    content = {"metadata": {"total_size": 1}, "weight_map": places | index}
    (directory / INDEX).write_text(json.dumps(content))


def test_two_shards_are_one_model(directory: Path) -> None:
    whole = Model.load(directory)
    shard(directory)
    assert_same_parameters(Model.load(directory), whole)


def test_a_problem_in_a_shard_is_found(directory: Path) -> None:
    tensors = tensors_of(directory)
    store(directory, tensors | {"classifier.bias": tensors["classifier.bias"] * np.nan})
    shard(directory)
    message = load_refusal(directory)
    assert message == f"{directory / INDEX}: classifier.bias holds a value that is not finite"


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_a_missing_shard_is_named(directory: Path) -> None:
    shard(directory)
    (directory / SECOND).unlink()
    assert f"{SECOND} does not exist, and {INDEX} names it" in load_refusal(directory)


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(directory: Path) -> None:
    tensors = sorted(tensors_of(directory))
    shard(directory, **{tensors[0]: SECOND})
    assert f"{FIRST}: the index and the file do not agree on {tensors[0]!r}" in load_refusal(
        directory
    )


def test_a_tensor_in_two_shards_is_refused(directory: Path) -> None:
    shard(directory)
    first = safetensors.numpy.load_file(directory / FIRST)
    second = safetensors.numpy.load_file(directory / SECOND)
    name = next(iter(first))
    safetensors.numpy.save_file(second | {name: first[name]}, directory / SECOND)
    assert f"the index and the file do not agree on {name!r}" in load_refusal(directory)


@pytest.mark.parametrize(
    "place",
    ["../model.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", "", ".", 7, None,
     ["x"], "a\nb.safetensors", "..\\x.bin"],
)  # fmt: skip
def test_an_index_names_safetensors_of_its_directory_alone(directory: Path, place: Any) -> None:
    (directory.parent / "model.safetensors").write_bytes(
        (directory / "model.safetensors").read_bytes()
    )
    shard(directory, **{"classifier.bias": place})
    message = load_refusal(directory)
    assert str(directory / INDEX) in message
    assert "is not a safetensors file of this directory" in message or "is not an index" in message


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000],
    ids=["empty", "cut", "list", "number", "nothing", "a list", "no tensors", "deep"],
)
def test_a_broken_index_is_refused(directory: Path, content: str) -> None:
    shard(directory)
    (directory / INDEX).write_text(content)
    assert f"{directory / INDEX} is not an index of weights files" in load_refusal(directory)


# --- types


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_becomes_float32(directory: Path, dtype: type) -> None:
    tensors = tensors_of(directory)
    store(
        directory, {name: array.astype(dtype).astype(np.float32) for name, array in tensors.items()}
    )
    rounded = Model.load(directory)
    store(directory, {name: array.astype(dtype) for name, array in tensors.items()})
    edit_json(directory / "config.json", lambda content: content.update(torch_dtype=dtype.__name__))
    half = Model.load(directory)
    assert_same_parameters(half, rounded)
    half.save(directory.parent / "saved")
    assert {a.dtype.name for a in tensors_of(directory.parent / "saved").values()} == {"float32"}
    assert_same_parameters(Model.load(directory.parent / "saved"), rounded)


# --- what is carried, and what is repeated


def test_strays_are_carried_and_written_back(tmp_path: Path) -> None:
    directory = published(tmp_path / "model", "bert/token")
    chance = np.random.default_rng(0)
    strays = {
        "bert.pooler.dense.weight": chance.standard_normal((8, 8), np.float32),
        "bert.pooler.dense.bias": chance.standard_normal(8, np.float32),
        "cls.seq_relationship.weight": chance.standard_normal((2, 8), np.float32),
        "cls.seq_relationship.bias": chance.standard_normal(2, np.float32),
    }
    buffers = {"bert.embeddings.position_ids": np.arange(24)[None]}
    store(directory, tensors_of(directory) | strays | buffers)
    model = Model.load(directory)
    assert model.extra_tensors.keys() == strays.keys()
    model.save(tmp_path / "saved")
    assert_same_parameters(Model.load(tmp_path / "saved"), model)
    saved = tensors_of(tmp_path / "saved")
    for name, array in strays.items():
        np.testing.assert_array_equal(saved[name], array)
    assert not buffers.keys() & saved.keys()  # PyTorch makes them itself


@pytest.mark.parametrize("spoil", ["nan", "int"])
def test_a_stray_is_checked_too(tmp_path: Path, spoil: str) -> None:
    directory = published(tmp_path / "model", "bert/token")
    array = np.full((8, 8), np.nan, np.float32) if spoil == "nan" else np.ones((8, 8), np.int32)
    store(directory, tensors_of(directory) | {"bert.pooler.dense.weight": array})
    assert "bert.pooler.dense.weight " in load_refusal(directory)


COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_tied_copy_is_taken_when_it_is_equal(tmp_path: Path, copy: str) -> None:
    directory = published(tmp_path / "model", "bert/vocabulary")
    tensors, model = tensors_of(directory), Model.load(directory)
    store(directory, tensors | {copy: tensors[COPIES[copy]]})
    assert_same_parameters(Model.load(directory), model)


@pytest.mark.parametrize("copy", COPIES)
def test_a_tied_copy_is_refused_when_it_differs(tmp_path: Path, copy: str) -> None:
    directory = published(tmp_path / "model", "bert/vocabulary")
    tensors = tensors_of(directory)
    path = directory / "model.safetensors"
    other = tensors[COPIES[copy]].copy()
    other.flat[0] += 1e-7
    store(directory, tensors | {copy: other})
    assert load_refusal(directory) == f"{path}: {copy} should repeat {COPIES[copy]}, and does not"
    store(directory, tensors | {copy: other[:-1]})
    assert "should repeat" in load_refusal(directory)
    store(directory, tensors | {copy: other.astype(np.int32)})
    assert f"{copy} is I32" in load_refusal(directory)


def test_an_untied_output_is_a_tensor_of_its_own(tmp_path: Path) -> None:
    directory = published(tmp_path / "model", "bert/vocabulary")
    edit_json(directory / "config.json", lambda content: content.update(tie_word_embeddings=False))
    assert "cls.predictions.decoder.weight is missing (wanted (40, 8))" in load_refusal(directory)
    tensors = tensors_of(directory)
    tensors["cls.predictions.decoder.weight"] = np.ones((40, 8), np.float32)
    store(directory, tensors)
    output = Model.load(directory).params["head/output"]["w"]
    np.testing.assert_array_equal(output, np.ones((8, 40)))


# --- memory

PEAK = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from encodax.model_files import weights
from encodax.families import bert
from encodax.models.forward import parameter_shapes

directory = Path(sys.argv[1])
config = bert.FAMILY.read_config(json.loads((directory / "config.json").read_text()))
shapes = parameter_shapes(config)

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

jnp.zeros(1).block_until_ready()
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
loaded = weights.load(directory, shapes, bert.FAMILY, config)
print((status("VmHWM") - before) / (directory / "model.safetensors").stat().st_size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_at_most_twice_the_file(tmp_path: Path) -> None:
    directory = published(tmp_path / "model", "bert/encoder")
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "vocab_size": 20_000}
    edit_json(directory / "config.json", lambda c: c.update(sizes, num_hidden_layers=4))
    grown = {8: 512, 12: 2048, 40: 20_000}
    tensors = tensors_of(directory)
    layers = {name.replace("layer.0.", f"layer.{i}."): array
              for name, array in tensors.items() if "layer.0." in name
              for i in range(2, 4)}  # fmt: skip
    noise = np.random.default_rng(0).standard_normal(20_000 * 512, np.float32)
    big = {}
    for name, array in (tensors | layers).items():
        shape = tuple(grown.get(size, size) for size in array.shape)
        big[name] = noise[: int(np.prod(shape))].reshape(shape)
    store(directory, big)
    assert (directory / "model.safetensors").stat().st_size > 80e6
    done = subprocess.run([sys.executable, "-c", PEAK, directory], capture_output=True, text=True)
    (directory / "model.safetensors").unlink()  # pytest keeps the last directories
    assert done.returncode == 0, done.stderr
    assert 1 <= float(done.stdout) <= 2


# --- saving

OTHERS = ["distilbert/sequence", "distilbert/vocabulary", "electra/encoder", "electra/token"]


@pytest.mark.parametrize("golden", [*(f"bert/{head}" for head in BERT_HEADS), *OTHERS])
def test_load_after_save_is_the_identity(tmp_path: Path, golden: str) -> None:
    directory = published(tmp_path / "model", golden)
    model = Model.load(directory)
    model.save(tmp_path / "saved")
    again = Model.load(tmp_path / "saved")
    assert again.config == model.config
    assert_same_parameters(again, model)
    first, second = tensors_of(directory), tensors_of(tmp_path / "saved")
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def listing(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_a_save_that_fails_midway_leaves_what_was_there(directory: Path) -> None:
    model = Model.load(directory)
    before = listing(directory.parent)
    unwritable = Tokenizer(model.tokenizer._backend, files={"no/such/folder": b"x"})
    failing = dataclasses.replace(model, tokenizer=unwritable)
    message = refusal(lambda: failing.save(directory, overwrite=True))
    assert "cannot be written: No such file or directory; what was there is unchanged" in message
    assert listing(directory.parent) == before
    refusal(lambda: failing.save(directory.parent / "new"))
    assert listing(directory.parent) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("kind", ["classifier", "dense"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    directory = published(tmp_path / "model", "bert/encoder")
    model = Model.load(directory)
    limit = 1_000
    if kind == "dense":  # its file is the first that is too large
        limit = (directory / "model.safetensors").stat().st_size + 4_000
        head = dataclasses.replace(model.with_embeddings().config.head, dense_width=1_000)
        config = dataclasses.replace(model.config, head=head)
        dense = {"w": np.ones((8, 1_000), np.float32), "b": np.ones(1_000, np.float32)}
        params = {**model.params, "head/dense": dense}
        model = dataclasses.replace(model, config=config, params=params)
    before = listing(tmp_path)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old_limit[1]))
    try:
        message = refusal(lambda: model.save(directory, overwrite=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert "what was there is unchanged" in message
    assert listing(tmp_path) == before


def test_all_that_is_saved_can_be_read_by_the_same_people(directory: Path, tmp_path: Path) -> None:
    Model.load(directory).with_embeddings("mean", normalize=True).save(tmp_path / "saved")
    modes = {path.stat().st_mode for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_the_readme_of_a_directory_is_kept(directory: Path) -> None:
    (directory / "README.md").write_text("mine")
    (directory / "notes").mkdir()
    (directory / "notes" / "vocab.txt").write_text("mine too")
    Model.load(directory).save(directory, overwrite=True)
    assert (directory / "README.md").read_text() == "mine"
    assert (directory / "notes" / "vocab.txt").read_text() == "mine too"


def test_no_file_of_another_tokenizer_is_left(directory: Path, tmp_path: Path) -> None:
    model = Model.load(directory)
    words = [f"w{index}" for index in range(40)]
    for name in ("vocab.txt", "merges.txt", "spiece.model"):
        (directory / name).write_text("\n".join(words))
    for name in ("special_tokens_map.json", "added_tokens.json", "vocab.json"):
        (directory / name).write_text("{}")
    model.save(directory, overwrite=True)
    assert sorted(path.name for path in directory.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_no_module_of_an_embedder_is_left_when_a_classifier_is_saved_over_it(
    directory: Path, tmp_path: Path
) -> None:
    classifier = Model.load(directory)
    place = tmp_path / "place"
    classifier.with_embeddings("cls", normalize=True).save(place)
    (place / "notes").mkdir()
    (place / "notes" / "page").write_text("mine")
    classifier.save(place, overwrite=True)
    again = Model.load(place)
    assert again.config == classifier.config
    assert_same_parameters(again, classifier)
    assert not [p.name for p in place.iterdir() if p.name[0].isdigit() or "sentence" in p.name]
    assert (place / "notes" / "page").read_text() == "mine"


def test_no_module_of_another_embedder_is_left(directory: Path, tmp_path: Path) -> None:
    model, place = Model.load(directory), tmp_path / "place"
    model.with_embeddings("cls", normalize=True).save(place)
    model.with_embeddings("cls").save(place, overwrite=True)
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["1_Pooling"]
    assert Model.load(place).config.head == model.with_embeddings("cls").config.head


def test_no_shard_of_a_directory_is_left(directory: Path, tmp_path: Path) -> None:
    model = Model.load(directory)
    shard(directory)
    model.save(directory, overwrite=True)
    assert sorted(path.name for path in directory.glob("model*")) == ["model.safetensors"]
    assert_same_parameters(Model.load(directory), model)
