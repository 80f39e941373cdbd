"""Make directories with transformers, sentence-transformers and PEFT, and answer texts from them.

Run by `directories`, with the Python of the reference and a JSON file of orders. An order names a
family, a layout, and what is changed in the files once they are saved; the answers are those of the
directory as it then stands, read anew. Each directory that is done is printed.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend

Values = dict[str, Any]
LENGTH = 48
SPREAD = 0.15
FLOAT32 = {"dtype": torch.float32}

CORPUS = [
    "the cat sat on the mat . In the old town there was a small shop , and a dog came home at last",
    "THE CAT Where is the café of Zoë ? No ! don't it's what did all day word find office",
    "straße STRASSE Istanbul we ate und der Hund kam nach Haus , le chat dort sur le tapis",
    "我 爱 北 京 天 安 门 東 京 タ ワ ー हिन्दी में บ ฉัน שלום مرحبا 👩 ❤",
    "0 1 2 3 4 5 % / : ; - _ ( ) \" '",
]
CHARACTERS = sorted(set("".join(CORPUS)) - {" "})
WORDS = sorted({word for line in CORPUS for word in line.split() if len(word) > 1})
WORDS = sorted({*WORDS, *(word.lower() for word in WORDS)})


# Tokenizers, each of the kind that the family has, made of a vocabulary.


def wordpieces() -> list[str]:
    """Words, characters and their continuations."""
    endings = [f"##{piece}" for piece in [*CHARACTERS, "ing", "ed", "at"]]
    return [*CHARACTERS, *WORDS, *endings]


def numbered(words: list[str]) -> dict[str, int]:
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


def bert(folder: Path) -> Any:
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *wordpieces()]
    return with_vocabulary(folder, "\n".join(words), transformers.BertTokenizer(numbered(words)))


def mpnet(folder: Path) -> Any:
    words = ["<s>", "<pad>", "</s>", "[UNK]", *wordpieces(), "<mask>"]
    return with_vocabulary(folder, "\n".join(words), transformers.MPNetTokenizer(numbered(words)))


def with_vocabulary(folder: Path, text: str, tokenizer: Any) -> Any:
    (folder / "vocab.txt").write_text(text + "\n", encoding="utf-8")
    return tokenizer


def trained_bpe() -> tuple[list[str], list[tuple[str, str]]]:
    """The vocabulary and merges of a byte-level BPE."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS * 2, trainer)
    model = json.loads(backend.to_str())["model"]
    return list(model["vocab"]), [tuple(merge) for merge in model["merges"]]


def roberta(folder: Path) -> Any:
    words, merges = trained_bpe()
    vocabulary = numbered(["<s>", "<pad>", "</s>", "<unk>", *words, "<mask>"])
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=merges)


def modernbert(_: Path) -> Any:
    words, merges = trained_bpe()
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    backend = Backend(models.BPE(numbered([*words, *specials]), merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, lstrip=token == "[MASK]") for token in specials])
    backend.add_tokens([AddedToken("   ", normalized=True), AddedToken("|||IP|||")])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in specials}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], **names
    )


def esm(folder: Path) -> Any:
    words = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1>"
    (folder / "vocab.txt").write_text("\n".join([*words.split(), "<mask>"]))
    return transformers.EsmTokenizer(str(folder / "vocab.txt"))


def sentencepieces(folder: Path, file: str, specials: Values, **options: Any) -> Path:
    """Train a SentencePiece model of unigrams, as the family's authors did."""
    import sentencepiece

    with open(folder / file, "wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 20),
            model_writer=out,
            vocab_size=220,
            hard_vocab_limit=False,
            character_coverage=1.0,
            minloglevel=2,
            **specials,
            **options,
        )
    return folder


def of_pieces(folder: Path, name: str) -> Any:
    """The tokenizer that transformers makes of a SentencePiece model."""
    return getattr(transformers, name).from_pretrained(folder)


PLAIN_SPECIALS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}


def xlm_roberta(folder: Path) -> Any:
    sentencepieces(folder, "sentencepiece.bpe.model", PLAIN_SPECIALS)
    return of_pieces(folder, "XLMRobertaTokenizer")


def camembert(folder: Path) -> Any:
    sentencepieces(folder, "sentencepiece.bpe.model", PLAIN_SPECIALS)
    return of_pieces(folder, "CamembertTokenizer")


def albert(folder: Path) -> Any:
    specials = {
        **{"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>"},
        "control_symbols": "[CLS],[SEP]",
        "user_defined_symbols": "[MASK]",
    }
    sentencepieces(folder, "spiece.model", specials)
    return of_pieces(folder, "AlbertTokenizer")


