"""Fuzzing with thousands of damaged files: each is read, or refused in one line.

    python tests/fuzz.py FIRST LAST [TARGET ...]

makes and reads the cases with these numbers, and writes lines of JSON that say what went wrong. A
case depends on its number only. `run` does so in separate processes, and detects those that hang.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

TESTS = Path(__file__).parent
PARITY = TESTS / "parity"
LONGEST_LINE = 3_000
"""Characters of a message, at most."""

# --- what is read


@dataclasses.dataclass(frozen=True)
class Target:
    """Files that are damaged, one at a time, and what reads them."""

    make: Callable[[Path], object]
    """Writes them, whole, into a folder."""
    read: Callable[[Path], object]
    names: tuple[str, ...]
    """Patterns of those that are damaged."""
    share: int
    """How many cases of a thousand, nearly: less of what takes long."""


def _published(golden: str) -> Callable[[Path], object]:
    def make(place: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(PARITY / "goldens" / golden / name, place / name)
        _tokenizer("wordpiece").save(place)
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**config, "pad_token_id": 0}))

    return make


def _tokenizer(kind: Any, **options: Any) -> Any:
    from encodax.text.tokenizer import Tokenizer

    return Tokenizer.train(("the cat sat", "a dog ran"), kind, vocabulary_size=40, **options)


def _model(place: Path) -> None:
    from encodax.models.encoder_model import Model

    Model.load(place)


def _cut_weights(place: Path) -> None:
    """The weights of a model alone."""
    from encodax.families import bert
    from encodax.model_files import weights

    config, shapes = _wanted(place)
    weights.load(place, shapes, bert.FAMILY, config)


@functools.cache
def _wanted(place: Path) -> tuple[Any, Any]:
    from encodax.families import bert
    from encodax.models.forward import parameter_shapes

    config = bert.FAMILY.read_config(json.loads((place / "config.json").read_text()))
    return config, parameter_shapes(config)


def _in_parts(place: Path) -> None:
    """A model whose weights are two files and an index."""
    import safetensors.numpy

    _published("bert/sequence")(place)
    tensors = safetensors.numpy.load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    parts = {
        name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(tensors)
    }
    for file in set(parts.values()):
        own = {name: tensors[name] for name in tensors if parts[name] == file}
        safetensors.numpy.save_file(own, place / file)
    index = {"metadata": {}, "weight_map": parts}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def _own_model(place: Path) -> None:
    """A model whose configuration, or head, only Encodax knows."""
    from dataclasses import replace

    import jax

    from encodax.config import HeadConfig, NormConfig
    from encodax.models.encoder_model import Model
    from encodax.models.forward import initial_params

    _published("bert/encoder")(place)
    model = replace(Model.load(place), extra_tensors={}, files={})
    head = HeadConfig(
        "sequence", 3, "weighted_mean", dense_width=4, norm=NormConfig(), problem="multi_label"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model.with_head("sequence", labels=("a", "b", "c"))
        config = replace(model.config, head=head)
        fresh = initial_params(config, jax.random.key(0))
        params = {**model.params, **{p: v for p, v in fresh.items() if p.startswith("head")}}
        own = replace(model, config=config, params=params)
        own.save(place / "own-head")
        gated = replace(
            config.encoder,
            layers=tuple(
                replace(layer, feed_forward=replace(layer.feed_forward, activation="mish"))
                for layer in config.encoder.layers
            ),
            final_norm=NormConfig(),
        )
        config = replace(config, encoder=gated)
        replace(own, config=config, params=initial_params(config, jax.random.key(0))).save(
            place / "native"
        )


def _own_models(place: Path) -> None:
    _model(place / "own-head")
    _model(place / "native")


SENTENCES = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
        {
            "idx": 2,
            "name": "2",
            "path": "2_Normalize",
            "type": "sentence_transformers.models.Normalize",
        },
    ],
    "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
    "config_sentence_transformers.json": {
        "__version__": {"sentence_transformers": "3.0.0"},
        "prompts": {"query": "query: ", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
        "truncate_dim": 4,
    },
    "1_Pooling/config.json": {
        "word_embedding_dimension": 8,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
        "include_prompt": True,
    },
}


def _sentences(place: Path) -> None:
    _published("bert/encoder")(place)
    for name, content in SENTENCES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(json.dumps(content))


def _seq2seq(golden: str) -> Callable[[Path], object]:
    def make(place: Path) -> None:
        shutil.copytree(PARITY / "goldens-seq2seq" / golden, place, dirs_exist_ok=True)
        if not any((place / name).exists() for name in ("tokenizer.json", "source.spm")):
            _tokenizer("wordpiece").save(place)
        if not (place / "generation_config.json").exists():
            content = {
                "num_beams": 4, "max_length": 16, "length_penalty": 1.0, "early_stopping": True,
                "decoder_start_token_id": 2, "forced_eos_token_id": 2, "suppress_tokens": [3],
            }  # fmt: skip
            (place / "generation_config.json").write_text(json.dumps(content))

    return make


def _translator(place: Path) -> None:
    from encodax.models.seq2seq_model import Seq2SeqModel

    Seq2SeqModel.load(place)


def _adapter(place: Path) -> None:
    import jax

    from encodax.models.encoder_model import Model
    from encodax.training.step.lora import LoraConfig, save_adapter
    from encodax.training.step.partition import trainable

    base = place / "base"
    base.mkdir()
    _published("bert/encoder")(base)
    model = Model.load(base).with_head("sequence", labels=("no", "perhaps", "yes"))
    lora = LoraConfig(rank=2, alpha=4.0)
    trained, _ = trainable(model.params, key=jax.random.key(0), lora=lora)
    save_adapter(place / "adapter", model, trained, lora, str(base))


def _adapted(place: Path) -> None:
    _model(place / "adapter")


def _tokenizers(place: Path) -> None:
    """Directories of each kind of tokenizer."""
    for kind in ("wordpiece", "bpe", "char"):
        (place / kind).mkdir()
        _tokenizer(kind).save(place / kind)
    from tokenizer_directories import goldens, write

    for name, files in goldens()["bases"].items():
        write(place / f"base-{name}", files)


def _tokenize(place: Path) -> None:
    """Read the tokenizer whose file has been touched last, and use it."""
    from encodax.text.tokenizer import Tokenizer

    directory = max(
        (path for path in place.iterdir() if path.is_dir()),
        key=lambda folder: max(file.stat().st_mtime_ns for file in folder.iterdir()),
    )
    tokenizer = Tokenizer.load(directory)
    texts = [
        "the cat sat, don't!",
        " a\u0301 \u2581ran 12 \U0001f600 of",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
    ]
    for encoding, text in zip(tokenizer.encode(texts), texts, strict=True):
        encoding.words(text)
        tokenizer.decode(encoding.token_ids)
    len(tokenizer.ordinary_ids), tokenizer.least_rows, tokenizer.eos_id, tokenizer.pad_id


def _sentencepieces(place: Path) -> None:
    for family in ("marian", "t5"):
        shutil.copytree(PARITY / "goldens-seq2seq" / "tokenizers" / family, place / family)
        (place / family / "texts.json").unlink()


RECORDS = [
    {"text": "a good film", "label": "yes", "score": 1.5, "labels": ["x", "y"]},
    {"text": "a bad, \u201cdull\u201d film", "label": "no", "score": -2, "labels": []},
    {"tokens": ["Ann", "met", "Bo"], "tags": ["B-PER", "O", "B-PER"], "text": "Ann met Bo"},
    {"text": "on Friday", "spans": [{"start": 3, "end": 9, "label": "day"}]},
    {"question": "when?", "context": "on Friday", "answers": [{"text": "Friday", "start": 3}]},
    {"anchor": "a", "positive": "b", "negatives": ["c", "d"], "source": "s", "target": "t"},
]
TABLE = 'text,label,score\na good film,yes,1.5\n"a bad, ""dull"" film",no,-2\n\u00e9\u00e8,no,0\n'


def _data(place: Path) -> None:
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
    contents = {
        "a.jsonl": lines,
        "a.csv": TABLE,
        "b.csv": TABLE.replace(",", ";"),
        "a.tsv": TABLE.replace(",", "\t"),
        "a.txt": "a good film\n\na bad film\n\u00e9\u00e8\n",
    }
    for name, content in contents.items():
        (place / name).write_text(content, encoding="utf-8")
    (place / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (place / "b.txt").write_bytes(TABLE.encode("utf-16"))
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "text": ["a good film", "a bad film", None, "x" * 50],
            "label": ["yes", "no", "no", "yes"],
            "score": [1.5, -2.0, None, 0.0],
            "labels": [["x"], [], None, ["x", "y"]],
        }
    )
    pq.write_table(table, place / "a.parquet", row_group_size=2)


def _records(place: Path) -> None:
    """Read the file that has been touched last, in order and by number, for every task."""
    from encodax.data import sources
    from encodax.data.records import open_records
    from encodax.errors import EncodaxError
    from encodax.tasks import TASKS

    path = max(place.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    found = list(sources.read(path))
    held = open_records(path)
    same = [held[number] for number in range(len(held))]
    assert [one.where for one in found] == [one.where for one in same]
    for task in TASKS.values():
        for record in found:
            try:
                task.parse(record, labelled=True)
            except EncodaxError as error:
                check_message(error)


def _run(place: Path) -> None:
    facts = {
        "task": "classification", "metric": "accuracy", "larger_is_better": True, "steps": 4,
        "choices": {"seed": 0, "learning_rate": 1e-3}, "batch": {"rows": 2, "tokens of a row": 64},
        "model": {"layers": 2, "width": 8, "vocabulary": 40, "parameters": 100},
        "surroundings": {"devices": "1 x cpu"}, "versions": {"Python": "3"},
    }  # fmt: skip
    step = {
        "loss": 1.0, "learning_rate": 1e-3, "tokens_per_second": 9.0, "padding": 0.1,
        "gradient_norm": 1.0, "seconds": 1.0, "waiting": 0.0, "skipped": 0,
    }  # fmt: skip
    lines: list[dict[str, Any]] = [{"step": n, **step, "loss": 1 / n} for n in (1, 2, 3)]
    lines.append({"step": 3, "eval_accuracy": 0.5, "eval_loss": 1.0})
    (place / "run.json").write_text(json.dumps(facts))
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _report(place: Path) -> None:
    from encodax.pages.run_report import write_report

    write_report(place)


def _checkpoint(place: Path) -> None:
    checkpoints, state = _checkpoints(place)
    checkpoints.save(state, {"step": 4, "best": {"metrics": {"f1": 0.5}}})
    checkpoints.finish()
    checkpoints.abandon()


def _checkpoints(place: Path) -> Any:
    import jax
    import jax.numpy as jnp

    from encodax.training.loop.checkpoint import Checkpoints
    from encodax.training.step.step import TrainState

    state = TrainState(
        {"a": {"w": jnp.arange(6.0)}}, {"m": jnp.ones(6)}, jnp.asarray(4), jax.random.key(0)
    )
    return Checkpoints(place / "checkpoints"), state


def _restore(place: Path) -> None:
    checkpoints, state = _checkpoints(place)
    try:
        checkpoints.restore(state)
    finally:
        checkpoints.abandon()


JSON = ("*.json",)
GOLDEN = ("albert/token", "bert/span", "deberta-v2/vocabulary", "deberta-v3/sequence",
          "distilbert/sequence", "electra/token", "esm/token", "modernbert/sequence",
          "nomic_bert/token", "roberta/sequence", "xlm-roberta/token")  # fmt: skip
TARGETS: dict[str, Target] = {
    "weights": Target(_published("bert/sequence"), _cut_weights, ("model.safetensors",), 240),
    "index": Target(_in_parts, _model, ("model.safetensors.index.json",), 5),
    "data": Target(_data, _records, ("*",), 300),
    "bert": Target(_published("bert/sequence"), _model, ("config.json",), 10),
    **{name: Target(_published(name), _model, ("config.json",), 2) for name in GOLDEN},
    "own": Target(_own_model, _own_models, ("*/config.json", "*/head.*"), 30),
    "sentences": Target(_sentences, _model, (*SENTENCES, "tokenizer_config.json"), 20),
    **{
        name: Target(_seq2seq(name), _translator, ("config.json", "generation_config.json"), 2)
        for name in ("bart", "marian", "t5", "mbart", "pegasus")
    },
    "adapter": Target(_adapter, _adapted, ("adapter/adapter*", "adapter/adapted*"), 15),
    "tokenizer": Target(_tokenizers, _tokenize, ("*/*.json", "*/*.txt"), 230),
    "sentencepiece": Target(_sentencepieces, _tokenize, ("*/*",), 90),
    "run": Target(_run, _report, ("run.json", "metrics.jsonl"), 2),
    "checkpoint": Target(_checkpoint, _restore, ("checkpoints/**/*",), 8),
}
"""What is read, by its name."""

# --- how it is damaged

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, 2**31, 2**31 - 1, 2**63, -(2**63), 10**30,
    float("nan"), float("inf"), "", "x", "0", "-1", "1e9", "null", "\x00", "\x1b[31m", "[/b]",
    "\ud800", "\u202e", "$\\frac", "<script>", "a\nb", "x" * 5000, "(a+)+$", "(", "../..", "/", [],
    {}, [None], [[]], {"": ""}, [0] * 300, {"a": {"b": {}}}, ["x", "x"], [-1], "relu", "mean",
]  # fmt: skip
BYTES = [
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"\r", b'"', b"'", b",", b";",
    b"\t", b"{", b"}", b"[", b"]", b":", b"\\", b"\\u0000", b"\\ud800", b"9" * 400, b"-", b"1e999",
    b"NaN", b"\x1f\x8b", b"PAR1", b"\xe2\x80\xa8", b"\x1b[31m", b" " * 50, b"null", b"\x80" * 9,
]  # fmt: skip


def damaged(content: bytes, chance: random.Random, *, is_json: bool) -> bytes:
    """The same with one to five things changed: keys and values of JSON, or bytes."""
    lines = content.splitlines(keepends=True)
    if is_json and len(lines) > 1 and not content.startswith((b"{\n", b"[\n")):  # JSON Lines
        at = chance.randrange(len(lines))
        lines[at] = damaged(lines[at].rstrip(), chance, is_json=True) + b"\n"
        return b"".join(lines)
    if is_json and chance.random() < 0.8:
        try:
            tree = json.loads(content)
        except ValueError:
            tree = None
        if tree is not None:
            for _ in range(chance.choice([1, 1, 1, 2, 3])):
                tree = _damaged_tree(tree, chance)
            return json.dumps(tree).encode()
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        _damage_bytes(found, chance)
    return bytes(found)


def _damaged_tree(tree: Any, chance: random.Random) -> Any:
    places = list(_places(tree))
    if not places:
        return chance.choice(VALUES)
    holder, key = chance.choice(places)
    value = holder[key]
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice([f"{key}x", "", "\x1b", "type", "id", key.upper()])] = holder.pop(
                key
            )
        case 2 if isinstance(value, list) and value:
            value.append(copy.deepcopy(chance.choice(value)))
        case 3 if isinstance(value, int | float):
            holder[key] = chance.choice([-value, value + 1, value * 1000, str(value), [value]])
        case 4:
            holder[key] = chance.choice([[value], {"x": value}, json.dumps(value)])
        case _:
            holder[key] = copy.deepcopy(chance.choice(VALUES))
    return tree


def _places(tree: Any, most: int = 400) -> Iterator[tuple[Any, Any]]:
    """Every key and number of every object and list, outer ones first."""
    rest = [tree] if isinstance(tree, dict | list) else []
    for holder in rest:
        if len(rest) > most:
            return
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                rest.append(holder[key])


def _damage_bytes(found: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(found) + 1)
    if chance.random() < 0.3:  # headers stand at the beginning
        at = min(at, chance.randrange(64))
    end = min(len(found), at + chance.choice([1, 1, 2, 4, 8, 64]))
    match chance.randrange(6):
        case 0:
            found[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
        case 1:
            found[at:at] = chance.choice(BYTES)
        case 2:
            del found[at:end]
        case 3 if at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        case 4 if chance.random() < 0.3:
            del found[at:]
        case _:
            found[at:at] = found[end : end + chance.choice([1, 8, 64, 500])]


# --- the cases


def case_of(number: int, wanted: tuple[str, ...] = ()) -> tuple[str, random.Random]:
    """What is read in the case of a number, and its random numbers."""
    chance = random.Random(number)
    names = wanted or tuple(TARGETS)
    shares = [TARGETS[name].share for name in names]
    return chance.choices(names, shares)[0], chance


class Cases:
    """Folders of whole files, each made when it is first wanted."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, list[tuple[Path, bytes]]] = {}

    def run(self, number: int, wanted: tuple[str, ...] = ()) -> str | None:
        """What went wrong in a case; None where the file was read, or refused in one line."""
        name, chance = case_of(number, wanted)
        target, place = TARGETS[name], self._folder / name.replace("/", "-")
        if name not in self._files:
            place.mkdir(parents=True)
            target.make(place)
            found = {p for pattern in target.names for p in place.glob(pattern) if p.is_file()}
            self._files[name] = [(path, path.read_bytes()) for path in sorted(found)]
            target.read(place)  # as it is, it is read
        path, content = chance.choice(self._files[name])
        is_json = path.suffix in (".json", ".jsonl") or "checkpoints" in path.parts
        path.write_bytes(damaged(content, chance, is_json=is_json))
        try:
            return _trouble(target, place, path)
        finally:
            path.write_bytes(content)


