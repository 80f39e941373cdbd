"""Makes the goldens: tiny random reference models, stored with their outputs.

Run it with the Python of an environment of ``interop/requirements.txt``, from the root::

    python -m interop.generate.models

It writes ``tests/parity/goldens/<family>/<head>/``, replacing what was there:

- ``config.json`` and ``model.safetensors``, as ``save_pretrained`` writes them. That is as they are
  published, but for ESM (``LayerNorm.gamma``, and an asterisk in the name of ``inv_freq``). So ESM
  has ``<head>-own-names`` too, named as in the code of transformers and as published;
- ``outputs.npz``, with these keys for each case of ``LENGTHS``:

  - ``<case>/token_ids`` and ``<case>/type_ids``, ``(T,)``;
  - ``<case>/hidden``, ``(L + 1, T, D)``: the ``hidden_states``, stacked as they are returned;
  - ``<case>/last``, ``(T, D)``: the ``last_hidden_state`` of the model without its head;
  - ``<case>/output``: ``(C,)`` for a sequence, ``(T, C)`` for tokens and the vocabulary, ``(T, 2)``
    (start, end) for a span, and ``(D,)``, the ``pooler_output``, for an encoder that has a pooler.

``hidden[0]`` enters the first layer: it is after the norm of the embeddings and, in ELECTRA and
ALBERT, after their projection. ``hidden[i]`` leaves layer ``i``, in every family, except that the
last entry is always ``last``. So where layers are followed by a norm of their own (ModernBERT,
ESM) the last entry is after that norm, and what the last layer itself gave is not stored.

Each case is computed alone, without padding. All cases are then run as one padded batch, and what
was saved is loaded again: both must agree with what is stored.
"""

import argparse
import json
import shutil
import zlib
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from interop import PARITY

GOLDENS = PARITY / "goldens"
LENGTHS = {"one": 1, "two": 2, "some": 9, "longest": 24, "pair": 12}
# How many tokens are masked, where a model treats the mask token unlike any other. A text of
# masks alone is no case: ESM divides by the share of tokens that are not masked.
MASKED = {"one": 0, "two": 1, "some": 2, "longest": 8, "pair": 0}
TOLERANCE = 2e-5

