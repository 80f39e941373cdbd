"""Tokenizer classes of transformers: the class of a directory, and the tokenizer it makes.

A class of `CLASSES` takes only the vocabulary of `tokenizer.json`, or of vocabulary files, and
builds the rest from `tokenizer_config.json`: there the configuration wins. For any other class
`tokenizer.json` decides everything. Written from the behaviour of `AutoTokenizer` of transformers
5.23.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from encodax.errors import EncodaxError, library_errors
from encodax.storage.json_files import shown
from encodax.text.published import (
    BPE_VOCABULARY_FILE,
    CONVERT_HINT,
    ESM_TOKENS,
    MERGES_FILE,
    ROBERTA_TOKENS,
    ROLES,
    SENTENCEPIECE_FILES,
    SPECIAL_TOKENS,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    VOCABULARY_FILES,
    Named,
    Token,
    TokenizerFiles,
    check_ids,
    frame,
    json_vocabulary,
    text_of,
)

BACKEND = "TokenizersBackend"
"""Class for which `tokenizer.json` decides everything."""
CUT_IN_PYTHON = frozenset({"EsmTokenizer"})
"""Classes whose pairs transformers cuts itself: the first text then keeps an odd token."""
OF_MODELS = {
    "albert": "AlbertTokenizer",
    "bart": "RobertaTokenizer",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "esm": "EsmTokenizer",
    "marian": "MarianTokenizer",
    "modernbert": BACKEND,
    "mpnet": "MPNetTokenizer",
    "mt5": "T5Tokenizer",
    "nomic_bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "t5": "T5Tokenizer",
    "umt5": BACKEND,
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": BACKEND,
}
"""Class of each `model_type`, where no file names one."""
ALIASES = {
    "BartTokenizer": "RobertaTokenizer",
    "ElectraTokenizer": "BertTokenizer",
    "LayoutLMTokenizer": "BertTokenizer",
    "LongformerTokenizer": "RobertaTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "SqueezeBertTokenizer": "BertTokenizer",
    **dict.fromkeys(("PreTrainedTokenizer", "PreTrainedTokenizerFast", "BloomTokenizer"), BACKEND),
}
"""Other names of classes."""
WITHOUT_TOKENIZER_FILE = (
    "Bartpho", "BertGeneration", "BertJapanese", "Bertweet", "BioGpt", "BlenderbotSmall",
    "ByT5", "CTRL", "Canine", "CpmAnt", "FSMT", "Flaubert", "GPTNeoXJapanese", "GPTSw3",
    "M2M100", "Mgpstr", "MyT5", "PLBart", "Perceiver", "Phobert", "ProphetNet", "RoCBert",
    "Siglip", "Speech2Text", "SpeechT5", "Tapas", "XLM",
)  # fmt: skip
"""Classes (without `Tokenizer`) written in Python, which do not read `tokenizer.json`."""
SWITCHES = (
    "add_prefix_space", "do_lower_case", "do_remove_accents", "keep_accents", "remove_space",
    "split_by_punct", "strip_accents", "tokenize_chinese_chars", "trim_offsets",
)  # fmt: skip
"""Keys of `tokenizer_config.json` by which classes build a tokenizer."""


@dataclass(frozen=True)
class Vocabulary:
    """Vocabulary that a class takes from `tokenizer.json` or from vocabulary files."""

    tokens: Any
    """Token -> id; of a unigram model, [(piece, score), ...] in the order of their ids."""
    merges: list[tuple[str, str]]
    charsmap: bytes | None = None
    """Map of SentencePiece's normalization."""


