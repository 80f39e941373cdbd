"""Files that are not as they should be: one line says what is wrong, and nothing is half loaded."""

from __future__ import annotations

import functools
import json
import os
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tokenizers
from directories import (
    GOLDENS,
    edit_json,
    load_refusal,
    published,
    refusal,
    small_tokenizer,
    store,
    tensors_of,
)

import encodax
from encodax import families
from encodax.errors import EncodaxError
from encodax.families import bert
from encodax.model_files import saved_model, weights
from encodax.models.encoder_model import Model
from encodax.models.forward import parameter_shapes
from encodax.storage import json_files
from encodax.text.tokenizer import Tokenizer

CONFIG = json.loads((GOLDENS / "bert/sequence/config.json").read_text())
TENSORS = tensors_of(GOLDENS / "bert/sequence")
FILE = (GOLDENS / "bert/sequence/model.safetensors").read_bytes()
HEADER_END = 8 + int.from_bytes(FILE[:8], "little")


@functools.cache
def wanted() -> Any:
    config = bert.FAMILY.read_config(CONFIG)
    return config, parameter_shapes(config)


def load_weights(directory: Path) -> weights.Loaded:
    config, shapes = wanted()
    return weights.load(directory, shapes, bert.FAMILY, config)


def weights_refusal(directory: Path) -> str:
    return refusal(lambda: load_weights(directory))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return published(tmp_path / "model")


# --- tensors


def test_the_small_model_loads(directory: Path) -> None:
    assert Model.load(directory).config.labels == ("negative", "neutral", "positive")


def renamed(name: str) -> dict[str, np.ndarray]:
    return {f"{other}s" if other == name else other: a for other, a in TENSORS.items()}


