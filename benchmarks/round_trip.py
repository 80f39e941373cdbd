"""Models written here, read by transformers, written there, and read here again.

    python benchmarks/round_trip.py --reference PYTHON [--families bert esm] [--markdown]
    python benchmarks/round_trip.py --goldens [--markdown]

Run it with the project's Python. PYTHON is that of an environment made of
`benchmarks/requirements.txt`. For every family and head a small random model is made and saved
here, and loaded again: its parameters must be the same bits. The reference loads the directory,
with no tensor missing or left over, and runs some texts and pairs as one padded batch; token ids
must be the same, and hidden states and answers agree with ours on packed rows. Then the reference
saves the model, it is loaded here, and compared likewise. A second table does the same with each
kind of embedder through sentence-transformers.

A cell is the largest |a - b| / max(1, |b|) of all this. The exit code is 1 where one is above 1e-5
or something else went wrong. `--goldens` measures `tests/parity/goldens` instead, without PYTHON.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from rich.console import Console
from rich.table import Table
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from encodax import EncodaxError, families
from encodax.config import HeadConfig, ModelConfig
from encodax.data import packing
from encodax.families import native
from encodax.model_files import weights
from encodax.models.encoder_model import Model, initial_params
from encodax.text.tokenizer import Encoding, Text, Tokenizer
from encodax.types.batches import ModelOutput, PackedBatch, Params

TOLERANCE = 1e-5
GOLDENS = Path(__file__).resolve().parent.parent / "tests" / "parity" / "goldens"
HIDDEN = frozenset({"hidden"})
ROW_TOKENS, SLOTS = 96, 8
DENSE_WIDTH = 24
SPREAD = 0.15
"""Standard deviation of the weights, near 1 / sqrt(D): wider ones magnify rounding."""

HEADS = ("encoder", "vocabulary", "sequence", "token", "span")
COLUMNS = (*HEADS, "embedder")
POOLINGS = ("cls", "mean", "max", "weighted_mean", "last")
LABELS = {"sequence": ("negative", "neutral", "positive"), "token": ("O", "B-X", "I-X", "B-Y")}

LONG = "In the old town there was a small shop, and in the shop there was a cat that sat all day."
TEXTS = [
    "The cat sat on the mat.",
    "No",
    "Where is the café of Zoë? 東京 ☃",
    LONG,
    "A {} sat on a {}.",
]
PAIRS = [("Where is the cat?", "On the mat."), ("No", "The small cat sat in the old town all day.")]
PROTEINS = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAE", "A", "MKJV", "M{}T{}YIA"]
PROTEIN_PAIRS = [("MKTAY", "IAKQRQ"), ("G", "SRVGDGTQDNLSGAEK")]
RESIDUES = (
    "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
)

Values = dict[str, Any]


# Tokenizers, each of the kind that the classes of its families read.


def wordpiece() -> Tokenizer:
    """As Encodax trains it."""
    return Tokenizer.train(corpus(), "wordpiece", vocabulary_size=200, lowercase=True)


def characters() -> Tokenizer:
    """One token a character."""
    return Tokenizer.train(corpus(), "char")


def vocabulary_file() -> Tokenizer:
    """The same vocabulary as a published `vocab.txt`."""
    trained = wordpiece()
    words = trained.tokens(range(trained.vocabulary_size))
    return from_files("bert", {"vocab.txt": "\n".join(words)}, tokenizer_class="BertTokenizer")


def mpnet_vocabulary() -> Tokenizer:
    """BERT's words between RoBERTa's special tokens."""
    trained = wordpiece()
    words = trained.tokens(range(len(trained.special_tokens), trained.vocabulary_size))
    words = ["<s>", "<pad>", "</s>", "[UNK]", *words, "<mask>"]
    return from_files("mpnet", {"vocab.txt": "\n".join(words)}, tokenizer_class="MPNetTokenizer")


def byte_level() -> Tokenizer:
    """As Encodax trains it, which is as ModernBERT has it."""
    return Tokenizer.train(corpus(), "bpe", vocabulary_size=320)


def roberta_files() -> Tokenizer:
    """`vocab.json` and `merges.txt`."""
    with tempfile.TemporaryDirectory() as folder:
        byte_level().save(folder)
        model = json.loads((Path(folder) / "tokenizer.json").read_text())["model"]
    words = [word for word in model["vocab"] if not word.startswith("[")]
    named = ["<s>", "<pad>", "</s>", "<unk>", *words, "<mask>"]
    files = {
        "vocab.json": json.dumps({word: index for index, word in enumerate(named)}),
        "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, model["merges"])]),
    }
    return from_files("roberta", files, tokenizer_class="RobertaTokenizer")


def residues() -> Tokenizer:
    """One token a residue, from ESM's own `vocab.txt`."""
    words = RESIDUES.replace(" ", "\n")
    return from_files("esm", {"vocab.txt": words}, tokenizer_class="EsmTokenizer")