Values = dict[str, Any]
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One text: its tokens and their types, both (T,)."""

    token_ids: Tensor
    type_ids: Tensor


@dataclass(frozen=True)
class Head:
    """A head: how its class is called after the family, what it configures, and for whom."""

    suffix: str
    config: Values = field(default_factory=dict)
    families: frozenset[str] | None = None  # None: for all that have the class
    own_names: bool = False  # name tensors as in the code of transformers


@dataclass
class Report:
    """What became of one family, for the table."""

    made: list[str] = field(default_factory=list)
    deviation: float = 0.0
    last_is_hidden: bool = True


def labels(*names: str) -> Values:
    """The configuration of a head with these labels."""
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


SENTIMENT = labels("negative", "neutral", "positive")

RENAMED = frozenset({"esm"})

HEADS = {
    "encoder": Head("Model"),
    "encoder-own-names": Head("Model", families=RENAMED, own_names=True),
    "vocabulary": Head("ForMaskedLM"),
    "vocabulary-own-names": Head("ForMaskedLM", families=RENAMED, own_names=True),
    # What the published files of DeBERTa carry, and the default of transformers does not read.
    "vocabulary-lm-predictions": Head(
        "ForMaskedLM", {"legacy": False}, frozenset({"deberta-v2", "deberta-v3"})
    ),
    "sequence": Head("ForSequenceClassification", SENTIMENT),
    "sequence-mean": Head(
        "ForSequenceClassification",
        {**SENTIMENT, "classifier_pooling": "mean"},
        frozenset({"modernbert"}),
    ),
    "sequence-multi": Head(
        "ForSequenceClassification",
        {**SENTIMENT, "problem_type": "multi_label_classification"},
        frozenset({"bert"}),
    ),
    "sequence-regression": Head(
        "ForSequenceClassification",
        {**labels("score"), "problem_type": "regression"},
        frozenset({"bert"}),
    ),
    "token": Head("ForTokenClassification", labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC")),
    "span": Head("ForQuestionAnswering"),
}

SIZES: Values = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 24,
}
# RoBERTa and its kin count positions from the one after the padding id: two rows are never used.
ROBERTA: Values = {
    **SIZES,
    "max_position_embeddings": 26,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
DEBERTA: Values = {
    **SIZES,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
}

# By family: how its classes are called, and a configuration near the published ones.
FAMILIES: dict[str, tuple[str, Values]] = {
    "bert": ("Bert", {**SIZES, "type_vocab_size": 2, "layer_norm_eps": 1e-12}),
    "roberta": ("Roberta", ROBERTA),
    "xlm-roberta": ("XLMRoberta", ROBERTA),
    "camembert": ("Camembert", {**ROBERTA, "bos_token_id": 5, "eos_token_id": 6}),
    "distilbert": (
        "DistilBert",
        {
            "vocab_size": 40,
            "dim": 8,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 12,
            "max_position_embeddings": 24,
        },
    ),
    "mpnet": (
        "MPNet",
        {
            **SIZES,
            "max_position_embeddings": 26,
            "layer_norm_eps": 1e-5,
            "relative_attention_num_buckets": 32,
        },
    ),
    "electra": ("Electra", {**SIZES, "embedding_size": 6}),
    "albert": (
        "Albert",
        {
            **SIZES,
            "embedding_size": 6,
            "num_hidden_layers": 4,
            "num_hidden_groups": 2,
            "inner_group_num": 1,
        },
    ),
    "modernbert": (
        "ModernBert",
        {
            **SIZES,
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 3,
            "local_attention": 6,
            "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0,
            "bos_token_id": 33,
            "cls_token_id": 33,
            "eos_token_id": 34,
            "sep_token_id": 34,
            "pad_token_id": 35,
        },
    ),
    "nomic_bert": (
        "NomicBert",
        {
            **SIZES,
            "type_vocab_size": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
        },
    ),
    "esm": (
        "Esm",
        {
            **SIZES,
            "vocab_size": 33,
            "max_position_embeddings": 26,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "layer_norm_eps": 1e-5,
            "position_embedding_type": "rotary",
            "token_dropout": True,
            "emb_layer_norm_before": False,
            "cls_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "mask_token_id": 32,
        },
    ),
    "deberta-v2": ("DebertaV2", {**DEBERTA, "position_buckets": 8, "attention_head_size": 4}),
    "deberta-v3": ("DebertaV2", {**DEBERTA, "position_buckets": 6}),
}


def build(family: str, head: str, generator: torch.Generator) -> PreTrainedModel | None:
    """The random model of a family with a head, or None where there is no such class."""
    name, values = FAMILIES[family]
    spec = HEADS[head]
    model_class = getattr(transformers, name + spec.suffix, None)
    if model_class is None or (spec.families is not None and family not in spec.families):
        return None
    config_class = getattr(transformers, f"{name}Config")
    config = config_class(**values, **spec.config, attn_implementation="eager")
    model: PreTrainedModel = model_class(config).float().eval()
    redraw(model, generator)
    return model


def redraw(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Draws every parameter anew, so that no bias is 0, no gain is 1 and no row of padding is 0.

    Tied parameters are one parameter, drawn once.
    """
    norms = (module for module in model.modules() if type(module).__name__.endswith("LayerNorm"))
    gains = {id(norm.weight) for norm in norms}
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if id(parameter) in gains else 0.4 * noise)


def kinds_of_type(config: PretrainedConfig) -> int:
    """How many types of token a model embeds; none where it takes no types."""
    return getattr(config, "type_vocab_size", 0)