def with_one(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    return TENSORS | {name: array}


def with_value(name: str, value: float) -> dict[str, np.ndarray]:
    array = TENSORS[name].copy()
    array.flat[array.size // 2] = value
    return with_one(name, array)


def shape(*sizes: int) -> str:
    return re.escape(str(sizes))


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_is_wanted_as_it_should_be(tmp_path: Path, name: str) -> None:
    array, full, sizes = TENSORS[name], re.escape(name), shape(*TENSORS[name].shape)
    without = {other: a for other, a in TENSORS.items() if other != name}
    spoilt: list[tuple[dict[str, np.ndarray], str]] = [
        (without, rf"{full} is missing \(wanted {sizes}\)"),
        (renamed(name), rf"{full} is missing .*{full}s belongs to no parameter"),
        (with_one(name, array[:-1]), rf"{full} is F32 .*, wanted F32, F16, BF16 {sizes}"),
        (with_one(name, array[None]), rf"{full} is F32 {shape(1, *array.shape)}, wanted"),
        (with_one(name, array.astype(np.int8)), rf"{full} is I8 {sizes}, wanted F32"),
        (with_one(name, array.astype(np.int64)), rf"{full} is I64 {sizes}, wanted F32"),
        (with_one(name, array.astype(np.float64)), rf"{full} is F64 {sizes}, wanted F32"),
        (with_value(name, np.nan), f"{full} holds a value that is not finite"),
        (with_value(name, np.inf), f"{full} holds a value that is not finite"),
        (with_value(name, -np.inf), f"{full} holds a value that is not finite"),
    ]
    if array.T.shape != array.shape:
        spoilt.append((with_one(name, array.T), rf"{full} is F32 {shape(*array.T.shape)}, wanted"))
    if name.startswith("bert."):
        bare = name.removeprefix("bert.")
        spoilt.append((with_one(bare, array), "are the same tensor"))
    if "LayerNorm" in name:
        old = name.replace("weight", "gamma").replace("bias", "beta")
        spoilt.append((with_one(old, array), "are the same tensor"))
    for tensors, expected in spoilt:
        store(tmp_path, tensors)
        message = weights_refusal(tmp_path)
        assert message.startswith(f"{tmp_path / 'model.safetensors'}: ")
        assert re.search(expected, message), message


def test_problems_are_reported_together(tmp_path: Path) -> None:
    names = list(TENSORS)
    tensors = TENSORS | {"stray": np.zeros(2, np.float32)}
    tensors[names[1]] = tensors[names[1]].astype(np.int32)
    tensors[names[2]] = tensors[names[2]] * np.nan
    del tensors[names[0]]
    store(tmp_path, tensors)
    message = weights_refusal(tmp_path)
    for part in (
        f"{names[0]} is missing",
        f"{names[1]} is I32",
        f"{names[2]} holds a value",
        "stray belongs to no parameter",
    ):
        assert part in message


def test_of_very_many_problems_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    store(tmp_path, {"x": np.zeros(1, np.float32)})
    message = weights_refusal(tmp_path)
    assert message.count(" is missing") == weights.MOST_PROBLEMS
    assert message.endswith(f"and {len(TENSORS) + 1 - weights.MOST_PROBLEMS} more problems")


def test_a_name_that_would_break_the_line_is_refused(tmp_path: Path) -> None:
    store(tmp_path, TENSORS | {"a\nb": np.zeros(1, np.float32)})
    assert r"'a\nb' is not the name of a tensor" in weights_refusal(tmp_path)


# --- files


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for length in [*range(0, len(FILE), 37), *range(HEADER_END - 9, HEADER_END + 9), len(FILE) - 1]:
        path.write_bytes(FILE[:length])
        assert weights_refusal(tmp_path).startswith(f"{path} cannot be read: ")


@pytest.mark.parametrize("length", [10 * 2**30, 2**63, 2**64 - 1, len(FILE), HEADER_END - 9, 0])
def test_a_header_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + FILE[8:])
    assert "cannot be read: " in weights_refusal(tmp_path)


@pytest.mark.parametrize("sizes", [[2**32], [2**62, 4], [2**31, 2**31, 2**31], [-1]])
def test_a_tensor_larger_than_the_file_is_refused(tmp_path: Path, sizes: list[int]) -> None:
    end = 4 * int(np.prod(sizes, dtype=object)) % 2**64
    entry = {"dtype": "F32", "shape": sizes, "data_offsets": [0, end]}
    header = json.dumps({"bert.embeddings.word_embeddings.weight": entry}).encode()
    content = len(header).to_bytes(8, "little") + header + b"\0" * 64
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "cannot be read: " in weights_refusal(tmp_path)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The file with a few bytes of its header changed, put in or taken out."""
    header = bytearray(content[:HEADER_END])
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.choice([chance.randrange(8), chance.randrange(8, len(header))])
        match chance.randrange(4):
            case 0:
                header[place] = chance.randrange(256)
            case 1:
                header[place] ^= 1 << chance.randrange(8)
            case 2:
                header[place] = ord(chance.choice('0123456789"{}[],:\\nF'))
            case _:
                length = int.from_bytes(header[:8], "little")
                at = chance.randrange(8, len(header))
                if chance.random() < 0.5:
                    header[at:at] = chance.choice([b"0", b"\\n", b'"', b"\x00", b"\xff", b"9" * 30])
                else:
                    del header[at]
                length += len(header) - HEADER_END
                header[:8] = (length % 2**64).to_bytes(8, "little")
    return bytes(header) + content[HEADER_END:]


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_header_is_refused_or_makes_no_difference_to_the_shapes(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    _, shapes = wanted()
    for _ in range(100):
        (tmp_path / "model.safetensors").write_bytes(mutated(FILE, chance))
        try:
            loaded = load_weights(tmp_path)
        except EncodaxError as error:
            assert str(error).isprintable(), repr(str(error))
        else:
            found = jax.tree.map(lambda array: array.shape, loaded.params)
            assert found == jax.tree.map(lambda array: array.shape, shapes)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"{}" * 50, b"\x02" + b"\0" * 7 + b"{}"])
def test_a_file_of_something_else_is_refused(directory: Path, content: bytes) -> None:
    (directory / "model.safetensors").write_bytes(content)
    assert str(directory / "model.safetensors") in load_refusal(directory)


def test_a_directory_in_place_of_the_file_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").mkdir()
    assert f"{directory / 'model.safetensors'} is a folder" in load_refusal(directory)


# --- nothing but safetensors, and no code


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "tf_model.h5", "model.ckpt"],
)
def test_weights_that_can_run_code_are_refused_with_the_way_to_convert(
    directory: Path, name: str
) -> None:
    (directory / "model.safetensors").rename(directory / name)
    message = load_refusal(directory)
    assert f"{name} is not read: such a file can run code when it is opened" in message
    assert "save_pretrained" in message


def test_a_directory_without_weights_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    assert load_refusal(directory).endswith(
        "model.safetensors does not exist; weights are read only from safetensors"
    )


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sprung: Path):
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


WATCHED_LOAD = """
import sys
from pathlib import Path
import jax
import encodax
from encodax.models.encoder_model import Model

directory = Path(sys.argv[1])
jax.numpy.zeros(1).block_until_ready()
Model.load(sys.argv[2])  # another one: what libraries do once is done
seen = []

def hook(event, args):
    if event in ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "ctypes.dlopen"):
        seen.append((event, str(args)))
    elif event.startswith("socket."):
        seen.append((event, str(args)))
    elif event in ("exec", "compile", "import", "open", "marshal.loads"):
        file = getattr(args[0], "co_filename", args[0])
        named = [file, *args[1:2]] if event != "open" else [file]
        code = (".py", ".pyc", ".bin", ".pkl", ".pt", ".so")
        if any(str(directory) in str(name) or "modeling_evil" in str(name) for name in named):
            if event != "open" or str(file).endswith(code):
                seen.append((event, str(args)))

