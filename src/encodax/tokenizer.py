"""Text to token ids and back: a small class over the `tokenizers` library.

Published directories load too: from `tokenizer.json`, or from the vocabulary files of the families
in `SLOW`, as transformers reads them. No code of a directory is ever run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np
import tokenizers
from jaxtyping import Bool, Int
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from encodax.errors import EncodaxError

Kind = Literal["wordpiece", "bpe", "char"]
Text = str | tuple[str, str]
"""One text, or a pair of texts."""

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
SENTENCEPIECE_FILES = ("spm.model", "spiece.model", "sentencepiece.bpe.model")
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


@dataclass(frozen=True)
class Encoding:
    """One text (or pair) as tokens."""

    token_ids: Int[np.ndarray, " tokens"]
    """Vocabulary index of each token, special tokens included."""
    type_ids: Int[np.ndarray, " tokens"]
    """What the model embeds: in BERT 0 for the first text, 1 for the second; in RoBERTa all 0."""
    offsets: Int[np.ndarray, "tokens 2"]
    """Where each token begins and ends in its own text, in characters."""
    is_special: Bool[np.ndarray, " tokens"]
    """True for the tokens that stand for no text, such as [CLS]."""
    sequence_ids: Int[np.ndarray, " tokens"]
    """0 for the tokens of the first text, 1 for those of the second, -1 for those of no text."""

    def __len__(self) -> int:
        return len(self.token_ids)

    def truncated(self, length: int) -> Encoding:
        """Its first tokens, with all special tokens kept; of a pair, the longer text is cut first.

        Where not even the special tokens have room, the last of them ends what is left.
        """
        if len(self) <= length:
            return self
        frame, first, second = (np.flatnonzero(self.sequence_ids == i) for i in (-1, 0, 1))
        room = length - len(frame)
        if room < 0:
            keep = np.r_[frame[: length - 1], frame[-1:]]
        else:
            shorter, longer = sorted((first, second), key=len)
            share = min(len(shorter), room // 2)  # the odd token goes to the longer text
            keep = np.sort(np.r_[frame, shorter[:share], longer[: room - share]])
        return self.taken(keep)

    def taken(self, index: Int[np.ndarray, " kept"]) -> Encoding:
        """The tokens at these places."""
        return Encoding(
            self.token_ids[index],
            self.type_ids[index],
            self.offsets[index],
            self.is_special[index],
            self.sequence_ids[index],
        )


class Tokenizer:
    """A tokenizer, trained here or published: encodes texts and pairs with offsets, and decodes.

    One that is trained here makes `[CLS] text [SEP]` of a text, and `[CLS] first [SEP] second
    [SEP]` of a pair.
    """

    vocabulary_size: int
    """Ids are below it. A published vocabulary may leave some out."""
    special_tokens: dict[str, str]
    """The special tokens that the vocabulary has, by role: `cls_token`, `mask_token`, ..."""
    files: Mapping[str, bytes]
    """The files of the directory it was loaded from that `save` writes again, by name."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        special_tokens: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
    ):
        """Wrap a tokenizer of the `tokenizers` library; its truncation and padding go off.

        Args:
            backend: the tokenizer.
            special_tokens: its special tokens by role; for roles that are not named, BERT's,
                RoBERTa's or ESM's, whichever the vocabulary has.
            files: what `save` writes besides `tokenizer.json`.
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        vocabulary = backend.get_vocab()
        self.vocabulary_size = max(vocabulary.values(), default=-1) + 1
        known = (SPECIAL_TOKENS, ROBERTA_TOKENS, ESM_TOKENS)
        usual = next((names for names in known if names["cls_token"] in vocabulary), SPECIAL_TOKENS)
        named = usual | dict(special_tokens or {})
        self.special_tokens = {role: token for role, token in named.items() if token in vocabulary}
        self.files = dict(files or {})

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        kind: Kind = "wordpiece",
        *,
        vocabulary_size: int = 8_000,
        lowercase: bool = False,
    ) -> Tokenizer:
        """Learn a vocabulary from texts; the same texts give the same vocabulary.

        Args:
            texts: what to learn from.
            kind: `wordpiece` (BERT), `bpe` (byte-level, as GPT-2: no text is ever unknown), or
                `char` (one token a character, spaces too).
            vocabulary_size: largest number of tokens, special tokens included. Every character
                (wordpiece) or byte (bpe) of the alphabet is in, even if that makes more.
            lowercase: whether case and accents are dropped (wordpiece alone).

        Raises:
            EncodaxError: an unknown kind, or an option that the kind does not have.
        """
        if kind not in get_args(Kind):
            raise EncodaxError(f"tokenizer {kind!r} is not one of: {', '.join(get_args(Kind))}")
        if lowercase and kind != "wordpiece":
            raise EncodaxError(f"lowercase goes with the wordpiece tokenizer, not with {kind}")
        train = {"wordpiece": _wordpiece, "bpe": _byte_level_bpe, "char": _characters}[kind]
        backend = train(list(texts), vocabulary_size, lowercase)
        _frame_with_special_tokens(backend, trim_offsets=kind == "bpe")
        return cls(backend)

    @classmethod
    def load(cls, directory: Path | str, *, model_type: str | None = None) -> Tokenizer:
        """Read the tokenizer of a model directory.

        That is `tokenizer.json`, or else `vocab.txt` (BERT and its kin, MPNet, ESM), or
        `vocab.json` and `merges.txt` (RoBERTa). What these mean depends on the family: the one of
        `tokenizer_class` in the directory's files, or that of the model.

        Args:
            directory: the model directory. A link out of it is refused, but for those of the
                Hugging Face cache.
            model_type: the family of the model; by default, what `config.json` says.

        Raises:
            EncodaxError: there is no such file, it is broken, or it is of a kind that is not read.
        """
        source = _Directory(Path(directory))
        family = source.family(model_type)
        if TOKENIZER_FILE in source.files:
            path = source.path / TOKENIZER_FILE
            try:
                backend = tokenizers.Tokenizer.from_buffer(source.files[TOKENIZER_FILE])
            except Exception as error:  # the library raises bare Exception
                raise EncodaxError(f"{path} cannot be read as a tokenizer: {error}") from error
            _check_ids(path, backend.get_vocab())
        else:
            backend = _from_vocabulary_files(source, family)
        usual = SLOW[family].special_tokens if family in SLOW else {}
        named = {role: flags["content"] for role, flags in source.named_tokens().items()}
        carried = {name: source.files[name] for name in CARRIED_FILES if name in source.files}
        return cls(backend, special_tokens=usual | named, files=carried)

    def save(
        self,
        directory: Path | str,
        *,
        max_length: int | None = None,
        model_type: str | None = None,
    ) -> None:
        """Write `tokenizer.json` and the files that transformers reads.

        What was loaded is written again unchanged, except that `tokenizer_config.json` names no
        code (`auto_map`), and has a `model_max_length`.

        Args:
            directory: an existing directory.
            max_length: the longest sequence of the model, in tokens; a published one is kept.
            model_type: the family of the model. For `esm` there is a `vocab.txt`, all that
                transformers' EsmTokenizer reads.
        """
        config, changed = self._config(max_length)
        # Not the library's own save: it reports a full disk as a bare Exception.
        files = {TOKENIZER_FILE: self._backend.to_str(pretty=True).encode(), **self.files}
        if model_type == "esm" and VOCABULARY_FILE not in files and self._is_a_list_of_words():
            words = self.tokens(range(self.vocabulary_size))
            files[VOCABULARY_FILE] = "\n".join(words).encode()
            config["tokenizer_class"], changed = "EsmTokenizer", True
            if "sep_token" in self.special_tokens:  # EsmTokenizer ends a sequence with eos_token
                config.setdefault("eos_token", self.special_tokens["sep_token"])
        if changed:
            files[TOKENIZER_CONFIG_FILE] = (json.dumps(config, indent=2) + "\n").encode()
        for name, content in files.items():
            (Path(directory) / name).write_bytes(content)

    def _config(self, max_length: int | None) -> tuple[dict[str, Any], bool]:
        """What `tokenizer_config.json` is to hold, and whether that is not what was loaded."""
        if TOKENIZER_CONFIG_FILE in self.files:
            loaded: dict[str, Any] = json.loads(self.files[TOKENIZER_CONFIG_FILE])
        else:
            loaded = {}
        config = loaded or {**self.special_tokens, "tokenizer_class": "PreTrainedTokenizerFast"}
        config = {key: value for key, value in config.items() if key != "auto_map"}
        if max_length is not None:
            config.setdefault("model_max_length", max_length)
        return config, config != loaded

    def _is_a_list_of_words(self) -> bool:
        """Whether EsmTokenizer, for which each line of `vocab.txt` is a word, tokenizes alike.

        But for what is unknown: several such characters together are one token to it.
        """
        words = self._backend.get_vocab()
        return (
            isinstance(self._backend.model, models.WordLevel)
            and len(words) == self.vocabulary_size
            and all([word] == word.split() for word in words)
        )

    @property
    def pad_id(self) -> int:
        """Id of the padding token, or 0 for a vocabulary without one."""
        return self._id_of("pad_token") or 0

    @property
    def mask_token(self) -> str | None:
        """The token that stands for a hidden one, or None for a vocabulary without one."""
        return self.special_tokens.get("mask_token")

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token, or None for a vocabulary without one."""
        return self._id_of("mask_token")

    def _id_of(self, role: str) -> int | None:
        token = self.special_tokens.get(role)
        return None if token is None else self._backend.token_to_id(token)

    def encode(self, texts: Sequence[Text]) -> list[Encoding]:
        """Encode texts and pairs, in parallel, in order."""
        return [
            Encoding(
                token_ids=np.asarray(encoding.ids, np.int32),
                type_ids=np.asarray(encoding.type_ids, np.int32),
                offsets=np.asarray(encoding.offsets, np.int32).reshape(-1, 2),
                is_special=np.asarray(encoding.special_tokens_mask, bool),
                sequence_ids=np.asarray(
                    [-1 if text is None else text for text in encoding.sequence_ids], np.int32
                ),
            )
            for encoding in self._backend.encode_batch(list(texts))
        ]

    def decode(self, token_ids: Iterable[SupportsIndex]) -> str:
        """Token ids back to text, without special tokens."""
        return str(self._backend.decode([int(i) for i in token_ids]))

    def tokens(self, token_ids: Iterable[SupportsIndex]) -> list[str]:
        """The vocabulary entries of those ids."""
        return [self._backend.id_to_token(int(i)) or "" for i in token_ids]


