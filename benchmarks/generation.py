"""Tokens generated in a second, beside transformers with PyTorch, on the same random weights.

    python -m benchmarks.generation --python PATH [--rounds 5] [--tokens 32]

PATH is the Python of an environment made of `benchmarks/requirements.txt`. The model has the shape
of OPUS-MT (Marian): 6 layers of 512 on each side, 8 heads, 2,048 inside, a vocabulary of 58,101;
both sides load the same directory, in float32 on all cores. Sources are 12 to 24 random tokens, and
every target goes on for so many tokens (the end is forbidden on both sides), so that both do the
same work: encoding, and all steps, with 1 beam or 4, for 1 source or 32. In turn; ratios are of the
rounds. The ids of both sides are compared too.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.ratios import spread
from benchmarks.harness.timing import in_turn
from benchmarks.harness.workers import Worker
from encodax import Seq2SeqModel, Tokenizer
from encodax.config import Seq2SeqConfig
from encodax.data.packing import assemble
from encodax.generation.search import BeamSearch
from encodax.inference.precision import Precision
from encodax.inference.translator import GenerationOptions, Translator
from encodax.options.presets import TransformerSize, transformer_config
from encodax.text.tokenizer import Encoding

FOLDER = Path("runs/generation")
REFERENCE = "benchmarks.reference.generate"
SIZE = TransformerSize(6, 512, 8, 2_048, 0.0)
VOCABULARY = 58_101
END = 0
PAD = VOCABULARY - 1
Answer = dict[str, Any]
CASES = tuple((batch, beams) for batch in (1, 32) for beams in (1, 4))


def main() -> None:
    """Measure all cases, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="Python with torch and transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--precision", default="float32", help="of our side")
    options = parser.parse_args()
    model, sources = random_model(), random_sources()
    own = Ours(model, sources, options.tokens, options.precision)
    with Worker(options.python, REFERENCE, FOLDER / "reference.log", stops=False) as worker:
        worker.load(model=str(FOLDER / "model"), sources=str(FOLDER / "sources.json"))
        theirs = functools.partial(worker.ask, "generate", tokens=options.tokens)
        for batch, beams in CASES:
            report(batch, beams, options, own, theirs)


def random_model() -> Seq2SeqModel:
    """The model, written where the other side reads it."""
    config = transformer_config(
        SIZE, VOCABULARY, positions="sinusoidal_halves", max_positions=512, output_bias=True
    )
    whole = Seq2SeqConfig(
        config, decoder_start_id=PAD, eos_id=END, pad_id=PAD, suppressed_ids=(PAD,)
    )
    model = Seq2SeqModel.create(whole, Tokenizer.train(("a",), "char"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(FOLDER / "model", overwrite=True)
    return model


def random_sources() -> list[list[int]]:
    """Token ids of sources of uneven lengths."""
    random = np.random.default_rng(0)
    sources = [random.integers(1, PAD, n).tolist() for n in random.integers(12, 25, 32)]
    (FOLDER / "sources.json").write_text(json.dumps(sources), encoding="utf-8")
    return sources


class Ours:
    """Encodax, one program for each case."""

    def __init__(
        self, model: Seq2SeqModel, sources: list[list[int]], tokens: int, precision: Precision
    ):
        config = dataclasses.replace(model.config, suppressed_ids=(PAD, END))
        model = dataclasses.replace(model, config=config)
        self._sources, self._tokens = sources, tokens
        self._translator = Translator(model, precision=precision)

    def __call__(self, batch: int, beams: int) -> Answer:
        """Seconds, and the best ids of each source."""
        rows = [[encoding(ids)] for ids in self._sources[:batch]]
        room = 24
        search = BeamSearch(beams, length_penalty=1.0, offset=0.0) if beams > 1 else None
        options = GenerationOptions(search, max_tokens=self._tokens)
        program = self._translator._program(batch, room, self._tokens, options)
        packed = assemble(rows, row_count=batch, row_tokens=room, slots=1)
        began = time.perf_counter()
        draws = np.zeros(packed.token_ids.shape[0], np.uint32)
        found = program(self._translator._params, packed, np.uint32(0), draws)
        ids = np.asarray(found.token_ids)[:, 0]
        return {"seconds": time.perf_counter() - began, "ids": ids.tolist()}


def encoding(ids: list[int]) -> Encoding:
    """Token ids as if a text had been tokenized."""
    size = len(ids)
    zeros = np.zeros(size, np.int32)
    return Encoding(
        np.asarray(ids, np.int32), zeros, np.zeros((size, 2), np.int32), zeros > 0, zeros
    )


def report(
    batch: int,
    beams: int,
    options: argparse.Namespace,
    own: Callable[..., Answer],
    theirs: Callable[..., Answer],
) -> None:
    """One case: a round to warm up, then rounds in turn."""
    sides = {
        "own": functools.partial(own, batch=batch, beams=beams),
        "theirs": functools.partial(theirs, batch=batch, beams=beams),
    }
    pairs = zip(*(side()["ids"] for side in sides.values()), strict=True)
    same = np.mean([ours == others for ours, others in pairs])
    found = in_turn(options.rounds, sides)
    one, other = (np.asarray([each["seconds"] for each in rounds]) for rounds in found.values())
    tokens = batch * options.tokens
    print(
        f"batch {batch:2} beams {beams}: Encodax {tokens / np.median(one):7.1f} tokens/s, "
        f"transformers {tokens / np.median(other):7.1f}; ratio {spread(other / one, '.2f')}; "
        f"equal ids {same:.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