def deberta(folder: Path) -> Any:
    specials = {
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
        **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        "user_defined_symbols": "[MASK]",
    }
    sentencepieces(folder, "spm.model", specials)
    return of_pieces(folder, "DebertaV2Tokenizer")


# Families: small configurations near the published ones.

SIZES: Values = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": LENGTH,
}
ROBERTA: Values = {
    **SIZES,
    "max_position_embeddings": LENGTH + 2,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
DISTILBERT: Values = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": LENGTH,
}
MODERNBERT: Values = {
    **SIZES,
    "num_hidden_layers": 4,
    "global_attn_every_n_layers": 3,
    "local_attention": 8,
}
ALBERT: Values = {**SIZES, "num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 16}
ESM: Values = {
    **ROBERTA,
    "position_embedding_type": "rotary",
    "token_dropout": True,
    "mask_token_id": 32,
    "emb_layer_norm_before": False,
}
DEBERTA: Values = {
    **SIZES,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 6,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "type_vocab_size": 0,
}

FAMILIES: dict[str, tuple[str, Values, Callable[[Path], Any]]] = {
    "bert": ("bert", SIZES, bert),
    "bert-xlmr": ("bert", SIZES, xlm_roberta),  # as multilingual E5 and MiniLM
    "roberta": ("roberta", ROBERTA, roberta),
    "xlm-roberta": ("xlm-roberta", ROBERTA, xlm_roberta),
    "camembert": ("camembert", ROBERTA, camembert),
    "distilbert": ("distilbert", DISTILBERT, bert),
    "mpnet": ("mpnet", ROBERTA, mpnet),
    "electra": ("electra", {**SIZES, "embedding_size": 16}, bert),
    "albert": ("albert", ALBERT, albert),
    "modernbert": ("modernbert", MODERNBERT, modernbert),
    "nomic_bert": ("nomic_bert", SIZES, bert),
    "esm": ("esm", ESM, esm),
    "deberta-v2": ("deberta-v2", DEBERTA, deberta),
}


def tokenizer_of(family: str, place: Path, files: str) -> Any:
    """Save the tokenizer of a family.

    Args:
        family: its name.
        place: where to.
        files: `new` as transformers 5 saves it; `both` with the vocabulary files of old beside it;
            `vocabulary` with these alone.
    """
    with tempfile.TemporaryDirectory() as name:
        tokenizer = FAMILIES[family][2](Path(name))
        tokenizer.model_max_length = LENGTH
        tokenizer.save_pretrained(place)
        if files != "new":
            for path in Path(name).iterdir():
                shutil.copy(path, place)
    if files == "vocabulary":
        (place / "tokenizer.json").unlink(missing_ok=True)
    return tokenizer


def redraw(model: Any, seed: str) -> Any:
    """Every parameter drawn anew: no bias is 0 and no gain is 1."""
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    drawn: set[int] = set()
    for name, parameter in model.named_parameters():
        if id(parameter) in drawn:
            continue
        drawn.add(id(parameter))
        noise = SPREAD * torch.randn(parameter.shape, generator=generator)
        is_gain = "norm" in name.lower() and name.endswith("weight")
        parameter.data.copy_(noise + 1 if is_gain else noise)
    return model.eval()


AUTO = {
    "encoder": "AutoModel",
    "vocabulary": "AutoModelForMaskedLM",
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}


def plain(order: Values, place: Path, head: str) -> Any:
    """Save a model of transformers with its tokenizer."""
    model_type, sizes, _ = FAMILIES[order["family"]]
    options = order["options"]
    tokenizer = tokenizer_of(order["family"], place, options.get("tokenizer", "new"))
    labels = options.get("labels")
    named: Values = {} if labels is None else {"id2label": dict(enumerate(labels))}
    settings = {**sizes, **named, **options.get("config", {})}
    settings["vocab_size"] = len(tokenizer) + 3
    settings.setdefault("pad_token_id", 0 if model_type == "bert" else tokenizer.pad_token_id)
    config = transformers.AutoConfig.for_model(model_type, **settings)
    model = redraw(getattr(transformers, AUTO[head]).from_config(config), order["name"])
    model = model.to(getattr(torch, options.get("dtype", "float32")))
    shard = {"max_shard_size": "40KB"} if options.get("sharded") else {}
    model.save_pretrained(place, **shard)
    return model


# Layouts


def save_plain(order: Values, place: Path) -> None:
    plain(order, place, order["head"])


def save_embedder(order: Values, place: Path) -> None:
    """What sentence-transformers saves of an encoder and the modules after it."""
    plain(order, place.parent / "encoder", "encoder")
    embedder(order, place.parent / "encoder").save(str(place))


def embedder(order: Values, encoder: Path) -> SentenceTransformer:
    """An encoder with the modules after it."""
    options = order["options"]
    first = Transformer(str(encoder), model_kwargs=FLOAT32)
    if "max_seq_length" in options:
        first.max_seq_length = options["max_seq_length"]
    width = first.get_embedding_dimension()
    pooling = Pooling(width, options.get("pooling", "mean"), **options.get("of_pooling", {}))
    modules: list[Any] = [first, pooling]
    for dense in options.get("dense", []):
        dense = dict(dense)
        activation = getattr(torch.nn, dense.pop("activation", "Tanh"))()
        size = modules[-1].get_embedding_dimension()
        made = Dense(size, dense.pop("width", 24), activation_function=activation, **dense)
        modules.append(redraw(made, order["name"]))
    if options.get("normalize"):
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, **options.get("of_model", {}))


