"""The tokenizer's files of a model directory, as transformers writes and reads them.

`tokenizer.json` says all. Where it is missing, families of `SLOW` have vocabulary files of which
transformers makes the same tokenizer; so do we. No code of a directory is ever run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from encodax.errors import EncodaxError
from encodax.json_files import check_content, is_there

Token = tuple[str, int]
"""A token and its id."""

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
"""BERT's special tokens, in the order of their ids."""

ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
"""RoBERTa's special tokens. As in transformers, what stands between two texts has two roles."""

MPNET_TOKENS = ROBERTA_TOKENS | {"unk_token": "[UNK]"}
"""MPNet's: its vocabulary is BERT's, between RoBERTa's."""

ESM_TOKENS = {
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "cls_token": "<cls>",
    "mask_token": "<mask>",
}
"""ESM's special tokens."""

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
MODEL_CONFIG_FILE = "config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
VOCABULARY_FILE = "vocab.txt"
BPE_VOCABULARY_FILE = "vocab.json"
VOCABULARY_FILES = (VOCABULARY_FILE, BPE_VOCABULARY_FILE)
MERGES_FILE = "merges.txt"
SENTENCEPIECE_FILES = (
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
)
CARRIED_FILES = (
    TOKENIZER_CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    ADDED_TOKENS_FILE,
    VOCABULARY_FILE,
    BPE_VOCABULARY_FILE,
    MERGES_FILE,
    *SENTENCEPIECE_FILES,
)
"""What transformers' tokenizers read besides `tokenizer.json`: kept from load to save."""


def frame(begin: Token | None, end: Token) -> processors.PostProcessor:
    """Put a token before each text or pair, where there is one for it, and one after each text."""
    first = f"{begin[0]} " if begin else ""
    return processors.TemplateProcessing(
        single=f"{first}$A {end[0]}",
        pair=f"{first}$A {end[0]} $B:1 {end[0]}:1",
        special_tokens=[begin, end] if begin else [end],
    )


class TokenizerFiles:
    """The tokenizer's files of a model directory, as bytes."""

    def __init__(self, path: Path):
        names = (TOKENIZER_FILE, MODEL_CONFIG_FILE, *CARRIED_FILES)
        found = {name: _read(path / name) for name in names}
        self.path = path
        self.files = {name: content for name, content in found.items() if content is not None}
        self.config = self.json_object(TOKENIZER_CONFIG_FILE)

    def carried(self) -> dict[str, bytes]:
        """What is kept from load to save."""
        return {name: self.files[name] for name in CARRIED_FILES if name in self.files}

    def text(self, name: str) -> str:
        """What a file says, as UTF-8."""
        try:
            return self.files[name].decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise EncodaxError(f"{self.path / name} is not UTF-8: {error}") from error

    def json_object(self, name: str) -> dict[str, Any]:
        """What a JSON file holds; nothing where there is no file."""
        text = self.text(name) if name in self.files else "{}"
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EncodaxError(f"{self.path / name} is not JSON: {error}") from error
        if not isinstance(content, dict):
            kind = type(content).__name__
            raise EncodaxError(f"{self.path / name} wants an object, not a {kind}")
        return content

    def family(self, model_type: str | None) -> str:
        """Whose tokenizer it is: RobertaTokenizerFast is of `roberta`."""
        named = self.config.get("tokenizer_class")
        if TOKENIZER_FILE not in self.files:  # else the model's configuration is of no use here
            model = self.json_object(MODEL_CONFIG_FILE)
            named = named or model.get("tokenizer_class")
            model_type = model_type or model.get("model_type")
        if named:
            return str(named).removesuffix("Fast").removesuffix("Tokenizer").lower()
        return str(model_type)

    def named_tokens(self) -> dict[str, dict[str, Any]]:
        """The special tokens that the files name: role -> `content` and how it is matched.

        As in transformers, the map is of old: it counts unless the configuration lists all tokens.
        """
        token_map = self.json_object(SPECIAL_TOKENS_FILE)
        listed = "added_tokens_decoder" in self.config
        named = {**token_map, **self.config} if listed else {**self.config, **token_map}
        flags = {role: _flags(value) for role, value in named.items() if role.endswith("_token")}
        return {role: value for role, value in flags.items() if value}

    def special_tokens(self) -> dict[str, str]:
        """The same tokens alone, by role."""
        return {role: flags["content"] for role, flags in self.named_tokens().items()}

    def added_tokens(self) -> dict[int, dict[str, Any]]:
        """The tokens that the files add to the vocabulary, or match in their own way, by id."""
        if "added_tokens_decoder" in self.config:
            listed = self.config["added_tokens_decoder"]
            return {int(index): _flags(value) for index, value in listed.items()}
        listed = self.json_object(ADDED_TOKENS_FILE)
        return {int(index): _flags(token) for token, index in listed.items()}