@dataclass(frozen=True)
class TokenizerClass:
    """Tokenizer class of transformers: how it makes a tokenizer."""

    special_tokens: Mapping[str, str | Mapping[str, Any]]
    """Default special tokens, by role: a token, or a token and how it is matched."""
    make: Callable[[TokenizerFiles, Vocabulary, Mapping[str, str]], tokenizers.Tokenizer]
    """Function that makes the tokenizer from the vocabulary and its special tokens, without those
    around a text."""
    processor: Callable[[TokenizerFiles, Token, Token], processors.PostProcessor | None]
    """Function for the processor that puts a token before a text and one after it; None keeps that
    of `tokenizer.json`."""
    frame: tuple[str, str] = ("cls_token", "sep_token")
    """Roles of these two tokens."""
    files: tuple[str, ...] = ()
    """Vocabulary files that it can be made from."""
    read: Callable[[TokenizerFiles], Vocabulary] | None = None
    """Function that reads these files."""
    extra_tokens: Callable[[TokenizerFiles], list[Named]] = lambda source: (
        source.extra_tokens() or []
    )
    """Function that returns its special tokens without a role."""
    has_types: bool = False
    """Whether it gives token types that tell the texts of a pair apart, where no file lists the
    model's inputs."""
    reads_tokenizer_file: bool = True


def class_of(source: TokenizerFiles, model_type: str | None) -> str:
    """Return the class that reads a directory of a model of type `model_type`."""
    return class_named(source.named_class(), source.model.get("model_type") or model_type)


def class_named(named: str | None, model_type: object) -> str:
    """Return the class by its name in the files, or without one by the model's type."""
    registered = OF_MODELS.get(str(model_type))
    if named is None or registered == BACKEND:
        return registered or BACKEND
    named = named if named in ALIASES else named.removesuffix("Fast")
    return ALIASES.get(named, named)


def has_types(source: TokenizerFiles, class_name: str) -> bool:
    """Return whether the model gets token types that tell the texts of a pair apart."""
    known = CLASSES.get(class_name)
    default = ["token_type_ids"] if known is not None and known.has_types else []
    inputs = source.argument("model_input_names", default)
    if not isinstance(inputs, list):
        raise EncodaxError(f"{source.path}: model_input_names = {shown(inputs)} is not a list")
    return "token_type_ids" in inputs


def special_tokens(source: TokenizerFiles, class_name: str) -> dict[str, Named]:
    """Return special tokens by role: those that the files name, and the class's defaults."""
    known = CLASSES.get(class_name)
    given = known.special_tokens if known is not None else {}
    own: dict[str, Named] = {
        role: token if isinstance(token, str) else source.added_token(token)
        for role, token in given.items()
    }
    padding = source.content.get("padding")
    if known is None and isinstance(padding, dict) and "pad_token" in padding:
        own["pad_token"] = padding["pad_token"]
    named = dict(own)
    for role, token in source.named_tokens().items():
        flags = given.get(role)
        if isinstance(token, str) and not isinstance(flags, str | None):
            token = source.added_token({**flags, "content": token})
        named[role] = token
    for role in ("unk_token", *(known.frame if known is not None else ())):
        if known is not None and named[role] is None:
            raise EncodaxError(f"{source.path}: {role} = null, and {class_name} needs one")
    return {role: named[role] for role in sorted(named, key=_place_of_role)}


def _place_of_role(role: str) -> int:
    """Return the place of a role: in transformers' order, then roles of single models."""
    return ROLES.index(role) if role in ROLES else len(ROLES)


def build(
    source: TokenizerFiles, class_name: str, family: str, rows: int | None
) -> tokenizers.Tokenizer:
    """Return the tokenizer that transformers makes of a directory.

    Args:
        source: files of the directory.
        class_name: class that reads them.
        family: name of the family in error messages.
        rows: rows of the model's token table, where it is known.

    Raises:
        EncodaxError: a file is missing or broken, or the class is unknown here and may read the
            files differently.
    """
    known = CLASSES.get(class_name)
    if TOKENIZER_FILE not in source.files:
        return _of_vocabulary_files(source, known, family, rows)
    path = source.path / TOKENIZER_FILE
    with library_errors(f"{path} cannot be read as a tokenizer"):
        backend = tokenizers.Tokenizer.from_buffer(source.files[TOKENIZER_FILE])
    check_ids(path, backend.get_vocab())
    if known is None or not known.reads_tokenizer_file:
        _check_other_class(source, class_name)
        for key in OF_THE_LIBRARY:
            source.content.get(key)
        extra = source.extra_tokens() or []
        _add_tokens(source, backend, special_tokens(source, class_name), extra, rows)
        return backend
    framed = backend.post_processor
    with library_errors(f"{path} cannot be read as a {class_name}"):
        vocabulary = _of_tokenizer_file(source)
        return _made(source, class_name, known, vocabulary, framed, rows)


