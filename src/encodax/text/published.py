"""Tokenizer files of a model directory: their contents, and the use of each key.

The tokenizer they make, with the classes of transformers, is in `published_classes.py`. No code of
a directory is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, processors

from encodax.errors import EncodaxError, library_errors
from encodax.storage import json_files
from encodax.storage.json_files import (
    FileKeys,
    ModelFiles,
    Settings,
    check_content,
    is_there,
    read_whole,
    shown,
)

Token = tuple[str, int]
"""A token and its id."""
Named = str | AddedToken | None
"""Special token, as the files name it; None where they say that there is none."""

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
"""RoBERTa's special tokens. As in transformers, the token between two texts has two roles."""

ESM_TOKENS = {
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "cls_token": "<cls>",
    "mask_token": "<mask>",
}
"""ESM's special tokens."""

ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""Roles of special tokens, in the order in which transformers adds their tokens."""

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
MODEL_CONFIG_FILE = "config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
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
    CHAT_TEMPLATE_FILE,
    VOCABULARY_FILE,
    BPE_VOCABULARY_FILE,
    MERGES_FILE,
    *SENTENCEPIECE_FILES,
)
"""Files that transformers' tokenizers read in addition to `tokenizer.json`: kept from load to
save."""
FOREIGN_FILES = (
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.model",
    "sentencepiece.model",
    "target_vocab.json",
    "bpe.codes",
    "normalizer.json",
)
"""Files of transformers' tokenizers of other families: never written here, and never left
together with another tokenizer."""

UNREAD = "the tokenizer's class does not read it"
CHAT = "it is for chats"
PADDING = "a batch is packed, not padded"
AT_THE_CALL = "the caller gives it, not the file"
PROVENANCE = "it says where the tokenizer comes from"
OF_TOKENIZER_FILE = "tokenizer.json, or the class, says it"
CONVERT_HINT = "AutoTokenizer.from_pretrained(X).save_pretrained(X)"

HARMLESS: dict[str, str] = {
    "add_bos_token": OF_TOKENIZER_FILE,
    "add_eos_token": OF_TOKENIZER_FILE,
    "auto_map": "it names code, and no code of a directory is run",
    "backend": PROVENANCE,
    "chat_control_tokens": CHAT,
    "chat_template": CHAT,
    "errors": "bytes that are not text are replaced, whatever it says",
    "files_loaded": PROVENANCE,
    "from_slow": PROVENANCE,
    "is_local": PROVENANCE,
    "local_files_only": PROVENANCE,
    "max_len": "it is an older name of model_max_length, which is read as that is",
    "max_length": AT_THE_CALL,
    "model_max_length": "it is the length of the model's texts, and read as that",
    "name_or_path": PROVENANCE,
    "pad_to_multiple_of": PADDING,
    "pad_token_type_id": PADDING,
    "padding": PADDING,
    "padding_side": PADDING,
    "padding_strategy": PADDING,
    "processor_class": PROVENANCE,
    "response_schema": CHAT,
    "response_template": CHAT,
    "special_tokens_map_file": PROVENANCE,
    "stride": AT_THE_CALL,
    "transformers_version": PROVENANCE,
    "truncation": AT_THE_CALL,
    "tgt_lang": AT_THE_CALL,
    "truncation_strategy": AT_THE_CALL,
    "use_fast": "there is one kind of tokenizer",
    "verbose": "it changes what is said, not what is computed",
    "additional_special_tokens": "extra_special_tokens is there too, and is used instead",
    "mask_token_sent": OF_TOKENIZER_FILE,
    "offset": OF_TOKENIZER_FILE,
    "source_lang": "the vocabulary has the languages",
    "target_lang": "the vocabulary has the languages",
    "trim_offsets": OF_TOKENIZER_FILE,
    "unk_id": "the unknown token has an id in the vocabulary",
    **dict.fromkeys(
        ("merges_file", "source_spm", "spm_file", "target_spm", "target_vocab_file", "vocab_file"),
        "the file of the directory is read, whatever it was called",
    ),
}
"""Keys of `tokenizer_config.json` that change no answer, each with the reason."""
REFUSED = (
    "fast_tokenizer_files", "gguf_file", "init_inputs", "merges", "post_processor",
    "tokenizer_object", "tokenizer_padding", "tokenizer_truncation", "vocab",
    "_json_padding", "_json_truncation", "_spm_precompiled_charsmap",
)  # fmt: skip
"""Keys that replace the directory's files by other contents."""
METHODS = (
    "add_special_tokens", "add_tokens", "apply_chat_template", "batch_decode",
    "clean_up_tokenization", "convert_ids_to_tokens", "convert_tokens_to_ids",
    "convert_tokens_to_string", "decode", "encode", "from_pretrained", "get_added_vocab",
    "get_chat_template", "get_special_tokens_mask", "get_vocab", "num_special_tokens_to_add", "pad",
    "push_to_hub", "save_pretrained", "save_vocabulary", "tokenize",
)  # fmt: skip
"""Keys that transformers refuses: names of methods of its tokenizers."""