def pieces_as_roberta() -> Tokenizer:
    """SentencePiece's unigrams, framed as XLM-R and CamemBERT do."""
    roles = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return unigrams(roles, ("<s> $A </s>", "<s> $A </s> </s> $B </s>"), ())


def pieces_as_albert() -> Tokenizer:
    """SentencePiece's unigrams, framed as ALBERT and DeBERTa do."""
    roles = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
    frame = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    return unigrams(roles, frame, ("token_type_ids",))


def unigrams(
    roles: Mapping[str, str], frame: tuple[str, str], inputs: tuple[str, ...]
) -> Tokenizer:
    """A unigram model over words that begin with a mark, as published `tokenizer.json` have it."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=list(roles.values()),
        unk_token=roles["unk"],
        show_progress=False,
    )
    backend.train_from_iterator(corpus(), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=frame[0],
        pair=frame[1],
        special_tokens=[(token, backend.token_to_id(token)) for token in roles.values()],
    )
    return from_files(
        "",
        {"tokenizer.json": backend.to_str()},
        tokenizer_class="PreTrainedTokenizerFast",
        model_input_names=["input_ids", *inputs, "attention_mask"],
        **{f"{role}_token": token for role, token in roles.items()},
    )


def from_files(model_type: str, files: Mapping[str, str], **config: Any) -> Tokenizer:
    """The tokenizer of a directory with these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**files, "tokenizer_config.json": json.dumps(config)}.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        return Tokenizer.load(folder, model_type=model_type)


def corpus() -> list[str]:
    """What the vocabularies are learned from."""
    return [*TEXTS, *itertools.chain(*PAIRS)]


# Families: a configuration near the published ones, and a tokenizer.

SIZES: Values = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": ROW_TOKENS,
}
ROBERTA: Values = {
    **SIZES,
    "max_position_embeddings": ROW_TOKENS + 2,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
DISTILBERT: Values = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": ROW_TOKENS,
}
MODERNBERT: Values = {
    **SIZES,
    "num_hidden_layers": 4,
    "global_attn_every_n_layers": 3,
    "local_attention": 6,
    "pad_token_id": 0,
}
NOMIC: Values = {**SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}
ESM: Values = {
    **SIZES,
    "max_position_embeddings": ROW_TOKENS + 2,
    "layer_norm_eps": 1e-5,
    "token_dropout": True,
    "mask_token_id": 32,
    "pad_token_id": 1,
}
DEBERTA: Values = {
    **SIZES,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
}
DEBERTA_V3: Values = {
    **DEBERTA,
    "position_buckets": 6,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}


@dataclass(frozen=True)
class Sample:
    """A small model of a family, without weights."""

    model_type: str
    config: Values
    tokenizer: Callable[[], Tokenizer]


