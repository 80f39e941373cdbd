"""Makes the goldens of sequence-to-sequence models: tiny random ones, with what they give.

Run it where ``models.py`` runs::

    python -m interop.generate.seq2seq [MODEL ...]

It makes all models anew, or those that are named. It writes
``tests/parity/goldens-seq2seq/<model>/``, replacing what was there:

- ``config.json``, ``generation_config.json`` and ``model.safetensors``, as ``save_pretrained``
  writes them, but for T5 1.1: its ``tie_word_embeddings`` is false, as published;
- ``outputs.npz``: for each of the ``CASES``, ``<case>/source`` (S,), ``<case>/given`` (T,), what
  the decoder is given, ``<case>/encoded`` (S, D), ``<case>/logits`` (T, V), and what is generated
  from the source, ``<case>/greedy`` and ``<case>/beams``: the token ids without the first one, that
  of the decoder's start, and ``<case>/score``, what beams are compared by.

It writes ``goldens-seq2seq/tokenizers/<family>/``, too: SentencePiece models that are trained here,
the other files of such a tokenizer, and ``texts.json``, what the tokenizer of transformers makes of
some texts.

Each case is computed alone. All sources are then run as one padded batch, and what was saved is
loaded again: both must agree with what is stored.
"""

import argparse
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from interop import PARITY
from interop.generate.models import TOLERANCE, Values, redraw

GOLDENS = PARITY / "goldens-seq2seq"
CASES = {"one": (1, 2), "short": (3, 7), "some": (9, 5), "longest": (16, 16)}
"""Tokens of the source, and of what the decoder is given."""
MOST = 16
BEAMS = 4
VOCABULARY = 40

STACKS: Values = {
    "vocab_size": VOCABULARY,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 10,
    "max_position_embeddings": 24,
}
MARIAN: Values = {
    **STACKS,
    "scale_embedding": True,
    "activation_function": "swish",
    "pad_token_id": 39,
    "eos_token_id": 0,
    "decoder_start_token_id": 39,
    "forced_eos_token_id": None,
}
BART: Values = {**STACKS, "pad_token_id": 1, "eos_token_id": 2, "forced_eos_token_id": None}
T5: Values = {
    "vocab_size": VOCABULARY,
    "d_model": 8,
    "d_kv": 6,
    "d_ff": 12,
    "num_layers": 2,  # on both sides: the cache of transformers 5.23 wants as many
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
MODELS: dict[str, tuple[str, Values]] = {
    "marian": ("Marian", MARIAN),
    "bart": ("Bart", BART),
    "bart-first": ("Bart", {**BART, "scale_embedding": True}),
    "bart-bare": ("Bart", BART),
    "t5": ("T5", T5),
    "t5-1.1": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-1.1-tied": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("MT5", {**T5, "feed_forward_proj": "gated-gelu"}),
    "mbart": ("MBart", {**BART, "decoder_start_token_id": 2, "scale_embedding": True}),
    "pegasus": (
        "Pegasus",
        {
            **STACKS,
            "scale_embedding": True,
            "activation_function": "relu",
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            "forced_eos_token_id": None,
        },
    ),
}
CLASSES = {"Marian": "MarianMTModel", "Bart": "BartForConditionalGeneration"}
GENERATION: Values = {
    "bart-first": {"forced_bos_token_id": 5},
    "marian": {"bad_words_ids": [[39]]},
}
"""What a model's generation has of its own."""


def build(name: str, generator: torch.Generator) -> PreTrainedModel:
    """The random model."""
    kind, values = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**values, attn_implementation="eager")
    kind = CLASSES.get(kind, f"{kind}ForConditionalGeneration")
    model: PreTrainedModel = getattr(transformers, kind)(config).float().eval()
    if name == "t5-1.1":
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    redraw(model, generator)
    with torch.no_grad():  # T5 draws queries smaller instead of scaling scores
        for module in model.modules():
            if type(module).__name__ in ("T5Attention", "MT5Attention"):
                module.q.weight *= T5["d_kv"] ** -0.5
    with torch.no_grad():  # so that some sequences end
        model.get_output_embeddings().weight[model.config.eos_token_id] *= 2
    if hasattr(model, "final_logits_bias") and name != "bart-bare":
        model.final_logits_bias.copy_(torch.randn(1, VOCABULARY, generator=generator))
    if name in ("marian", "pegasus"):  # their positions are parameters that are not trained
        for stack in (model.model.encoder, model.model.decoder):
            stack.embed_positions.weight.data = stack.embed_positions.create_weight()
    for key, value in GENERATION.get(name, {}).items():
        setattr(model.generation_config, key, value)
    return model


