"""Makes the goldens of adapters: small ones by PEFT, on the models of ``goldens/``, with outputs.

Run it where ``models.py`` runs, after that::

    python -m interop.generate.adapters

It writes ``tests/parity/goldens-adapters/<case>/``, replacing what was there:

- ``adapter_config.json`` and ``adapter_model.safetensors``, as ``save_pretrained`` writes them, but
  for ``base_model_name_or_path``, which is the name of the golden beneath: ``bert/sequence``;
- ``outputs.npz``, with ``token_ids`` and ``type_ids``, ``(T,)``, and ``output``, ``(C,)``: what
  the model gives once PEFT has loaded the directory on that golden.

What was trained, and the merged model that PEFT makes of it, must agree with what is stored.

``refused/<case>/`` is what is not read: such an adapter, and in ``merged/`` the model that PEFT
makes of it, which is the way out. Its ``outputs.npz`` is of what was trained.

``sentence-transformers/`` and ``cross-encoder/`` are saved by that library, with all that it writes
beside an adapter. There ``outputs.npz`` holds ``vectors`` or ``scores`` of ``TEXTS`` or ``PAIRS``,
as the library gives them once it has loaded the directory.
"""

import argparse
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from sentence_transformers.sentence_transformer.modules import Transformer as Encoder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from interop import PARITY

GOLDENS, MADE = PARITY / "goldens", PARITY / "goldens-adapters"
TOLERANCE = 1e-5
SEQUENCE: dict[str, Any] = {
    "task_type": "SEQ_CLS",
    "r": 3,
    "lora_alpha": 5,
    "target_modules": ["query", "value"],
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bert/sequence", {}),
    "stable": ("bert/sequence", {"use_rslora": True}),
    "patterns": (
        "bert/sequence",
        {
            "rank_pattern": {"layer.1.attention.self.query": 2, r"value": 4},
            "alpha_pattern": {r"layer\.\d+.attention.self.value": 9, "query": 0.5},
        },
    ),
    "stable-patterns": (
        "bert/sequence",
        {"use_rslora": True, "rank_pattern": {"query": 1}, "alpha_pattern": {"self.value": 2}},
    ),
    "one-layer": (
        "bert/sequence",
        {"layers_to_transform": [1], "layers_pattern": "layer", "target_modules": ["dense"]},
    ),
    "excluded": (
        "bert/sequence",
        {"target_modules": r".*\.layer\.\d\..*(dense|key)", "exclude_modules": ["output.dense"]},
    ),
    "all-linear": ("bert/sequence", {"target_modules": "all-linear", "fan_in_fan_out": True}),
    "gaussian": ("bert/sequence", {"init_lora_weights": "gaussian"}),
    "orthogonal": ("bert/sequence", {"init_lora_weights": "orthogonal", "r": 4}),
    "mica": ("bert/sequence", {"init_lora_weights": "mica"}),
    "olora": ("bert/sequence", {"init_lora_weights": "olora"}),
    "olora-patterns": (
        "bert/sequence",
        {
            "init_lora_weights": "OLoRA",
            "target_modules": ["dense", "query"],
            "rank_pattern": {"intermediate.dense": 7},
            "alpha_pattern": {"query": 2},
        },
    ),
    "pissa": ("bert/sequence", {"init_lora_weights": "pissa"}),
    "pissa-stable": (
        "bert/sequence",
        {"init_lora_weights": "pissa", "use_rslora": True, "target_modules": ["dense", "key"]},
    ),
    "pissa-fused": (
        "modernbert/sequence",
        {"init_lora_weights": "pissa", "target_modules": ["Wqkv", "Wo"], "r": 5},
    ),
    "olora-fused": (
        "modernbert/sequence",
        {"init_lora_weights": "olora", "target_modules": ["Wqkv", "Wi"]},
    ),
}
"""Case -> the golden beneath, and what is unlike ``SEQUENCE``."""

REFUSED: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "drawn": {"init_lora_weights": "pissa_niter_4"},
}
"""Adapters of ``bert/sequence`` that are not read, and what is unlike ``SEQUENCE``."""

TEXTS = ["the cat sat on a mat", "a dog", "the cat ran and a dog ran and the cat sat"]
PAIRS = [["the cat", "a dog ran"], ["a mat", "the dog sat on a cat"]]
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "and", "bird", "##s", "##ed"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def redraw(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Move what is trained by as much as training would, and more."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def loaded_base(golden: str) -> Any:
    auto = transformers.AutoModelForSequenceClassification
    return auto.from_pretrained(GOLDENS / golden).eval()


def run(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits[0]


def store_config(folder: Path, base: str) -> None:
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text())
    for key, value in content.items():
        if isinstance(value, list) and key in ("target_modules", "modules_to_save"):
            content[key] = sorted(value)  # sets have no order
    content["base_model_name_or_path"] = base
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)