sys.addaudithook(hook)
model = Model.load(directory)
assert model.config.labels
assert not any("evil" in name for name in sys.modules)
print(seen)
"""


def test_a_directory_with_code_is_loaded_without_running_any(
    directory: Path, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    code = f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py", "setup.py"):
        (directory / name).write_text(code)
    (directory / "__init__.py").write_text(code)
    for name in ("pytorch_model.bin", "training_args.bin", "model.pkl"):
        (directory / name).write_bytes(pickle.dumps(Trap(sprung)))
    classes = {"AutoConfig": "configuration_evil.Config", "AutoModel": "modeling_evil.Model"}
    edit_json(directory / "config.json", lambda content: content.update(auto_map=classes))
    edit_json(
        directory / "tokenizer_config.json",
        lambda content: content.update(auto_map={"AutoTokenizer": ["tokenization_evil.T", None]}),
    )
    other = published(tmp_path / "other")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_LOAD, directory, other],
        capture_output=True,
        text=True,
        cwd=directory,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert not sprung.exists()
    pickle.loads((directory / "model.pkl").read_bytes())
    assert sprung.exists(), "the trap is none"


# --- config.json


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it is empty"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "must hold an object, not a list"),
        (b"7", "must hold an object, not a int"),
        (b"{}", "the key 'model_type' is missing"),
        (b"[" * 100_000, "is not JSON"),
    ],
    ids=["empty", "cut", "no text", "list", "number", "nothing", "deep"],
)
def test_a_configuration_that_is_none_is_refused(
    directory: Path, content: bytes, expected: str
) -> None:
    (directory / "config.json").write_bytes(content)
    message = load_refusal(directory)
    assert str(directory / "config.json") in message
    assert expected in message


def test_a_missing_configuration_is_refused(directory: Path) -> None:
    (directory / "config.json").unlink()
    assert "config.json does not exist: " in load_refusal(directory)


@pytest.mark.parametrize("model_type", ["gpt2", "", None, 7, ["bert"], {}])
def test_an_unknown_model_type_is_refused(directory: Path, model_type: object) -> None:
    edit_json(directory / "config.json", lambda content: content.update(model_type=model_type))
    message = load_refusal(directory)
    assert f"model_type {model_type!r} is not supported; supported: " in message
    assert all(name in message for name in families.ENCODERS.by_name)


def test_an_unknown_model_type_with_code_is_refused_and_says_that_none_is_run(
    directory: Path,
) -> None:
    extra = {"model_type": "evil", "auto_map": {"AutoModel": "modeling_evil.Model"}}
    edit_json(directory / "config.json", lambda content: content.update(extra))
    message = load_refusal(directory)
    assert "model_type 'evil' is not supported" in message
    assert re.search(r"code .*(not|never) run", message), message


def loads_or_refuses(directory: Path) -> None:
    try:
        model = Model.load(directory)
    except EncodaxError as error:
        message = str(error)
        assert message.isprintable(), repr(message)
        assert len(message) < 2_000
    else:
        assert len(model.config.labels) == 3
        assert model.config.head is not None and model.config.head.classes == 3
        found = jax.tree.map(np.shape, model.params)
        assert found == jax.tree.map(lambda array: array.shape, wanted()[1])


@pytest.mark.parametrize("key", CONFIG)
def test_a_configuration_without_a_key_loads_with_the_default_or_is_refused(
    directory: Path, key: str
) -> None:
    if key in ("architectures", "id2label"):
        pytest.skip("its default is another head: the next tests")
    edit_json(directory / "config.json", lambda content: content.pop(key))
    loads_or_refuses(directory)


def test_the_default_of_the_labels_is_two(directory: Path) -> None:
    edit_json(directory / "config.json", lambda content: content.pop("id2label"))
    assert "classifier.weight is F32 (3, 8), wanted F32, F16, BF16 (2, 8)" in load_refusal(
        directory
    )


def test_the_default_of_the_head_is_none(directory: Path) -> None:
    edit_json(directory / "config.json", lambda content: content.pop("architectures"))
    model = Model.load(directory)
    assert model.config.head is None
    assert "classifier.weight" in model.extra_tensors


WRONG = [None, -1, 0, 3, "x", "01", [], ["x"], {}, {"x": "y"}, 0.5, 1e9, 10**400, True, False]


UNREAD = (
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "tie_word_embeddings",  # there is nothing to tie in a classifier
    "transformers_version",
    "use_cache",
)


def test_a_wrong_value_of_what_is_not_read_makes_no_difference(directory: Path) -> None:
    for value in (None, -1, "x", []):
        wrong = dict.fromkeys(UNREAD, value)
        edit_json(directory / "config.json", lambda content, wrong=wrong: content.update(wrong))
        assert len(Model.load(directory).config.labels) == 3


@pytest.mark.parametrize("key", [key for key in CONFIG if key not in UNREAD])
def test_a_configuration_with_a_wrong_value_is_refused_unless_it_makes_no_difference(
    directory: Path, key: str
) -> None:
    # Null is the default of these two, and means another head, as none does.
    for value in WRONG[1:] if key in ("architectures", "id2label") else WRONG:
        if (key, value) == ("architectures", []):
            continue
        edit_json(directory / "config.json", lambda content, v=value: content.update({key: v}))
        loads_or_refuses(directory)


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_hidden_layers",
    "num_attention_heads",
)


@pytest.mark.parametrize("key", SIZES)
def test_sizes_that_no_machine_has_are_refused_before_anything_is_made(
    directory: Path, key: str
) -> None:
    edit_json(directory / "config.json", lambda content: content.update({key: 10**12}))
    message = load_refusal(directory)
    assert str(10**12) in message or "more problems" in message


def test_a_vocabulary_larger_than_the_embedding_is_refused(directory: Path) -> None:
    edit_json(directory / "config.json", lambda content: content.update(vocab_size=41))
    assert "word_embeddings.weight is F32 (40, 8), wanted F32, F16, BF16 (41, 8)" in load_refusal(
        directory
    )


# --- the tokenizer


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(directory: Path) -> None:
    texts = ["abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    Tokenizer.train(texts, vocabulary_size=50).save(directory)
    message = load_refusal(directory)
    assert re.search(r"the tokenizer has \d+ tokens and the embedding 40 rows", message)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"model": 7}', b"\xff" * 9])
def test_a_broken_tokenizer_is_refused(directory: Path, content: bytes) -> None:
    (directory / "tokenizer.json").write_bytes(content)
    assert str(directory / "tokenizer.json") in load_refusal(directory)


def test_a_missing_tokenizer_is_refused(directory: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    assert "tokenizer.json does not exist" in load_refusal(directory)


def test_the_small_tokenizer_pads_with_zero() -> None:
    assert small_tokenizer().pad_id == 0


# --- files that are something else


def test_a_pointer_of_git_lfs_is_named_with_the_way_to_fetch_the_file(directory: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 17\n"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        whole = (directory / name).read_bytes()
        (directory / name).write_bytes(pointer)
        message = load_refusal(directory)
        assert message.startswith(f"{directory / name} cannot be read: it is a pointer of git-lfs")
        assert message.endswith(f"git -C {directory} lfs pull")
        (directory / name).write_bytes(whole)


def test_a_file_that_would_fill_the_memory_is_refused_by_its_size(directory: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        whole = (directory / name).read_bytes()
        os.truncate(directory / name, 10 << 30)  # sparse: it takes no room
        message = f"{directory / name} cannot be read: it has 10,737,418,240 bytes, and no such"
        assert load_refusal(directory).startswith(message)
        (directory / name).write_bytes(whole)


def test_a_page_of_the_web_and_an_empty_file_are_named(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(b"<!DOCTYPE html>\n<title>404</title>")
    assert "it is a web page (HTML)" in load_refusal(directory)
    path.write_bytes(b"")
    assert "it is empty; fetch it again" in load_refusal(directory)
    path.write_bytes(FILE[: len(FILE) // 2])
    assert "it may be incomplete: fetch it again" in load_refusal(directory)


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "modules.json", "head.json", "adapter_config.json", "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json", "model.safetensors",
    ],
)  # fmt: skip
@pytest.mark.parametrize("what", ["link", "folder", "pipe", "loop"])
def test_what_stands_where_a_file_is_expected_does_not_count_as_missing(
    directory: Path, name: str, what: str
) -> None:
    path = directory / name
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if what == "loop" else directory / "nothing")
    message = load_refusal(directory)
    assert str(path) in message
    assert re.search("is a link to nothing|is a folder|not a regular file|cannot be read", message)


def test_what_cannot_be_looked_up_does_not_count_as_missing(tmp_path: Path) -> None:
    """As in a folder without permission; here of a name that is longer than any may be."""
    message = refusal(lambda: json_files.is_there(tmp_path / ("x" * 300) / "config.json"))
    assert message.endswith("cannot be read: File name too long")
    assert not json_files.is_there(tmp_path / "x" / "config.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="whoever may read all reads this, too")
def test_a_folder_without_permission_is_named(directory: Path) -> None:
    directory.chmod(0)
    try:
        assert load_refusal(directory).endswith("config.json cannot be read: Permission denied")
    finally:
        directory.chmod(0o755)


# --- sizes


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("num_hidden_layers", 512, "num_hidden_layers = 512, and the weights have 2"),
        ("vocab_size", 10**9, r"word_embeddings.weight is F32 \(40, 8\), .* \(1000000000, 8\)"),
        ("max_position_embeddings", 10**9, r"position_embeddings.weight .* \(1000000000, 8\)"),
        ("intermediate_size", 10**9, r"intermediate.dense.weight .* \(1000000000, 8\)"),
        ("type_vocab_size", 10**9, r"token_type_embeddings.weight .* \(1000000000, 8\)"),
    ],
)
def test_a_size_beyond_the_weights_is_refused_before_anything_is_made(
    directory: Path, key: str, value: int, named: str
) -> None:
    edit_json(directory / "config.json", lambda content: content.update({key: value}))
    places: list[str] = []
    config = families.ENCODERS.by_name["bert"].read_config(
        json.loads((directory / "config.json").read_text())
    )

    def shapes_of(config: Any) -> Any:
        places.append("traced")
        return parameter_shapes(config)

    message = refusal(lambda: saved_model.read(directory, shapes_of))
    assert re.search(named, message), message
    assert not places, "the model was traced"
    assert config.encoder.layers


# --- labels


@pytest.mark.parametrize(
    ("labels", "numbers", "named"),
    [
        ({"0": "a", "1": "b", "2": "a"}, None, "id2label names two classes 'a', 0 and 2"),
        ({"0": "a", "1": None, "2": "c"}, None, "id2label names the class 1 null"),
        ({"0": "a", "1": 7, "2": "c"}, None, "id2label names the class 1 7"),
        ({"0": "a", "1": "", "2": "c"}, None, 'id2label names the class 1 ""'),
        ({"0": "a", "1": "b", "x": "c"}, None, "id2label numbers its labels 0, 1, x"),
        ({"0": "a", "1": "b"}, {"a": 1, "b": 0}, "label2id numbers 'a' 1, and id2label 0"),
        (["a", "b"], None, "id2label must be an object"),
        ({"0": "a", "1": "b"}, {"c": 0}, "label2id numbers 'c' 0, and id2label has no such name"),
    ],
    ids=str,
)
def test_labels_that_are_none_are_refused_by_name(
    directory: Path, labels: Any, numbers: Any, named: str
) -> None:
    changes = {"id2label": labels, "label2id": numbers}
    edit_json(directory / "config.json", lambda content: content.update(changes))
    message = load_refusal(directory)
    assert message.startswith(f"{directory / 'config.json'}: "), message
    assert named in message


def test_numbered_names_left_in_label2id_are_a_default(directory: Path) -> None:
    changes = {"label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}}
    edit_json(directory / "config.json", lambda content: content.update(changes))
    assert Model.load(directory).labels == ("negative", "neutral", "positive")


# --- architectures


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (["SentimentModel"], "the architecture 'SentimentModel' is not supported"),
        (["BertForSequenceClassification", "BertForMaskedLM"], "are more than one kind of model"),
        ([["BertModel"]], "must be a list of class names"),
        ("BertModel", "must be a list of class names"),
    ],
    ids=str,
)
def test_another_head_is_named_and_its_encoder_is_read(
    directory: Path, named: Any, expected: str
) -> None:
    whole = Model.load(directory)
    edit_json(directory / "config.json", lambda content: content.update(architectures=named))
    message = load_refusal(directory)
    assert expected in message
    bare = encodax.load(directory, encoder_only=True)  # the way out that is named
    assert bare.config.head is None
    assert bare.config.encoder == whole.config.encoder
    found = encodax.Embedder.load(directory).encode(["the cat sat"])
    np.testing.assert_array_equal(found, encodax.Embedder(whole).encode(["the cat sat"]))


def test_two_names_of_one_kind_are_one(directory: Path) -> None:
    both = ["BertForSequenceClassification"] * 2
    edit_json(directory / "config.json", lambda content: content.update(architectures=both))
    assert Model.load(directory).labels == ("negative", "neutral", "positive")


# --- the tokenizer's padding


def with_padding(directory: Path, number: int) -> Path:
    edit_json(directory / "config.json", lambda content: content.update(pad_token_id=number))
    return directory


def test_which_id_pads_makes_no_difference_to_bert(tmp_path: Path) -> None:
    """As multilingual E5: a BERT with the tokenizer of XLM-R."""
    first = published(tmp_path / "first")
    other = with_padding(published(tmp_path / "other"), 1)
    vectors = [
        encodax.Embedder.load(each).encode(["the cat sat", "a dog"]) for each in (first, other)
    ]
    np.testing.assert_array_equal(*vectors)


def test_another_padding_is_refused_where_positions_follow_it(tmp_path: Path) -> None:
    directory = published(tmp_path / "model", "roberta/encoder")
    message = load_refusal(directory)  # RoBERTa pads with 1, this tokenizer with 0
    assert (
        "the tokenizer pads with id 0, and the model counts positions by the padding 1" in message
    )


def test_an_added_token_without_a_row_is_refused_in_the_text_that_holds_it(directory: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    backend.add_tokens([f"<extra{index}>" for index in range(40)])
    backend.save(str(directory / "tokenizer.json"))
    embedder = encodax.Embedder.load(directory)
    assert embedder.encode(["the cat sat"]).shape == (1, 8)
    message = refusal(lambda: embedder.encode(["the cat", "the <extra39>"]))
    assert message == "text 1: the model has no row for the token '<extra39>'"


# --- keys that change nothing


def test_keys_that_change_nothing_are_saved_back(directory: Path, tmp_path: Path) -> None:
    kept = {"finetuning_task": "mrpc", "my_own": {"deep": [1, None]}, "pooler_fc_size": 768}
    edit_json(directory / "config.json", lambda content: content.update(kept))
    model = Model.load(directory)
    trained_on = model.with_head("token", labels=["a", "b"])
    for name, each in (("same", model), ("other", trained_on)):
        each.save(tmp_path / name)
        again = json.loads((tmp_path / name / "config.json").read_text())
        assert {key: again[key] for key in kept} == kept
        assert Model.load(tmp_path / name).files["config.json"].kept.keys() >= kept.keys()


# --- what the tokenizers library raises


def spoilt_tokenizer(directory: Path, change: Any) -> Path:
    edit_json(directory / "tokenizer.json", change)
    edit_json(
        directory / "tokenizer_config.json",
        lambda content: content.update(tokenizer_class="PreTrainedTokenizerFast"),
    )
    return directory


def catastrophic(content: dict[str, Any]) -> None:
    pattern = {"Regex": "(a+)+$"}
    content["pre_tokenizer"] = {
        "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


def without_unknown(content: dict[str, Any]) -> None:
    content["model"]["unk_token"] = "nowhere"


def with_an_id(content: dict[str, Any]) -> None:
    content["model"]["vocab"]["cat"] = 2**31


def with_a_charsmap(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "/////w=="}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_an_id, r"the id of 'cat' is 2147483648, not in 0\.\.2147483647"),
        (with_a_charsmap, "no tokenizer can be made from its files|cannot be read as a tokenizer"),
        (lambda content: content["model"].update(vocab=[["a", "b"]]), "cannot be read"),
        (lambda content: content.update(normalizer={"type": "nowhere"}), "cannot be read"),
    ],
)
def test_what_no_tokenizer_can_be_made_of_is_refused(
    directory: Path, change: Any, message: str
) -> None:
    assert re.search(message, load_refusal(spoilt_tokenizer(directory, change)))


@pytest.mark.parametrize(
    ("change", "text"), [(catastrophic, "a" * 40 + "!"), (without_unknown, "zebra")]
)
def test_a_text_at_which_the_tokenizer_fails_is_named_and_those_before_are_answered(
    directory: Path, change: Any, text: str
) -> None:
    classifier = encodax.Classifier.load(spoilt_tokenizer(directory, change))
    found = classifier.stream(["the cat", "a dog", text, "the cat"])
    assert len([next(found), next(found)]) == 2
    message = refusal(lambda: next(found))
    assert message.startswith("text 2: the tokenizer fails: ")


# --- what is given in place of a model


def test_what_stands_in_place_of_a_model_is_told_with_the_way_out(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path = place / "config.json"
    assert load_refusal(place) == f"{path} does not exist: {place} is empty"
    (place / "notes.txt").touch()
    assert load_refusal(place) == f"{path} does not exist: is {place} a model directory?"
    small_tokenizer().save(place)
    assert load_refusal(place).endswith("holds only a tokenizer, and no model")
    (place / "model.Q4_K_M.gguf").touch()
    message = load_refusal(place)
    assert "model.Q4_K_M.gguf is made from a model for other programs: fetch the model" in message
    inside = published(place / "snapshots" / "main")
    assert load_refusal(place).endswith(f"give the model directory in it: {inside}")
    (place / "20" / "record").mkdir(parents=True)
    for checkpoint in (place, place / "20"):
        assert "these are checkpoints of a training run; give the model" in load_refusal(checkpoint)


def test_weights_for_other_programs_are_named(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "model.onnx")
    message = load_refusal(directory)
    assert "model.onnx is made from a model for other programs: fetch the model that" in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_of_a_model_is_answered_with_its_directory(directory: Path, name: str) -> None:
    assert load_refusal(directory / name).endswith(f"is a file: give its directory, {directory}")


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [("t5", "T5EncoderModel"), ("bart", "BartForSequenceClassification")],
)
def test_a_part_of_a_sequence_to_sequence_model_is_not_sent_to_translate(
    tmp_path: Path, model_type: str, architecture: str
) -> None:
    content = {"model_type": model_type, "architectures": [architecture]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    for load in (Model.load, encodax.Seq2SeqModel.load):
        message = refusal(functools.partial(load, tmp_path))
        assert message.startswith(f"{tmp_path / 'config.json'}: the architecture '{architecture}'")
        assert "choose a model of: bert, " in message and "encodax translate" not in message


def test_a_tokenizer_without_a_vocabulary_is_named(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    message = load_refusal(directory)
    assert "ByT5Tokenizer has no vocabulary, but reads bytes, which is not supported" in message


# --- files of our own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head: head.pop("kind"), r"head\.json: kind is missing"),
        (lambda head: head.update(classes="2"), r'head\.json: classes = "2" is not a whole number'),
        (lambda head: head.update(classes=-2), r"head\.json: no head can be made from it: "),
        (
            lambda head: head.update(activation="x"),
            r"head\.json: no head can be made from it: activa",
        ),
        (
            lambda head: head.update(norm={"eps": None}),
            r"head\.json: norm\.eps = null is not a fin",
        ),
        (lambda head: head.update(a=1), r"head\.json: a is not known; remove it"),
    ],
)
def test_a_head_of_our_own_is_refused_by_key(
    tmp_path: Path, directory: Path, change: Any, message: str
) -> None:
    head = {
        "kind": "sequence", "classes": 2, "pooling": "mean", "dense_width": 4,
        "id2label": {"0": "no", "1": "yes"},
    }  # fmt: skip
    change(head)
    (directory / "head.json").write_text(json.dumps(head))
    assert re.search(message, load_refusal(directory))