SAMPLES: dict[str, Sample] = {
    "bert": Sample("bert", SIZES, wordpiece),
    "bert-bpe": Sample("bert", SIZES, byte_level),
    "bert-char": Sample("bert", SIZES, characters),
    "roberta": Sample("roberta", ROBERTA, roberta_files),
    "xlm-roberta": Sample("xlm-roberta", ROBERTA, pieces_as_roberta),
    "camembert": Sample("camembert", ROBERTA, pieces_as_roberta),
    "distilbert": Sample("distilbert", DISTILBERT, vocabulary_file),
    "mpnet": Sample("mpnet", ROBERTA, mpnet_vocabulary),
    "electra": Sample("electra", {**SIZES, "embedding_size": 16}, vocabulary_file),
    "albert": Sample(
        "albert",
        {**SIZES, "num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 16},
        pieces_as_albert,
    ),
    "modernbert": Sample("modernbert", MODERNBERT, byte_level),
    "nomic_bert": Sample("nomic_bert", NOMIC, vocabulary_file),
    "esm": Sample("esm", ESM, residues),
    "deberta-v2": Sample("deberta-v2", DEBERTA, pieces_as_albert),
    "deberta-v3": Sample("deberta-v2", DEBERTA_V3, pieces_as_albert),
}


@functools.cache
def bare(name: str) -> Model:
    """The encoder of a sample, with fresh parameters."""
    sample = SAMPLES[name]
    tokenizer = sample.tokenizer()
    sizes = {"vocab_size": tokenizer.vocabulary_size + 3}  # as published, some rows are spare
    config = families.FAMILIES[sample.model_type].read_config({**sample.config, **sizes})
    return Model.create(config, tokenizer)


def texts_for(name: str, tokenizer: Tokenizer, *, pairs: bool) -> list[Text]:
    """What a sample is run on."""
    single, paired = (PROTEINS, PROTEIN_PAIRS) if name == "esm" else (TEXTS, PAIRS)
    masked = [text.replace("{}", tokenizer.mask_token or "") for text in single]
    return [*masked, *(paired if pairs else ())]


# Cells


@dataclass(frozen=True)
class Cell:
    """One model that makes the round trip."""

    family: str
    head: str
    embedding: HeadConfig | None = None

    @property
    def folder(self) -> str:
        """Where its files are."""
        if self.embedding is None:
            return f"{self.family}-{self.head}"
        return "-".join([self.family, self.embedding.pooling or "", *self.modules])

    @property
    def modules(self) -> list[str]:
        """Of sentence-transformers, those after the pooling."""
        head = self.embedding
        if head is None:
            return []
        return ["dense"] * (head.dense_width is not None) + ["normalize"] * head.normalize

    @property
    def published(self) -> families.Family:
        """Its family."""
        return families.FAMILIES[SAMPLES[self.family].model_type]

    @property
    def has_class(self) -> bool:
        """Whether transformers has a class for it; its encoder alone loads there otherwise."""
        return self.head in ("encoder", "embedder") or self.published.has(self.head)

    def model(self) -> Model:
        """The random model."""
        base = bare(self.family)
        if self.embedding is not None:
            config = dataclasses.replace(base.config, head=self.embedding)
            model = Model.create(config, base.tokenizer)
        elif self.head == "encoder":
            model = base
        else:
            model = base.with_head(self.head, labels=LABELS.get(self.head, ()))
        return dataclasses.replace(model, params=redrawn(model.params, self.folder))


@dataclass(frozen=True)
class Result:
    """What became of a cell."""

    difference: float | None = None
    """The largest; None where nothing was compared."""
    problem: str | None = None
    """Why it fails."""
    reason: str | None = None
    """Why nothing was compared, or not all."""

    @property
    def is_wrong(self) -> bool:
        """Whether it fails; a difference that is not finite does."""
        if self.difference is None:
            return self.problem is not None
        return self.problem is not None or not self.difference <= TOLERANCE

    def __str__(self) -> str:
        if self.problem is not None:
            return "FAIL"
        if self.difference is None:
            return "n/a"
        wrong = "FAIL " if self.is_wrong else ""
        return f"{wrong}{self.difference:.1e}" + "*" * (self.reason is not None)


def rank(result: Result) -> tuple[bool, float]:
    """The worse a result, the higher."""
    return result.is_wrong, result.difference or 0.0


def redrawn(params: Params, seed: str) -> Params:
    """Every parameter drawn anew: no bias is 0 and no gain is 1."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))

    def draw(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        noise = SPREAD * generator.standard_normal(leaf.shape, np.float32)
        return jax.numpy.asarray(1 + noise if path[-1].key == "alpha" else noise)

    return jax.tree_util.tree_map_with_path(draw, params)


def embeddings() -> list[HeadConfig]:
    """Each pooling, without and with a dense layer, without and with scaling to length 1."""
    plain = [HeadConfig("embedding", pooling=pooling) for pooling in POOLINGS]
    dense = [dataclasses.replace(head, dense_width=DENSE_WIDTH) for head in plain]
    scaled = [dataclasses.replace(head, normalize=True) for head in [*plain, *dense]]
    return [*plain, *dense, *scaled]


def cells_of(names: Iterable[str]) -> list[Cell]:
    """Every family and head; all embedders of the first family, and one of each other."""
    kinds = embeddings()
    cells = []
    for index, name in enumerate(names):
        cells += [Cell(name, head) for head in HEADS]
        chosen = kinds if index == 0 else [kinds[(7 * index) % len(kinds)]]
        cells += [Cell(name, "embedder", head) for head in chosen]
    return cells


# Here

NO_CLASS = "transformers has no class of this family with such a head"


def saved(cell: Cell, root: Path) -> tuple[Model | None, Result | None]:
    """Save a cell's model and load it again; a result where that ends its journey."""
    place = root / cell.folder / "here"
    place.parent.mkdir()
    try:
        model = cell.model()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no published family")
            model.save(place)
        again = Model.load(place)
    except Exception as error:  # whatever it is, the other cells go on
        return None, Result(problem=f"not saved: {type(error).__name__}: {error}")
    if problem := unlike(model, again):
        return model, Result(problem=f"loaded again: {problem}")
    if model_type(place) == native.MODEL_TYPE:
        return model, Result(reason=f"{NO_CLASS}; {native.MODEL_TYPE} keeps it, bit for bit")
    if model_type(place) != cell.published.MODEL_TYPE:
        return model, Result(problem=f"saved as {model_type(place)}")
    return model, None


def model_type(place: Path) -> str:
    """What `config.json` says."""
    return str(json.loads((place / "config.json").read_text())["model_type"])


def unlike(model: Model, other: Model) -> str | None:
    """What differs between two models that should be one."""
    if model.config.encoder != other.config.encoder or model.config.head != other.config.head:
        return "another configuration"
    if model.config.labels != other.config.labels:
        return "other labels"
    if jax.tree.structure(model.params) != jax.tree.structure(other.params):
        return "other parameters"
    same = jax.tree.map(np.array_equal, model.params, other.params)
    return None if all(jax.tree.leaves(same)) else "other bits"


RUNNERS: dict[ModelConfig, Callable[[Params, PackedBatch], ModelOutput]] = {}


def run(model: Model, encodings: Sequence[Encoding]) -> list[dict[str, np.ndarray]]:
    """What a model gives for each sequence, from packed rows: hidden (L + 1, T, D) and output."""
    rows = packing.best_fit([len(encoding) for encoding in encodings], ROW_TOKENS, SLOTS)
    batch = packing.assemble(
        [[encodings[index] for index in row] for row in rows],
        row_count=len(encodings),
        row_tokens=ROW_TOKENS,
        slots=SLOTS,
    )
    runner = jax.jit(lambda params, batch: model.apply(params, batch, record=HIDDEN))
    output = RUNNERS.setdefault(model.config, runner)(model.params, batch)
    stages = np.stack([*output.records["hidden"][:-1], output.hidden])  # (L + 1, B, T, D)
    answers: dict[int, dict[str, np.ndarray]] = {}
    for index, b, n, here in packing.slots_of(rows, batch):
        answers[index] = {"hidden": stages[:, b, here]}
        if output.vectors is not None:
            answers[index]["output"] = np.asarray(output.vectors)[b, n]
        elif output.logits is not None and model.config.head is not None:
            place = n if model.config.head.pooling else here
            answers[index]["output"] = np.asarray(output.logits)[b, place]
    return [answers[index] for index in range(len(encodings))]


def deviation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to what is expected beyond 1."""
    if ours.shape != theirs.shape:
        return float("inf")
    worst = float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max())
    return worst if np.isfinite(worst) else float("inf")


def of_case(stored: Mapping[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
    """The arrays of one text, whose names begin with its own."""
    start = f"{case}/"
    return {name.removeprefix(start): stored[name] for name in stored if name.startswith(start)}


def compared(model: Model, texts: Sequence[Text], place: Path) -> Result:
    """A model, and what the reference gave for the same texts."""
    encodings, _ = model.encode(texts)
    worst = 0.0
    with np.load(place) as stored:
        for index, (encoding, ours) in enumerate(
            zip(encodings, run(model, encodings), strict=True)
        ):
            theirs = of_case(stored, str(index))
            if theirs["ids"].tolist() != encoding.token_ids.tolist():
                return Result(problem=f"other token ids of {texts[index]!r}")
            keys = ours.keys() & theirs.keys()
            worst = max([worst, *(deviation(ours[key], theirs[key]) for key in keys)])
    return Result(worst)


def finished(cell: Cell, model: Model, root: Path) -> Result:
    """Compare a cell with the reference, and what the reference saved too."""
    place = root / cell.folder
    if (place / "error.txt").exists():
        return Result(problem=(place / "error.txt").read_text())
    texts = texts_for(cell.family, model.tokenizer, pairs=cell.embedding is None)
    first = compared(model, texts, place / "reference.npz")
    if not cell.has_class:
        return dataclasses.replace(first, reason=f"{NO_CLASS}; the encoder alone is compared")
    try:
        back = Model.load(place / "back")
    except EncodaxError as error:
        return dataclasses.replace(first, problem=f"saved by the reference: {error}")
    if problem := first.problem or unlike(model, back):
        return dataclasses.replace(first, problem=problem)
    second = compared(back, texts, place / "reference.npz")
    return max(first, second, key=rank)


# There: the reference, one process for all cells.

REFERENCE = '''
import inspect, json, logging, re, sys, traceback, warnings
from pathlib import Path
import numpy as np, torch, transformers
from sentence_transformers import SentenceTransformer

AUTO = {
    "encoder": "AutoModel",
    "vocabulary": "AutoModelForMaskedLM",
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}

# Of ESM: the first is not computed with here, the second is computed anew.
UNUSED = re.compile(r"contact_head\\.regression\\.|rotary_embeddings\\.inv_freq$")

def load(place, head):
    """The model, every one of whose tensors was in the file, and no other."""
    named = json.loads((place / "config.json").read_text())["architectures"][0]
    wanted = getattr(transformers, named)
    options = {}
    if head == "encoder" and "add_pooling_layer" in inspect.signature(wanted.__init__).parameters:
        options = {"add_pooling_layer": False}  # an untrained one would be missing
    auto = getattr(transformers, AUTO[head])
    model, info = auto.from_pretrained(place, output_loading_info=True, **options)
    assert type(model) is wanted, f"{type(model).__name__} for {named}"
    info["missing_keys"] = [key for key in info["missing_keys"] if not UNUSED.search(key)]
    assert not any(info.values()), {key: value for key, value in info.items() if value}
    return model.eval()

def run_model(place, head, texts):
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = load(place, head)
    encoded = [tokenizer(*([text] if isinstance(text, str) else text)) for text in texts]
    inputs = tokenizer.pad(encoded, return_tensors="pt")
    with torch.no_grad():
        inner = model.base_model(**inputs, output_hidden_states=True)
        answer = model(**inputs)
    hidden = torch.stack([*inner.hidden_states[:-1], inner.last_hidden_state], 1)
    if head == "span":
        output = torch.stack([answer.start_logits, answer.end_logits], -1)
    else:
        output = None if head == "encoder" else answer.logits
    arrays = {}
    for index, mask in enumerate(inputs["attention_mask"].bool()):
        arrays[f"{index}/ids"] = inputs["input_ids"][index][mask]
        arrays[f"{index}/hidden"] = hidden[index][:, mask]
        if output is not None:
            arrays[f"{index}/output"] = output[index] if head == "sequence" else output[index][mask]
    return arrays, (model, tokenizer)

def run_embedder(place, texts):
    model = SentenceTransformer(str(place), device="cpu")
    vectors = model.encode(texts, batch_size=len(texts))
    ids = [np.array(model.tokenizer(text)["input_ids"]) for text in texts]
    arrays = {f"{index}/output": vector for index, vector in enumerate(vectors)}
    return {**arrays, **{f"{index}/ids": found for index, found in enumerate(ids)}}, (model,)

warnings.simplefilter("ignore")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
logging.disable(logging.WARNING)
for cell in json.load(sys.stdin):
    place = Path(cell["place"])
    texts = [text if isinstance(text, str) else tuple(text) for text in cell["texts"]]
    try:
        if cell["head"] == "embedder":
            arrays, parts = run_embedder(place / "here", texts)
        else:
            arrays, parts = run_model(place / "here", cell["head"], texts)
        np.savez(place / "reference.npz", **arrays)
        for part in parts:
            part.save_pretrained(str(place / "back"))
    except Exception as error:
        traceback.print_exc()
        (place / "error.txt").write_text(f"{type(error).__name__}: {error}"[:500])
'''


def run_reference(python: str, cells: Mapping[Cell, Model], root: Path) -> None:
    """Let the reference load, run and save every cell."""
    orders = [
        {
            "place": str(root / cell.folder),
            "head": cell.head if cell.has_class else "encoder",
            "texts": texts_for(cell.family, model.tokenizer, pairs=cell.embedding is None),
        }
        for cell, model in cells.items()
    ]
    subprocess.run([python, "-c", REFERENCE], input=json.dumps(orders), text=True, check=True)


def round_trips(cells: Sequence[Cell], python: str, root: Path) -> dict[Cell, Result]:
    """The result of each cell."""
    results: dict[Cell, Result] = {}
    travelling: dict[Cell, Model] = {}
    for cell in cells:
        model, result = saved(cell, root)
        if result is not None:
            results[cell] = result
        elif model is not None:
            travelling[cell] = model
    run_reference(python, travelling, root)
    for cell, model in travelling.items():
        results[cell] = finished(cell, model, root)
        RUNNERS.clear()
    return results


# Goldens


def golden_deviation(place: Path) -> tuple[float, float | None]:
    """The largest differences of hidden states and of the head's answers, from packed rows."""
    published = json.loads((place / "config.json").read_text())
    family = families.family_named(published["model_type"])
    config = family.read_config(published)
    shapes = jax.eval_shape(functools.partial(initial_params, config), jax.random.key(0))
    params = weights.load(place, shapes, family, config).params
    model = Model(config, params, Tokenizer.train(["a"], "char"))
    with np.load(place / "outputs.npz") as stored:
        names = dict.fromkeys(key.split("/")[0] for key in stored)
        cases = [of_case(stored, name) for name in names]
    hidden, output = [], []
    for case, ours in zip(cases, run(model, [encoding_of(case) for case in cases]), strict=True):
        theirs = np.concatenate([case["hidden"][:-1], case["last"][None]])
        hidden.append(deviation(ours["hidden"], theirs))
        if "output" in ours:
            output.append(deviation(ours["output"], case["output"]))
    RUNNERS.clear()
    return max(hidden), max(output, default=None)


def encoding_of(case: Mapping[str, np.ndarray]) -> Encoding:
    """The tokens of a stored case; what no model reads is left blank."""
    count = len(case["token_ids"])
    blank = np.zeros(count, np.int32)
    token_ids, type_ids = (case[key].astype(np.int32) for key in ("token_ids", "type_ids"))
    return Encoding(token_ids, type_ids, np.zeros((count, 2), np.int32), blank > 0, blank)


def goldens(names: Sequence[str]) -> tuple[Rows, bool]:
    """A row for each family: hidden / output under each head, the largest of its variants."""
    rows, is_wrong = [], False
    for family in (name for name in names if (GOLDENS / name).is_dir()):
        row = [family]
        for head in HEADS:
            places = sorted(GOLDENS.glob(f"{family}/{head}*"))
            found = [golden_deviation(place) for place in places]
            parts = [max(hidden for hidden, _ in found)] if found else []
            if outputs := [output for _, output in found if output is not None]:
                parts.append(max(outputs))
            is_wrong |= not all(part <= TOLERANCE for part in parts)
            row.append(" / ".join(f"{part:.1e}" for part in parts) or "n/a")
        rows.append(row)
    return rows, is_wrong


# Tables

Rows = list[list[str]]


def show(columns: Sequence[str], rows: Rows, *, markdown: bool) -> None:
    """A table, to look at or to paste."""
    if markdown:
        lines = [list(columns), ["---"] * len(columns), *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines), end="\n\n")
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def by_head(results: Mapping[Cell, Result], names: Sequence[str]) -> Rows:
    """A row for each family: the worst result under each head."""
    rows = []
    for name in names:
        row = [name]
        for head in COLUMNS:
            found = [
                result
                for cell, result in results.items()
                if (cell.family, cell.head) == (name, head)
            ]
            row.append(str(max(found, key=rank)))
        rows.append(row)
    return rows


