"""Text to token ids and back: a small class over the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, SupportsIndex, get_args

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

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


@dataclass(frozen=True)
class Encoding:
    """One text (or pair) as tokens."""

    token_ids: Int[np.ndarray, " tokens"]
    """Vocabulary index of each token, special tokens included."""
    type_ids: Int[np.ndarray, " tokens"]
    """0 for the first text, 1 for the second."""
    offsets: Int[np.ndarray, "tokens 2"]
    """Where each token begins and ends in its own text, in characters."""
    is_special: Bool[np.ndarray, " tokens"]
    """True for the tokens that stand for no text, such as [CLS]."""

    def __len__(self) -> int:
        return len(self.token_ids)

    def truncated(self, length: int) -> Encoding:
        """The first tokens of it, with the last special token (such as [SEP]) kept at the end."""
        keep = np.r_[0 : length - 1, len(self) - 1] if len(self) > length else np.r_[0 : len(self)]
        return Encoding(
            self.token_ids[keep], self.type_ids[keep], self.offsets[keep], self.is_special[keep]
        )


class Tokenizer:
    """A trained tokenizer: encodes single texts and pairs with offsets, decodes, saves and loads.

    Texts come out as `[CLS] text [SEP]`, pairs as `[CLS] first [SEP] second [SEP]`.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        """`backend` is a tokenizer of the `tokenizers` library; truncation and padding go off."""
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend

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
    def load(cls, directory: Path | str) -> Tokenizer:
        """Read `tokenizer.json` of a model directory.

        Raises:
            EncodaxError: there is no such file, or it is not one of the `tokenizers` library.
        """
        path = Path(directory) / TOKENIZER_FILE
        if not path.is_file():
            raise EncodaxError(f"{path} does not exist: is {directory} a model directory?")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception
            raise EncodaxError(f"{path} cannot be read as a tokenizer: {error}") from error

    def save(self, directory: Path | str, *, max_length: int | None = None) -> None:
        """Write `tokenizer.json` and the `tokenizer_config.json` that transformers reads.

        Args:
            directory: an existing directory.
            max_length: the longest sequence of the model, in tokens.
        """
        directory = Path(directory)
        # Not the library's own save: it reports a full disk as a bare Exception.
        (directory / TOKENIZER_FILE).write_text(self._backend.to_str(pretty=True), encoding="utf-8")
        vocabulary = self._backend.get_vocab()
        config: dict[str, object] = {
            name: token for name, token in SPECIAL_TOKENS.items() if token in vocabulary
        }
        config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
        config |= {} if max_length is None else {"model_max_length": max_length}
        text = json.dumps(config, indent=2) + "\n"
        (directory / TOKENIZER_CONFIG_FILE).write_text(text, encoding="utf-8")

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens: ids are below it."""
        return int(self._backend.get_vocab_size())

    @property
    def pad_id(self) -> int:
        """Id of [PAD], or 0 for a vocabulary without one."""
        return self._backend.token_to_id(SPECIAL_TOKENS["pad_token"]) or 0

    def encode(self, texts: Sequence[Text]) -> list[Encoding]:
        """Encode texts and pairs, in parallel, in order."""
        return [
            Encoding(
                token_ids=np.asarray(encoding.ids, np.int32),
                type_ids=np.asarray(encoding.type_ids, np.int32),
                offsets=np.asarray(encoding.offsets, np.int32).reshape(-1, 2),
                is_special=np.asarray(encoding.special_tokens_mask, bool),
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
    frame = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (begin, end)],
    )
    # Byte-level tokens carry the space before a word; trimmed offsets leave it out.
    trim = processors.ByteLevel(trim_offsets=True)
    backend.post_processor = processors.Sequence([trim, frame]) if trim_offsets else frame