def _wordpiece(texts: list[str], vocabulary_size: int, lowercase: bool) -> tokenizers.Tokenizer:
    """WordPiece with a vocabulary that is the same from run to run.

    The library's trainer numbers the continuing characters (`##a`) in an order that changes from
    process to process, and that order settles ties. So they are found first, and numbered here.
    """
    specials = list(SPECIAL_TOKENS.values())

    def trained(reserved: list[str], size: int) -> dict[str, int]:
        backend = _wordpiece_of({}, lowercase)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=reserved, show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        return dict(backend.get_vocab())

    alphabet = trained(specials, size=0)
    continuing = sorted(token for token in alphabet if token.startswith("##") and len(token) == 3)
    return _wordpiece_of(trained(specials + continuing, vocabulary_size), lowercase)


def _wordpiece_of(vocabulary: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    unknown = SPECIAL_TOKENS["unk_token"]
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([token for token in SPECIAL_TOKENS.values() if token in vocabulary])
    return backend


def _byte_level_bpe(texts: list[str], vocabulary_size: int, _: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _characters(texts: list[str], vocabulary_size: int, _: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token=SPECIAL_TOKENS["unk_token"]))
    any_character = tokenizers.Regex(r"[\s\S]")
    backend.pre_tokenizer = pre_tokenizers.Split(any_character, behavior="isolated")
    backend.decoder = decoders.Fuse()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _frame_with_special_tokens(backend: tokenizers.Tokenizer, *, trim_offsets: bool) -> None:
    """Put [CLS] and [SEP] around what is encoded."""
    begin, end = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    ids = backend.get_vocab()
    frame = _frame((begin, ids[begin]), (end, ids[end]))
    # Byte-level tokens carry the space before a word; trimmed offsets leave it out.
    trim = processors.ByteLevel(trim_offsets=True)
    backend.post_processor = processors.Sequence([trim, frame]) if trim_offsets else frame


def _frame(begin: Token, end: Token) -> processors.PostProcessor:
    return processors.TemplateProcessing(
        single=f"{begin[0]} $A {end[0]}",
        pair=f"{begin[0]} $A {end[0]} $B:1 {end[0]}:1",
        special_tokens=[begin, end],
    )


class _Directory:
    """The tokenizer's files of a model directory, as bytes."""

    def __init__(self, path: Path):
        names = (TOKENIZER_FILE, MODEL_CONFIG_FILE, *CARRIED_FILES)
        found = {name: _read(path / name) for name in names}
        self.path = path
        self.files = {name: content for name, content in found.items() if content is not None}
        self.config = self.json_object(TOKENIZER_CONFIG_FILE)

    def text(self, name: str) -> str:
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
        if not path.is_file():
            return None
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


def _check_ids(path: Path, vocabulary: Mapping[str, int]) -> None:
    """Refuse an id that two tokens have."""
    tokens: dict[int, str] = {}
    for token, index in vocabulary.items():
        if tokens.setdefault(index, token) != token:
            raise EncodaxError(f"{path}: {tokens[index]!r} and {token!r} have the same id {index}")


def _from_vocabulary_files(source: _Directory, family: str) -> tokenizers.Tokenizer:
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
    _check_ids(path, vocabulary)
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
    source: _Directory, backend: tokenizers.Tokenizer, named: list[dict[str, Any]]
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


def _lines(source: _Directory) -> dict[str, int]:
    """`vocab.txt`: a token a line, whose id is the number of the line."""
    return _numbered(source, source.text(VOCABULARY_FILE).rstrip("\n").split("\n"))


def _words(source: _Directory) -> dict[str, int]:
    """The same as EsmTokenizer reads it: without spaces around the token."""
    return _numbered(source, [line.strip() for line in source.text(VOCABULARY_FILE).splitlines()])


def _numbered(source: _Directory, tokens: list[str]) -> dict[str, int]:
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if vocabulary.setdefault(token, index) != index:
            lines = f"lines {vocabulary[token] + 1} and {index + 1}"
            raise EncodaxError(
                f"{source.path / VOCABULARY_FILE}: {lines} are the same token {token!r}"
            )
    return vocabulary


def _json_vocabulary(source: _Directory) -> dict[str, int]:
    vocabulary = source.json_object(BPE_VOCABULARY_FILE)
    for token, index in vocabulary.items():
        if type(index) is not int or index < 0:
            path = source.path / BPE_VOCABULARY_FILE
            raise EncodaxError(f"{path}: the id of {token!r} is {index!r}, which is no id")
    return vocabulary


def _published_wordpiece(
    source: _Directory, vocabulary: dict[str, int], unknown: str
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


def _published_bpe(source: _Directory, vocabulary: dict[str, int], _: str) -> tokenizers.Tokenizer:
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


def _published_esm(_: _Directory, vocabulary: dict[str, int], unknown: str) -> tokenizers.Tokenizer:
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


Token = tuple[str, int]


def _bert_frame(_: _Directory, begin: Token, end: Token) -> processors.PostProcessor:
    return _frame(begin, end)


def _roberta_frame(source: _Directory, begin: Token, end: Token) -> processors.PostProcessor:
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
    read: Callable[[_Directory], dict[str, int]]
    backend: Callable[[_Directory, dict[str, int], str], tokenizers.Tokenizer]
    """Makes the tokenizer of the vocabulary and its unknown token, without a frame."""
    processor: Callable[[_Directory, Token, Token], processors.PostProcessor]
    """Puts a token before a text and one after it."""
    frame: tuple[str, str] = ("cls_token", "sep_token")
    """The roles of these two."""
    mask_takes_space: bool = False
    """Whether the mask token takes the space before it, as a word would."""


BERT = Slow((VOCABULARY_FILE,), SPECIAL_TOKENS, _lines, _published_wordpiece, _bert_frame)
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
    "roberta": Slow(
        (BPE_VOCABULARY_FILE, MERGES_FILE),
        ROBERTA_TOKENS,
        _json_vocabulary,
        _published_bpe,
        _roberta_frame,
        mask_takes_space=True,
    ),
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
