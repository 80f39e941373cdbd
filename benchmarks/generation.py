"""Tokens generated in a second, beside transformers with PyTorch, on the same random weights.

    python benchmarks/generation.py --python PATH [--rounds 5] [--tokens 32]

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
import json
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from encodax import Seq2SeqModel, Tokenizer
from encodax.config import Seq2SeqConfig
from encodax.data.packing import assemble
from encodax.generation.search import BeamSearch
from encodax.inference.precision import Precision
from encodax.inference.translator import GenerationOptions, Translator
from encodax.text.tokenizer import Encoding
from encodax.training.options.presets import TransformerSize, transformer_config

FOLDER = Path("runs/generation")
REFERENCE = Path(__file__).parent / "reference" / "generate.py"
SIZE = TransformerSize(6, 512, 8, 2_048, 0.0)
VOCABULARY = 58_101
END = 0
PAD = VOCABULARY - 1
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
    command = [options.python, str(REFERENCE), str(FOLDER / "model"), str(FOLDER / "sources.json")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        theirs = Theirs(process, options.tokens)
        for batch, beams in CASES:
            report(batch, beams, options, own, theirs)
        process.stdin.close()


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

    def __call__(self, batch: int, beams: int) -> tuple[float, list[list[int]]]:
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
        return time.perf_counter() - began, ids.tolist()


def encoding(ids: list[int]) -> Encoding:
    """Token ids as if a text had been tokenized."""
    size = len(ids)
    zeros = np.zeros(size, np.int32)
    return Encoding(
        np.asarray(ids, np.int32), zeros, np.zeros((size, 2), np.int32), zeros > 0, zeros
    )


class Theirs:
    """The other side, asked by lines."""

    def __init__(self, process: Any, tokens: int):
        self._process, self._tokens = process, tokens

    def __call__(self, batch: int, beams: int) -> tuple[float, list[list[int]]]:
        """Seconds, and the best ids of each source."""
        asked = {"batch": batch, "beams": beams, "tokens": self._tokens}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"], answer["ids"]


def report(batch: int, beams: int, options: argparse.Namespace, own: Ours, theirs: Theirs) -> None:
    """One case: a round to warm up, then rounds in turn."""
    pairs = zip(own(batch, beams)[1], theirs(batch, beams)[1], strict=True)
    same = np.mean([ours == others for ours, others in pairs])
    rounds = [(own(batch, beams)[0], theirs(batch, beams)[0]) for _ in range(options.rounds)]
    tokens = batch * options.tokens
    speeds = [tokens / float(np.median(side)) for side in zip(*rounds, strict=True)]
    ratios = sorted(other / one for one, other in rounds)
    print(
        f"batch {batch:2} beams {beams}: Encodax {speeds[0]:7.1f} tokens/s, transformers "
        f"{speeds[1]:7.1f}; ratio {np.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f}); "
        f"equal ids {same:.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