OF_THE_LIBRARY = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder")
"""Keys of `tokenizer.json` that say how a text is tokenized."""


def _check_other_class(source: TokenizerFiles, class_name: str) -> None:
    """Refuse settings that a class unknown here would apply, or files it would not read."""
    way_out = (
        f"if {TOKENIZER_FILE} is right as it is, set tokenizer_class to PreTrainedTokenizerFast in "
        "tokenizer_config.json"
    )
    if class_name.removesuffix("Tokenizer") in WITHOUT_TOKENIZER_FILE:
        raise EncodaxError(
            f"{source.path}: {class_name} does not read {TOKENIZER_FILE}, and is not known here; "
            + way_out
        )
    if class_name.removesuffix("Tokenizer") not in OTHERS:
        return
    language = source.argument("src_lang")
    if language is not None and json.dumps(language) not in json.dumps(
        source.content.get("post_processor")
    ):
        raise EncodaxError(
            f"{source.path}: src_lang = {shown(language)} is not the language that "
            f"{TOKENIZER_FILE} puts around texts; write both again with transformers: "
            f"{CONVERT_HINT}"
        )
    for key in SWITCHES:
        if source.argument(key) is not None:
            raise EncodaxError(
                f"{source.path}: {key} = {shown(source.argument(key))} is not supported: "
                f"{class_name} is not known here; {way_out}"
            )


OTHERS = (
    "Barthez", "BigBird", "Blenderbot", "CLIP", "CodeGen", "CodeLlama", "Cohere",
    "ConvBert", "Cpm", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader", "Deberta",
    "Esmc", "FNet", "Funnel", "GPT2", "GPTNeoX", "Gemma", "Herbert", "Lasr", "LayoutLMv2",
    "LayoutLMv3", "LayoutXLM", "Llama", "Luke", "MBart50", "MBart", "MLuke", "MarkupLM",
    "Nllb", "Nougat", "OpenAIGPT", "Parakeet", "Pegasus", "Qwen2", "Qwen3_5", "Reformer",
    "RemBert", "RoFormer", "SeamlessM4T", "Siglip2", "Splinter", "Tipsv2", "Udop",
    "VideoPrism", "Whisper", "XGLM", "XLNet",
)  # fmt: skip
"""Other classes that build a tokenizer: for published models as in `tokenizer.json`."""


def _of_tokenizer_file(source: TokenizerFiles) -> Vocabulary:
    """Return the vocabulary of `tokenizer.json`."""
    model = source.content["model"]
    tokens = model["vocab"]
    if isinstance(tokens, list):
        tokens = [(piece, score) for piece, score in tokens]
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model.get("merges") or ())
    merges = [(first, second) for first, second in pairs]
    normalizer = source.content.plain().get("normalizer") or {}
    each = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    charsmaps = (one["precompiled_charsmap"] for one in each if one.get("type") == "Precompiled")
    charsmap = next(charsmaps, None)
    if charsmap is None:
        return Vocabulary(tokens, merges)
    source.content.get("normalizer")  # records that it is used
    return Vocabulary(tokens, merges, base64.b64decode(charsmap))


def _made(
    source: TokenizerFiles,
    class_name: str,
    known: TokenizerClass,
    vocabulary: Vocabulary,
    framed: processors.PostProcessor | None,
    rows: int | None,
) -> tokenizers.Tokenizer:
    """Return the tokenizer that a class makes."""
    named = special_tokens(source, class_name)
    tokens = {role: text_of(token) for role, token in named.items() if token is not None}
    backend = known.make(source, vocabulary, tokens)
    _add_tokens(source, backend, named, known.extra_tokens(source), rows)
    around = []
    for role in known.frame:
        index = backend.token_to_id(tokens[role])
        if index is None:
            raise EncodaxError(f"{source.path} has no {tokens[role]!r}, which is the {role}")
        around.append((tokens[role], index))
    begin, end = around
    processor = known.processor(source, begin, end)
    if processor is None:
        source.content.get("post_processor")
    backend.post_processor = framed if processor is None and framed else processor
    return backend