def _trouble(target: Target, place: Path, path: Path) -> str | None:
    from encodax.errors import EncodaxError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(place)
    except EncodaxError as error:
        return check_message(error, raises=False)
    except BaseException as error:  # a panic of Rust is no Exception
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "encodax" in f.filename]
        at = own[-1] if own else where
        told = f"{type(error).__name__}: {error!s:.200}"
        return f"{path.name}: {told} ({Path(at.filename).name}:{at.lineno})"
    return None


def check_message(error: Exception, *, raises: bool = True) -> str | None:
    """Whether a message is one line."""
    from encodax.errors import escape_invisible

    message = str(error)
    wrong = None
    if message != escape_invisible(message):
        wrong = f"not one line: {message[:300]!r}"
    elif not 0 < len(message) < LONGEST_LINE:
        wrong = f"{len(message)} characters: {message[:300]}"
    if wrong and raises:
        raise AssertionError(wrong)
    return wrong


def main() -> None:
    """Run cases, and tell of each, as JSON Lines."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    first, last, *wanted = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # where a panic of Rust is told, too
        os.dup2(nothing, stream)
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(Path(folder))
        for number in range(int(first), int(last)):
            print(json.dumps({"begins": number}), file=answers, flush=True)
            trouble = cases.run(number, tuple(wanted))
            ended = {"ended": number, "trouble": trouble, "mebibytes": peak_mebibytes()}
            print(json.dumps(ended), file=answers, flush=True)


def peak_mebibytes() -> int:
    """Most memory of this process, as Linux has it: `getrusage` begins at that of the parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) >> 10


