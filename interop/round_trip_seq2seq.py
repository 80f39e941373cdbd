"""Models with a decoder, there and back: Encodax saves, transformers loads, runs and saves.

    python -m interop.round_trip_seq2seq --reference PYTHON

PYTHON is the Python of an environment made of `interop/requirements.txt`. Of each family a small
random model is saved here and loaded by transformers, with no tensor missing or left over. Token
ids are the same, scores of every token are compared, and what both generate, greedily and with 4
beams, is the same. Then transformers saves it, and Encodax finds the same bits: of a
bare model, with a bias of the output that is all zeros beside them.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import sentencepiece

from benchmarks.harness import children
from encodax import Seq2SeqModel, families
from encodax.data.packing import assemble_pairs
from encodax.generation.search import BeamSearch, DecodingLimits, decode
from encodax.text.tokenizer import EncodedPair, Encoding, Tokenizer
from interop.comparing import TOLERANCE, deviation

MOST = 24
BEAMS = 4
TEXTS = [
    "A child finds the letter.",
    "The old keeper carries seven apples near the harbour before breakfast.",
    "Our neighbour sells",
    "umbrella",
]
CORPUS = [
    f"{who} {does} {what}{where}."
    for who in ("The old keeper", "A child", "Our neighbour", "The ship's cook")
    for does in ("paints", "carries", "forgets", "sells", "finds")
    for what in ("a blue lamp", "seven apples", "the letter", "her umbrella")
    for where in ("", " near the harbour", " before breakfast")
]
STACKS = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}


def main() -> None:
    """Print the table; the exit code is 1 where a family is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True, help="Python with torch and transformers")
    parser.add_argument("models", nargs="*", help="which, by name; all where none is named")
    arguments = parser.parse_args()
    python = arguments.reference
    print("| model | class of transformers | scores | greedy and beams | back |")
    print("|---|---|---|---|---|")
    failed = False
    for name in arguments.models or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            row = compared(name, Path(folder), python)
        failed |= row["off"] > TOLERANCE or not (row["generated"] and row["same"])
        generated = "the same" if row["generated"] else "**differ**"
        back = "the same bits" if row["same"] else "**differ**"
        print(f"| {name} | {row['class']} | {row['off']:.1e} | {generated} | {back} |", flush=True)
    sys.exit(failed)