def _add_tokens(
    source: TokenizerFiles,
    backend: tokenizers.Tokenizer,
    named: Mapping[str, Named],
    extra: list[Named],
    rows: int | None,
) -> None:
    """Make special tokens match in a text, and add those that the vocabulary lacks.

    In the order of transformers, since a token that the vocabulary lacks gets the next id. A token
    without an id in any file, and without a row in the model's table, is left out.
    """
    with library_errors(f"{source.path}: the added tokens"):
        there = backend.get_added_tokens_decoder()
        known = {repr(token) for token in there.values()}
        listed = source.added_tokens()
        wanted: list[Any] = [t for _, t in sorted(listed.items()) if repr(t) not in known]
        seen = {token.content for token in [*there.values(), *wanted]}
        size, end = backend.get_vocab(), backend.get_vocab_size()
        for token in [*named.values(), *extra]:
            if token is None or text_of(token) in seen or token in wanted:
                continue
            if text_of(token) not in size:
                if rows is not None and end >= rows:
                    continue
                end += 1
            wanted.append(token)
        special = {text_of(token) for token in named.values() if token is not None}
        for place, token in enumerate(wanted):
            if isinstance(token, str):
                wanted[place] = AddedToken(token, special=True)
            elif token.content in special:
                token.special = True
        if wanted:
            backend.add_tokens(wanted)
        backend.encode_special_tokens = bool(source.flag("split_special_tokens", False))
    for index, token in listed.items():
        found = backend.token_to_id(token.content)
        if found != index and token.content not in size:
            raise EncodaxError(
                f"{source.path}: the added token {token.content!r} has the id {index}, and the "
                f"vocabulary ends before {found}; correct the id, or remove the token"
            )


WITHOUT_FILES = {
    "ByT5Tokenizer": "bytes",
    "PerceiverTokenizer": "bytes",
    "CanineTokenizer": "characters",
}
"""Classes without a vocabulary -> what their tokens are."""


def _of_vocabulary_files(
    source: TokenizerFiles, known: TokenizerClass | None, family: str, rows: int | None
) -> tokenizers.Tokenizer:
    """Return the tokenizer of a directory without `tokenizer.json`.

    Raises:
        EncodaxError: there are no such files, they are broken, or the class has none.
    """
    there = [name for name in (*VOCABULARY_FILES, *SENTENCEPIECE_FILES) if name in source.files]
    if not there:
        path = source.path / TOKENIZER_FILE
        if (own := source.named_class()) in WITHOUT_FILES:
            raise EncodaxError(
                f"{source.path}: {own} has no vocabulary, but reads {WITHOUT_FILES[own]}, "
                f"which is not supported; choose a model that has a {TOKENIZER_FILE}"
            )
        known_files = ", ".join((*VOCABULARY_FILES, *SENTENCEPIECE_FILES))
        raise EncodaxError(
            f"{path} does not exist, nor any of {known_files}: fetch the tokenizer's files, too, "
            f"or write them with transformers: {CONVERT_HINT}"
        )
    if known is None or known.read is None or not all(name in source.files for name in known.files):
        raise EncodaxError(
            f"{source.path}: {TOKENIZER_FILE} does not exist, and {there[0]} alone is not enough "
            f"for a tokenizer of {family}; write it with transformers: {CONVERT_HINT}"
        )
    path = source.path / known.files[0]
    vocabulary = known.read(source)
    check_ids(path, vocabulary.tokens)
    if missing := set(range(len(vocabulary.tokens))) - set(vocabulary.tokens.values()):
        raise EncodaxError(f"{path}: no token has the id {min(missing)}")
    class_name = next(name for name, one in CLASSES.items() if one is known)
    named = special_tokens(source, class_name)
    added = {token.content for token in source.added_tokens().values()}
    for role in ("unk_token", *known.frame):
        token = text_of(named[role] or "")
        if token not in vocabulary.tokens and token not in added:
            with library_errors(path):
                token.encode()
            raise EncodaxError(f"{path} has no {token!r}, which is the {role}")
    with library_errors(f"{path} cannot be read as a tokenizer of {family}"):
        return _made(source, class_name, known, vocabulary, None, rows)


# Vocabulary files.


