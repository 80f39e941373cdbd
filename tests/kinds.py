"""Small tokenizers of the published kinds, trained on a few texts."""

from __future__ import annotations

import functools

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from encodax.text.tokenizer import Tokenizer

TEXTS = {
    "english": "Ada's e-mail (3.5) to B2B",
    "chinese": "我叫韩梅梅,住在成都",
    "japanese": "昨日マットで",
    "hindi": "मैं दिल्ली में हूँ",
    "hebrew": "שָׁלוֹם בֶּן־טוֹב",
    "thai": "ดีครับ",
    "accents": "cafe\u0301 e\u0301te\u0301",
    "emoji": "ok ❤️ 👩\u200d👩",
    "spaces": " a  b ",
}


def wordpiece() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(backend, trainers.WordPieceTrainer(special_tokens=["[UNK]"]))


def byte_level(prefix: bool = False) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return trained(
        backend, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )


def metaspace(*before: pre_tokenizers.PreTokenizer, split: bool = True) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*before, pre_tokenizers.Metaspace(split=split)]
    )
    return trained(backend, trainers.UnigramTrainer(unk_token="<unk>"))


def trained(backend: tokenizers.Tokenizer, trainer: trainers.Trainer) -> tokenizers.Tokenizer:
    trainer.show_progress = False
    trainer.vocab_size = 320
    backend.train_from_iterator(TEXTS.values(), trainer)
    return backend


@functools.cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "char":
        return Tokenizer.train(TEXTS.values(), "char")
    made = {
        "wordpiece": wordpiece,
        "bytes": byte_level,
        "bytes, a space first": lambda: byte_level(prefix=True),
        "metaspace": metaspace,
        "spaces, metaspace": lambda: metaspace(pre_tokenizers.WhitespaceSplit()),
        "unsplit": lambda: metaspace(split=False),
    }
    return Tokenizer(made[kind]())


KINDS = (
    "wordpiece", "bytes", "bytes, a space first", "metaspace", "spaces, metaspace", "unsplit",
    "char",
)  # fmt: skip