def compared(name: str, folder: Path, python: str) -> dict[str, Any]:
    """One model, there and back."""
    model = MODELS[name](folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(folder / "ours")
    found = children.run(
        python, "interop.reference.seq2seq", folder / "ours", folder / "theirs", MOST,
        input=json.dumps(TEXTS), text=True, capture_output=True, check=False,
    )  # fmt: skip
    if found.returncode:
        raise SystemExit(f"{name}: {found.stderr}")
    theirs = json.loads(found.stdout.splitlines()[-1])
    if theirs["loading"]:
        raise SystemExit(f"{name}: transformers loads it with {theirs['loading']}")
    encodings, _ = model.encode(TEXTS)
    ids = [encoding.token_ids.tolist() for encoding in encodings]
    if ids != theirs["ids"]:
        raise SystemExit(f"{name}: token ids differ: {ids} {theirs['ids']}")
    logits = np.load(folder / "theirs" / "logits.npz")
    off = max(
        deviation(own, logits[f"logits{row}"]) for row, own in enumerate(scores(model, encodings))
    )
    again = Seq2SeqModel.load(folder / "theirs")
    same = all(
        np.array_equal(leaf, again.params[path][name])
        for path, leaves in model.params.items()
        for name, leaf in leaves.items()
    )
    generated = all(
        generate_all(model, encodings, beams)
        == [ended(model, row) for row in theirs[f"beams{beams}"]]
        for beams in (1, BEAMS)
    )
    return {"class": theirs["class"], "off": off, "generated": generated, "same": same}


def scores(model: Seq2SeqModel, encodings: list[Encoding]) -> list[np.ndarray]:
    """Of every token, with all pairs packed into one row."""
    pairs = []
    for encoding in encodings:
        own = encoding.token_ids[:-1] if len(encoding) > 1 else encoding.token_ids
        target = encoding.select(np.r_[np.arange(len(own)), 0])
        pairs.append(EncodedPair.of(encoding, target, model.config.decoder_start_id))
    size: dict[str, Any] = {"row_count": 1, "row_tokens": (96, 96), "slots": len(pairs)}
    batch = assemble_pairs([pairs], **size)
    given = np.asarray(batch.target.token_ids)
    for n, (pair, encoding) in enumerate(zip(pairs, encodings, strict=True)):
        start = int(batch.target.starts[0, n])
        own = encoding.token_ids[:-1] if len(encoding) > 1 else encoding.token_ids
        assert given[0, start + 1 : start + len(pair.given)].tolist() == own.tolist()
    output = jax.jit(functools.partial(model.apply, model.params))(batch)
    logits = np.asarray(output.logits[0])
    places = zip(batch.target.starts[0], batch.target.lengths[0], strict=True)
    return [logits[int(start) : int(start + length)] for start, length in places]


def generate_all(model: Seq2SeqModel, encodings: list[Encoding], beams: int) -> list[list[int]]:
    """Token ids of each source, the end included."""
    config = model.config
    ends = DecodingLimits.of(config, MOST)
    pairs = [[EncodedPair.of(one, one, config.decoder_start_id)] for one in encodings]
    batch = assemble_pairs(pairs, row_count=len(pairs), row_tokens=(64, 64), slots=1).source

    def run(source: Any) -> Any:
        step, cache = (
            functools.partial(model.step, model.params),
            model.begin(model.params, source, MOST),
        )
        if beams == 1:
            return decode(step, cache, ends)
        return beam_search(step, cache, ends, BeamSearch(beams, length_penalty=1.0, offset=0.0))

    found = jax.device_get(jax.jit(run)(batch))
    return [
        ids[0, : length[0]].tolist()
        for ids, length in zip(found.token_ids, found.lengths, strict=True)
    ]


def ended(model: Seq2SeqModel, row: list[int]) -> list[int]:
    """A row of a padded batch up to its end."""
    end = model.config.eos_id
    return row[: row.index(end) + 1] if end in row else row


def of(family: str, tokenizer: Tokenizer, **published: Any) -> Seq2SeqModel:
    """A random model of a family, whose weights are wide enough to differ."""
    values = {"model_type": family, "vocab_size": tokenizer.vocabulary_size, **published}
    config = families.SEQ2SEQ.by_name[family].read_config(values)
    model = Seq2SeqModel.create(config, tokenizer)
    leaves, tree = jax.tree.flatten(model.params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    drawn = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return Seq2SeqModel(config, jax.tree.unflatten(tree, drawn), tokenizer)


def pieces(path: Path, **ids: int) -> Any:
    """A SentencePiece model of the corpus, with the rules that published ones have."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=200,
        hard_vocab_limit=False, minloglevel=2, **ids,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def spiece(folder: Path) -> Tokenizer:
    """T5's."""
    pieces(folder / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return Tokenizer.load(folder, model_type="t5")


def source_and_target(folder: Path) -> Tokenizer:
    """Marian's."""
    processor = pieces(folder / "source.spm", bos_id=-1)
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    own = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    words = ["</s>", "<unk>", *(p for p in own if p not in ("</s>", "<unk>")), "<pad>"]
    vocabulary = json.dumps({word: index for index, word in enumerate(words)})
    (folder / "vocab.json").write_text(vocabulary)
    return Tokenizer.load(folder, model_type="marian")


def byte_pairs(folder: Path) -> Tokenizer:
    """One that Encodax trains."""
    return Tokenizer.train(CORPUS, "bpe", vocabulary_size=400, begins=False)


def marian(folder: Path, tokenizer: Any = source_and_target) -> Seq2SeqModel:
    """OPUS-MT."""
    made = tokenizer(folder)
    ids = {"pad_token_id": made.pad_id, "eos_token_id": made.eos_id}
    start = {"decoder_start_token_id": made.pad_id, "scale_embedding": True}
    return of("marian", made, **STACKS, **ids, **start, activation_function="swish")


def bart(folder: Path, **published: Any) -> Seq2SeqModel:
    """BART."""
    made = byte_pairs(folder)
    ids = {"pad_token_id": made.pad_id, "eos_token_id": made.eos_id}
    start = {"decoder_start_token_id": made.eos_id}
    return of("bart", made, **STACKS, **ids, **start, **published)


def kin(folder: Path, family: str) -> Seq2SeqModel:
    """mBART, and PEGASUS."""
    made = byte_pairs(folder)
    ids = {"pad_token_id": made.pad_id, "eos_token_id": made.eos_id}
    start = {"decoder_start_token_id": made.eos_id, "scale_embedding": True}
    return of(family, made, **STACKS, **ids, **start)


def t5(folder: Path, family: str = "t5", **published: Any) -> Seq2SeqModel:
    """T5, and mT5."""
    return of(family, spiece(folder), **T5, decoder_start_token_id=0, **published)


MODELS = {
    "marian": marian,
    "marian, made here": functools.partial(marian, tokenizer=byte_pairs),
    "bart": bart,
    "bart, with a first token": functools.partial(bart, forced_bos_token_id=5),
    "bart, bare": functools.partial(bart, architectures=["BartModel"]),
    "mbart": functools.partial(kin, family="mbart"),
    "pegasus": functools.partial(kin, family="pegasus"),
    "t5": t5,
    "t5, version 1.1": functools.partial(
        t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
    "t5, version 1.1, tied": functools.partial(
        t5, feed_forward_proj="gated-gelu", scale_decoder_outputs=False
    ),
    "mt5": functools.partial(t5, family="mt5"),
}

if __name__ == "__main__":
    main()
