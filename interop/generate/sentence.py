"""Make the goldens of sentence-transformers' files: tiny random models, and what they answer.

A folder of `tests/parity/goldens-sentence` holds a model directory as sentence-transformers saved
it, or as older versions did, and `expected.json`: `encode`, `query` and `document` are vectors of
the texts by `encode`, `encode_query` and `encode_document`; `scores` are those of the pairs by
`CrossEncoder.predict`, and `ids` their tokens.

Run it where ``models.py`` runs::

    python -m interop.generate.sentence
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from interop import PARITY

FOLDER = PARITY / "goldens-sentence"
WIDTH = 8
WORDS = [
    "the", "cat", "sat", "a", "dog", "ran", "The", "Cat", "query", "text", "find", ":", "it", "in",
    "an", "old", "film",
]  # fmt: skip
TEXTS = ["the cat sat", "a dog ran", "The Cat ran", "an old film in the dog the cat sat it ran"]
PAIRS = [
    ("the cat", "a dog ran"),
    ("find the old film", "an old film"),
    ("the dog", "an old film in the dog the cat sat it ran the cat"),
    ("an old film in the dog the cat sat it ran the cat", "the dog"),
    ("an old film in the dog the cat sat", "the cat sat it ran the cat sat"),
]
SETTINGS, LENGTHS = "config_sentence_transformers.json", "sentence_bert_config.json"
Change = Callable[[dict[str, Any]], Any]


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    """WordPiece of a few words, with case."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [form for c in "abcdefghijklmnopqrstuvwxyz:" for form in (c, f"##{c}")]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*special, *WORDS, *letters]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bert(place: Path, labels: int = 0, length: int = 32) -> Path:
    """A model of transformers, alone."""
    config = BertConfig(
        vocab_size=len(tokenizer(length)),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=32,
        initializer_range=0.5,
        num_labels=labels or 2,
    )
    torch.manual_seed(labels)
    kind = BertForSequenceClassification if labels else BertModel
    kind(config).save_pretrained(place)
    tokenizer(length).save_pretrained(place)
    return place


def edit(path: Path, change: Change) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    change(content)
    path.write_text(json.dumps(content, indent=2) + "\n")


def embedder(name: str, *further: Any, pooling: Any = "mean", **options: Any) -> Path:
    """An embedder of these modules, saved."""
    place = FOLDER / name
    shutil.rmtree(place, ignore_errors=True)
    torch.manual_seed(7)
    base = bert(place / "base")
    poolings = Pooling(WIDTH, pooling, include_prompt=options.pop("include_prompt", True))
    modules = [Transformer(str(base)), poolings, *(make() for make in further)]
    model = SentenceTransformer(modules=modules, device="cpu", **options)
    shutil.rmtree(place / "base")
    model.save(str(place), create_model_card=False)
    return place


def vectors(place: Path, **more: Any) -> None:
    """What the embedder of a directory answers."""
    model = SentenceTransformer(str(place), device="cpu")
    found = {
        "texts": TEXTS,
        "encode": model.encode(TEXTS).tolist(),
        "query": model.encode_query(TEXTS).tolist(),
        "document": model.encode_document(TEXTS).tolist(),
        "named": {
            name: model.encode(TEXTS, prompt_name=name).tolist()
            for name, prompt in model.prompts.items()
            if prompt
        },
        **more,
    }
    write(place, found)


def cross_encoder(name: str, labels: int = 1, length: int = 32, **options: Any) -> Path:
    """A cross-encoder, saved."""
    place = FOLDER / name
    shutil.rmtree(place, ignore_errors=True)
    base = bert(place / "base", labels, length)
    model = CrossEncoder(str(base), device="cpu", **options)
    shutil.rmtree(place / "base")
    model.save(str(place), create_model_card=False)
    return place


def scores(place: Path) -> None:
    """What the cross-encoder of a directory answers."""
    model = CrossEncoder(str(place), device="cpu")
    features = [model.preprocess([pair])["input_ids"][0].tolist() for pair in PAIRS]
    write(place, {"pairs": PAIRS, "scores": model.predict(PAIRS).tolist(), "ids": features})


def write(place: Path, found: dict[str, Any]) -> None:
    (place / "expected.json").write_text(json.dumps(found) + "\n")
    print(place.name)


