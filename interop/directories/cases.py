"""The directories: a family in a layout, with odd keys in its files.

A layout says what is saved and what is asked of it; a change says what is set in the files after
that. Forty cases name them; `drawn` puts them together at random.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from interop.directories import texts

Values = dict[str, Any]
Edit = tuple[str, str | None, Any]
"""File, key (`a/b/0` inside of it; None for all of it), value."""

REMOVED = {"$remove": 1}
WORDPIECE = ("bert", "distilbert", "electra", "nomic_bert", "mpnet")
BYTES = ("roberta", "modernbert")
PIECES = ("bert-xlmr", "xlm-roberta", "camembert", "albert", "deberta-v2")
ALL = (*WORDPIECE, *BYTES, *PIECES, "esm")
POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert", "esm", "mpnet")
FREE_POSITIONS = tuple(name for name in ALL if name not in POSITIONS_AFTER_PAD)
HEADS = {
    "vocabulary": tuple(name for name in ALL if name != "bert-xlmr"),
    "sequence": ALL,
    "token": ALL,
    "span": tuple(name for name in ALL if name not in ("nomic_bert", "esm")),
}


@dataclass(frozen=True)
class Layout:
    """What is saved, and what is asked."""

    kind: str
    """How the reference saves it."""
    questions: tuple[str, ...]
    head: str = "encoder"
    options: Values = field(default_factory=dict)
    families: tuple[str, ...] = ALL
    refusal: str | None = None
    """Why refusing it is right."""


@dataclass(frozen=True)
class Change:
    """What is set in the files."""

    edits: tuple[Edit, ...]
    layouts: tuple[str, ...] = ()
    """Kinds, heads or names of layouts that it goes with; none for all."""
    families: tuple[str, ...] = ALL
    refusal: str | None = None
    """Why refusing it is right."""


@dataclass(frozen=True)
class Case:
    """One directory."""

    family: str
    layout: str
    changes: tuple[str, ...] = ()
    name: str = ""

    @property
    def folder(self) -> str:
        return self.name or "-".join([self.family, self.layout, *self.changes])

    @property
    def refusals(self) -> list[str]:
        """Why refusing it is right, if it is."""
        parts = [LAYOUTS[self.layout], *(CHANGES[name] for name in self.changes)]
        return [part.refusal for part in parts if part.refusal]

    def order(self, place: str) -> Values:
        """What the reference is told."""
        layout = LAYOUTS[self.layout]
        asked = {question: items_of(question, layout, self.family) for question in layout.questions}
        return {
            "name": self.folder,
            "place": place,
            "family": self.family,
            "layout": layout.kind,
            "head": layout.head,
            "options": layout.options,
            "edits": [edit for name in self.changes for edit in CHANGES[name].edits],
            "items": asked,
        }


def items_of(question: str, layout: Layout, family: str) -> list[Any]:
    """The texts and pairs of a question."""
    single, pairs = texts.texts_for(family), texts.PAIRS
    if question == "scores":
        return list(pairs)
    if question == "similarity":
        return list(single[:6])
    if question in ("queries", "documents"):
        return list(single[:12])
    takes_pairs = question == "probabilities" or (question == "tokens" and layout.head != "token")
    return [*single, *pairs] if takes_pairs else list(single)


# Layouts

FAMILIES_OF_PEFT = tuple(name for name in ALL if name != "nomic_bert")
LABELS3 = ["negative", "neutral", "positive"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
EVERYTHING = ("vectors", "queries", "documents", "similarity")


def classifier(labels: list[str], **options: Any) -> Layout:
    return Layout("plain", ("probabilities",), "sequence", {"labels": labels, **options})


def embedder(*questions: str, **options: Any) -> Layout:
    return Layout("embedder", questions or ("vectors",), options=options)


def cross_encoder(labels: int = 1, **options: Any) -> Layout:
    named = {"labels": [f"LABEL_{index}" for index in range(labels)], **options}
    return Layout("cross-encoder", ("scores",), "sequence", named)


def adapter(head: str = "sequence", **lora: Any) -> Layout:
    options = {"lora": {"task_type": {"sequence": "SEQ_CLS", "token": "TOKEN_CLS"}[head], **lora}}
    question = "probabilities" if head == "sequence" else "tokens"
    labels = LABELS3 if head == "sequence" else TAGS
    return Layout("adapter", (question,), head, {"labels": labels, **options}, FAMILIES_OF_PEFT)


LAYOUTS: dict[str, Layout] = {
    "bare": Layout("plain", ("tokens", "vectors")),
    "bare-sharded": Layout("plain", ("tokens",), options={"sharded": True}),
    "bare-fp16": Layout("plain", ("tokens", "vectors"), options={"dtype": "float16"}),
    "bare-bf16": Layout("plain", ("tokens",), options={"dtype": "bfloat16"}),
    "bare-old": Layout("plain", ("tokens", "vectors"), options={"tokenizer": "both"}),
    "bare-vocabulary": Layout(
        "plain",
        ("tokens",),
        options={"tokenizer": "vocabulary"},
        families=(*WORDPIECE, "roberta", "esm"),
    ),
    "bare-pieces": Layout(
        "plain",
        ("tokens",),
        options={"tokenizer": "vocabulary"},
        families=PIECES,
        refusal="without tokenizer.json, SentencePiece models of encoders are not read",
    ),
    "classifier": classifier(LABELS3),
    "classifier-2": classifier(["no", "yes"]),
    "classifier-multi": classifier(LABELS3, config={"problem_type": "multi_label_classification"}),
    "classifier-regression": classifier(["score"], config={"problem_type": "regression"}),
    "classifier-1": classifier(["score"]),
    "token": Layout("plain", ("tokens",), "token", {"labels": TAGS}),
    "span": Layout("plain", ("tokens",), "span", families=HEADS["span"]),
    "vocabulary": Layout("plain", ("tokens",), "vocabulary", families=HEADS["vocabulary"]),
    "sentence": embedder(*EVERYTHING),
    "sentence-cls": embedder(pooling="cls", normalize=True),
    "sentence-max": embedder(pooling="max"),
    "sentence-last": embedder(pooling="lasttoken", normalize=True),
    "sentence-weighted": embedder(pooling="weightedmean"),
    "sentence-root": Layout("embedder", ("vectors",), options={"pooling": "mean_sqrt_len_tokens"}),
    "sentence-list": embedder(pooling=["cls", "mean"], normalize=True),
    "sentence-dense": embedder(dense=[{"activation": "Tanh"}], normalize=True),
    "sentence-dense-gelu": embedder(dense=[{"activation": "GELU", "bias": False}]),
    "sentence-dense-2": embedder(dense=[{"width": 40}, {"activation": "Identity", "width": 16}]),
    "sentence-prompts": embedder(
        *EVERYTHING,
        normalize=True,
        of_model={"prompts": {"query": "the query : ", "document": "what : ", "other": "cat "}},
    ),
    "sentence-default": embedder(
        *EVERYTHING,
        of_model={"prompts": {"query": "query : ", "x": "cat : "}, "default_prompt_name": "query"},
    ),
    "sentence-no-prompt": embedder(
        "vectors",
        "queries",
        of_pooling={"include_prompt": False},
        of_model={"prompts": {"query": "the query : "}, "default_prompt_name": "query"},
    ),
    "sentence-truncated": embedder(*EVERYTHING, normalize=True, of_model={"truncate_dim": 12}),
    "sentence-dot": embedder(*EVERYTHING, of_model={"similarity_fn_name": "dot"}),
    "sentence-far": embedder(*EVERYTHING, of_model={"similarity_fn_name": "euclidean"}),
    "sentence-short": embedder(max_seq_length=14),
    "sentence-fp16": embedder(dtype="float16"),
    "cross": cross_encoder(),
    "cross-identity": cross_encoder(activation="Identity"),
    "cross-short": cross_encoder(activation="Sigmoid", of_model={"max_length": 20}),
    "cross-prompts": cross_encoder(
        of_model={"prompts": {"query": "the query : "}, "default_prompt_name": "query"}
    ),
    "cross-3": Layout("cross-encoder", ("scores",), "sequence", {"labels": LABELS3}),
    "cross-old": Layout("plain", ("scores",), "sequence", {"labels": ["LABEL_0"]}),
    "cross-old-identity": Layout(
        "plain",
        ("scores",),
        "sequence",
        {
            "labels": ["LABEL_0"],
            "config": {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        },
    ),
    "cross-v4": Layout(
        "plain",
        ("scores",),
        "sequence",
        {
            "labels": ["LABEL_0"],
            "config": {
                "sentence_transformers": {
                    "activation_fn": "torch.nn.modules.activation.Tanh",
                    "version": "4.1.0",
                }
            },
        },
    ),
    "adapter": adapter(),
    "adapter-token": adapter("token"),
    "adapter-rslora": adapter(use_rslora=True),
    "adapter-olora": adapter(init_lora_weights="olora"),
    "adapter-pissa": adapter(init_lora_weights="pissa"),
    "adapter-gaussian": adapter(init_lora_weights="gaussian"),
    "adapter-pattern": adapter(
        target_modules=["query", "value"], alpha_pattern={"query": 3}, rank_pattern={"value": 2}
    ),
    "adapter-layers": adapter(target_modules=["query", "value"], layers_to_transform=[1]),
    "adapter-dora": adapter(use_dora=True, target_modules=["query", "value"]),
    "adapter-bias": adapter(bias="lora_only", target_modules=["query", "value"]),
    "embedder-adapter": Layout(
        "embedder-adapter",
        EVERYTHING,
        options={
            "pooling": "cls",
            "max_seq_length": 20,
            "lora": {"task_type": "FEATURE_EXTRACTION"},
            "of_model": {"prompts": {"query": "the query : "}, "default_prompt_name": "query"},
        },
        families=FAMILIES_OF_PEFT,
    ),
}
QUERY_VALUE = ("bert", "bert-xlmr", "roberta", "xlm-roberta", "camembert", "electra", "esm")
for _name in ("adapter-pattern", "adapter-layers", "adapter-dora", "adapter-bias"):
    LAYOUTS[_name] = Layout(**{**vars(LAYOUTS[_name]), "families": QUERY_VALUE})
_WHY = {
    "adapter-olora": "the base was changed by its first weights",
    "adapter-pissa": "the base was changed by its first weights",
    "adapter-pattern": "ranks and scales that differ are not computed",
    "adapter-dora": "DoRA is not computed",
    "adapter-bias": "biases beside an adapter are not computed",
}
for _name, _reason in _WHY.items():
    LAYOUTS[_name] = Layout(**{**vars(LAYOUTS[_name]), "refusal": _reason})


# Changes

CONFIG, TOKENIZER, BACKEND = "config.json", "tokenizer_config.json", "tokenizer.json"
MAP, LENGTHS, SETTINGS = (
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
POOLING, MODULES, DENSE = "1_Pooling/config.json", "modules.json", "2_Dense/config.json"
OF_ADAPTER = "adapter_config.json"
ST = ("embedder", "cross-encoder")
NOT_ADAPTER = ("plain", "embedder", "cross-encoder")


def config(key: str, value: Any, families: tuple[str, ...] = ALL, *layouts: str, **more: Any):
    """A key of config.json."""
    return Change(((CONFIG, key, value),), layouts or NOT_ADAPTER, families, **more)


def tokenizer(key: str, value: Any, families: tuple[str, ...] = ALL, **more: Any):
    """A key of tokenizer_config.json."""
    return Change(((TOKENIZER, key, value),), NOT_ADAPTER, families, **more)


def backend(key: str | None, value: Any, families: tuple[str, ...] = ALL, **more: Any):
    """A key of tokenizer.json."""
    families = tuple(name for name in families if name != "esm")
    return Change(((BACKEND, key, value),), NOT_ADAPTER, families, **more)


def settings(key: str, value: Any, **more: Any):
    """A key of config_sentence_transformers.json."""
    return Change(((SETTINGS, key, value),), ("embedder",), **more)


def token(content: str, **flags: bool) -> Values:
    """A token with its flags, as files of transformers 4 have it."""
    plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"__type": "AddedToken", "content": content, **plain, **flags}


def lengths(name: str) -> Change:
    """The file of the length under another name."""
    return Change(
        ((LENGTHS, None, None), (name, None, {"max_seq_length": 13, "do_lower_case": False})),
        ("embedder",),
    )


CASED = ("roberta", "modernbert")
ACTIVATION = ("bert", "bert-xlmr", "roberta", "xlm-roberta", "camembert", "electra", "albert",
              "mpnet", "deberta-v2", "esm")  # fmt: skip
NEW_TOKEN = {"content": "cat", "lstrip": False, "normalized": True, "rstrip": False,
             "single_word": False, "special": False}  # fmt: skip

CHANGES: dict[str, Change] = {
    # tokenizer_config.json
    "truncation-left": tokenizer("truncation_side", "left"),
    "padding-left": tokenizer("padding_side", "left"),
    "not-lower": tokenizer("do_lower_case", False),
    "lower": tokenizer("do_lower_case", True),
    "strip-accents": tokenizer("strip_accents", True),
    "keep-accents": tokenizer("strip_accents", False),
    "albert-accents": tokenizer("keep_accents", True, ("albert",)),
    "chinese-off": tokenizer("tokenize_chinese_chars", False, WORDPIECE),
    "by-punctuation": tokenizer("split_by_punct", True, ("deberta-v2",)),
    "limit-12": tokenizer("model_max_length", 12),
    "limit-none": tokenizer("model_max_length", 1000000000000000019884624838656),
    "limit-removed": tokenizer("model_max_length", REMOVED),
    "limit-beyond": tokenizer("model_max_length", 512),
    "old-max-len": Change(
        ((TOKENIZER, "model_max_length", REMOVED), (TOKENIZER, "max_len", 14)), NOT_ADAPTER
    ),
    "max-length": tokenizer("max_length", 10),
    "clean-up": tokenizer("clean_up_tokenization_spaces", True),
    "inputs-without-types": tokenizer("model_input_names", ["input_ids", "attention_mask"]),
    "inputs-with-types": tokenizer(
        "model_input_names", ["input_ids", "token_type_ids", "attention_mask"]
    ),
    "inputs-removed": tokenizer("model_input_names", REMOVED),
    "class-removed": tokenizer("tokenizer_class", REMOVED),
    "class-fast": tokenizer("tokenizer_class", "PreTrainedTokenizerFast"),
    "class-backend": tokenizer("tokenizer_class", "TokenizersBackend"),
    "class-bert": tokenizer("tokenizer_class", "BertTokenizer", WORDPIECE),
    "class-old": tokenizer("tokenizer_class", "BertTokenizerFast", WORDPIECE),
    "prefix-space": tokenizer("add_prefix_space", True, (*BYTES, *PIECES)),
    "no-prefix-space": tokenizer("add_prefix_space", False, (*BYTES, *PIECES)),
    "trim-offsets-off": tokenizer("trim_offsets", False, BYTES),
    "split-specials": tokenizer("split_special_tokens", True),
    "added-word": tokenizer(
        "added_tokens_decoder",
        {"20": NEW_TOKEN},
        refusal="the id is another token's; the reference adds it under a new one",
    ),
    "extra-special": tokenizer("extra_special_tokens", ["<special>"]),
    "additional-special": tokenizer("additional_special_tokens", ["cat", "dog"]),
    "mask-takes-space": tokenizer("mask_token", token("[MASK]", lstrip=True), WORDPIECE[:-1]),
    "mask-other": tokenizer("mask_token", "cat"),
    "unk-other": tokenizer("unk_token", "cat", WORDPIECE),
    "sep-other": tokenizer("sep_token", "[MASK]", (*WORDPIECE[:-1], "modernbert", "albert")),
    "cls-other": tokenizer("cls_token", "[PAD]", WORDPIECE[:-1]),
    "pad-other": tokenizer("pad_token", "[UNK]", (*WORDPIECE[:-1], "modernbert")),
    "eos-other": tokenizer("eos_token", "<mask>", ("roberta", "xlm-roberta", "bert-xlmr")),
    "eos-named": tokenizer("eos_token", "[SEP]", WORDPIECE[:-1]),
    "add-eos-off": tokenizer("add_eos_token", False, (*BYTES, *PIECES)),
    "add-bos-off": tokenizer("add_bos_token", False, (*BYTES, *PIECES)),
    "add-specials-off": tokenizer("add_special_tokens", False),
    "never-split": tokenizer("never_split", ["cat"], WORDPIECE),
    "basic-off": tokenizer("do_basic_tokenize", False, WORDPIECE),
    "slow": tokenizer("use_fast", False),
    "stride": tokenizer("stride", 4),
    "strategy": tokenizer("truncation_strategy", "only_second"),
    "note": tokenizer("my_note", {"by": "me"}),
    "template": tokenizer("chat_template", "{{ messages }}"),
    "old-map": Change(
        ((MAP, None, {"mask_token": token("[MASK]", lstrip=True), "pad_token": "[PAD]"}),),
        NOT_ADAPTER,
        WORDPIECE[:-1],
    ),
    "no-tokenizer-config": Change(
        ((TOKENIZER, None, None),), NOT_ADAPTER, tuple(n for n in ALL if n != "bert-xlmr")
    ),
    # tokenizer.json
    "own-truncation": backend(
        "truncation",
        {"direction": "Left", "max_length": 11, "strategy": "LongestFirst", "stride": 0},
    ),
    "own-padding": backend(
        "padding",
        {
            "strategy": {"Fixed": 32},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    ),
    "own-not-lower": backend("normalizer/lowercase", False, WORDPIECE),
    "own-accents": backend("normalizer/strip_accents", True, WORDPIECE),
    "own-no-normalizer": backend("normalizer", None),
    "own-lower": backend("normalizer", {"type": "Lowercase"}, (*BYTES, *PIECES)),
    "own-short-words": backend("model/max_input_chars_per_word", 4, WORDPIECE),
    "own-no-frame": backend("post_processor", None),
    "own-whitespace": backend("pre_tokenizer", {"type": "WhitespaceSplit"}),
    "own-unk": backend("model/unk_token", "cat", WORDPIECE),
    "own-added": backend(
        "added_tokens/0/normalized", True, (*WORDPIECE, *BYTES, "xlm-roberta", "camembert")
    ),
    "own-single-word": backend("added_tokens/1/single_word", True),
    "own-rstrip": backend("added_tokens/1/rstrip", True),
    "own-lstrip": backend("added_tokens/2/lstrip", True),
    # config.json
    "pad-3": config("pad_token_id", 3, FREE_POSITIONS),
    "pad-0": config("pad_token_id", 0, FREE_POSITIONS),
    "pad-0-counted": config(
        "pad_token_id", 0, POSITIONS_AFTER_PAD, refusal="positions are counted by another padding"
    ),
    "pad-null": config("pad_token_id", None, FREE_POSITIONS),
    "cls-9": config("cls_token_id", 9),
    "two-architectures": config(
        "architectures", ["BertModel", "BertForMaskedLM"], ("bert", "bert-xlmr"), "bare", "embedder"
    ),
    "no-architectures": config("architectures", REMOVED, ALL, "bare", "embedder"),
    "empty-architectures": config("architectures", [], ALL, "bare", "embedder"),
    "other-architecture": config("architectures", ["BertForMaskedLM"], ("bert",), "embedder"),
    "relu": config("hidden_act", "relu", ACTIVATION),
    "gelu-new": config("hidden_act", "gelu_new", ACTIVATION),
    "gelu-fast": config("hidden_act", "gelu_fast", ACTIVATION, refusal="gelu_fast is not computed"),
    "gelu-tanh": config("hidden_act", "gelu_pytorch_tanh", ACTIVATION),
    "gelu-python": config(
        "hidden_act", "gelu_python", ACTIVATION, refusal="gelu_python is not computed"
    ),
    "quick-gelu": config(
        "hidden_act", "quick_gelu", ACTIVATION, refusal="quick_gelu is not computed"
    ),
    "silu": config("hidden_act", "silu", ACTIVATION),
    "swish": config("hidden_act", "swish", ACTIVATION),
    "tanh": config("hidden_act", "tanh", ACTIVATION),
    "mish": config("hidden_act", "mish", ACTIVATION, refusal="mish is not computed"),
    "distil-relu": config("activation", "relu", ("distilbert",)),
    "distil-sinus": config("sinusoidal_pos_embds", True, ("distilbert",)),
    "modern-relu": config("hidden_activation", "relu", ("modernbert",)),
    "relative-key": config(
        "position_embedding_type",
        "relative_key",
        ("bert", "roberta", "xlm-roberta", "electra"),
        refusal="relative positions are not computed; transformers 5 forgot them in silence",
    ),
    "esm-absolute": config(
        "position_embedding_type", "absolute", ("esm",), refusal="its weights are not there"
    ),
    "esm-no-dropout": config("token_dropout", False, ("esm",)),
    "esm-mask": config("mask_token_id", 5, ("esm",)),
    "esm-norm": config(
        "emb_layer_norm_before", True, ("esm",), refusal="its weights are not there"
    ),
    "rope-linear": config(
        "rope_parameters",
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
        ("nomic_bert",),
        refusal="scaled rotations are not computed",
    ),
    "rope-scaling": config(
        "rope_scaling",
        {"type": "dynamic", "factor": 2.0},
        ("nomic_bert",),
        refusal="scaled rotations are not computed",
    ),
    "rope-theta": config("rope_theta", 500.0, ("nomic_bert",)),
    "nomic-head-dim": config("head_dim", 8, ("nomic_bert",)),
    "modern-theta": Change(
        (
            (CONFIG, "rope_parameters", REMOVED),
            (CONFIG, "global_rope_theta", 5000.0),
            (CONFIG, "local_rope_theta", 300.0),
        ),
        NOT_ADAPTER,
        ("modernbert",),
    ),
    "modern-layers": config(
        "layer_types",
        ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
        ("modernbert",),
    ),
    "modern-every": Change(
        ((CONFIG, "layer_types", REMOVED), (CONFIG, "global_attn_every_n_layers", 2)),
        NOT_ADAPTER,
        ("modernbert",),
    ),
    "modern-window": config("local_attention", 6, ("modernbert",)),
    "modern-odd-window": config("local_attention", 7, ("modernbert",)),
    "modern-mean": config("classifier_pooling", "mean", ("modernbert",)),
    "modern-tanh": config("classifier_activation", "tanh", ("modernbert",)),
    "modern-sparse": config("sparse_prediction", True, ("modernbert",)),
    "untied": config(
        "tie_word_embeddings",
        False,
        HEADS["vocabulary"],
        "vocabulary",
        refusal="the decoder's weights are not there; the reference draws them",
    ),
    "eps": config("layer_norm_eps", 1e-3, tuple(n for n in ALL if n != "distilbert")),
    "dropout": config("hidden_dropout_prob", 0.5),
    "decoder": config("is_decoder", True, refusal="a decoder sees no later token"),
    "cross-attention": config("add_cross_attention", True),
    "chunked": config("chunk_size_feed_forward", 4, refusal="the reference takes no other lengths"),
    "outputs": config("output_hidden_states", True),
    "dtype": config("dtype", "float16"),
    "torch-dtype": config("torch_dtype", "bfloat16"),
    "auto-map": config("auto_map", {"AutoModel": "modeling.Own"}),
    "auto-map-config": config("auto_map", {"AutoConfig": "configuration.Own"}),
    "auto-map-and-key": Change(
        ((CONFIG, "auto_map", {"AutoModel": "modeling.Own"}), (CONFIG, "my_scale", 2.0)),
        NOT_ADAPTER,
        refusal="code of the directory may read my_scale",
    ),
    "quantized": config(
        "quantization_config",
        {"quant_method": "bitsandbytes", "load_in_4bit": 1},
        refusal="quantized weights are not read",
    ),
    "unknown": config("my_key", {"a": [1, 2]}),
    "unknown-number": config("pooler_scale", 1.5),
    "summary": config("summary_type", "mean", ("electra",)),
    "electra-activation": config("summary_activation", "tanh", ("electra",)),
    "deberta-string": config("pos_att_type", "p2c|c2p", ("deberta-v2",)),
    "deberta-c2p": config("pos_att_type", ["c2p"], ("deberta-v2",)),
    "deberta-buckets": config("position_buckets", 4, ("deberta-v2",)),
    "deberta-relative": config("max_relative_positions", 20, ("deberta-v2",)),
    "deberta-pooler": config("pooler_hidden_act", "tanh", ("deberta-v2",)),
    "deberta-z": config("z_steps", 2, ("deberta-v2",)),
    "deberta-legacy": config("legacy", False, ("deberta-v2",), "vocabulary", "bare"),
    "mpnet-buckets": config("relative_attention_num_buckets", 32, ("mpnet",)),
    "type-vocabulary": config("type_vocab_size", 3, refusal="its weights are not there"),
    "labels-swapped": config(
        "id2label", {"1": "b", "0": "a", "2": "c"}, ALL, "classifier", "classifier-multi"
    ),
    "labels-integers": config("id2label", {"0": 1, "1": 2, "2": 3}, ALL, "classifier"),
    "labels-twice": config(
        "id2label",
        {"0": "a", "1": "a", "2": "c"},
        ALL,
        "classifier",
        refusal="a label stands twice",
    ),
    "labels-null": config(
        "id2label", {"0": None, "1": "a", "2": "c"}, ALL, "classifier", refusal="a label is null"
    ),
    "labels-hole": config(
        "id2label", {"0": "a", "1": "b", "3": "c"}, ALL, "classifier", refusal="no label 2"
    ),
    "labels-removed": Change(
        ((CONFIG, "id2label", REMOVED), (CONFIG, "label2id", REMOVED), (CONFIG, "num_labels", 3)),
        ("classifier", "classifier-multi"),
    ),
    "label2id-other": config("label2id", {"x": 0, "y": 1}, ALL, "classifier", "token"),
    "num-labels": config("num_labels", 5, ALL, "classifier"),
    "problem-multi": config(
        "problem_type",
        "multi_label_classification",
        ALL,
        "classifier",
        "classifier-2",
        "classifier-1",
        "cross-3",
    ),
    "problem-single": config(
        "problem_type",
        "single_label_classification",
        ALL,
        "classifier",
        "classifier-1",
        "classifier-2",
        "cross",
        "cross-old",
    ),
    "problem-regression": config(
        "problem_type", "regression", ALL, "classifier", "classifier-2", "cross", "cross-old"
    ),
    "problem-null": config("problem_type", None, ALL, "classifier-multi", "classifier-regression"),
    "function-to-apply": config(
        "function_to_apply", "none", ALL, "classifier", "classifier-1", "classifier-multi"
    ),
    # of sentence-transformers
    **{
        f"length-{name}": lengths(f"sentence_{name}_config.json")
        for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    },
    "length-two-files": Change(
        (
            (LENGTHS, "max_seq_length", 20),
            ("sentence_roberta_config.json", None, {"max_seq_length": 10}),
        ),
        ("embedder",),
    ),
    "length-10": Change(((LENGTHS, "max_seq_length", 10),), ST),
    "length-beyond": Change(((LENGTHS, "max_seq_length", 500),), ("embedder",)),
    "length-null": Change(((LENGTHS, "max_seq_length", None),), ST),
    "length-no-file": Change(((LENGTHS, None, None),), ST),
    "length-old-file": Change(
        ((LENGTHS, None, {"max_seq_length": 12, "do_lower_case": False}),), ("embedder",)
    ),
    "sentence-lower": Change(
        ((LENGTHS, None, {"max_seq_length": 30, "do_lower_case": True}),), ("embedder",)
    ),
    "tokenizer-args": Change(((LENGTHS, "tokenizer_args", {"model_max_length": 9}),), ST),
    "processor-args": Change(
        ((LENGTHS, "processor_kwargs", {"truncation_side": "left"}),),
        ST,
        refusal="keys for other files than its own are not read there",
    ),
    "model-args": Change(((LENGTHS, "model_args", {"torch_dtype": "float32"}),), ST),
    "config-args": Change(
        ((LENGTHS, "config_args", {"hidden_act": "relu"}),),
        ST,
        ("bert",),
        refusal="keys for other files than its own are not read there",
    ),
    "sentence-note": Change(((LENGTHS, "my_note", 3),), ST),
    "default-prompt": settings("default_prompt_name", "cat"),
    "default-prompt-set": Change(
        ((SETTINGS, "prompts", {"cat": "the cat: "}), (SETTINGS, "default_prompt_name", "cat")),
        ST,
    ),
    "prompts-documents": settings("prompts", {"passage": "the ", "corpus": "cat "}),
    "prompts-null": settings("prompts", None),
    "truncate-dim": settings("truncate_dim", 7),
    "truncate-wide": settings("truncate_dim", 1000),
    "similarity-dot": settings("similarity_fn_name", "dot"),
    "similarity-manhattan": settings("similarity_fn_name", "manhattan"),
    "similarity-null": settings("similarity_fn_name", None),
    "settings-note": settings("my_note", "x"),
    "model-type": settings(
        "model_type", "CrossEncoder", refusal="it is an embedder under a wrong name"
    ),
    "model-type-sparse": settings(
        "model_type", "SparseEncoder", refusal="sparse vectors are not computed"
    ),
    "settings-no-file": Change(((SETTINGS, None, None),), ST),
    "no-include-prompt": Change(((POOLING, "include_prompt", False),), ("embedder",)),
    "old-flags": Change(
        (
            (POOLING, "pooling_mode", REMOVED),
            (POOLING, "pooling_mode_cls_token", True),
            (POOLING, "pooling_mode_mean_tokens", False),
        ),
        ("embedder",),
    ),
    "old-flags-none": Change(((POOLING, "pooling_mode", REMOVED),), ("embedder",)),
    "old-flags-two": Change(
        (
            (POOLING, "pooling_mode", REMOVED),
            (POOLING, "pooling_mode_cls_token", True),
            (POOLING, "pooling_mode_max_tokens", True),
        ),
        ("embedder",),
    ),
    "old-flags-beside": Change(((POOLING, "pooling_mode_max_tokens", True),), ("embedder",)),
    "pooling-width": Change(((POOLING, "word_embedding_dimension", 32),), ("embedder",)),
    "pooling-note": Change(((POOLING, "my_note", 1),), ("embedder",)),
    "pooling-one": Change(((POOLING, "pooling_mode", ["max"]),), ("embedder",)),
    "old-modules": Change(
        (
            (MODULES, "0/type", "sentence_transformers.models.Transformer"),
            (MODULES, "1/type", "sentence_transformers.models.Pooling"),
        ),
        ("embedder",),
    ),
    "modules-numbers": Change(((MODULES, "0/idx", 5), (MODULES, "1/name", "x")), ("embedder",)),
    "modules-kwargs": Change(((MODULES, "0/kwargs", ["task"]),), ("embedder",)),
    "dense-relu": Change(
        ((DENSE, "activation_function", "torch.nn.modules.activation.ReLU"),), ("sentence-dense",)
    ),
    "dense-sigmoid": Change(
        ((DENSE, "activation_function", "torch.nn.modules.activation.Sigmoid"),),
        ("sentence-dense",),
        refusal="Sigmoid is not among the activations of a dense layer",
    ),
    "dense-no-activation": Change(
        ((DENSE, "activation_function", REMOVED),), ("sentence-dense", "sentence-dense-gelu")
    ),
    "cross-activation": Change(
        ((CONFIG, "sentence_transformers", {"activation_fn": "torch.nn.modules.linear.Identity"}),),
        ("cross", "cross-old", "cross-3"),
    ),
    "cross-own-activation": Change(
        ((CONFIG, "sentence_transformers", {"activation_fn": "my.module.Activation"}),),
        ("cross-old",),
        refusal="code of the directory; the reference warns and takes its default",
    ),
    "cross-settings": Change(
        ((SETTINGS, "activation_fn", "torch.nn.modules.linear.Identity"),), ("cross", "cross-3")
    ),
    # adapter_config.json
    "alpha": Change(((OF_ADAPTER, "lora_alpha", 9),), ("adapter", "embedder-adapter")),
    "use-rslora": Change(((OF_ADAPTER, "use_rslora", True),), ("adapter", "embedder-adapter")),
    "other-rank": Change(((OF_ADAPTER, "r", 2),), ("adapter",), refusal="PEFT refuses it too"),
    "init-olora": Change(
        ((OF_ADAPTER, "init_lora_weights", "olora"),),
        ("adapter", "embedder-adapter"),
        refusal="the base was changed by its first weights",
    ),
    "init-eva": Change(((OF_ADAPTER, "init_lora_weights", "gaussian"),), ("adapter",)),
    "adapter-note": Change(
        ((OF_ADAPTER, "my_note", 1),),
        ("adapter",),
        refusal="PEFT drops what it does not know, with a warning; a newer one may know it",
    ),
    "adapter-dropout": Change(((OF_ADAPTER, "lora_dropout", 0.5),), ("adapter",)),
    "adapter-training": Change(((OF_ADAPTER, "inference_mode", False),), ("adapter",)),
    "adapter-no-task": Change(((OF_ADAPTER, "task_type", None),), ("adapter",)),
    "adapter-fan": Change(((OF_ADAPTER, "fan_in_fan_out", True),), ("adapter",)),
}


# Cases


def case(family: str, layout: str, *changes: str) -> Case:
    return Case(family, layout, changes)


CASES: tuple[Case, ...] = (
    case("bert", "bare", "unknown", "dropout", "outputs"),
    case("bert", "bare-old", "not-lower", "strip-accents"),
    case("bert", "bare-vocabulary", "not-lower", "chinese-off"),
    case("bert-xlmr", "bare", "limit-removed"),
    case("bert-xlmr", "sentence", "length-roberta", "two-architectures"),
    case("roberta", "bare", "truncation-left", "prefix-space"),
    case("roberta", "bare-vocabulary", "pad-0-counted"),
    case("xlm-roberta", "sentence-prompts", "length-xlm-roberta"),
    case("xlm-roberta", "bare-sharded", "own-truncation", "own-padding"),
    case("camembert", "bare-fp16", "dtype", "no-prefix-space"),
    case("distilbert", "classifier", "labels-swapped", "distil-relu"),
    case("distilbert", "sentence-short", "truncation-left", "length-distilbert"),
    case("mpnet", "sentence", "truncate-dim", "similarity-dot"),
    case("mpnet", "vocabulary", "old-max-len"),
    case("electra", "classifier-multi", "summary", "gelu-new"),
    case("albert", "sentence-cls", "albert-accents", "truncation-left"),
    case("albert", "token", "lower", "gelu-fast"),
    case("modernbert", "classifier", "modern-mean", "modern-theta"),
    case("modernbert", "sentence-last", "modern-every", "truncation-left"),
    case("modernbert", "vocabulary", "modern-sparse", "split-specials"),
    case("nomic_bert", "sentence-truncated", "inputs-without-types"),
    case("nomic_bert", "bare-bf16", "rope-linear"),
    case("esm", "bare", "esm-no-dropout"),
    case("esm", "vocabulary", "truncation-left"),
    case("deberta-v2", "classifier-2", "deberta-string", "by-punctuation"),
    case("deberta-v2", "span", "lower"),
    case("bert", "classifier-regression", "inputs-without-types"),
    case("bert", "classifier-1", "dropout"),
    case("bert", "token", "mask-takes-space", "own-short-words"),
    case("bert", "vocabulary", "untied", "relu"),
    case("bert", "sentence-default", "additional-special"),
    case("bert", "sentence-no-prompt"),
    case("roberta", "sentence-dense", "pooling-one"),
    case("roberta", "sentence-list"),
    case("bert", "cross", "limit-12"),
    case("bert", "cross-short", "truncation-left"),
    case("xlm-roberta", "cross-identity", "inputs-with-types"),
    case("roberta", "cross-prompts", "truncation-left"),
    case("bert", "cross-old"),
    case("electra", "cross-old-identity", "strip-accents"),
    case("bert", "cross-v4", "class-fast"),
    case("bert", "adapter-olora"),
    case("roberta", "adapter", "use-rslora"),
    case("bert", "embedder-adapter"),
)  # fmt: skip


def drawn(count: int, seed: int) -> list[Case]:
    """Cases at random: a family, a layout and one to three changes that go with them."""
    generator = random.Random(seed)
    cases: dict[str, Case] = {}
    while len(cases) < count:
        layout = generator.choice(list(LAYOUTS))
        family = generator.choice(LAYOUTS[layout].families)
        fitting = [name for name, change in CHANGES.items() if fits(change, layout, family)]
        chosen = generator.sample(fitting, min(len(fitting), generator.randint(1, 3)))
        case = Case(family, layout, tuple(sorted(chosen)))
        cases[case.folder] = case
    return list(cases.values())


def one_by_one(seed: int) -> list[Case]:
    """Every change alone, in a family and a layout that it goes with."""
    generator = random.Random(seed)
    places = [(layout, family) for layout in LAYOUTS for family in LAYOUTS[layout].families]
    cases = []
    for name, change in CHANGES.items():
        layout, family = generator.choice([place for place in places if fits(change, *place)])
        cases.append(Case(family, layout, (name,)))
    return cases


def fits(change: Change, layout: str, family: str) -> bool:
    """Whether a change makes sense there."""
    names = {layout, LAYOUTS[layout].kind, LAYOUTS[layout].head}
    return family in change.families and (not change.layouts or bool(names & {*change.layouts}))
