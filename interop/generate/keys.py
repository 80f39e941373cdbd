"""Makes `published_keys.json`: every key of the files of a model directory, and what it does.

Run it where ``models.py`` runs::

    python -m interop.generate.keys

The list is in ``tests/parity``. It has, for each kind of file, key -> its default in the class that
reads the file. For ``config.json`` that is by family, and beside the default stand other values
that were tried: a tiny random model is built with each, given the same parameters, and run.
``matters`` names the heads whose answers differ then, or which can't be built or hold no such
parameters any more; a value that matters nowhere is harmless in the reference, too. Rates of
dropout matter in training alone, and no training is tried.

Keys that no class has, but that published files carry, are made by hand: `OLD`.
"""

import argparse
import copy
import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from typing import Any

import peft
import sentence_transformers
import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from interop import PARITY
from interop.generate.models import FAMILIES, HEADS, Values, head_output, redraw
from interop.generate.seq2seq import BART, MARIAN, T5

LIST = PARITY / "published_keys.json"
KINDS = ("encoder", "vocabulary", "sequence", "token", "span")
TOLERANCE = 1e-5

SEQ2SEQ: dict[str, tuple[str, str, Values]] = {
    "marian": ("Marian", "MarianMTModel", MARIAN),
    "bart": ("Bart", "BartForConditionalGeneration", BART),
    "t5": ("T5", "T5ForConditionalGeneration", T5),
    "mbart": ("MBart", "MBartForConditionalGeneration", {**BART, "decoder_start_token_id": 2}),
    "m2m_100": ("M2M100", "M2M100ForConditionalGeneration", BART),
    "pegasus": (
        "Pegasus",
        "PegasusForConditionalGeneration",
        {**BART, "pad_token_id": 0, "eos_token_id": 1},
    ),
    "mt5": ("MT5", "MT5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}),
}

STRINGS = {
    "activation": "relu",
    "activation_function": "relu",
    "classifier_activation": "relu",
    "classifier_pooling": "mean",
    "conv_act": "relu",
    "dense_act_fn": "silu",
    "feed_forward_proj": "gated-silu",
    "hidden_act": "relu",
    "hidden_activation": "relu",
    "norm_rel_ebd": "none",
    "pooler_hidden_act": "relu",
    "position_embedding_type": "relative_key",
    "summary_activation": "tanh",
    "summary_type": "mean",
}
"""Another value of a key that is a string."""
NULLS: Values = {
    "architectures": ["Another"],
    "attention_head_size": 8,
    "bos_token_id": 7,
    "classifier_dropout": 0.3,
    "cls_dropout": 0.3,
    "decoder_start_token_id": 7,
    "dtype": "float64",
    "embedding_size": 6,
    "eos_token_id": 7,
    "esmfold_config": {"fp16_esm": False},
    "forced_eos_token_id": 7,
    "mask_token_id": 7,
    "pos_att_type": ["c2p"],
    "problem_type": "multi_label_classification",
    "vocab_list": ["a"],
}
"""Another value of a key that is null where it is left out."""
SEVERAL: dict[str, list[Any]] = {
    "head_dim": [2, 8],
    "hidden_act": ["relu", "gelu_new"],
    "id2label": [{"0": "a", "1": "b", "2": "c"}],
    "label2id": [{"a": 0, "b": 1}],
    "layer_types": [["sliding_attention", "full_attention"] * 2],
    "pos_att_type": [["c2p"], ["p2c"], []],
}
"""Other values of keys that have more than one worth trying."""
ROPE: list[Values] = [
    {"rope_theta": 55.0},
    {"rope_type": "default", "rope_theta": 55.0},
    {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0},
    {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0},
    {
        "rope_type": "yarn",
        "rope_theta": 1000.0,
        "factor": 2.0,
        "original_max_position_embeddings": 12,
    },
    {
        "rope_type": "llama3",
        "rope_theta": 1000.0,
        "factor": 2.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 12,
    },
    {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.5},
]
"""What `rope_parameters` may hold; of families that have them by kind of layer, in each kind."""

OF_GENERATION: Values = {
    "bad_words_ids": [[3]],
    "begin_suppress_tokens": [3],
    "diversity_penalty": 0.5,
    "do_sample": True,
    "early_stopping": True,
    "encoder_no_repeat_ngram_size": 3,
    "exponential_decay_length_penalty": [3, 1.5],
    "force_bos_token_to_be_generated": True,
    "forced_bos_token_id": 3,
    "forced_eos_token_id": 3,
    "length_penalty": 2.0,
    "max_length": 142,
    "min_length": 56,
    "no_repeat_ngram_size": 3,
    "num_beam_groups": 2,
    "num_beams": 4,
    "num_return_sequences": 2,
    "output_scores": True,
    "prefix": "translate: ",
    "remove_invalid_values": True,
    "repetition_penalty": 1.5,
    "return_dict_in_generate": True,
    "suppress_tokens": [3],
    "task_specific_params": {"summarization": {"num_beams": 4}},
    "temperature": 0.5,
    "top_k": 5,
    "top_p": 0.5,
    "typical_p": 0.5,
}
"""Keys of generation that transformers 4 wrote into every `config.json`."""
OF_FAIRSEQ: Values = {
    "add_bias_logits": True,
    "add_final_layer_norm": True,
    "classif_dropout": 0.1,
    "extra_pos_embeddings": 2,
    "hidden_size": 12,
    "normalize_before": True,
    "normalize_embedding": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "static_position_embeddings": True,
}
"""What the first files of sequence-to-sequence models have, of fairseq's and Marian's options."""
OF_T5: Values = {
    "dense_act_fn": "silu",
    "head_dim": 4,
    "hidden_size": 12,
    "is_gated_act": True,
    "n_positions": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "output_past": True,
    "scale_decoder_outputs": False,
}
"""What files of T5 have."""
OLD: dict[str, Values] = {
    # What transformers 2 to 4 wrote for every family, or its users set.
    "*": {
        **OF_GENERATION,
        "_attn_implementation_autoset": True,
        "_commit_hash": "0123",
        "_num_labels": 2,
        "attn_implementation": "eager",
        "cross_attention_hidden_size": 16,
        "decoder_start_token_id": 5,
        "finetuning_task": "sst2",
        "gradient_checkpointing": True,
        "is_decoder": True,
        "is_encoder_decoder": True,
        "num_labels": 3,
        "output_past": True,
        "per_layer_config": {"0": {"intermediate_size": 4}},
        "pruned_heads": {"0": [1]},
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "sep_token_id": 3,
        "tf_legacy_loss": True,
        "tie_encoder_decoder": True,
        "tie_last_hidden_states": True,
        "tie_word_embeddings": False,
        "tokenizer_class": "BertTokenizerFast",
        "torch_dtype": "float16",
        "torchscript": True,
        "use_bfloat16": True,
    },
    # google-bert: the first files, and those of multilingual models.
    "bert": {
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "position_embedding_type": "relative_key",
        "summary_activation": "tanh",
    },
    "roberta": {"position_embedding_type": "relative_key"},
    "xlm-roberta": {"position_embedding_type": "relative_key"},
    "camembert": {"position_embedding_type": "relative_key"},
    "electra": {"position_embedding_type": "relative_key"},
    "albert": {
        "down_scale_factor": 2,
        "gap_size": 1,
        "net_structure_type": 1,
        "num_memory_blocks": 2,
        "position_embedding_type": "relative_key",
    },
    "distilbert": {
        "hidden_size": 12,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "tie_weights_": False,
    },
    "modernbert": {
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 55.0,
        "head_dim": 8,
        "local_rope_theta": 55.0,
        "model_max_length": 16,
        "reference_compile": True,
        "repad_logits_with_grad": True,
    },
    "nomic_bert": {"partial_rotary_factor": 0.5, "rope_theta": 55.0},
    "esm": {"head_dim": 8, "hidden_act": "relu", "rope_parameters": {"rope_theta": 55.0}},
    # microsoft/deberta-v3: keys that the class takes without naming them.
    "deberta-v2": {
        "attention_head_size": 8,
        "cls_dropout": 0.3,
        "conv_act": "relu",
        "conv_groups": 2,
        "conv_kernel_size": 3,
        "embedding_size": 6,
        "norm_rel_ebd": "none",
        "pooler_hidden_size": 12,
        "position_buckets": 4,
        "share_att_key": False,
    },
    # Of `OF_FAIRSEQ` and `OF_T5` each family has what its kin has.
    **{family: OF_FAIRSEQ for family in ("marian", "bart", "mbart", "pegasus", "m2m_100")},
    **{family: OF_T5 for family in ("t5", "mt5")},
}
"""Keys that the classes don't have, but files do: family -> key -> a value to try."""


@dataclasses.dataclass
class Subject:
    """A model that keys are tried on."""

    build: Callable[[PretrainedConfig], PreTrainedModel]
    run: Callable[[PreTrainedModel], Tensor]
    config: PretrainedConfig

    @functools.cached_property
    def answer(self) -> tuple[Values, Tensor]:
        """The parameters, and the answers."""
        torch.manual_seed(0)
        model = self.build(self.config).float().eval()
        redraw(model, torch.Generator().manual_seed(0))
        return model.state_dict(), self.run(model)


def encoder_class(name: str, kind: str) -> Any:
    """The class of a family with a head, or None."""
    return getattr(transformers, name + HEADS[kind].suffix, None)


def texts(config: PretrainedConfig) -> Tensor:
    """One text, (1, T), with the tokens that some models treat in their own way."""
    ids = torch.arange(2, 14) % config.vocab_size
    ids[4] = config.pad_token_id
    if getattr(config, "mask_token_id", None) is not None:
        ids[7] = config.mask_token_id
    return ids[None]


def subjects(family: str) -> dict[str, Subject]:
    """The models of a family, by kind of head."""
    if family in SEQ2SEQ:
        name, class_name, values = SEQ2SEQ[family]
        config = getattr(transformers, f"{name}Config")(**values)
        given = torch.tensor([[config.decoder_start_token_id or 2, 9, 11, 3]])
        source = torch.arange(2, 12)[None]
        return {
            "seq2seq": Subject(
                getattr(transformers, class_name),
                lambda model: model(input_ids=source, decoder_input_ids=given).logits,
                config,
            )
        }
    name, values = FAMILIES[family]
    found = {}
    for kind in KINDS:
        if (model_class := encoder_class(name, kind)) is None:
            continue
        config = getattr(transformers, f"{name}Config")(**values, **HEADS[kind].config)
        ids = texts(config)

        def run(model: PreTrainedModel, ids: Tensor = ids) -> Tensor:
            result = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True)
            head = head_output(result)
            is_bare = head is None or "last_hidden_state" in result
            return result["last_hidden_state"] if is_bare else head

        found[kind] = Subject(model_class, run, config)
    return found


