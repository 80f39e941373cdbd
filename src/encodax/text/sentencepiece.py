"""Tokenizers of SentencePiece models (Kudo & Richardson 2018, arXiv:1808.06226): Marian's and T5's.

Marian has one model for the source, one for the target, and a common vocabulary that is that of
neither; T5 has one model, whose pieces are the vocabulary. The `sentencepiece` package cuts texts
into pieces; this module gives the pieces their ids.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import decoders

from encodax.errors import EncodaxError
from encodax.text.published import (
    BPE_VOCABULARY_FILE,
    TOKENIZER_CONFIG_FILE,
    TokenizerFiles,
    check_ids,
    json_vocabulary,
    text_of,
)
from encodax.text.published_classes import EXTRA_IDS

SOURCE_FILE, TARGET_FILE = "source.spm", "target.spm"
T5_FILE = "spiece.model"
TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""Special tokens of both families, by role."""
LANGUAGE = re.compile(r">>([^<>]+)<<")
"""Language of the target, before a source, in Marian's multilingual models."""
HIDDEN = re.compile(r"<extra_id_\d+>")
"""Tokens of T5 for hidden spans."""
CLASSES = {"marian": "MarianTokenizer", "t5": "T5Tokenizer"}
"""Class of transformers, by family."""
NEEDED = {"marian": (SOURCE_FILE, TARGET_FILE, BPE_VOCABULARY_FILE), "t5": (T5_FILE,)}
"""Files that a tokenizer is made from, by family."""


@dataclass(frozen=True)
class Pieces:
    """Tokens of a text, with the attribute names of `tokenizers.Encoding`."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[int]

    @property
    def type_ids(self) -> list[int]:
        """Token types, all 0: no such model takes pairs of texts."""
        return [0] * len(self.ids)

    @property
    def sequence_ids(self) -> list[int | None]:
        """Index of the text of each token: 0, or None for tokens of no text."""
        return [None if special else 0 for special in self.special_tokens_mask]


class SentencePieceBackend:
    """SentencePiece model with a vocabulary, with the method names of `tokenizers.Tokenizer`."""

    def __init__(
        self,
        processor: Any,
        vocabulary: Mapping[str, int],
        special_tokens: Mapping[str, str],
        whole: str,
        unwritten: Collection[str],
        write: Callable[[list[str]], str],
    ):
        """Set the vocabulary.

        Args:
            processor: SentencePiece processor that cuts texts into pieces.
            vocabulary: the id of each piece; other pieces are unknown.
            special_tokens: `eos_token` ends each text, `unk_token` stands for unknown pieces.
            whole: regular expression of other tokens, found anywhere in a text.
            unwritten: tokens that decoding leaves out.
            write: function that makes a text from pieces.
        """
        self._processor = processor
        self._vocabulary = dict(vocabulary)
        self._tokens = {index: token for token, index in self._vocabulary.items()}
        self._end = vocabulary[special_tokens["eos_token"]]
        self._unknown = vocabulary[special_tokens["unk_token"]]
        known = [token for token in special_tokens.values() if token in vocabulary]
        self._whole = re.compile("|".join([whole, *map(re.escape, known)]))
        left_out = {*unwritten, *special_tokens.values()}
        self._special = {index for token, index in vocabulary.items() if token in left_out}
        self._write = write

    def get_vocab(self) -> dict[str, int]:
        """Return every token and its id."""
        return self._vocabulary

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """Return no added tokens: special tokens are named by their roles."""
        return {}

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None where there is no such token."""
        return self._vocabulary.get(token)

    def id_to_token(self, index: int) -> str | None:
        """Return the token with an id, or None where there is none."""
        return self._tokens.get(index)

    def encode_batch(self, texts: Sequence[Any]) -> list[Pieces]:
        """Encode texts, each followed by the end token.

        Raises:
            EncodaxError: a pair is given.
        """
        return [self._encode(text) for text in texts]

    def _encode(self, text: Any) -> Pieces:
        if not isinstance(text, str):
            raise EncodaxError("a tokenizer of SentencePiece takes texts, not pairs")
        found = Pieces([], [], [])
        place = 0
        for match in self._whole.finditer(text):
            self._add(found, text[place : match.start()], place)
            found.ids.append(self._vocabulary.get(match[0], self._unknown))
            found.offsets.append(match.span())
            found.special_tokens_mask.append(int(LANGUAGE.fullmatch(match[0]) is not None))
            place = match.end()
        self._add(found, text[place:], place)
        found.ids.append(self._end)
        found.offsets.append((0, 0))
        found.special_tokens_mask.append(1)
        return found

    def _add(self, found: Pieces, text: str, start: int) -> None:
        if not text:
            return
        cut = self._processor.encode_as_offset_mapping(text)
        for piece, (first, end) in zip(cut["pieces"], cut["offsets"], strict=True):
            found.ids.append(self._vocabulary.get(piece, self._unknown))
            found.offsets.append((start + first, start + end))
            found.special_tokens_mask.append(0)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Convert token ids to text, without special tokens."""
        known = (i for i in token_ids if i in self._tokens and i not in self._special)
        return self._write([self._tokens[i] for i in known])


def read(
    source: TokenizerFiles, family: str, rows: int | None = None
) -> tuple[SentencePieceBackend, SentencePieceBackend] | None:
    """Return the tokenizers of sources and of targets; None where no needed file is there.

    Args:
        source: files of the directory.
        family: `marian` or `t5`; no other has such tokenizers.
        rows: rows of the model's token table, where it is known.

    Raises:
        EncodaxError: a file is broken or missing, or `sentencepiece` is not installed.
    """
    needed = NEEDED.get(family, ())
    missing = [name for name in needed if name not in source.files]
    if len(missing) == len(needed):
        return None
    if missing:
        raise EncodaxError(
            f"{source.path / missing[0]} does not exist: a tokenizer of {family} needs "
            f"{', '.join(needed)}"
        )
    for key in ("separate_vocabs", "sp_model_kwargs", "split_special_tokens"):
        if source.argument(key):
            place = source.path / TOKENIZER_CONFIG_FILE
            raise EncodaxError(f"{place}: {key} = {source.argument(key)!r} is not supported")
    special = roles(source)
    if family == "t5":
        processor = _processor(source, T5_FILE)
        vocabulary = _t5_vocabulary(source, processor)
        spaced = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
        backend = _backend(
            source, T5_FILE, processor, vocabulary, special, HIDDEN.pattern, rows, spaced.decode
        )
        return backend, backend
    vocabulary = json_vocabulary(source)
    check_ids(source.path / BPE_VOCABULARY_FILE, vocabulary)
    whole = rf"\A{LANGUAGE.pattern}"
    backends = []
    for name in (SOURCE_FILE, TARGET_FILE):
        processor = _processor(source, name)
        write = functools.partial(_written, processor)
        file = BPE_VOCABULARY_FILE
        backend = _backend(source, file, processor, vocabulary, special, whole, rows, write)
        backends.append(backend)
    return backends[0], backends[1]


def _written(processor: Any, pieces: list[str]) -> str:
    """Make a text from pieces of Marian."""
    return str(processor.decode(pieces)).replace("\u2581", " ").strip()


def roles(source: TokenizerFiles) -> dict[str, str]:
    """Return the special tokens by role: those that the files name, and both families' own."""
    named = {**TOKENS, **source.named_tokens()}.items()
    return {role: text_of(token) for role, token in named if token is not None}