def _lines(source: TokenizerFiles) -> Vocabulary:
    """Read `vocab.txt`: one token on each line, whose id is the line's index."""
    return _numbered(source, source.text(VOCABULARY_FILE).rstrip("\n").split("\n"))


def _words(source: TokenizerFiles) -> Vocabulary:
    """Read `vocab.txt` as EsmTokenizer does: without spaces around the token."""
    return _numbered(source, [line.strip() for line in source.text(VOCABULARY_FILE).splitlines()])


def _numbered(source: TokenizerFiles, tokens: list[str]) -> Vocabulary:
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if vocabulary.setdefault(token, index) != index:
            lines = f"lines {vocabulary[token] + 1} and {index + 1}"
            raise EncodaxError(
                f"{source.path / VOCABULARY_FILE}: {lines} are the same token {token!r}"
            )
    return Vocabulary(vocabulary, [])


def _vocabulary_and_merges(source: TokenizerFiles) -> Vocabulary:
    """Read `vocab.json`, and `merges.txt`: on each line two tokens that are merged."""
    lines = source.text(MERGES_FILE).split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    for merge in merges:
        if len(merge) != 2:
            path = source.path / MERGES_FILE
            raise EncodaxError(f"{path}: needs two tokens a line, not {' '.join(merge)!r}")
    return Vocabulary(json_vocabulary(source), [(first, second) for first, second in merges])


# Tokenizers.