def make(name: str, golden: str, changes: dict[str, Any]) -> None:
    """One adapter by PEFT."""
    generator = torch.Generator().manual_seed(len(name))
    torch.manual_seed(1)
    folder = MADE / name
    stored = np.load(GOLDENS / golden / "outputs.npz")
    ids, types = stored["pair/token_ids"], stored["pair/type_ids"]
    inputs = {"input_ids": torch.tensor(ids)[None].long()}
    if golden.startswith("bert"):
        inputs["token_type_ids"] = torch.tensor(types)[None].long()
    model = get_peft_model(loaded_base(golden), LoraConfig(**{**SEQUENCE, **changes}))
    redraw(model, generator)
    trained = run(model, inputs)
    model.save_pretrained(folder)
    again = PeftModel.from_pretrained(loaded_base(golden), folder)
    output = run(again, inputs)
    assert (output - trained).abs().max() <= TOLERANCE, name
    assert (run(again.merge_and_unload(), inputs) - output).abs().max() <= TOLERANCE, name
    assert (run(loaded_base(golden), inputs) - output).abs().max() > 0.05, f"{name} changes little"
    store_config(folder, golden)
    arrays = {"token_ids": ids, "type_ids": types, "output": output.numpy()}
    np.savez_compressed(folder / "outputs.npz", **arrays)


def make_refused(name: str, changes: dict[str, Any]) -> None:
    """One adapter by PEFT, and its merged model."""
    golden, folder = "bert/sequence", MADE / "refused" / name
    torch.manual_seed(1)
    stored = np.load(GOLDENS / golden / "outputs.npz")
    ids, types = stored["pair/token_ids"], stored["pair/type_ids"]
    inputs = {
        "input_ids": torch.tensor(ids)[None].long(),
        "token_type_ids": torch.tensor(types)[None].long(),
    }
    model = get_peft_model(loaded_base(golden), LoraConfig(**{**SEQUENCE, **changes}))
    redraw(model, torch.Generator().manual_seed(len(name)))
    output = run(model, inputs)
    model.save_pretrained(folder)
    store_config(folder, golden)
    model.merge_and_unload().save_pretrained(folder / "merged")
    arrays = {"token_ids": ids, "type_ids": types, "output": output.numpy()}
    np.savez_compressed(folder / "outputs.npz", **arrays)


def store_tokenizer(folder: Path) -> None:
    """A tokenizer of few words, as BERT's."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    named = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=24,
        **named,
    )
    fast.save_pretrained(folder)


def base_with_tokenizer(golden: str, folder: Path) -> str:
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(GOLDENS / golden / name, folder / name)
    store_tokenizer(folder)
    return str(folder)


def make_with_library(
    name: str, golden: str, build: Callable[[str], Any], answer: Callable[[Any], Any], key: str
) -> None:
    """One adapter by sentence-transformers."""
    folder = MADE / name
    torch.manual_seed(2)
    with tempfile.TemporaryDirectory() as place:
        model = build(base_with_tokenizer(golden, Path(place)))
        redraw_adapter(model)
        model.save(str(folder))
        again = type(model)(str(folder))
        arrays = {key: np.asarray(answer(again), np.float32)}
        assert np.abs(arrays[key] - answer(model)).max() <= TOLERANCE
    store_config(folder, golden)
    np.savez_compressed(folder / "outputs.npz", **arrays)


def redraw_adapter(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.4)


def embedder(base: str) -> SentenceTransformer:
    """Not what is usual: cls pooling, a dense layer, a limit, prompts and dot products."""
    encoder = Encoder(base)
    modules = [
        encoder,
        Pooling(8, pooling_mode="cls"),
        Dense(8, 5, activation_function=torch.nn.Tanh()),
        Normalize(),
    ]
    model = SentenceTransformer(
        modules=modules,
        prompts={"query": "a mat ", "document": ""},
        default_prompt_name="query",
        similarity_fn_name="dot",
    )
    model.max_seq_length = 7
    model.add_adapter(
        LoraConfig(
            task_type="FEATURE_EXTRACTION", r=3, lora_alpha=5, target_modules=["query", "dense"]
        )
    )
    return model


def reranker(base: str) -> CrossEncoder:
    model = CrossEncoder(base)
    model.add_adapter(LoraConfig(**SEQUENCE, modules_to_save=["classifier"]))
    return model


def main() -> None:
    """Make all."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(MADE, ignore_errors=True)
    for name, (golden, changes) in CASES.items():
        make(name, golden, changes)
        print(name)
    for name, changes in REFUSED.items():
        make_refused(name, changes)
    make_with_library(
        "sentence-transformers",
        "bert/encoder",
        embedder,
        lambda model: model.encode(TEXTS),
        "vectors",
    )
    make_with_library(
        "cross-encoder",
        "bert/sequence",
        reranker,
        lambda model: model.predict(PAIRS),
        "scores",
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