def save_cross_encoder(order: Values, place: Path) -> None:
    """What sentence-transformers saves of a classifier of pairs."""
    options = dict(order["options"])
    classifier = place.parent / "classifier"
    plain(order, classifier, "sequence")
    settings = dict(options.get("of_model", {}))
    if "activation" in options:
        settings["activation_fn"] = getattr(torch.nn, options["activation"])()
    CrossEncoder(str(classifier), model_kwargs=FLOAT32, **settings).save(str(place))


def save_adapter(order: Values, place: Path) -> None:
    """An adapter made by PEFT on a model beside it."""
    options = order["options"]
    base = place.parent / "base"
    head = order["head"]
    plain(order, base, head)
    whole = getattr(transformers, AUTO[head]).from_pretrained(base, **FLOAT32)
    adapted = peft.get_peft_model(whole, lora_config(options["lora"]))
    randomise(adapted, order["name"])
    adapted.save_pretrained(place)
    if options.get("with_tokenizer"):
        transformers.AutoTokenizer.from_pretrained(base).save_pretrained(place)


def save_embedder_adapter(order: Values, place: Path) -> None:
    """An adapter made by sentence-transformers, which saves its modules beside it."""
    plain(order, place.parent / "base", "encoder")
    model = embedder(order, place.parent / "base")
    model.add_adapter(lora_config(order["options"]["lora"]))
    randomise(model, order["name"])
    model.save(str(place))


def lora_config(options: Values) -> Any:
    heads = r"(.*\.)?((pre_)?classifier|qa_outputs)(\..*)?"  # these are trained whole
    settings = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", **options}
    exclude = {"exclude_modules": heads} if settings["target_modules"] == "all-linear" else {}
    return peft.LoraConfig(**exclude, **settings)


def randomise(model: Any, seed: str) -> None:
    """Both factors at random: as PEFT makes it, one of them is 0."""
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()) + 1)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += SPREAD * torch.randn(parameter.shape, generator=generator)


MAKERS: dict[str, Callable[[Values, Path], None]] = {
    "plain": save_plain,
    "embedder": save_embedder,
    "cross-encoder": save_cross_encoder,
    "adapter": save_adapter,
    "embedder-adapter": save_embedder_adapter,
}


# Changes in the files


def edit(place: Path, file: str, key: str | None, value: Any) -> None:
    """Set a key of a JSON file, `a.b.0` inside it; `None` for a file that goes.

    Values of the form `{"$remove": 1}` remove the key, `{"$size": 1}` is the size of the
    vocabulary.
    """
    path = place / file
    if key is None:
        path.unlink(missing_ok=True)
        if value is not None:
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return
    content = json.loads(path.read_text()) if path.exists() else {}
    *way, last = [int(part) if part.isdecimal() else part for part in key.split("/")]
    inner = content
    for part in way:
        inner = inner[part] if isinstance(inner, list) else inner.setdefault(part, {})
    last = str(last) if isinstance(inner, dict) else last
    if value == {"$remove": 1}:
        inner.pop(last, None)
    else:
        inner[last] = value
    path.write_text(json.dumps(content, ensure_ascii=False))


# Answers

Answers = list[Any]
"""For each item an array, or what went wrong."""


def each(items: list[Any], answer: Callable[[Any], Any]) -> Answers:
    """The answer of each item, alone: in a batch it would depend on the padding of some models."""
    found: Answers = []
    for item in items:
        try:
            with torch.no_grad():
                found.append(np.asarray(answer(item), np.float32))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}"[:200])
    return found


