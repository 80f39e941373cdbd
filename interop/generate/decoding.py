"""Makes directories that say how they generate, with what transformers generates from them.

Run it where ``models.py`` runs::

    python -m interop.generate.decoding [FOLDER [COPIES]]

It writes ``tests/parity/goldens-decoding/<family>/``, or in FOLDER: a tiny random model with a
tokenizer as ``save_pretrained`` writes them, and ``cases.json``: for each case what
``generation_config.json`` says, and what ``generate`` without arguments makes of each text alone:
token ids without the first one, of each sequence that it returns. ``samples.json`` has settings of
sampling, with the probabilities of the first token of a text. With COPIES there are so many times
as many texts.

The model has half learned a task, so that sequences end at different lengths, and settings make a
difference: how many texts each one changes is printed.
"""

import argparse
import json
import random
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from interop import PARITY

Values = dict[str, Any]
FOLDER = PARITY / "goldens-decoding"
SPECIAL = ["<pad>", "</s>", "<unk>", "<s>", "de_DE", "nl_NL"]
PAD, END, BEGIN = 0, 1, 3
WORDS = [
    "the",
    "a",
    "old",
    "cook",
    "child",
    "keeper",
    "paints",
    "carries",
    "forgets",
    "blue",
    "lamp",
    "letter",
    "apples",
    "near",
    "harbour",
]
TEXTS = [
    "the old cook paints a blue lamp",
    "a child forgets the letter near the harbour",
    "keeper",
    "apples apples apples apples apples apples",
    "Zebra, 東京! </s> <pad> \u200b x",
    "the the the a a a",
]
VOCABULARY = 90
STEPS = 150
LEARNED = ("bart", "mbart")
"""Families whose positions are learned."""
STACKS: Values = {
    "vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 64, "pad_token_id": PAD, "eos_token_id": END,
    "bos_token_id": BEGIN,
}  # fmt: skip
T5: Values = {
    "vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
    "decoder_start_token_id": PAD,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, Values]] = {
    "bart": ("BartForConditionalGeneration", {**STACKS, "decoder_start_token_id": END}),
    "marian": (
        "MarianMTModel",
        {**STACKS, "decoder_start_token_id": PAD, "activation_function": "swish"},
    ),
    "mbart": ("MBartForConditionalGeneration", {**STACKS, "decoder_start_token_id": END}),
    "pegasus": ("PegasusForConditionalGeneration", {**STACKS, "decoder_start_token_id": PAD}),
    "t5": ("T5ForConditionalGeneration", T5),
    "mt5": ("MT5ForConditionalGeneration", T5),
}
CASES: list[Values] = [
    {},
    {"max_new_tokens": 30},
    {"num_beams": 4},
    {"num_beams": 4, "max_length": 30, "min_length": 8, "length_penalty": 2.0,
     "no_repeat_ngram_size": 3, "early_stopping": True, "forced_eos_token_id": END},
    {"num_beams": 6, "max_length": 40, "bad_words_ids": [[PAD]], "renormalize_logits": True,
     "forced_eos_token_id": END},
    {"num_beams": 8, "max_length": 24, "length_penalty": 0.6, "forced_eos_token_id": END},
    {"num_beams": 4, "max_length": 26, "min_length": 10, "length_penalty": 2.0,
     "early_stopping": True, "no_repeat_ngram_size": 2, "num_return_sequences": 3},
    {"num_beams": 5, "max_length": 30, "forced_bos_token_id": 5, "early_stopping": "never"},
    {"num_beams": 3, "max_length": 30, "early_stopping": "never", "length_penalty": -1.0},
    {"max_length": 30, "repetition_penalty": 1.7, "min_new_tokens": 4},
    {"num_beams": 3, "max_length": 30, "repetition_penalty": 1.3, "encoder_repetition_penalty": 1.4,
     "encoder_no_repeat_ngram_size": 2},
    {"max_length": 24, "no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1},
    {"num_beams": 4, "max_length": 30, "eos_token_id": [END, 20, 33], "num_return_sequences": 2},
    {"num_beams": 2, "max_length": 24, "suppress_tokens": [END, 30, 31],
     "begin_suppress_tokens": [40, 41, 42, 43], "exponential_decay_length_penalty": [3, 1.3]},
    {"max_length": 28, "exponential_decay_length_penalty": [4, 1.2], "remove_invalid_values": True,
     "bad_words_ids": [[30], [40, 41], [50, 51, 52]],
     "sequence_bias": [[[35], 1.5], [[36, 37], -3.0]]},
    {"num_beams": 4, "max_length": 28, "sequence_bias": [[[35], 1.5], [[36, 37], 4.0]],
     "decoder_start_token_id": BEGIN},
    {"max_length": 2, "num_beams": 2},
]  # fmt: skip
SAMPLES: list[Values] = [
    {},
    {"top_k": 0},
    {"temperature": 0.6, "top_k": 12},
    {"top_k": 0, "top_p": 0.7, "temperature": 1.4},
    {"top_k": 0, "min_p": 0.2},
    {"top_k": 0, "typical_p": 0.6},
    {"top_k": 0, "epsilon_cutoff": 0.02},
    {"top_k": 0, "eta_cutoff": 0.05},
    {"top_k": 0, "top_h": 0.5},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.5},
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, whose texts end with the end."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    lines = [" ".join(WORDS[i:]) for i in range(len(WORDS))]
    made.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL)
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        bos_token="<s>", model_max_length=64,
    )  # fmt: skip