def _wordpiece(
    source: TokenizerFiles, vocabulary: Vocabulary, tokens: Mapping[str, str]
) -> tokenizers.Tokenizer:
    ids = _ids(vocabulary)
    backend = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=tokens["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=source.flag("do_lower_case", True),
        handle_chinese_chars=source.flag("tokenize_chinese_chars", True),
        strip_accents=_flag_or_none(source, "strip_accents"),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _flag_or_none(source: TokenizerFiles, key: str) -> bool | None:
    """Return a boolean, or None where it depends on another flag."""
    return None if source.argument(key) is None else source.flag(key, False)


def _byte_level_bpe(
    source: TokenizerFiles, vocabulary: Vocabulary, _: Mapping[str, str]
) -> tokenizers.Tokenizer:
    model = models.BPE(
        _ids(vocabulary), vocabulary.merges, continuing_subword_prefix="", end_of_word_suffix=""
    )
    backend = tokenizers.Tokenizer(model)
    prefix = source.flag("add_prefix_space", False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    return backend


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the id of each token, for a vocabulary of any kind."""
    if isinstance(vocabulary.tokens, dict):
        return vocabulary.tokens
    return {piece: index for index, (piece, _) in enumerate(vocabulary.tokens)}


def _esm(source: TokenizerFiles, vocabulary: Vocabulary, tokens: Mapping[str, str]) -> Any:
    """Return a tokenizer that finds vocabulary entries anywhere in a text, the longest first.

    Text between two of them, or between spaces, is one unknown token.
    """
    if source.flag("split_special_tokens", False):
        raise EncodaxError("split_special_tokens = true is not supported")
    unknown = tokens["unk_token"]
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary.tokens, unk_token=unknown))
    words = sorted(filter(None, vocabulary.tokens), key=len, reverse=True)
    entry = Regex("|".join(map(re.escape, words)))
    # Python's definition of a space, at which EsmTokenizer splits: the library lacks \x1c to \x1f.
    space = Regex(r"[\s\x1c-\x1f]+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(entry, behavior="isolated"),
            pre_tokenizers.Split(space, behavior="removed"),
        ]
    )
    return backend


def _unigram(
    vocabulary: Vocabulary, unknown: int, scheme: str, normalizer: normalizers.Normalizer | None
) -> tokenizers.Tokenizer:
    """Return a tokenizer of pieces of words, with a space at the head of each (SentencePiece)."""
    model = models.Unigram(_pieces(vocabulary), unk_id=unknown, byte_fallback=False)
    backend = tokenizers.Tokenizer(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme=scheme),
        ]
    )
    backend.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme=scheme)
    return backend


def _pieces(vocabulary: Vocabulary) -> list[tuple[str, float]]:
    if not isinstance(vocabulary.tokens, list):
        raise EncodaxError(f"the model of {TOKENIZER_FILE} is not of the kind Unigram")
    return vocabulary.tokens


def _charsmap(vocabulary: Vocabulary) -> list[normalizers.Normalizer]:
    return [] if vocabulary.charsmap is None else [normalizers.Precompiled(vocabulary.charsmap)]


def _sentencepiece(
    unknown: Callable[[Vocabulary, Mapping[str, str]], int], has_switch: bool = True
) -> Callable[[TokenizerFiles, Vocabulary, Mapping[str, str]], tokenizers.Tokenizer]:
    """Return the `make` function of XLM-R, CamemBERT and T5.

    Args:
        unknown: function that returns the id of the unknown token.
        has_switch: whether the configuration decides if a text begins with a space.
    """

    def make(
        source: TokenizerFiles, vocabulary: Vocabulary, tokens: Mapping[str, str]
    ) -> tokenizers.Tokenizer:
        prefix = source.flag("add_prefix_space", True) if has_switch else True
        normalizer = next(iter(_charsmap(vocabulary)), None)
        scheme = "always" if prefix else "never"
        return _unigram(vocabulary, unknown(vocabulary, tokens), scheme, normalizer)

    return make


def _place_of_unknown(vocabulary: Vocabulary, tokens: Mapping[str, str]) -> int:
    pieces = [piece for piece, _ in _pieces(vocabulary)]
    return pieces.index(tokens["unk_token"]) if tokens["unk_token"] in pieces else 0


def _albert(
    source: TokenizerFiles, vocabulary: Vocabulary, tokens: Mapping[str, str]
) -> tokenizers.Tokenizer:
    pieces = {piece for piece, _ in _pieces(vocabulary)}
    for role in ("cls_token", "sep_token"):  # transformers checks before it adds tokens
        if tokens[role] not in pieces:
            raise EncodaxError(f"the vocabulary has no {tokens[role]!r}, which is the {role}")
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace("``", '"'),
        normalizers.Replace("''", '"'),
    ]
    if not source.flag("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if source.flag("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    normalizer = normalizers.Sequence([*steps, *_charsmap(vocabulary)])
    scheme = "always" if source.flag("add_prefix_space", True) else "never"
    return _unigram(vocabulary, 1, scheme, normalizer)


def _deberta_v2(
    source: TokenizerFiles, vocabulary: Vocabulary, tokens: Mapping[str, str]
) -> tokenizers.Tokenizer:
    unknown = (tokens["unk_token"], 0.0)
    pieces = _pieces(vocabulary)
    place = pieces.index(unknown) if unknown in pieces else source.argument("unk_id", 1)
    scheme = "always" if source.flag("add_prefix_space", True) else "first"
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        normalizers.NFC(),
        normalizers.Strip(left=False, right=True),
    ]
    if source.flag("do_lower_case", False):
        steps.insert(0, normalizers.Lowercase())
    backend = _unigram(vocabulary, place, scheme, normalizers.Sequence(steps))
    split: list[pre_tokenizers.PreTokenizer] = []
    if source.flag("split_by_punct", False):
        split.append(pre_tokenizers.Punctuation(behavior="isolated"))
    space = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme=scheme)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*split, space])
    return backend


# Special tokens around a text.


def _bert_frame(_: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    return frame(begin, end)


def _roberta_frame(source: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    return processors.RobertaProcessing(
        end,
        begin,
        trim_offsets=source.flag("trim_offsets", True),
        add_prefix_space=source.flag("add_prefix_space", False),
    )


def _mpnet_frame(_: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    return processors.RobertaProcessing(end, begin, trim_offsets=True, add_prefix_space=False)


def _double_frame(_: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    """Return a processor with two end tokens between the texts of a pair."""
    return processors.TemplateProcessing(
        single=[begin[0], "$A", end[0]],
        pair=[begin[0], "$A", end[0], end[0], "$B", end[0]],
        special_tokens=[begin, end],
    )


def _albert_frame(
    source: TokenizerFiles, begin: Token, end: Token
) -> processors.PostProcessor | None:
    """Return None to keep the processor of `tokenizer.json`, or BERT's where it has none."""
    if source.content.get("post_processor") is not None:
        return None
    return frame(("[CLS]", begin[1]), ("[SEP]", end[1]))


def _t5_frame(_: TokenizerFiles, begin: Token, end: Token) -> processors.PostProcessor:
    """Return a processor that adds only the end token, always written `</s>`."""
    close = "</s>"
    return processors.TemplateProcessing(
        single=["$A", close], pair=["$A", close, "$B", close], special_tokens=[(close, end[1])]
    )


MASK = {"content": "<mask>", "lstrip": True}
"""Mask token that includes the space before it, as a word does."""
MPNET_TOKENS: dict[str, str | Mapping[str, Any]] = {
    **{role: {"content": token} for role, token in ROBERTA_TOKENS.items()},
    "unk_token": {"content": "[UNK]"},
    "mask_token": MASK,
}
"""MPNet's special tokens: its vocabulary is BERT's, with RoBERTa's tokens around texts."""
ALBERT_TOKENS = {**SPECIAL_TOKENS, "unk_token": "<unk>", "pad_token": "<pad>"}
ENDS = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def _camembert_extra(source: TokenizerFiles) -> list[Named]:
    """Return listed tokens; where no file lists any, those that fairseq left in the vocabulary."""
    listed = source.extra_tokens()
    return ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"] if listed is None else listed


def _t5_extra(source: TokenizerFiles) -> list[Named]:
    """Return listed tokens; where no file lists any, T5's tokens for hidden spans."""
    count = source.argument("extra_ids", EXTRA_IDS)
    if type(count) is not int or count < 0:
        raise EncodaxError(f"{source.path}: extra_ids = {shown(count)} is not a number of tokens")
    listed = source.extra_tokens()
    return [f"<extra_id_{number}>" for number in range(count)] if listed is None else listed


EXTRA_IDS = 100
"""Default number of T5's tokens for hidden spans."""

BERT = TokenizerClass(
    SPECIAL_TOKENS,
    _wordpiece,
    _bert_frame,
    files=(VOCABULARY_FILE,),
    read=_lines,
    has_types=True,
)
CLASSES: dict[str, TokenizerClass] = {
    "BertTokenizer": BERT,
    "DistilBertTokenizer": TokenizerClass(
        SPECIAL_TOKENS, _wordpiece, _bert_frame, files=(VOCABULARY_FILE,), read=_lines
    ),
    "MPNetTokenizer": TokenizerClass(
        MPNET_TOKENS, _wordpiece, _mpnet_frame, files=(VOCABULARY_FILE,), read=_lines
    ),
    "RobertaTokenizer": TokenizerClass(
        ROBERTA_TOKENS,
        _byte_level_bpe,
        _roberta_frame,
        files=(BPE_VOCABULARY_FILE, MERGES_FILE),
        read=_vocabulary_and_merges,
    ),
    "EsmTokenizer": TokenizerClass(
        ESM_TOKENS,
        _esm,
        _bert_frame,
        frame=("cls_token", "eos_token"),
        files=(VOCABULARY_FILE,),
        read=_words,
        reads_tokenizer_file=False,
    ),
    "XLMRobertaTokenizer": TokenizerClass(
        ROBERTA_TOKENS,
        _sentencepiece(lambda *_: 3),
        _double_frame,
        frame=("bos_token", "eos_token"),
    ),
    "CamembertTokenizer": TokenizerClass(
        {**ROBERTA_TOKENS, "mask_token": {**MASK, "special": True}},
        _sentencepiece(_place_of_unknown),
        _double_frame,
        frame=("bos_token", "eos_token"),
        extra_tokens=_camembert_extra,
    ),
    "AlbertTokenizer": TokenizerClass({**ENDS, **ALBERT_TOKENS}, _albert, _albert_frame),
    "DebertaV2Tokenizer": TokenizerClass(
        {**ENDS, **SPECIAL_TOKENS}, _deberta_v2, _bert_frame, has_types=True
    ),
    "T5Tokenizer": TokenizerClass(
        T5_TOKENS,
        _sentencepiece(lambda *_: 2, has_switch=False),
        _t5_frame,
        frame=("eos_token", "eos_token"),
        extra_tokens=_t5_extra,
    ),
}
"""Classes that build their tokenizers from a vocabulary, by name."""
