"""Makes the goldens of tokenizers' files: what AutoTokenizer gives for each key and class.

Run it where ``models.py`` runs::

    python -m interop.generate.tokenizers

It writes ``tests/parity/goldens-tokenizers.json.gz``: ``bases``, the files of tiny directories
as ``save_pretrained`` writes them, and ``cases``, each a base, changes of its files, and what
transformers gives for the ``TEXTS``; ``refused`` where it refuses the directory.
"""

import argparse
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from interop import PARITY
from tests.tokenizer_directories import GOLDENS, GONE, Files, changed, write

TEXTS: list[Any] = [
    "The cats sat, café!",
    "the Café <mask> a b",
    "猫犬 cat[MASK] <e>the<E> x",
    "  the   cat  don't ! ",
    "a </s> b <s>the [SEP]<pad> ``cat''",
    "ﬁ Ⅳ\ta",
    ["the cat", "a cat sat!"],
    ["the cats sat on a cat !", "the b"],
]
MOST = 6
"""Tokens of a text that is cut."""
WORDS = """the cat ##s sat on cafe caf ##e café The ! , . ' s a ##b b 猫 ##犬 犬 < mask > x don t
f ##i i4 Cats C ##a ##t [ ] / n A"""
LATIN = "abcdefghijklmnopqrstuvwxyzACTéÉ猫犬<>[]/!,.'`\"MSKEP4Ⅳﬁi"
PIECES = [*"▁", "▁the", "▁cat", "▁sat", "s", "▁The", "▁caf", "é", "e", "▁a", "▁b", "at"]


def unigram(first: list[str], last: list[str]) -> list[tuple[str, float]]:
    pieces = [*PIECES, *sorted(set(LATIN) - set(PIECES))]
    scored = [(piece, -3.0 if len(piece) > 1 else -6.0 - i / 100) for i, piece in enumerate(pieces)]
    return [*((token, 0.0) for token in first), *scored, *((token, 0.0) for token in last)]


def bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    merges = ["Ġ t", "t h", "th e", "h e", "Ġt he", "c a", "ca t", "Ġ cat", "Ġ a", "T he"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [merge.replace(" ", "") for merge in merges] + ["<mask>", "<e>"]
    first_and_second = [(merge.split(" ")[0], merge.split(" ")[1]) for merge in merges]
    return {token: index for index, token in enumerate(tokens)}, first_and_second


def wordpiece(first: str, last: str = "") -> dict[str, int]:
    tokens = [*first.split(), *WORDS.split(), *last.split()]
    return {token: index for index, token in enumerate(tokens)}


def plain() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of no class: all of it is in `tokenizer.json`."""
    vocabulary = wordpiece("[PAD] [UNK] [CLS] [SEP] [MASK]")
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    roles = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


def tokenizer_of(model_type: str) -> Any:
    """A tiny tokenizer."""
    bert, roberta = "[PAD] [UNK] [CLS] [SEP] [MASK]", "<s> <pad> </s> <unk>"
    if model_type in ("bert", "distilbert"):
        kind = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer"}[model_type]
        return getattr(transformers, kind)(vocab=wordpiece(bert))
    if model_type == "mpnet":
        return transformers.MPNetTokenizer(vocab=wordpiece(f"{roberta} [UNK]", "<mask>"))
    if model_type == "roberta":
        vocabulary, merges = bpe()
        return transformers.RobertaTokenizer(vocab=vocabulary, merges=merges)
    first = roberta.split()
    if model_type == "xlm-roberta":
        return transformers.XLMRobertaTokenizer(vocab=unigram(first, ["<mask>"]))
    if model_type == "camembert":
        fairseq = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
        return transformers.CamembertTokenizer(vocab=unigram(fairseq, ["<mask>"]))
    if model_type == "albert":
        first = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        return transformers.AlbertTokenizer(vocab=unigram(first, []))
    if model_type == "deberta-v2":
        return transformers.DebertaV2Tokenizer(vocab=unigram(bert.split(), []))
    if model_type == "t5":
        last = [f"<extra_id_{i}>" for i in (2, 1, 0)]
        return transformers.T5Tokenizer(
            vocab=unigram(["<pad>", "</s>", "<unk>"], last), extra_ids=3
        )
    return plain()


def base(model_type: str) -> Files:
    """The files of its directory."""
    with tempfile.TemporaryDirectory() as place:
        tokenizer_of(model_type).save_pretrained(place)
        files: Files = {path.name: json.loads(path.read_text()) for path in Path(place).iterdir()}
    named = "modernbert" if model_type == "plain" else model_type
    return {**files, "config.json": {"model_type": named}}


def vocabulary_only(model_type: str) -> Files:
    """The files of a directory without `tokenizer.json`."""
    config = {"config.json": {"model_type": model_type}}
    if model_type == "roberta":
        vocabulary, merges = bpe()
        lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
        return {**config, "vocab.json": vocabulary, "merges.txt": "\n".join(lines)}
    tokens = list(tokenizer_of(model_type)._vocab)
    return {**config, "vocab.txt": "\n".join(tokens) + "\n"}


def token(content: str, **flags: bool) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False,
            "normalized": False, "special": True, **flags}  # fmt: skip


CONFIG, TOKENIZER, MAP, ADDED = (
    "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
LEFT = {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 1}
PADDED = {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 9,
          "pad_type_id": 3, "pad_token": "the"}  # fmt: skip
FLAGS: dict[str, tuple[Any, ...]] = {
    "do_lower_case": (True, False),
    "strip_accents": (True, False, None),
    "tokenize_chinese_chars": (False,),
    "add_prefix_space": (True, False),
    "trim_offsets": (True, False),
    "keep_accents": (True, False),
    "split_by_punct": (True,),
    "do_basic_tokenize": (False,),
    "never_split": (["The"],),
    "do_remove_accents": (True,),
    "clean_up_tokenization_spaces": (True, False),
    "add_bos_token": (True,),
    "add_eos_token": (True,),
    "split_special_tokens": (True,),
    "sp_model_kwargs": ({"alpha": 0.1},),
    "legacy": (True, False),
    "add_dummy_prefix": (False,),
    "from_slow": (True,),
    "truncation_side": ("left",),
    "padding_side": ("left",),
    "unk_id": (3,),
    "model_max_length": (4,),
    "model_input_names": (["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]),
    "backend": ("sentencepiece",),
    "name_or_path": ("somewhere/else",),
    "chat_template": ("{{ messages }}",),
    "mask_token": ("x", "<new>", None),
    "cls_token": ("a", "<new>"),
    "sep_token": ("b",),
    "eos_token": ("b",),
    "bos_token": ("a",),
    "unk_token": ("x",),
    "pad_token": ("the", "<new>", None),
    "image_token": ("x",),
    "additional_special_tokens": (["cat", "<e>"],),
    "extra_special_tokens": (["<E>"], {"other_token": "x"}),
    "model_specific_special_tokens": ({"other_token": "x"},),
    "max_length": (3,),
    "stride": (1,),
    "truncation_strategy": ("only_second",),
    "unheard_of": (True,),
    "encode": (True,),
    "truncation_side ": ("left",),
    "tokenizer_class": ("PreTrainedTokenizerFast", "BertTokenizerFast", "RobertaTokenizer",
                        "XLMRobertaTokenizer", "NoSuchTokenizer", GONE),
}  # fmt: skip
"""Keys of tokenizer_config.json, and values that each of the bases is given."""
BASES = ("bert", "distilbert", "mpnet", "roberta", "xlm-roberta", "camembert", "albert",
         "deberta-v2", "t5", "plain")  # fmt: skip
LOWERS = {"normalizers": [{"type": "Lowercase"}, {"type": "NFKC"}], "type": "Sequence"}
OTHERS: dict[str, Files] = {
    "truncation to the left": {TOKENIZER: {"truncation": LEFT}},
    "truncation, and the configuration": {
        TOKENIZER: {"truncation": LEFT}, CONFIG: {"truncation_side": "right"}},
    "padding": {TOKENIZER: {"padding": PADDED}},
    "padding, and the configuration": {TOKENIZER: {"padding": PADDED}, CONFIG: {"pad_token": "x"}},
    "no frame": {TOKENIZER: {"post_processor": None}},
    "another frame": {TOKENIZER: {"post_processor": {
        "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "B", "type_id": 1}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {}}}},
    "another normalizer": {TOKENIZER: {"normalizer": LOWERS}},
    "no normalizer": {TOKENIZER: {"normalizer": None}},
    "other words": {TOKENIZER: {"pre_tokenizer": {"type": "WhitespaceSplit"}}},
    "another decoder": {TOKENIZER: {"decoder": {"type": "Fuse"}}},
    "an unknown key": {TOKENIZER: {"unheard_of": 1}},
    "an unknown version": {TOKENIZER: {"version": "2.0"}},
    "no added tokens": {TOKENIZER: {"added_tokens": []}},
    "added tokens alone": {CONFIG: {"added_tokens_decoder": {}}},
    "a map of old": {MAP: {
        "mask_token": token("x", lstrip=True), "additional_special_tokens": ["b"],
        "cls_token": "a"}},
    "a map of old and the configuration": {
        MAP: {"mask_token": "x", "pad_token": "b"},
        CONFIG: {"mask_token": "a", "added_tokens_decoder": {}}},
    "no configuration": {CONFIG: None},
    "no model": {"config.json": {"model_type": GONE}},
    "a class in config.json": {
        "config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
        CONFIG: {"tokenizer_class": GONE}},
}  # fmt: skip
"""Changes of other files."""


def added(vocabulary: dict[str, int]) -> dict[str, Files]:
    """Changes that name ids of a vocabulary."""
    one, other = ("cat", "the") if "cat" in vocabulary else ("a", "s")
    flags = {
        str(vocabulary[one]): token(one, lstrip=True, rstrip=True, special=False),
        str(vocabulary[other]): token(other, single_word=True, normalized=True),
    }
    old = {"<e>": vocabulary.get("<e>", len(vocabulary)), one: vocabulary[one]}
    return {
        "added with flags": {CONFIG: {"added_tokens_decoder": flags}},
        "added tokens of old": {ADDED: old},
    }


OF_VOCABULARIES = (
    "do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space", "trim_offsets",
    "truncation_side", "model_input_names", "mask_token", "additional_special_tokens",
    "extra_special_tokens", "clean_up_tokenization_spaces", "split_special_tokens", "add_bos_token",
)  # fmt: skip
"""Keys that directories without `tokenizer.json` are given."""
OF_SENTENCEPIECE = (
    "truncation_side", "additional_special_tokens", "extra_special_tokens", "mask_token",
    "model_input_names", "clean_up_tokenization_spaces", "legacy", "keep_accents",
    "add_prefix_space", "do_lower_case", "add_bos_token", "unheard_of",
)  # fmt: skip
"""Keys that those of SentencePiece models alone are given."""
WITHOUT_PAIRS = ("marian-files", "t5-files", "esm-files")
"""Bases that are asked less: two take no pairs, one cuts them otherwise where both are too long,
and a SentencePiece model reads a tab as a space."""


def given(directory: Path, texts: list[Any]) -> dict[str, Any]:
    """What transformers makes of a directory."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        found = [answer(tokenizer, text) for text in texts]
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"}
    token_ids = {
        role: tokenizer.convert_tokens_to_ids(str(tokenizer._special_tokens_map[role]))
        for role in ("pad_token", "mask_token")
        if tokenizer._special_tokens_map.get(role) is not None
    }
    return {"texts": found, "roles": token_ids}


def answer(tokenizer: Any, text: Any) -> dict[str, Any]:
    texts = [text] if isinstance(text, str) else text
    # Tokenizers that are written in Python have no offsets, and T5's of a SentencePiece model are
    # another library's here.
    of_model = str(getattr(tokenizer, "vocab_file", "")).endswith(".model")
    has_offsets = tokenizer.is_fast and not of_model
    whole = tokenizer(*texts, return_offsets_mapping=has_offsets)
    cut = tokenizer(*texts, truncation=True, max_length=MOST)
    return {
        "ids": whole["input_ids"],
        "types": whole.get("token_type_ids", [0] * len(whole["input_ids"])),
        "offsets": [place for pair in whole.get("offset_mapping", ()) for place in pair],
        "cut": cut["input_ids"],
        "text": tokenizer.decode(whole["input_ids"], skip_special_tokens=True),
    }


def changes_of() -> dict[str, tuple[str, Files]]:
    """Each case: its base and the changes."""
    found: dict[str, tuple[str, Files]] = {}
    for name in BASES:
        found[name] = (name, {})
        others = OTHERS | added(tokenizer_of(name).get_vocab())
        for key, values in FLAGS.items():
            for value in values:
                found[f"{name}: {key} = {json.dumps(value)}"] = (name, {CONFIG: {key: value}})
        found |= {f"{name}: {what}": (name, change) for what, change in others.items()}
    for name in ("bert", "mpnet", "roberta"):
        files = f"{name}-files"
        found[files] = (files, {})
        for key in OF_VOCABULARIES:
            for value in FLAGS[key]:
                found[f"{files}: {key} = {json.dumps(value)}"] = (files, {CONFIG: {key: value}})
        others = OTHERS | added(tokenizer_of(name).get_vocab())
        for what in ("a map of old", "added with flags", "added tokens of old"):
            found[f"{files}: {what}"] = (files, others[what])
    keys = {**dict.fromkeys(WITHOUT_PAIRS, OF_SENTENCEPIECE), "esm-files": OF_VOCABULARIES}
    for files, names in keys.items():
        found[files] = (files, {})
        for key in names:
            for value in FLAGS[key]:
                if key != "split_special_tokens":  # Encodax refuses it
                    found[f"{files}: {key} = {json.dumps(value)}"] = (files, {CONFIG: {key: value}})
    old = {"mask_token": "x", "additional_special_tokens": ["b"]}
    found["esm-files: a map of old"] = ("esm-files", {MAP: old, ADDED: {"<e>": 17}})
    found["marian-files: a map of old"] = ("marian-files", {MAP: old})
    return found


def sentencepiece_only(family: str) -> Files:
    """The files of a directory of SentencePiece models."""
    place = Path("goldens-seq2seq") / "tokenizers" / family
    names = {"marian": ("source.spm", "target.spm", "vocab.json"), "t5": ("spiece.model",)}
    config = json.loads((PARITY / place / CONFIG).read_text())
    models = {name: f"@{place / name}" for name in names[family]}
    return {**models, CONFIG: config, "config.json": {"model_type": family}}


def bases_of() -> dict[str, Files]:
    """The files of each base."""
    esm = "<cls> <pad> <eos> <unk> L A G V < e > <mask> x a b cat the"
    return {
        **{name: base(name) for name in BASES},
        **{f"{name}-files": vocabulary_only(name) for name in ("bert", "mpnet", "roberta")},
        **{f"{name}-files": sentencepiece_only(name) for name in ("marian", "t5")},
        "esm-files": {"vocab.txt": "\n".join(esm.split()), "config.json": {"model_type": "esm"}},
    }


def main() -> None:
    bases = bases_of()
    cases = {}
    for name, (which, changes) in changes_of().items():
        with tempfile.TemporaryDirectory() as place:
            files = changed(bases[which], changes)
            texts = TEXTS[:5] if which in WITHOUT_PAIRS else TEXTS
            found = given(write(Path(place), files), texts)
            cases[name] = {"base": which, "changes": changes, **found}
    content = json.dumps({"bases": bases, "texts": TEXTS, "cases": cases}, ensure_ascii=False)
    GOLDENS.write_bytes(gzip.compress(content.encode(), mtime=0))
    print(len(cases), "cases,", sum("refused" in case for case in cases.values()), "refused")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