def draw_cases(config: PretrainedConfig, generator: torch.Generator) -> dict[str, Case]:
    """Random texts of the lengths in `LENGTHS`, without padding."""
    mask = getattr(config, "mask_token_id", None)
    usable = [i for i in range(config.vocab_size) if i not in (config.pad_token_id, mask)]
    cases = {}
    for name, length in LENGTHS.items():
        drawn = torch.randint(len(usable), (length,), generator=generator)
        token_ids = torch.tensor(usable)[drawn]
        if mask is not None:
            order = torch.randperm(length, generator=generator)
            token_ids[order[: MASKED[name]]] = mask
        type_ids = torch.zeros_like(token_ids)
        if name == "pair" and kinds_of_type(config) > 1:
            type_ids[length // 2 :] = 1
        cases[name] = Case(token_ids, type_ids)
    return cases


@torch.no_grad()
def run(
    model: PreTrainedModel, token_ids: Tensor, type_ids: Tensor, mask: Tensor | None = None
) -> Outputs:
    """What a model gives for a batch of texts, each with the batch in front."""
    inputs = {"input_ids": token_ids, "attention_mask": mask}
    if kinds_of_type(model.config):
        inputs["token_type_ids"] = type_ids
    result = model(**inputs, output_hidden_states=True)
    outputs = {
        "hidden": torch.stack(result.hidden_states, dim=1),
        "last": model.base_model(**inputs).last_hidden_state,
    }
    output = head_output(result)
    return outputs if output is None else {**outputs, "output": output}


def head_output(result: Any) -> Tensor | None:
    """What the head gives; None for an encoder without a pooler."""
    if "start_logits" in result:
        return torch.stack([result.start_logits, result.end_logits], dim=-1)
    return result.logits if "logits" in result else result.get("pooler_output")


def run_alone(model: PreTrainedModel, cases: dict[str, Case]) -> dict[str, Outputs]:
    """What a model gives for each text alone, without a mask."""
    outputs = {}
    for name, case in cases.items():
        batch = run(model, case.token_ids[None], case.type_ids[None])
        outputs[name] = {key: value[0] for key, value in batch.items()}
    return outputs


def run_padded(model: PreTrainedModel, cases: dict[str, Case]) -> dict[str, Outputs]:
    """The same from one padded batch, padding included."""
    shape = (len(cases), max(LENGTHS.values()))
    token_ids = torch.full(shape, model.config.pad_token_id)
    type_ids = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, case in enumerate(cases.values()):
        length = len(case.token_ids)
        token_ids[row, :length] = case.token_ids
        type_ids[row, :length] = case.type_ids
        mask[row, :length] = 1
    batch = run(model, token_ids, type_ids, mask)
    return {name: {key: batch[key][row] for key in batch} for row, name in enumerate(cases)}


def deviation(expected: dict[str, Outputs], given: dict[str, Outputs]) -> float:
    """The largest difference at real positions, relative to the expected beyond 1."""
    worst = 0.0
    for case, outputs in expected.items():
        for key, value in outputs.items():
            # Padding is at the end of the axis of positions, whichever that is: cut it off.
            real = given[case][key][tuple(slice(size) for size in value.shape)]
            difference = ((real - value).abs() / value.abs().clamp(min=1)).max().item()
            assert np.isfinite(difference), f"{case}/{key} is not finite"
            worst = max(worst, difference)
    return worst


def store_model(folder: Path, model: PreTrainedModel, own_names: bool) -> None:
    """Writes the model of one golden."""
    model.save_pretrained(folder, save_original_format=not own_names)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def store_outputs(folder: Path, cases: dict[str, Case], outputs: dict[str, Outputs]) -> None:
    """Writes the outputs of one golden."""
    arrays = {}
    for name, case in cases.items():
        values = {"token_ids": case.token_ids, "type_ids": case.type_ids, **outputs[name]}
        arrays |= {f"{name}/{key}": value.numpy() for key, value in values.items()}
    np.savez_compressed(folder / "outputs.npz", **arrays)


def reloaded(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model as its files say, every one of whose tensors is found and used."""
    again, info = type(model).from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), f"{folder}: {info}"
    return again.eval()


def make(family: str, head: str, report: Report) -> None:
    """Makes and checks one golden, if the family has the head."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{family}/{head}".encode()))
    model = build(family, head, generator)
    if model is None:
        return
    cases = draw_cases(model.config, generator)
    outputs = run_alone(model, cases)
    folder = GOLDENS / family / head
    folder.mkdir(parents=True)
    store_model(folder, model, HEADS[head].own_names)
    store_outputs(folder, cases, outputs)

    difference = deviation(outputs, run_padded(model, cases))
    assert difference <= TOLERANCE, f"{family}/{head} differs by {difference:.1e} when padded"
    saved = deviation(outputs, run_alone(reloaded(model, folder), cases))
    assert saved <= TOLERANCE, f"{family}/{head} differs by {saved:.1e} once loaded"
    report.made.append(head)
    report.deviation = max(report.deviation, difference)
    report.last_is_hidden &= all(torch.equal(o["hidden"][-1], o["last"]) for o in outputs.values())


def print_table(reports: dict[str, Report]) -> None:
    """Prints what exists, and how far a padded batch is from each text alone."""
    wide = max(map(len, HEADS))
    for head in HEADS:
        made = [family for family, report in reports.items() if head in report.made]
        print(f"{head:{wide}}  {len(made):2}  {' '.join(made)}")
    print()
    for family, report in reports.items():
        missing = [h for h in HEADS if h not in report.made and HEADS[h].families is None]
        print(
            f"{family:12}  padded within {report.deviation:.1e}"
            f"  hidden[-1] {'is' if report.last_is_hidden else 'is not'} last"
            f"  {'no ' + ', '.join(missing) if missing else ''}".rstrip()
        )
    size = sum(path.stat().st_size for path in GOLDENS.rglob("*") if path.is_file())
    print(f"\n{sum(len(r.made) for r in reports.values())} goldens, {size / 1e6:.2f} MB")


def main() -> None:
    """Makes all goldens."""
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shutil.rmtree(GOLDENS, ignore_errors=True)
    reports = {family: Report() for family in FAMILIES}
    for family, head in product(FAMILIES, HEADS):
        make(family, head, reports[family])
    print_table(reports)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