@torch.no_grad()
def matters(subject: Subject, key: str, value: Any) -> bool:
    """Whether the answers differ under this value, with the same parameters."""
    parameters, expected = subject.answer
    values = copy.deepcopy({**subject.config.to_dict(), key: value})  # it is written into
    try:
        other = subject.build(type(subject.config).from_dict(values)).float().eval()
        other.load_state_dict(parameters)
        found = subject.run(other)
    except Exception:  # it can't be built, or is another model
        return True
    return found.shape != expected.shape or bool((found - expected).abs().max() > TOLERANCE)


def other_values(key: str, default: Any, stated: Any) -> list[Any]:
    """Values to try in place of what the configuration has."""
    if key in SEVERAL:
        return SEVERAL[key]
    if key == "rope_parameters":
        by_layer = isinstance(stated, dict) and "full_attention" in stated
        both = ("full_attention", "sliding_attention")
        return [{kind: rope for kind in both} for rope in ROPE] if by_layer else ROPE
    if stated is None:
        return [NULLS[key]]
    if isinstance(stated, bool):
        return [not stated]
    if isinstance(stated, int):
        return [stated + 1, stated + 4] if stated < 1000 else [stated + 1]
    if isinstance(stated, float):
        return [stated + 0.25]
    if isinstance(stated, str):
        return [STRINGS[key]] if key in STRINGS else []
    raise TypeError(f"no other value of {key} = {stated!r}")