def _backend(
    source: TokenizerFiles,
    file: str,
    processor: Any,
    vocabulary: dict[str, int],
    special: dict[str, str],
    whole: str,
    rows: int | None,
    write: Callable[[list[str]], str],
) -> SentencePieceBackend:
    for role in ("eos_token", "unk_token"):
        if special.get(role) not in vocabulary:
            raise EncodaxError(f"{source.path / file} has no {special.get(role)!r}, the {role}")
    listed = source.added_tokens()
    for found in listed.values():
        if found.single_word:
            raise EncodaxError(
                f"{source.path}: single_word = true of {found.content!r} is not supported"
            )
    added = {token.content: index for index, token in listed.items()}
    for token, index in added.items():
        if vocabulary.get(token, index) != index:
            raise EncodaxError(
                f"{source.path}: the added token {token!r} has the id {index}, and in {file} it is "
                f"{vocabulary[token]}"
            )
    vocabulary = vocabulary | added
    extra = [text_of(token) for token in source.extra_tokens() or () if token is not None]
    for token in [*roles(source).values(), *extra]:
        # As in transformers, a token missing from the vocabulary gets the next id; where the
        # model's table has no row for it, it is left out.
        following = max(vocabulary.values()) + 1
        if token not in vocabulary and (rows is None or following < rows):
            vocabulary[token] = following
    words = {*added, *extra} & vocabulary.keys()
    whole = "|".join([whole, *map(re.escape, sorted(words, key=len, reverse=True))])
    flagged = (token.content for token in listed.values() if token.special)
    unwritten = {*extra, *flagged, *filter(HIDDEN.fullmatch, vocabulary)}
    return SentencePieceBackend(processor, vocabulary, special, whole, unwritten, write)


def _processor(source: TokenizerFiles, name: str) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise EncodaxError(
            f"{source.path / name} needs sentencepiece: pip install 'encodax[sentencepiece]'"
        ) from error
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(source.files[name])
        processor.get_piece_size()
    except (RuntimeError, TypeError) as error:
        raise EncodaxError(f"{source.path / name} is not a SentencePiece model") from error
    return processor


def _t5_vocabulary(source: TokenizerFiles, processor: Any) -> dict[str, int]:
    """Return the model's pieces, then the tokens for hidden spans, counted from the end."""
    pieces = processor.get_piece_size()
    vocabulary = {processor.id_to_piece(index): index for index in range(pieces)}
    count = source.argument("extra_ids", EXTRA_IDS)
    if type(count) is not int or count < 0:
        raise EncodaxError(f"{source.path}: extra_ids = {count!r} is not a number of tokens")
    return vocabulary | {f"<extra_id_{i}>": pieces + count - 1 - i for i in range(count)}