@dataclasses.dataclass
class Found:
    """What some cases have shown."""

    done: int = 0
    mebibytes: int = 0
    """Most memory of a process."""
    troubles: dict[int, str] = dataclasses.field(default_factory=dict)


def run(first: int, last: int, wanted: tuple[str, ...] = (), *, seconds: float = 180) -> Found:
    """Run the cases of these numbers in a process, and in a new one after each that ends it.

    Args:
        first: number of a case.
        last: number after the last one.
        wanted: names of targets; none for all.
        seconds: that a case may take; the first of a process imports the libraries, too.
    """
    found = Found()
    while first < last:
        process = subprocess.Popen(
            [sys.executable, __file__, str(first), str(last), *wanted],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: SimpleQueue[str] = SimpleQueue()
        reader = threading.Thread(target=_forward, args=(process.stdout, lines))
        reader.start()
        try:
            first = _followed(lines, first, last, seconds, found)
        finally:
            process.kill()
            process.wait()
            reader.join()
            assert process.stdout is not None
            process.stdout.close()
    return found


def _forward(stream: Any, lines: SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _followed(lines: SimpleQueue[str], first: int, last: int, seconds: float, found: Found) -> int:
    """Note what a process tells, and give the number of the case to go on with."""
    number = first
    while number < last:
        try:
            line = lines.get(timeout=seconds)
        except Empty:
            found.troubles[number] = f"hangs ({case_of(number)[0]})"
            return number + 1
        if not line:
            found.troubles[number] = f"ends the process ({case_of(number)[0]})"
            return number + 1
        told = json.loads(line)
        if "ended" in told:
            number = told["ended"] + 1
            found.done += 1
            found.mebibytes = max(found.mebibytes, told["mebibytes"])
            if told["trouble"]:
                found.troubles[told["ended"]] = told["trouble"]
    return number


if __name__ == "__main__":
    main()