def by_module(results: Mapping[Cell, Result], name: str) -> Rows:
    """A row for each pooling: what follows it, for the one family that has all embedders."""
    found = {
        (cell.embedding.pooling, *cell.modules): str(result)
        for cell, result in results.items()
        if cell.embedding and cell.family == name
    }
    after = ((), ("dense",), ("normalize",), ("dense", "normalize"))
    return [[pooling, *(found[pooling, *modules] for modules in after)] for pooling in POOLINGS]


def show_results(results: Mapping[Cell, Result], names: Sequence[str], *, markdown: bool) -> None:
    """Both tables, and a line for each cell that failed or could not be."""
    show(["family", *COLUMNS], by_head(results, names), markdown=markdown)
    columns = [f"{names[0]}, pooling", "alone", "dense", "normalize", "dense, normalize"]
    show(columns, by_module(results, names[0]), markdown=markdown)
    for cell, result in results.items():
        if result.problem or result.reason:
            print(f"- {cell.folder}: {result.problem or result.reason}")


def main() -> None:
    """Measure, print, and exit with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--reference", metavar="PYTHON", help="Python with transformers")
    mode.add_argument("--goldens", action="store_true", help="measure the goldens instead")
    parser.add_argument("--families", nargs="+", choices=SAMPLES, default=list(SAMPLES))
    parser.add_argument("--markdown", action="store_true", help="print tables as markdown")
    options = parser.parse_args()
    if options.goldens:
        rows, is_wrong = goldens(options.families)
        show(["family", *HEADS], rows, markdown=options.markdown)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = round_trips(cells_of(options.families), options.reference, Path(folder))
        show_results(results, options.families, markdown=options.markdown)
        is_wrong = any(result.is_wrong for result in results.values())
    sys.exit(1 if is_wrong else 0)


if __name__ == "__main__":
    main()