def _read(path: Path) -> bytes | None:
    """A file's bytes, or None where there is none.

    Raises:
        EncodaxError: it is a link out of its directory, or cannot be read.
    """
    try:
        if not is_there(path):
            return None
        check_content(path, may_be_empty=True)
        home, real = path.parent.resolve(), path.resolve()
        # The Hugging Face cache links snapshots/REVISION/name to blobs/HASH.
        caches = [place.parent / "blobs" for place in home.parents if place.name == "snapshots"]
        if not any(real.is_relative_to(place) for place in (home, *caches)):
            raise EncodaxError(f"{path} is a link out of its directory; put the file itself there")
        return path.read_bytes()
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error


def _flags(value: object) -> dict[str, Any]:
    """A token of a configuration, `"[MASK]"` or `{"content": "[MASK]", "lstrip": true}`."""
    flags = {"content": value} if isinstance(value, str) else value
    if not isinstance(flags, dict) or not isinstance(flags.get("content"), str):
        return {}
    known = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: flags[name] for name in known if name in flags}


def check_ids(path: Path, vocabulary: Mapping[str, int]) -> None:
    """Refuse an id that two tokens have."""
    tokens: dict[int, str] = {}
    for token, index in vocabulary.items():
        if tokens.setdefault(index, token) != token:
            raise EncodaxError(f"{path}: {tokens[index]!r} and {token!r} have the same id {index}")


def from_vocabulary_files(source: TokenizerFiles, family: str) -> tokenizers.Tokenizer:
    """The tokenizer that transformers makes of a directory without `tokenizer.json`.

    Raises:
        EncodaxError: there are no such files, they are broken, or the family has none.
    """
    there = [name for name in (*VOCABULARY_FILES, *SENTENCEPIECE_FILES) if name in source.files]
    if not there:
        path = source.path / TOKENIZER_FILE
        raise EncodaxError(f"{path} does not exist: is {source.path} a model directory?")
    if family not in SLOW or not all(name in source.files for name in SLOW[family].files):
        raise EncodaxError(
            f"{source.path}: {TOKENIZER_FILE} does not exist, and {there[0]} alone gives no "
            f"tokenizer of {family}; write it with transformers: "
            "AutoTokenizer.from_pretrained(X).save_pretrained(X)"
        )
    slow = SLOW[family]
    path = source.path / slow.files[0]
    vocabulary = slow.read(source)
    check_ids(path, vocabulary)
    if missing := set(range(len(vocabulary))) - set(vocabulary.values()):
        raise EncodaxError(f"{path}: no token has the id {min(missing)}")
    named = {role: _flags(token) for role, token in slow.special_tokens.items()}
    named |= source.named_tokens()
    if slow.mask_takes_space:
        named["mask_token"] = {"lstrip": True} | named["mask_token"]
    roles = {role: flags["content"] for role, flags in named.items()}
    try:
        backend = slow.backend(source, vocabulary, roles["unk_token"])
        _add_tokens(source, backend, list(named.values()))
        ids = backend.get_vocab()
        for role in ("unk_token", *slow.frame):
            if roles[role] not in ids:
                raise EncodaxError(f"{path} has no {roles[role]!r}, which is the {role}")
        begin, end = ((roles[role], ids[roles[role]]) for role in slow.frame)
        backend.post_processor = slow.processor(source, begin, end)
    except EncodaxError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise EncodaxError(f"{path} gives no tokenizer of {family}: {error}") from error
    return backend


def _add_tokens(
    source: TokenizerFiles, backend: tokenizers.Tokenizer, named: list[dict[str, Any]]
) -> None:
    """Let special tokens be found in a text, and add those that the vocabulary file has not."""
    special = {flags["content"] for flags in named}
    listed = source.added_tokens()
    for index, flags in sorted(listed.items()):
        is_special = flags.get("special", False) or flags["content"] in special
        token = tokenizers.AddedToken(**{**flags, "special": is_special})
        (backend.add_special_tokens if is_special else backend.add_tokens)([token])
        if backend.token_to_id(token.content) != index:
            raise EncodaxError(
                f"{source.path}: the added token {token.content!r} has the id {index}, and the "
                f"vocabulary ends before {backend.token_to_id(token.content)}"
            )
    seen = {flags["content"] for flags in listed.values()}
    extra = source.config.get("additional_special_tokens") or []
    for flags in [*named, *map(_flags, extra)]:
        # A token that no file gives an id has no row in the model's table either.
        if flags["content"] not in seen and backend.token_to_id(flags["content"]) is not None:
            seen.add(flags["content"])
            backend.add_special_tokens([tokenizers.AddedToken(**{**flags, "special": True})])


def _lines(source: TokenizerFiles) -> dict[str, int]:
    """`vocab.txt`: a token a line, whose id is the number of the line."""
    return _numbered(source, source.text(VOCABULARY_FILE).rstrip("\n").split("\n"))