@torch.no_grad()
def run(model: PreTrainedModel, source: Tensor, given: Tensor) -> dict[str, np.ndarray]:
    """What a model gives for one case."""
    result = model(input_ids=source[None], decoder_input_ids=given[None])
    options: Values = {"max_new_tokens": MOST, "do_sample": False, "min_length": 0}
    greedy = model.generate(source[None], num_beams=1, **options)
    found = model.generate(
        source[None], num_beams=BEAMS, length_penalty=1.0, early_stopping=False,
        return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip
    return {
        "encoded": result.encoder_last_hidden_state[0].numpy(),
        "logits": result.logits[0].numpy(),
        "greedy": greedy[0, 1:].numpy(),
        "beams": found.sequences[0, 1:].numpy(),
        "score": found.sequences_scores[0].numpy(),
    }


@torch.no_grad()
def run_padded(model: PreTrainedModel, cases: dict[str, Any]) -> dict[str, np.ndarray]:
    """The logits of each case in one padded batch."""
    pad = model.config.pad_token_id
    sources, given = (
        nn.utils.rnn.pad_sequence([case[side] for case in cases.values()], True, pad)
        for side in (0, 1)
    )
    sizes = torch.tensor([len(case[0]) for case in cases.values()])
    mask = (torch.arange(sources.shape[1]) < sizes[:, None]).long()
    logits = model(input_ids=sources, attention_mask=mask, decoder_input_ids=given).logits
    return {
        name: logits[row, : len(case[1])].numpy() for row, (name, case) in enumerate(cases.items())
    }


def draw_cases(
    model: PreTrainedModel, generator: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """Random sources and targets without padding; what is given begins with the start."""
    config = model.config
    usable = torch.tensor([i for i in range(VOCABULARY) if i != config.pad_token_id])

    def drawn(length: int) -> Tensor:
        return usable[torch.randint(len(usable), (length,), generator=generator)]

    cases = {}
    for name, (sources, targets) in CASES.items():
        source, given = drawn(sources), drawn(targets)
        source[-1] = config.eos_token_id
        given[0] = model.generation_config.decoder_start_token_id
        cases[name] = source, given
    return cases


def store(folder: Path, name: str, model: PreTrainedModel) -> None:
    """Writes the model of one golden."""
    (model.model if name == "bart-bare" else model).save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    if name == "t5-1.1":
        config["tie_word_embeddings"] = False
        config.pop("scale_decoder_outputs", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative beyond 1."""
    return float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max())


def make(name: str) -> None:
    """Makes and checks one golden: the first of whose sequences one ends early."""
    for attempt in range(100):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{attempt}".encode()))
        model = build(name, generator)
        cases = draw_cases(model, generator)
        outputs = {case: run(model, *pair) for case, pair in cases.items()}
        ends = [len(outputs[case]["beams"]) for case in cases]
        if any(2 < end < MOST for end in ends):
            break
    else:
        raise AssertionError(f"{name}: no such model")
    folder = GOLDENS / name
    folder.mkdir(parents=True)
    store(folder, name, model)
    arrays: dict[str, np.ndarray] = {}
    for case, (source, given) in cases.items():
        values = {"source": source.numpy(), "given": given.numpy(), **outputs[case]}
        arrays |= {f"{case}/{key}": value for key, value in values.items()}
    np.savez_compressed(folder / "outputs.npz", **arrays)

    again: Callable[..., PreTrainedModel] = type(model).from_pretrained
    loaded = again(folder, attn_implementation="eager").eval()
    worst = 0.0
    for case, logits in run_padded(model, cases).items():
        worst = max(worst, off(logits, outputs[case]["logits"]))
        reloaded = run(loaded, *cases[case])["logits"]
        assert off(reloaded, outputs[case]["logits"]) <= TOLERANCE, f"{name}/{case} once loaded"
    assert worst <= TOLERANCE, f"{name} differs by {worst:.1e} when padded"
    print(f"{name:12} attempt {attempt}, padded within {worst:.1e}, beams of {ends} tokens")


SENTENCES = [
    f"{who} {does} {what}{where}."
    for who in ("The old keeper", "A child", "Our neighbour", "The ship's cook")
    for does in ("paints", "carries", "forgets", "sells", "finds")
    for what in ("a blue lamp", "seven apples", "the letter", "her umbrella")
    for where in ("", " near the harbour", " before breakfast")
]
SAETZE = [
    f"{who} {does} {what}{where}."
    for who in ("Der alte Wärter", "Ein Kind", "Unser Nachbar", "Die Köchin")
    for does in ("bemalt", "trägt", "vergisst", "verkauft", "findet")
    for what in ("eine blaue Lampe", "sieben Äpfel", "den Brief", "ihren Schirm")
    for where in ("", " am Hafen", " vor dem Frühstück")
]
TEXTS = [
    "A child finds the letter.",
    "  Our  neighbour paints seven lamps ",
    "Zebra quiz, 東京!",
    ">>deu<< The cook forgets her umbrella.",
    "carries </s> apples",
    "<extra_id_0> apples <extra_id_99>",
    "",
]
TARGETS = ["Ein Kind findet den Brief.", "Die Köchin trägt sieben Äpfel am Hafen.", "Xylophon?"]


def train_pieces(path: Path, sentences: list[str], size: int, **ids: int) -> Any:
    """A SentencePiece model; without rules of normalization, which take 240 KB."""
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=file, vocab_size=size,
            normalization_rule_name="identity", hard_vocab_limit=False, minloglevel=2, **ids,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def make_tokenizers() -> None:
    """Makes the files of a tokenizer of Marian and of one of T5, and what they give."""
    folder = GOLDENS / "tokenizers" / "marian"
    folder.mkdir(parents=True)
    pieces = ["</s>", "<unk>", ">>deu<<", ">>nld<<"]
    for name, sentences in (("source", SENTENCES), ("target", SAETZE)):
        model = train_pieces(folder / f"{name}.spm", sentences, 120, bos_id=-1)
        own = [model.id_to_piece(i) for i in range(model.get_piece_size())]
        pieces += [piece for piece in own if piece not in pieces]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=1))
    marian = transformers.MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"),
        source_lang="en", target_lang="de",
    )  # fmt: skip
    config = {"source_lang": "en", "target_lang": "de", "tokenizer_class": "MarianTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    store_texts(folder, marian, [marian(text_target=text)["input_ids"] for text in TARGETS])

    folder = GOLDENS / "tokenizers" / "t5"
    folder.mkdir()
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    train_pieces(folder / "spiece.model", SENTENCES + SAETZE, 160, **ids)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}\n')
    t5 = transformers.T5Tokenizer.from_pretrained(folder)
    store_texts(folder, t5, [t5(text)["input_ids"] for text in TARGETS])


def store_texts(folder: Path, tokenizer: Any, targets: list[list[int]]) -> None:
    """Writes what a tokenizer makes of the texts, and back."""
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    content = {
        "texts": [{"text": text, "ids": own} for text, own in zip(TEXTS, ids, strict=True)],
        "targets": [
            {"text": text, "ids": own, "back": tokenizer.decode(own, skip_special_tokens=True)}
            for text, own in zip(TARGETS, targets, strict=True)
        ],
    }
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (folder / "texts.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Makes all goldens, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all if none")
    named = parser.parse_args().models
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if not named:
        shutil.rmtree(GOLDENS, ignore_errors=True)
        make_tokenizers()
    for name in named or MODELS:
        shutil.rmtree(GOLDENS / name, ignore_errors=True)
        make(name)


if __name__ == "__main__":
    main()
