"""A small random model of each family, with a tokenizer of the kind that its classes read."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from encodax import families
from encodax.models.encoder_model import Model
from encodax.text.tokenizer import Text, Tokenizer
from encodax.types.batches import Params

ROW_TOKENS = 96
"""Of a packed row."""
SPREAD = 0.15
"""Standard deviation of the weights, near 1 / sqrt(D): wider ones magnify rounding."""

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
    config = families.ENCODERS.by_name[sample.model_type].read_config({**sample.config, **sizes})
    return Model.create(config, tokenizer)


def texts_for(name: str, tokenizer: Tokenizer, *, pairs: bool) -> list[Text]:
    """What a sample is run on."""
    single, paired = (PROTEINS, PROTEIN_PAIRS) if name == "esm" else (TEXTS, PAIRS)
    masked = [text.replace("{}", tokenizer.mask_token or "") for text in single]
    return [*masked, *(paired if pairs else ())]


# Parameters


def redrawn(params: Params, seed: str) -> Params:
    """Every parameter drawn anew: no bias is 0 and no gain is 1."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))

    def draw(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        noise = SPREAD * generator.standard_normal(leaf.shape, np.float32)
        return jax.numpy.asarray(1 + noise if path[-1].key == "alpha" else noise)

    return jax.tree_util.tree_map_with_path(draw, params)