SKIPPED = ("model_type", "transformers_version", "_name_or_path")
"""Keys that say which class it is, or where it comes from."""


def of_family(family: str) -> dict[str, Any]:
    """Every key of a family's `config.json`."""
    models = subjects(family)
    config_class = type(next(iter(models.values())).config)
    defaults, first = config_class().to_dict(), next(iter(models.values())).config.to_dict()
    old = {**OLD["*"], **OLD.get(family, {})}
    keys: dict[str, Any] = {}
    for key in sorted({*defaults, *old} - set(SKIPPED)):
        stated = first.get(key, defaults.get(key))
        values = [old[key]] if key in old else []
        if key in defaults:
            values += [v for v in other_values(key, defaults[key], stated) if v not in values]
        keys[key] = {
            **({"default": plain(defaults[key])} if key in defaults else {}),
            "others": [
                {
                    "value": value,
                    "matters": [kind for kind, each in models.items() if matters(each, key, value)],
                }
                for value in values
            ],
        }
    return keys


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return json.loads(json.dumps(value, default=str))


def arguments(call: Callable[..., Any]) -> dict[str, Any]:
    """The named arguments of a class or a function, with their defaults; null where none."""
    parameters = inspect.signature(call).parameters.values()
    named = [
        each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    return {
        each.name: None if each.default is each.empty else plain(each.default)
        for each in named
        if each.name != "self"
    }


def of_modules() -> dict[str, Any]:
    """Keys of the modules of sentence-transformers, by class, and of the file of each."""
    found: dict[str, Any] = {}
    for info in pkgutil.walk_packages(sentence_transformers.__path__, "sentence_transformers."):
        if ".modules" not in info.name:
            continue
        module = importlib.import_module(info.name)
        for name, each in inspect.getmembers(module, inspect.isclass):
            if each.__module__ != info.name:  # one of another package may refuse all questions
                continue
            keys = getattr(each, "config_keys", None)
            if not isinstance(keys, list):
                continue
            known = arguments(each.__init__)
            found[f"{info.name.removeprefix('sentence_transformers.')}.{name}"] = {
                "file": getattr(each, "config_file_name", "config.json"),
                "saved": {key: known.get(key) for key in sorted(keys)},
                "arguments": known,
            }
    return found


TOKENIZERS = (
    "BertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "CamembertTokenizer",
    "MPNetTokenizer", "AlbertTokenizer", "EsmTokenizer", "DebertaV2Tokenizer",
    "MarianTokenizer", "BartTokenizer", "T5Tokenizer", "MBartTokenizer", "MBart50Tokenizer",
    "M2M100Tokenizer", "PegasusTokenizer", "NllbTokenizer", "PreTrainedTokenizerFast",
)  # fmt: skip


def of_tokenizers() -> dict[str, Any]:
    """Keys of `tokenizer_config.json`, by class: its own arguments, and those of its bases."""
    found: dict[str, Any] = {}
    for name in TOKENIZERS:
        each = getattr(transformers, name)
        of_bases: dict[str, Any] = {}
        for base in reversed(each.__mro__[:-1]):
            if "__init__" in vars(base):
                of_bases |= arguments(base.__init__)
        found[name] = of_bases
    return found


SETTINGS: dict[str, Values] = {
    # sentence_transformers/base/model.py, sentence_transformer/model.py and cross_encoder/model.py.
    "config_sentence_transformers.json": {
        "__version__": {},
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        "prompts": {},
        "similarity_fn_name": "cosine",
        "truncate_dim": None,
        "activation_fn": None,
    },
    # What `CrossEncoder` writes into config.json before version 5.4.
    "sentence_transformers of config.json": {"activation_fn": None, "version": None},
}
"""Files that no class lists the keys of: by hand, from the code that reads and writes them."""


def main() -> None:
    """Makes the list."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    families = [family for family in FAMILIES if family != "deberta-v3"] + list(SEQ2SEQ)
    content = {
        "config.json": {family: of_family(family) for family in families},
        "generation_config.json": plain(transformers.GenerationConfig().__dict__),
        "adapter_config.json": plain(dataclasses.asdict(peft.LoraConfig())),
        "modules": of_modules(),
        "settings": SETTINGS,
        "tokenizer_config.json": of_tokenizers(),
    }
    LIST.write_text(lines(content, 3) + "\n")


def lines(content: Any, levels: int) -> str:
    """An object as JSON, with a line for each key of so many levels, and no more."""
    if levels == 0 or not isinstance(content, dict) or not content:
        return json.dumps(content, sort_keys=True, ensure_ascii=False)
    inner = (f"{json.dumps(key)}: {lines(content[key], levels - 1)}" for key in sorted(content))
    return "{\n" + ",\n".join(inner) + "\n}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