def frame(begin: Token | None, end: Token) -> processors.PostProcessor:
    """Return a processor: `begin`, if any, before each text or pair, and `end` after each text."""
    first = f"{begin[0]} " if begin else ""
    return processors.TemplateProcessing(
        single=f"{first}$A {end[0]}",
        pair=f"{first}$A {end[0]} $B:1 {end[0]}:1",
        special_tokens=[begin, end] if begin else [end],
    )


class TokenizerFiles:
    """Tokenizer files of a model directory, as bytes, with a record of the keys that were read."""

    def __init__(self, path: Path):
        names = (TOKENIZER_FILE, MODEL_CONFIG_FILE, *CARRIED_FILES)
        found = {name: _read(path / name) for name in names}
        self.path = path
        self.files = {name: content for name, content in found.items() if content is not None}
        self.config = self.settings(TOKENIZER_CONFIG_FILE)
        self.content = self.settings(TOKENIZER_FILE)
        self.token_map = self.settings(SPECIAL_TOKENS_FILE)
        self.model = self.settings(MODEL_CONFIG_FILE).plain()
        # As in transformers, the older map counts unless the configuration lists tokens.
        self._map_counts = "added_tokens_decoder" not in self.config

    def carried_files(self) -> dict[str, bytes]:
        """Return the files that are kept from load to save."""
        kept = (TOKENIZER_FILE, *CARRIED_FILES)
        return {name: self.files[name] for name in kept if name in self.files}

    def text(self, name: str) -> str:
        """Return the text of a UTF-8 file."""
        try:
            return self.files[name].decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise EncodaxError(f"{self.path / name} is not UTF-8: {error}") from error

    def json_object(self, name: str) -> dict[str, Any]:
        """Return the contents of a JSON file; an empty object where there is no file."""
        if name not in self.files:
            return {}
        found: dict[str, Any] = json_files.parse(self.text(name).encode(), self.path / name)
        return found

    def settings(self, name: str) -> Settings:
        """Return the contents of a JSON file, with a record of the keys that are read."""
        return Settings(self.json_object(name), where=self.path / name)

    def family(self, model_type: str | None) -> str:
        """Return the tokenizer's family in words: `roberta` for RobertaTokenizerFast."""
        if named := self.named_class():
            return named.removesuffix("Fast").removesuffix("Tokenizer").lower()
        return str(model_type or self.model.get("model_type"))

    def named_class(self) -> str | None:
        """Return the class that the files name."""
        named = self.config.get("tokenizer_class") or self.model.get("tokenizer_class")
        return str(named) if named else None

    def argument(self, key: str, default: Any = None) -> Any:
        """Return an argument of the tokenizer's class; the older map wins where it counts."""
        if self._map_counts and key in self.token_map:
            return self.token_map[key]
        return self.config.get(key, default)

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean argument.

        Raises:
            EncodaxError: it is neither true nor false.
        """
        value = self.argument(key, default)
        if not isinstance(value, bool):
            raise EncodaxError(f"{self.path}: {key} = {shown(value)} is neither true nor false")
        return value

    def named_tokens(self) -> dict[str, Named]:
        """Return the special tokens that the files name: by role, usual roles first."""
        given = [*self.config, *(self.token_map if self._map_counts else ())]
        roles = [role for role in ROLES if role in given]
        others = sorted({key for key in given if key.endswith("_token")} - {*ROLES, *SWITCHES})
        named = {role: self._token(role, self.argument(role)) for role in [*roles, *others]}
        for group in ("extra_special_tokens", "model_specific_special_tokens"):
            if isinstance(tokens := self.argument(group), Mapping):
                named |= {role: self._token(role, token) for role, token in tokens.items()}
        return named

    def extra_tokens(self) -> list[Named] | None:
        """Return special tokens that have no role; None where no file lists any."""
        old, new = "additional_special_tokens", "extra_special_tokens"
        found = self.config.get(new) or self.config.get(old) or self.config.get(new)
        if self._map_counts:
            if isinstance(more := self.token_map.get(new), list):
                found = [*(found or ()), *(token for token in more if token not in (found or ()))]
            if found is None:
                found = self.token_map.get(old)
        if found is None or isinstance(found, Mapping):
            return None if found is None else []
        if not isinstance(found, list):
            key = new if self.config.get(new) else old
            raise EncodaxError(f"{self.path}: {key} = {shown(found)} is not a list")
        return [self._token(new, token) for token in found]

    def _token(self, role: str, value: Any) -> Named:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            of_map = self._map_counts and role in self.token_map
            return self.added_token({**value, "special": True} if of_map else value)
        raise EncodaxError(f"{self.path}: {role} = {shown(value)} is not a token")

    def added_token(self, flags: Any) -> AddedToken:
        """Return a token and how it is matched: `{"content": "[MASK]", "lstrip": true}`."""
        with library_errors(f"{self.path}: {shown(flags)} is not a token"):
            return AddedToken(**{key: flags[key] for key in flags if key not in ("__type", "id")})

    def added_tokens(self) -> dict[int, AddedToken]:
        """Return the tokens that the files add to the vocabulary, or match specially, by id.

        Raises:
            EncodaxError: an id is not a number, or a token is not one.
        """
        listed: Any
        if not self._map_counts:
            listed = self.config["added_tokens_decoder"]
            with library_errors(f"{self.path}: added_tokens_decoder"):
                return {int(index): self.added_token(token) for index, token in listed.items()}
        extra = [token for token in self.extra_tokens() or [] if token is not None]
        named = [token for token in self.named_tokens().values() if token is not None]
        special = set(map(text_of, [*named, *extra]))
        found = {}
        for token, index in self.json_object(ADDED_TOKENS_FILE).items():
            if type(index) is not int:
                path = self.path / ADDED_TOKENS_FILE
                raise EncodaxError(
                    f"{path}: the id of {token!r} is {shown(index)}, which is not a token id"
                )
            is_special = token in special
            found[index] = AddedToken(token, normalized=not is_special, special=is_special)
        listed = self.content.get("added_tokens") or []
        with library_errors(f"{self.path / TOKENIZER_FILE}: added_tokens"):
            return found | {int(token["id"]): self.added_token(token) for token in listed}

    @property
    def cuts_left(self) -> bool:
        """Whether a text that is too long loses its first words.

        Raises:
            EncodaxError: the side is neither `left` nor `right`.
        """
        section = self.content.get("truncation") or {}
        side = self.argument("truncation_side", str(section.get("direction", "right")).lower())
        if side not in ("left", "right"):
            raise EncodaxError(f"{self.path}: truncation_side = {shown(side)} is not left or right")
        return bool(side == "left")

    def keys(self) -> ModelFiles:
        """Account for the keys of every file, once all has been read.

        Raises:
            EncodaxError: a key replaces the directory's files by other contents, or has a name that
                transformers refuses.
        """
        for key, value in self.config.plain().items():
            if key in METHODS or (key in REFUSED and value):
                raise EncodaxError(
                    f"{self.config.where}: {key} = {shown(value)} is not supported; remove the key"
                )
        lists = "tokenizer_config.json lists the tokens, and this older map is not used"
        reasons = {
            TOKENIZER_CONFIG_FILE: (self.config, HARMLESS, UNREAD),
            SPECIAL_TOKENS_FILE: (self.token_map, {}, UNREAD if self._map_counts else lists),
            TOKENIZER_FILE: (self.content, {"version": "one is known"}, MADE_ANEW),
        }
        found: dict[str, FileKeys] = {
            name: settings.settle(ignored_keys, unknown=unknown)
            for name, (settings, ignored_keys, unknown) in reasons.items()
            if name in self.files
        }
        if ADDED_TOKENS_FILE in self.files:
            added = tuple(self.json_object(ADDED_TOKENS_FILE))
            kept = dict.fromkeys(added, lists)
            found[ADDED_TOKENS_FILE] = (
                FileKeys(used=added) if self._map_counts else FileKeys((), kept, kept)
            )
        return found


SWITCHES = ("add_bos_token", "add_eos_token")
"""Keys that end like names of special tokens, but name none."""
MADE_ANEW = "the tokenizer's class makes it again from the vocabulary and tokenizer_config.json"


def text_of(token: str | AddedToken) -> str:
    """Return the characters of a special token."""
    return token if isinstance(token, str) else str(token.content)


def _read(path: Path) -> bytes | None:
    """Return a file's bytes, or None where there is none.

    Raises:
        EncodaxError: it is a link out of its directory, not a file, or cannot be read.
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
        return read_whole(path)
    except OSError as error:
        raise EncodaxError(f"{path} cannot be read: {error.strerror or error}") from error


MOST_IDS = 2**31
"""Number above every id: batches hold ids in 32 bits."""


def check_ids(path: Path, vocabulary: Mapping[str, int]) -> None:
    """Refuse an id that two tokens share, or that is out of range."""
    tokens: dict[int, str] = {}
    for token, index in vocabulary.items():
        if not 0 <= index < MOST_IDS:
            raise EncodaxError(f"{path}: the id of {token!r} is {index}, not in 0..{MOST_IDS - 1}")
        if tokens.setdefault(index, token) != token:
            raise EncodaxError(f"{path}: {tokens[index]!r} and {token!r} have the same id {index}")


def json_vocabulary(source: TokenizerFiles) -> dict[str, int]:
    """Read `vocab.json`: every token and its id."""
    vocabulary = source.json_object(BPE_VOCABULARY_FILE)
    for token, index in vocabulary.items():
        if type(index) is not int or index < 0:
            path = source.path / BPE_VOCABULARY_FILE
            raise EncodaxError(f"{path}: the id of {token!r} is {index!r}, not a token id")
    return vocabulary