def _words(source: TokenizerFiles) -> dict[str, int]:
    """The same as EsmTokenizer reads it: without spaces around the token."""
    return _numbered(source, [line.strip() for line in source.text(VOCABULARY_FILE).splitlines()])


def _numbered(source: TokenizerFiles, tokens: list[str]) -> dict[str, int]:
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if vocabulary.setdefault(token, index) != index:
            lines = f"lines {vocabulary[token] + 1} and {index + 1}"
            raise EncodaxError(
                f"{source.path / VOCABULARY_FILE}: {lines} are the same token {token!r}"
            )
    return vocabulary


def json_vocabulary(source: TokenizerFiles) -> dict[str, int]:
    """`vocab.json`: every token and its id."""
    vocabulary = source.json_object(BPE_VOCABULARY_FILE)
    for token, index in vocabulary.items():
        if type(index) is not int or index < 0:
            path = source.path / BPE_VOCABULARY_FILE
            raise EncodaxError(f"{path}: the id of {token!r} is {index!r}, which is no id")
    return vocabulary


def _published_wordpiece(
    source: TokenizerFiles, vocabulary: dict[str, int], unknown: str
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=source.config.get("do_lower_case", True),
        handle_chinese_chars=source.config.get("tokenize_chinese_chars", True),
        strip_accents=source.config.get("strip_accents"),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _published_bpe(
    source: TokenizerFiles, vocabulary: dict[str, int], _: str
) -> tokenizers.Tokenizer:
    lines = source.text(MERGES_FILE).split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    for merge in merges:
        if len(merge) != 2:
            path = source.path / MERGES_FILE
            raise EncodaxError(f"{path}: wants two tokens a line, not {' '.join(merge)!r}")
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [(a, b) for a, b in merges]))
    prefix = source.config.get("add_prefix_space", False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    return backend


def _published_esm(
    _: TokenizerFiles, vocabulary: dict[str, int], unknown: str
) -> tokenizers.Tokenizer:
    """Every entry of the vocabulary is found anywhere in a text, the longest first.

    What is between two of them, or spaces, is one unknown token.
    """
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    words = sorted(filter(None, vocabulary), key=len, reverse=True)
    entry = tokenizers.Regex("|".join(map(re.escape, words)))
    # Python's idea of a space, which EsmTokenizer splits at: the library's lacks \x1c to \x1f.
    space = tokenizers.Regex(r"[\s\x1c-\x1f]+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(entry, behavior="isolated"),
            pre_tokenizers.Split(space, behavior="removed"),
        ]
    )
    backend.decoder = decoders.Fuse()
    return backend


def _bert_frame(_: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    return frame(begin, end)


def _roberta_frame(source: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    return processors.RobertaProcessing(
        end,
        begin,
        trim_offsets=source.config.get("trim_offsets", True),
        add_prefix_space=source.config.get("add_prefix_space", False),
    )


@dataclass(frozen=True)
class Slow:
    """How transformers makes a family's tokenizer without `tokenizer.json`."""

    files: tuple[str, ...]
    special_tokens: dict[str, str]
    """Those it has where the directory names none, by role."""
    read: Callable[[TokenizerFiles], dict[str, int]]
    backend: Callable[[TokenizerFiles, dict[str, int], str], tokenizers.Tokenizer]
    """Makes the tokenizer of the vocabulary and its unknown token, without a frame."""
    processor: Callable[[TokenizerFiles, Token, Token], processors.PostProcessor]
    """Puts a token before a text and one after it."""
    frame: tuple[str, str] = ("cls_token", "sep_token")
    """The roles of these two."""
    mask_takes_space: bool = False
    """Whether the mask token takes the space before it, as a word would."""


BERT = Slow((VOCABULARY_FILE,), SPECIAL_TOKENS, _lines, _published_wordpiece, _bert_frame)
ROBERTA = Slow(
    (BPE_VOCABULARY_FILE, MERGES_FILE),
    ROBERTA_TOKENS,
    json_vocabulary,
    _published_bpe,
    _roberta_frame,
    mask_takes_space=True,
)
SLOW: dict[str, Slow] = {
    "bert": BERT,
    "distilbert": BERT,
    "electra": BERT,
    "nomic_bert": BERT,
    "mpnet": Slow(
        (VOCABULARY_FILE,),
        MPNET_TOKENS,
        _lines,
        _published_wordpiece,
        _roberta_frame,
        mask_takes_space=True,
    ),
    "roberta": ROBERTA,
    "bart": ROBERTA,
    "esm": Slow(
        (VOCABULARY_FILE,),
        ESM_TOKENS,
        _words,
        _published_esm,
        _bert_frame,
        frame=("cls_token", "eos_token"),
    ),
}
"""The families whose tokenizer is made of vocabulary files, by `model_type`."""
