"""Tokenizer: from text to token ids and back, on top of the `tokenizers` library.

Published directories load too: `published.py` reads their files.
"""

from __future__ import annotations

import copy
import functools
import json
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, SupportsIndex, get_args

import numpy as np
import tokenizers
from jaxtyping import Bool, Int
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from encodax.errors import EncodaxError, library_errors
from encodax.options.training import Kind as Kind
from encodax.storage import reading
from encodax.storage.json_files import ModelFiles
from encodax.text import published_classes, sentencepiece, words
from encodax.text.published import (
    ESM_TOKENS,
    ROBERTA_TOKENS,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    TokenizerFiles,
    check_ids,
    frame,
    text_of,
)
from encodax.text.sentencepiece import SentencePieceBackend
from encodax.text.words import WordRule

Joint = Literal["begins a word", "goes on", "as it stands"]
"""Join of a token to the characters before it: with a space (`begins a word`), without one (`goes
on`), or as in the text (`as it stands`)."""
Text = str | tuple[str, str]
"""One text, or a pair of texts."""


@dataclass(frozen=True)
class Encoding:
    """Tokens of one text or pair."""

    token_ids: Int[np.ndarray, " tokens"]
    """Vocabulary index of each token, special tokens included."""
    type_ids: Int[np.ndarray, " tokens"]
    """Token type of each token: in BERT 0 for the first text, 1 for the second; in RoBERTa all 0.

    All 0, too, where `model_input_names` of the tokenizer's files has no `token_type_ids`.
    """
    offsets: Int[np.ndarray, "tokens 2"]
    """Start and end of each token in its text, in characters: see `words.visible_offsets`."""
    is_special: Bool[np.ndarray, " tokens"]
    """True for tokens that stand for no text, such as [CLS]."""
    sequence_ids: Int[np.ndarray, " tokens"]
    """0 for tokens of the first text, 1 for those of the second, -1 for tokens of no text."""
    cuts_left: bool = False
    """Whether `truncated` keeps the last tokens of a text: `truncation_side` of the files."""
    odd_goes_first: bool = False
    """Whether the first text, and not the longer one, keeps one token more where both texts of a
    pair are cut to an odd number of tokens."""
    word_ids: Int[np.ndarray, " tokens"] | None = None
    """Index of each token's pre-tokenizer word, -1 for none; None where there are no words."""
    word_rule: WordRule = "spaces"
    """Rule that says what a word is to the tokenizer."""

    def __len__(self) -> int:
        return len(self.token_ids)

    def truncated(self, length: int) -> Encoding:
        """Return at most `length` tokens, special tokens included; cut a pair's longer text first.

        The first tokens are kept, or the last ones where the tokenizer's files say
        `truncation_side: left`. Without room for all special tokens, the result ends with the last
        of them.
        """
        if len(self) <= length:
            return self
        frame, first, second = (np.flatnonzero(self.sequence_ids == i) for i in (-1, 0, 1))
        room = length - len(frame)
        if room < 0:
            keep = np.r_[frame[: length - 1], frame[-1:]]
        else:
            shorter, longer = sorted((first, second), key=len)
            # An odd token goes to the longer text.
            share = min(len(shorter), room // 2)
            if self.odd_goes_first and share < len(shorter) and shorter is first:
                share = room - share
            cut = _last if self.cuts_left else _first
            keep = np.sort(np.r_[frame, cut(shorter, share), cut(longer, room - share)])
        return self.select(keep)

    def select(self, index: Int[np.ndarray, " kept"]) -> Encoding:
        """Return the tokens at these indices."""
        taken: dict[str, Any] = {name: each[index] for name, each in self._by_token().items()}
        return replace(self, **taken)

    def concatenate(self, others: Sequence[Encoding]) -> Encoding:
        """Concatenate this and others, which are parts of the same text."""
        parts = [part._by_token() for part in (self, *others)]
        joined: dict[str, Any] = {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
        return replace(self, **joined)

    def _by_token(self) -> dict[str, Any]:
        """Return the arrays with one entry for each token, by the name of the field."""
        names = ("token_ids", "type_ids", "offsets", "is_special", "sequence_ids", "word_ids")
        return {name: found for name in names if (found := getattr(self, name)) is not None}

    def windows(self, text: int, room: int, overlap: int = 0) -> list[Encoding]:
        """Return windows of at most `room` tokens of one text.

        Special tokens and the other text are repeated in each window.

        Args:
            text: text that is cut: 0 for the first, 1 for the second.
            room: largest number of its tokens in a window.
            overlap: number of its tokens that a window shares with the one before.
        """
        of_text = np.flatnonzero(self.sequence_ids == text)
        if len(of_text) <= room:
            return [self]
        others = np.flatnonzero(self.sequence_ids != text)
        starts = range(0, len(of_text) - overlap, room - overlap)
        return [self.select(np.sort(np.r_[others, of_text[at : at + room]])) for at in starts]

    def words(self, text: str) -> Int[np.ndarray, " tokens"]:
        """Return the number of each token's word, from 1; 0 for special tokens.

        A space that is a token, and does not begin a word, has a separate number.

        Args:
            text: text that was encoded.
        """
        found = np.zeros(len(self), np.int32)
        kept = np.flatnonzero(~self.is_special)
        ids = None if self.word_ids is None else self.word_ids[kept]
        found[kept] = words.numbers(self.offsets[kept], ids, text, self.word_rule)
        return found


def _first(places: np.ndarray, count: int) -> np.ndarray:
    return places[:count]


def _last(places: np.ndarray, count: int) -> np.ndarray:
    return places[len(places) - count :]


@dataclass(frozen=True)
class EncodedPair:
    """Source and target as tokens, for training."""

    source: Encoding
    given: Encoding
    """Input of the decoder: the start token, then the target without its last token."""
    wanted: Int[np.ndarray, " tokens"]
    """Labels: the token after each token of `given`; together they are the target."""

    @classmethod
    def of(cls, source: Encoding, target: Encoding, decoder_start_id: int) -> EncodedPair:
        """Return a pair whose decoder input begins with `decoder_start_id`."""
        given = replace(target, token_ids=np.r_[np.int32(decoder_start_id), target.token_ids[:-1]])
        return cls(source, given, target.token_ids)


FAMILIES_OF_SENTENCEPIECE = {name: kind for kind, name in sentencepiece.CLASSES.items()}
CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""Replacements of spaces before punctuation, for `clean_up_tokenization_spaces`."""


@dataclass(frozen=True)
class Conventions:
    """Settings in a tokenizer's files other than the ids of a text."""

    class_name: str = published_classes.BACKEND
    """Class of transformers that reads the files."""
    cuts_left: bool = False
    """Whether a text that is too long loses its first words."""
    has_types: bool = True
    """Whether the model gets token types that tell the texts of a pair apart."""
    cleans_spaces: bool = False
    """Whether decoding removes the spaces before punctuation."""


class Tokenizer:
    """Tokenizer, trained here or published: encodes texts and pairs with offsets, and decodes.

    One that is trained here encodes a text as `[CLS] text [SEP]`, and a pair as `[CLS] first [SEP]
    second [SEP]`.
    """

    vocabulary_size: int
    """Number above every id. A published vocabulary may leave out some ids below it."""
    special_tokens: dict[str, str]
    """Special tokens of the vocabulary, by role: `cls_token`, `mask_token`, ..."""
    files: Mapping[str, bytes]
    """Files of the directory it was loaded from that `save` writes again, by name."""
    keys: ModelFiles
    """Use of the keys of each JSON file it was loaded from."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer | SentencePieceBackend,
        *,
        targets: SentencePieceBackend | None = None,
        special_tokens: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        keys: ModelFiles | None = None,
        conventions: Conventions | None = None,
    ):
        """Wrap a tokenizer of the `tokenizers` library; its truncation and padding are turned off.

        Args:
            backend: the tokenizer, or an object with the same methods.
            targets: tokenizer of targets, where that is another.
            special_tokens: its special tokens by role; for other roles, BERT's, RoBERTa's or
                ESM's, whichever the vocabulary has.
            files: files that `save` writes in addition to `tokenizer.json`.
            keys: use of the keys of the JSON files it was loaded from.
            conventions: other settings of its files; by default, those of transformers without
                them.
        """
        self._conventions = conventions or Conventions()
        if isinstance(backend, tokenizers.Tokenizer):
            backend.no_truncation()
            backend.no_padding()
        self._backend = backend
        self._of_targets = targets or backend
        pre_tokenizer = getattr(backend, "pre_tokenizer", None)
        self._word_rule = words.rule_of(pre_tokenizer)
        self._blank_id = backend.token_to_id(words.blank_of(pre_tokenizer))
        added = backend.get_added_tokens_decoder().values()
        takes_spaces = any(token.lstrip or token.rstrip for token in added)
        self._has_no_spaces = self._word_rule == "pieces" and not takes_spaces
        vocabulary = backend.get_vocab()
        self.vocabulary_size = max(vocabulary.values(), default=-1) + 1
        known = (SPECIAL_TOKENS, ROBERTA_TOKENS, ESM_TOKENS)
        usual = next((names for names in known if names["cls_token"] in vocabulary), SPECIAL_TOKENS)
        named = usual | dict(special_tokens or {})
        self.special_tokens = {role: token for role, token in named.items() if token in vocabulary}
        self.files = dict(files or {})
        self.keys = dict(keys or {})

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        kind: Kind = "wordpiece",
        *,
        vocabulary_size: int = 8_000,
        lowercase: bool = False,
        begins: bool = True,
    ) -> Tokenizer:
        """Learn a vocabulary from texts; the same texts give the same vocabulary.

        Args:
            texts: training texts, which need not fit in memory. They are read twice (wordpiece);
                those of an iterator go to a temporary file meanwhile.
            kind: `wordpiece` (BERT), `bpe` (byte-level, as GPT-2: no text is ever unknown), or
                `char` (one token for each character, spaces too).
            vocabulary_size: largest number of tokens, special tokens included. Every character
                (wordpiece) or byte (bpe) of the alphabet is in, even if that makes more.
            lowercase: whether case and accents are dropped (wordpiece only).
            begins: whether a text begins with [CLS]; sequence-to-sequence models need only the
                end.

        Raises:
            EncodaxError: an unknown kind, or an option that the kind does not have.
        """
        if kind not in get_args(Kind):
            raise EncodaxError(f"tokenizer {kind!r} is not one of: {', '.join(get_args(Kind))}")
        if lowercase and kind != "wordpiece":
            raise EncodaxError(f"lowercase is for the wordpiece tokenizer, not for {kind}")
        train = {"wordpiece": _wordpiece, "bpe": _byte_level_bpe, "char": _characters}[kind]
        backend = train(texts, vocabulary_size, lowercase)
        _frame_with_special_tokens(backend, trim_offsets=kind == "bpe", begins=begins)
        return cls(backend)

    @classmethod
    def load(
        cls, directory: Path | str, *, model_type: str | None = None, rows: int | None = None
    ) -> Tokenizer:
        """Read the tokenizer of a model directory, as `AutoTokenizer` of transformers 5 does.

        That is `tokenizer.json`, or else `vocab.txt` (BERT and similar models, MPNet, ESM),
        `vocab.json` and `merges.txt` (RoBERTa, BART), or SentencePiece models (Marian, T5). Their
        meaning depends on `tokenizer_class` in the directory's files, or on the family of the
        model. Most classes take only the vocabulary and build the rest from
        `tokenizer_config.json`, which wins over `tokenizer.json`; for `PreTrainedTokenizerFast`,
        `tokenizer.json` decides everything.

        Args:
            directory: the model directory. A link out of it is refused, except those of the
                Hugging Face cache.
            model_type: the family of the model, where `config.json` does not say.
            rows: number of tokens that the model has vectors for. A special token that the files
                only name, and whose id would be beyond them, is left out.

        Raises:
            EncodaxError: there is no such file, it is broken or of an unsupported kind, or a key of
                it has an unsupported value.
        """
        place = Path(directory)
        return reading.read_consistently(place, lambda: cls._read(place, model_type, rows))

    @classmethod
    def _read(cls, directory: Path, model_type: str | None, rows: int | None) -> Tokenizer:
        with library_errors(f"{directory}: no tokenizer can be made from its files"):
            return cls._of_files(TokenizerFiles(directory), model_type, rows)

    @classmethod
    def _of_files(
        cls, source: TokenizerFiles, model_type: str | None, rows: int | None
    ) -> Tokenizer:
        family = source.family(model_type)
        class_name = published_classes.class_of(source, model_type)
        of_sentencepiece = None
        if TOKENIZER_FILE not in source.files or class_name == "MarianTokenizer":
            kind = FAMILIES_OF_SENTENCEPIECE.get(class_name, "")
            of_sentencepiece = sentencepiece.read(source, kind, rows)
        backend: tokenizers.Tokenizer | SentencePieceBackend
        targets: SentencePieceBackend | None = None
        if of_sentencepiece is not None:
            backend, targets = of_sentencepiece
            special = sentencepiece.roles(source)
        else:
            backend = published_classes.build(source, class_name, family, rows)
            named = published_classes.special_tokens(source, class_name).items()
            special = {role: text_of(token) for role, token in named if token is not None}
        check_ids(source.path, backend.get_vocab())
        conventions = Conventions(
            class_name=class_name,
            cuts_left=source.cuts_left,
            has_types=published_classes.has_types(source, class_name),
            cleans_spaces=cleans_spaces(source, backend),
        )
        return cls(
            backend,
            targets=targets,
            special_tokens=special,
            files=source.carried_files(),
            keys=source.keys(),
            conventions=conventions,
        )

    def save(
        self,
        directory: Path | str,
        *,
        max_length: int | None = None,
        model_type: str | None = None,
        has_types: bool = True,
    ) -> None:
        """Write `tokenizer.json` and the files that transformers reads.

        Loaded files are written unchanged, except that `tokenizer_config.json` names no code
        (`auto_map`), has a `model_max_length`, and names the tokenizer's class where the family of
        the model does not determine it.

        Args:
            directory: an existing directory.
            max_length: length of the longest sequence of the model, in tokens; a published one is
                kept.
            model_type: the family of the model. For `esm` there is a `vocab.txt`, the only file
                that transformers' EsmTokenizer reads.
            has_types: whether the model uses token types: transformers gives it none unless the
                configuration asks for them. A published setting is kept.
        """
        config, changed = self._config(max_length, has_types, model_type)
        # Not with the library's own save: it reports a full disk as a bare Exception.
        files = dict(self.files)
        if isinstance(self._backend, tokenizers.Tokenizer) and TOKENIZER_FILE not in files:
            files[TOKENIZER_FILE] = self._backend.to_str(pretty=True).encode()
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

    def _config(
        self, max_length: int | None, has_types: bool, model_type: str | None
    ) -> tuple[dict[str, Any], bool]:
        """Return the new `tokenizer_config.json`, and whether it differs from the loaded one."""
        if TOKENIZER_CONFIG_FILE in self.files:
            loaded: dict[str, Any] = json.loads(self.files[TOKENIZER_CONFIG_FILE])
        else:
            loaded = {}
        types = ["token_type_ids"] if has_types and self._conventions.has_types else []
        inputs = ["input_ids", *types, "attention_mask"]
        config = loaded or {
            **self.special_tokens,
            "tokenizer_class": self._published_class,
            "model_input_names": inputs,
        }
        config = {key: value for key, value in config.items() if key != "auto_map"}
        if max_length is not None:
            config.setdefault("model_max_length", max_length)
        own = self._conventions.class_name
        named = published_classes.class_named(config.get("tokenizer_class"), model_type)
        if TOKENIZER_FILE in self.files and named != own:
            config["tokenizer_class"] = self._published_class
        return config, config != loaded

    @property
    def _published_class(self) -> str:
        """Name of the transformers class that reads what `save` writes."""
        own = self._conventions.class_name
        if TOKENIZER_FILE in self.files and own != published_classes.BACKEND:
            return own
        if isinstance(self._backend, tokenizers.Tokenizer):
            return "PreTrainedTokenizerFast"
        is_marian = sentencepiece.SOURCE_FILE in self.files
        return sentencepiece.CLASSES["marian" if is_marian else "t5"]

    def _is_a_list_of_words(self) -> bool:
        """Return True if EsmTokenizer, which reads each line of `vocab.txt` as a word, agrees.

        Except for unknown characters: several of them together are one token to it.
        """
        words = self._backend.get_vocab()
        return (
            isinstance(self._backend, tokenizers.Tokenizer)
            and isinstance(self._backend.model, models.WordLevel)
            and len(words) == self.vocabulary_size
            and all([word] == word.split() for word in words)
        )

    def lowered(self) -> Tokenizer:
        """Return the same tokenizer, which lowercases texts before anything else.

        Raises:
            EncodaxError: the tokenizer is not one of the `tokenizers` library.
        """
        if not isinstance(self._backend, tokenizers.Tokenizer):
            raise EncodaxError(
                "do_lower_case = true is not supported for a SentencePiece model: lowercase the "
                "texts yourself, and set it to false"
            )
        content = json.loads(self._backend.to_str())
        own = content["normalizer"]
        steps = own["normalizers"] if own and own["type"] == "Sequence" else [own] if own else []
        if any(step["type"] == "Lowercase" for step in steps):
            return self
        content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}
        lowered = copy.copy(self)
        lowered._backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        if self._of_targets is self._backend:
            lowered._of_targets = lowered._backend
        return lowered

    @property
    def pad_id(self) -> int:
        """Id of the padding token, or 0 for a vocabulary without one."""
        return self._id_of("pad_token") or 0

    @property
    def mask_token(self) -> str | None:
        """Mask token, or None for a vocabulary without one."""
        return self.special_tokens.get("mask_token")

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token, or None for a vocabulary without one."""
        return self._id_of("mask_token")

    @functools.cached_property
    def languages(self) -> tuple[str, ...] | None:
        """Codes of the target languages that a text may ask for; None where it cannot."""
        if self._of_targets is self._backend:
            return None
        codes = map(sentencepiece.LANGUAGE.fullmatch, sorted(self.vocabulary()))
        return tuple(code[1] for code in codes if code)

    def vocabulary(self) -> dict[str, int]:
        """Return every token and its id."""
        return dict(self._backend.get_vocab())

    @functools.cached_property
    def ordinary_ids(self) -> Int[np.ndarray, " ordinary"]:
        """Ids of the vocabulary without those of special tokens, in order."""
        added = self._backend.get_added_tokens_decoder()
        special = {number for number, token in added.items() if token.special}
        vocabulary = self.vocabulary()
        special |= {vocabulary[token] for token in self.special_tokens.values()}
        return np.asarray(sorted(set(vocabulary.values()) - special), np.int32)

    @functools.cached_property
    def least_rows(self) -> int:
        """Smallest number of embedding rows: added and special tokens may go without one."""
        added = set(self._backend.get_added_tokens_decoder())
        return max((int(i) + 1 for i in self.ordinary_ids if int(i) not in added), default=0)

    @functools.cached_property
    def _most_rows(self) -> int:
        return max(self.vocabulary().values(), default=-1) + 1

    def check_rows(self, encodings: Sequence[Encoding], rows: int, names: Sequence[str]) -> None:
        """Refuse a token that the tokenizer has and the model does not, such as BART's mask.

        Args:
            encodings: tokens of the texts.
            rows: number of rows of the model's embedding.
            names: name of each text in error messages.

        Raises:
            EncodaxError: a token has no row; the message names the text and the token.
        """
        if self._most_rows <= rows:
            return
        for name, encoding in zip(names, encodings, strict=True):
            unknown = encoding.token_ids[encoding.token_ids >= rows]
            if len(unknown):
                (token,) = self.tokens(unknown[:1])
                raise EncodaxError(f"{name}: the model has no row for the token {token!r}")

    @property
    def eos_id(self) -> int | None:
        """Id of the token that ends a text, or None for a vocabulary without one."""
        end = self._id_of("eos_token")
        return self._id_of("sep_token") if end is None else end

    def _id_of(self, role: str) -> int | None:
        token = self.special_tokens.get(role)
        return None if token is None else self._backend.token_to_id(token)

    def encode(self, texts: Sequence[Text], names: Sequence[str] | None = None) -> list[Encoding]:
        """Encode texts and pairs, in parallel, in order.

        Args:
            texts: texts or pairs.
            names: name of each in error messages; `text 0` and so on when not given.

        Raises:
            EncodaxError: the tokenizer fails at a text.
        """
        return self._encoded(texts, names, self._backend)

    def encode_targets(
        self, texts: Sequence[str], names: Sequence[str] | None = None
    ) -> list[Encoding]:
        """Encode texts as targets of generation, for which Marian has a separate model."""
        return self._encoded(texts, names, self._of_targets)

    def _encoded(
        self,
        texts: Sequence[Text],
        names: Sequence[str] | None,
        backend: tokenizers.Tokenizer | SentencePieceBackend,
    ) -> list[Encoding]:
        names = names or numbered(texts)
        found = _encode_batch(backend, list(texts), names)
        return [self._encoding(text, of_it) for text, of_it in zip(texts, found, strict=True)]

    def _encoding(self, text: Text, encoding: Any) -> Encoding:
        conventions = self._conventions
        token_ids = np.asarray(encoding.ids, np.int32)
        offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
        sequence_ids = _numbers(encoding.sequence_ids)
        texts = (text,) if isinstance(text, str) else text
        # Where each character is a token, spaces count; BERT's tokens hold none, ASCII no accents.
        is_plain = self._has_no_spaces and all(part.isascii() for part in texts)
        if self._word_rule != "letters" and not is_plain:
            is_blank = token_ids == (-1 if self._blank_id is None else self._blank_id)
            offsets = words.visible_offsets(offsets, sequence_ids, is_blank, texts)
        has_words = self._word_rule in ("pieces", "regex")
        return Encoding(
            token_ids=token_ids,
            type_ids=np.asarray(encoding.type_ids, np.int32)
            * np.int32(self._conventions.has_types),
            offsets=offsets,
            is_special=np.asarray(encoding.special_tokens_mask, bool),
            sequence_ids=sequence_ids,
            cuts_left=conventions.cuts_left,
            odd_goes_first=conventions.class_name in published_classes.CUT_IN_PYTHON,
            word_ids=_numbers(encoding.word_ids) if has_words else None,
            word_rule=self._word_rule,
        )

    def decode(self, token_ids: Iterable[SupportsIndex]) -> str:
        """Convert token ids to text, without special tokens."""
        with library_errors("the tokens cannot be decoded"):
            text = str(self._of_targets.decode([int(i) for i in token_ids]))
        if self._conventions.cleans_spaces:
            for spaced, clean in CLEANED:
                text = text.replace(spaced, clean)
        return text

    @property
    def continues_words(self) -> bool:
        """Whether all tokens that continue a word, and only these, are marked (`##ehr`)."""
        backend = self._backend
        return isinstance(backend, tokenizers.Tokenizer) and isinstance(
            backend.model, models.WordPiece
        )

    @functools.cached_property
    def mask_takes_space(self) -> bool:
        """Whether the mask token includes the space before it, as words do in RoBERTa."""
        added = self._backend.get_added_tokens_decoder().get(
            -1 if self.mask_id is None else self.mask_id
        )
        return added is not None and bool(added.lstrip)

    def written(self, token_id: SupportsIndex) -> tuple[str, Joint]:
        """Return the characters of a token, and their join to the characters before it."""
        (token,) = self.tokens([token_id])
        backend = self._backend
        special = int(token_id) in backend.get_added_tokens_decoder()
        if special or isinstance(backend, SentencePieceBackend):
            return token, "as it stands"
        if isinstance(backend.model, models.WordPiece):
            prefix = backend.model.continuing_subword_prefix
            if len(token) > len(prefix) and token.startswith(prefix):
                return token.removeprefix(prefix), "goes on"
            return token, "as it stands"
        with library_errors(f"the token {token!r} cannot be decoded"):
            text = backend.decode([int(token_id)], skip_special_tokens=False)
        if not self._spaces_are_of_tokens:
            return text, "as it stands"
        # A decoder may drop the first space of a text; it is not part of the word.
        begins = text.startswith(" ") or token.startswith("\u2581")
        return text.removeprefix(" "), "begins a word" if begins else "goes on"

    def shown(self, token_id: SupportsIndex) -> str:
        """Return a token for display: `out` for `Ġout`, and `…ing` for one that continues a word.

        Tokens that are not whole characters, such as a part of one, are shown as they are.
        """
        word, joint = self.written(token_id)
        if not word.strip() or "\ufffd" in word:
            return self.tokens([token_id])[0]
        return f"…{word}" if joint == "goes on" else word

    @functools.cached_property
    def _spaces_are_of_tokens(self) -> bool:
        """Whether a word's first token includes its space: byte-level BPE, SentencePiece."""
        backend = self._backend
        if not isinstance(backend, tokenizers.Tokenizer) or backend.decoder is None:
            return False
        decoder = json.loads(backend.decoder.__getstate__())
        steps = decoder.get("decoders", [decoder])
        # Some decoders write SentencePiece's spaces with a replacement.
        replaced = {"String": "\u2581"}
        return any(
            step["type"] in ("ByteLevel", "Metaspace") or step.get("pattern") == replaced
            for step in steps
        )

    def id_of(self, entry: str) -> int | None:
        """Return the id of an entry of the vocabulary; None where there is none."""
        found: int | None = self._backend.token_to_id(entry)
        return found

    def tokens(self, token_ids: Iterable[SupportsIndex]) -> list[str]:
        """Return the vocabulary entries of the ids."""
        return [self._backend.id_to_token(int(i)) or "" for i in token_ids]


def cleans_spaces(
    source: TokenizerFiles, backend: tokenizers.Tokenizer | SentencePieceBackend
) -> bool:
    """Return whether decoding removes spaces before punctuation: in BPE they belong to the text."""
    asked = bool(source.argument("clean_up_tokenization_spaces", False))
    forced = source.argument(
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False
    )
    is_bpe = isinstance(backend, tokenizers.Tokenizer) and isinstance(backend.model, models.BPE)
    return asked and (bool(forced) or not is_bpe)


def _encode_batch(
    backend: tokenizers.Tokenizer | SentencePieceBackend, texts: list[Text], names: Sequence[str]
) -> Sequence[Any]:
    """Encode texts.

    Raises:
        EncodaxError: the library fails; the message names the first text for which it does.
    """
    try:
        with library_errors("texts"):
            return backend.encode_batch(texts)
    except EncodaxError:
        for name, text in zip(names, texts, strict=True):
            for part in (text,) if isinstance(text, str) else text:
                check_unicode(part, name)
            with library_errors(f"{name}: the tokenizer fails"):
                backend.encode_batch([text])
        raise


def _numbers(found: Sequence[int | None]) -> Int[np.ndarray, " tokens"]:
    """Return an array of the numbers, with -1 for None."""
    return np.asarray([-1 if number is None else number for number in found], np.int32)


def numbered(texts: Sequence[Text]) -> list[str]:
    """Return default names of texts for error messages."""
    return [f"text {index}" for index in range(len(texts))]


def check_unicode(text: str, where: str) -> None:
    """Refuse half of a surrogate pair: an escape in JSON can write one, no tokenizer takes it.

    Raises:
        EncodaxError: there is one; the message names the text and the character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EncodaxError(
            f"{where}: character {error.start} of the text, {text[error.start]!r}, is not Unicode"
        ) from None


def _wordpiece(texts: Iterable[str], vocabulary_size: int, lowercase: bool) -> tokenizers.Tokenizer:
    """Train WordPiece with a vocabulary that is the same in every run.

    The library's trainer numbers the continuing characters (`##a`) in an order that changes from
    process to process, and that order settles ties. So they are found first and numbered here.
    """
    specials = list(SPECIAL_TOKENS.values())

    def trained(reserved: list[str], size: int) -> dict[str, int]:
        backend = _wordpiece_of({}, lowercase)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=reserved, show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        return dict(backend.get_vocab())

    with tempfile.TemporaryFile() as file:
        if isinstance(texts, Iterator):
            texts = _Spooled(texts, file)
        alphabet = trained(specials, size=0)
        continuing = sorted(word for word in alphabet if word.startswith("##") and len(word) == 3)
        return _wordpiece_of(trained(specials + continuing, vocabulary_size), lowercase)


class _Spooled:
    """Texts of an iterator in a file, so that they can be read again."""

    def __init__(self, texts: Iterator[str], file: IO[bytes]):
        self._file = file
        for text in texts:
            pickle.dump(text, file)

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        with suppress(EOFError):
            while True:
                yield pickle.load(self._file)


def _wordpiece_of(vocabulary: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    unknown = SPECIAL_TOKENS["unk_token"]
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([token for token in SPECIAL_TOKENS.values() if token in vocabulary])
    return backend


def _byte_level_bpe(texts: Iterable[str], vocabulary_size: int, _: bool) -> tokenizers.Tokenizer:
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


def _characters(texts: Iterable[str], vocabulary_size: int, _: bool) -> tokenizers.Tokenizer:
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


def _frame_with_special_tokens(
    backend: tokenizers.Tokenizer, *, trim_offsets: bool, begins: bool
) -> None:
    """Put [CLS] before each encoded text or pair if `begins`, and [SEP] after each text."""
    begin, end = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    ids = backend.get_vocab()
    framed = frame((begin, ids[begin]) if begins else None, (end, ids[end]))
    # Byte-level tokens include the space before a word; trimmed offsets leave it out.
    trim = processors.ByteLevel(trim_offsets=True)
    backend.post_processor = processors.Sequence([trim, framed]) if trim_offsets else framed