def tokenized(tokenizer: Any, item: Any) -> Any:
    texts = [item] if isinstance(item, str) else item
    return tokenizer(*texts, truncation=True, return_tensors="pt")


def of_tokens(order: Values, place: Path, items: list[Any]) -> Answers:
    """The last states, or scores, of each token."""
    head = order["head"]
    where = place.parent / "base" if order["layout"] == "adapter" else place
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    model = loaded(order, place, head)

    def answer(item: Any) -> Any:
        given = model(**tokenized(tokenizer, item))
        if head == "encoder":
            return given.last_hidden_state[0]
        if head == "span":
            return torch.stack([given.start_logits[0], given.end_logits[0]], -1)
        return given.logits[0]

    return each(items, answer)


def loaded(order: Values, place: Path, head: str) -> Any:
    auto = getattr(transformers, AUTO[head])
    if order["layout"] != "adapter":
        return auto.from_pretrained(place, **FLOAT32).eval()
    base = auto.from_pretrained(place.parent / "base", **FLOAT32)
    return peft.PeftModel.from_pretrained(base, place).eval()


def probabilities(order: Values, place: Path, items: list[Any]) -> Answers:
    """What the pipeline of transformers gives, in the order of the classes.

    One class is a quantity to the model (it is trained by squares), and the pipeline shows the
    sigmoid of it unless `problem_type` says so too: the quantity itself is asked for.
    """
    where = place.parent / "base" if order["layout"] == "adapter" else place
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    model = loaded(order, place, "sequence")
    model = model.get_base_model() if order["layout"] == "adapter" else model
    pipe = transformers.TextClassificationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    order["labels"] = names
    quantity = {"function_to_apply": "none"} if len(names) == 1 else {}

    def answer(item: Any) -> Any:
        texts = {"text": item} if isinstance(item, str) else {"text": item[0], "text_pair": item[1]}
        scores = pipe(texts, top_k=None, truncation=True, **quantity)
        by_name = {one["label"]: one["score"] for one in scores}
        return [by_name[name] for name in names]

    return each(items, answer)


def vectors(method: str) -> Callable[[Values, Path, list[Any]], Answers]:
    def answer(order: Values, place: Path, items: list[Any]) -> Answers:
        model = SentenceTransformer(str(place), device="cpu", model_kwargs=FLOAT32)
        return each(items, lambda item: getattr(model, method)([item])[0])

    return answer


def similarity(order: Values, place: Path, items: list[Any]) -> Answers:
    """How similar each vector is to all."""
    model = SentenceTransformer(str(place), device="cpu", model_kwargs=FLOAT32)
    found = model.encode(items)
    return list(model.similarity(found, found).numpy())


def scores(order: Values, place: Path, items: list[Any]) -> Answers:
    model = CrossEncoder(str(place), device="cpu", model_kwargs=FLOAT32)
    pairs = [tuple(item) for item in items]
    softmax = {"apply_softmax": True} if model.num_labels > 1 else {}
    return each(pairs, lambda pair: model.predict([pair], **softmax)[0])


QUESTIONS: dict[str, Callable[[Values, Path, list[Any]], Answers]] = {
    "tokens": of_tokens,
    "probabilities": probabilities,
    "vectors": vectors("encode"),
    "queries": vectors("encode_query"),
    "documents": vectors("encode_document"),
    "similarity": similarity,
    "scores": scores,
}


def carry_out(order: Values) -> None:
    """Make a directory, and write the answers beside it."""
    root = Path(order["place"])
    place = root / "model"
    place.mkdir(parents=True)
    order.setdefault("head", "encoder")
    MAKERS[order["layout"]](order, place)
    for file, key, value in order["edits"]:
        edit(place, file, key, value)
    arrays, problems = {}, {}
    for question, items in order["items"].items():
        for index, found in enumerate(QUESTIONS[question](order, place, items)):
            if isinstance(found, str):
                problems[f"{question}/{index}"] = found
            else:
                arrays[f"{question}/{index}"] = found
    np.savez(root / "answers.npz", **arrays)
    (root / "problems.json").write_text(
        json.dumps({"problems": problems, "labels": order.get("labels")})
    )


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for order in json.loads(Path(sys.argv[1]).read_text()):
        torch.manual_seed(0)
        try:
            carry_out(order)
        except Exception as error:
            root = Path(order["place"])
            root.mkdir(parents=True, exist_ok=True)
            (root / "traceback.txt").write_text(traceback.format_exc())
            (root / "error.txt").write_text(f"{type(error).__name__}: {error}"[:500])
        print(order["place"], flush=True)


if __name__ == "__main__":
    main()