def build(family: str, made: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model that has half learned to say a text backwards: it goes on, repeats, and ends."""
    kind, values = FAMILIES[family]
    cls = getattr(transformers, kind)
    model: PreTrainedModel = cls(cls.config_class(**values)).float().eval()
    generator = torch.Generator().manual_seed(zlib.crc32(family.encode()))
    parameters = []
    for name, tensor in model.named_parameters():
        if (tensor.requires_grad and "embed_positions" not in name) or family in LEARNED:
            parameters.append(tensor)
            is_norm = tensor.ndim == 1 and name.endswith("weight")
            wide = 0.02 if tensor.ndim == 1 else 0.25
            drawn = torch.randn(tensor.shape, generator=generator) * wide
            tensor.data.copy_(drawn + 1 if is_norm else drawn)
    drawn = random.Random(family)
    optimizer = torch.optim.Adam(parameters, lr=8e-3)
    for _ in range(STEPS):
        words = [drawn.choices(WORDS, k=drawn.randint(1, 8)) for _ in range(16)]
        ids = made([" ".join(own) for own in words], padding=True, return_tensors="pt")
        labels = made([" ".join(own[::-1]) for own in words], padding=True, return_tensors="pt")
        labels = labels.input_ids.masked_fill(labels.input_ids == PAD, -100)
        start = torch.full((16, 1), model.generation_config.decoder_start_token_id)
        given = torch.cat([start, labels.clamp(min=PAD)[:, :-1]], 1)
        loss = model(**ids, decoder_input_ids=given, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # less sure of itself than it is
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(0, 0.5, generator=generator)
    print(f"{family}: loss {loss.item():.2f}", flush=True)
    return model


@torch.no_grad()
def generated(
    model: PreTrainedModel, made: PreTrainedTokenizerFast, texts: list[str]
) -> list[list[list[int]]]:
    """What it makes of each text alone, up to the end."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    found = []
    for text in texts:
        ids = torch.tensor([made(text)["input_ids"]])
        rows = model.generate(ids).tolist()
        found.append([until(row[1:], ends) for row in rows])
    return found


def until(row: list[int], ends: list[int]) -> list[int]:
    """A row without its padding."""
    first = next((place for place, token in enumerate(row) if token in ends), len(row))
    return row[: first + 1]


@torch.no_grad()
def first_chances(model: PreTrainedModel, made: PreTrainedTokenizerFast, text: str) -> list[float]:
    """Probabilities of the first token that is drawn."""
    ids = torch.tensor([made(text)["input_ids"]])
    out = model.generate(ids, return_dict_in_generate=True, output_scores=True, max_new_tokens=1)
    return [round(each, 9) for each in torch.softmax(out.scores[0][0].double(), -1).tolist()]


def make(family: str, folder: Path, texts: list[str]) -> None:
    """Makes one directory: the first whose sequences have several lengths."""
    made = tokenizer()
    model = build(family, made)
    own = {"decoder_start_token_id", "pad_token_id", "eos_token_id", "bos_token_id"}
    said = model.generation_config.to_dict()
    base = {key: value for key, value in said.items() if key in own and value is not None}
    place = folder / family
    shutil.rmtree(place, ignore_errors=True)
    model.generation_config = GenerationConfig(**base)
    model.save_pretrained(place)
    made.save_pretrained(place)
    cases, first, changed = [], None, []
    for settings in CASES:
        GenerationConfig(**{**base, **settings}).save_pretrained(place)
        loaded = type(model).from_pretrained(place).eval()
        ids = generated(loaded, made, texts)
        first = first or ids
        changed.append(sum(a[0] != b[0] for a, b in zip(ids, first, strict=True)))
        texts_of = [[made.decode(row, skip_special_tokens=True) for row in rows] for rows in ids]
        said = json.loads((place / "generation_config.json").read_text())
        cases.append({"settings": settings, "said": said, "ids": ids, "texts": texts_of})
    samples = []
    for settings in SAMPLES:
        GenerationConfig(**{**base, **settings, "do_sample": True}).save_pretrained(place)
        loaded = type(model).from_pretrained(place).eval()
        said = json.loads((place / "generation_config.json").read_text())
        samples.append({"said": said, "chances": first_chances(loaded, made, texts[0])})
    (place / "generation_config.json").unlink()
    for name, content in (("cases", {"sources": texts, "cases": cases}), ("samples", samples)):
        text = json.dumps(content, ensure_ascii=False)
        (place / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    lengths = sorted({len(rows[0]) for case in cases for rows in case["ids"]})
    print(f"{family}: lengths {lengths}; texts changed: {changed}", flush=True)


def main() -> None:
    """Makes all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("copies", nargs="?", type=int, default=1, help="times as many texts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    drawn = random.Random(1)
    texts = TEXTS + [
        " ".join(drawn.choices(WORDS, k=drawn.randint(1, 11)))
        for _ in range(len(TEXTS) * (options.copies - 1))
    ]
    for family in FAMILIES:
        make(family, options.folder, texts)


if __name__ == "__main__":
    main()