def embedders() -> None:
    cut = {"truncate_dim": 5}
    vectors(embedder("truncated", **cut))
    vectors(embedder("truncated-normalized", Normalize, **cut))
    vectors(embedder("truncated-dense", lambda: Dense(WIDTH, 12), Normalize, **cut))
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"):
        if family in ("bert", "roberta", "xlm-roberta", "xlnet"):
            place = embedder(f"length-{family}")
            (place / LENGTHS).unlink()
            lengths = {"max_seq_length": 6, "do_lower_case": False}
            (place / f"sentence_{family}_config.json").write_text(json.dumps(lengths))
            vectors(place)
    place = embedder("length-two-files")  # the first is empty: the next counts
    (place / LENGTHS).write_text("{}")
    (place / "sentence_albert_config.json").write_text('{"max_seq_length": 7}')
    (place / "sentence_xlnet_config.json").write_text('{"max_seq_length": 5}')
    vectors(place)
    place = embedder("length-of-arguments")
    arguments = {
        "max_seq_length": 9,
        "tokenizer_args": {"model_max_length": 6},
        "model_args": {"dtype": "float32"},
        "processing_kwargs": {"text": {"padding": "max_length"}},
    }
    edit(place / LENGTHS, lambda c: c.update(arguments))
    vectors(place)
    place = embedder("length-of-processing")
    processing = {"text": {"max_length": 5, "truncation": True}}
    edit(place / LENGTHS, lambda c: c.update(processing_kwargs=processing, unpad_inputs=False))
    vectors(place)
    place = embedder("lowered")
    edit(place / LENGTHS, lambda c: c.update(do_lower_case=True))
    vectors(place)

    every = ["lasttoken", "mean_sqrt_len_tokens", "cls", "weightedmean", "max", "mean"]
    vectors(embedder("pooling-list", pooling=every))
    place = embedder("pooling-flags")
    flags = ("mean_tokens", "cls_token", "mean_sqrt_len_tokens")
    (place / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {"word_embedding_dimension": WIDTH, **{f"pooling_mode_{flag}": True for flag in flags}}
        )
    )
    vectors(place)
    place = embedder("pooling-one-flag")  # no flag of the mean, which older versions set
    (place / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": WIDTH, "pooling_mode_max_tokens": True})
    )
    vectors(place)

    prompts = {"query": "find it : ", "document": "text : ", "other": "The "}
    vectors(embedder("prompts", prompts=prompts, default_prompt_name="query"))
    prompts = {"query": "find it : ", "passage": "text : "}
    vectors(embedder("prompts-no-document", prompts=prompts, default_prompt_name="query"))
    prompts = {"passage": "text : ", "corpus": "film "}
    vectors(embedder("prompts-no-query", prompts=prompts, default_prompt_name="passage"))
    place = embedder("prompts-null")
    edit(place / SETTINGS, lambda c: c.update(
        prompts={"query": None, "document": ""}, default_prompt_name="query"))  # fmt: skip
    vectors(place)
    prompts = {"query": "find it : ", "document": "text "}
    options = {"prompts": prompts, "default_prompt_name": "query", "include_prompt": False}
    vectors(embedder("prompt-left-out", **options))
    vectors(embedder("prompt-left-out-of-all", pooling=every, **options))

    two = (lambda: Dense(WIDTH, 12), lambda: Dense(12, 5, bias=False, activation_function=None))
    vectors(embedder("two-dense", *two, Normalize))
    layers = (
        lambda: Dense(2 * WIDTH, 6, activation_function=torch.nn.Sigmoid()),
        lambda: LayerNorm(6),
        lambda: Dropout(0.25),
    )
    vectors(embedder("norm-and-dropout", *layers, Normalize, pooling=["mean", "cls"]))


def cross_encoders() -> None:
    scores(cross_encoder("ce-identity", activation_fn=torch.nn.Identity()))
    scores(cross_encoder("ce-sigmoid"))
    scores(cross_encoder("ce-tanh", activation_fn=torch.nn.Tanh()))
    place = cross_encoder("ce-null")
    edit(place / SETTINGS, lambda c: c.update(activation_fn=None))
    scores(place)
    scores(cross_encoder("ce-length", max_length=11))
    scores(cross_encoder("ce-length-even", max_length=12, activation_fn=torch.nn.Identity()))
    prompts = {"query": "find it : ", "other": "The "}
    scores(cross_encoder("ce-prompts", prompts=prompts, default_prompt_name="query"))
    scores(cross_encoder("ce-three", labels=3))
    scores(cross_encoder("ce-three-sigmoid", labels=3, activation_fn=torch.nn.Sigmoid()))

    identity = "torch.nn.modules.linear.Identity"
    for name, change in {
        "ce-plain": {},
        "ce-of-4": {"sentence_transformers": {"activation_fn": identity, "version": "4.0.0"}},
        "ce-of-3": {"sbert_ce_default_activation_function": identity},
    }.items():
        place = FOLDER / name
        shutil.rmtree(place, ignore_errors=True)
        bert(place, 1, length=11)
        edit(place / "config.json", lambda content, change=change: content.update(change))
        scores(place)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    FOLDER.mkdir(exist_ok=True)
    embedders()
    cross_encoders()
