"""Inspections with random numbers, for pages that need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encodax.types.inspection import (
    AttentionMaps,
    Attribution,
    Inspection,
    MaskGuesses,
    Norms,
    Token,
    TopWeights,
)

HOSTILE = (
    "<script>window.ran = 1</script>",
    '"\'`</p><img src=x onerror="window.ran = 1">',
    "שלום",
    "\u202eright\u202c",
    "👩‍👩‍👧",
    "</script><script>window.ran = 1</script>",
    "\u2028",
    "a" * 300,
)


def tokens_of(texts: Sequence[str]) -> tuple[Token, ...]:
    return tuple(Token(text, f"entry {text}", index) for index, text in enumerate(texts))


def words(count: int) -> tuple[Token, ...]:
    return tokens_of([f"word{index}" for index in range(count)])


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Rows that add up to 1, some of whose entries matter more than others."""
    drawn = np.random.default_rng(seed).exponential(size=shape).astype(np.float32) ** 3
    return drawn / drawn.sum(axis=-1, keepdims=True)


def maps(
    name: str, queries: Sequence[Token], keys: Sequence[Token], *, layers: int = 2, heads: int = 3
) -> AttentionMaps:
    views = (*(f"head {head + 1}" for head in range(heads)), "mean of heads", "rollout")
    cells = weights(layers, len(views), len(queries), len(keys))
    return AttentionMaps(name, tuple(queries), tuple(keys), views, cells)


def in_blocks(tokens: Sequence[Token], block: int, kept: int) -> AttentionMaps:
    count = -(-len(tokens) // block)
    rng = np.random.default_rng(1)
    keys = rng.permuted(np.tile(np.arange(len(tokens)), (2, 3, len(tokens), 1)), axis=-1)
    best = np.sort(weights(2, 3, len(tokens), kept), axis=-1)[..., ::-1]
    return AttentionMaps(
        "text to text",
        tuple(tokens),
        tuple(tokens),
        ("head 1", "mean of heads", "rollout"),
        weights(2, 3, count, count),
        block,
        TopWeights(keys[..., :kept], best),
    )


def norms(name: str, tokens: Sequence[Token], layers: int = 2) -> Norms:
    values = np.random.default_rng(2).uniform(1, 20, (layers + 1, len(tokens)))
    return Norms(name, tuple(tokens), values.astype(np.float32))


def inspection(tokens: Sequence[Token] | None = None) -> Inspection:
    """Of an encoder: an answer, two attributions, a mask, and all numbers."""
    tokens = words(7) if tokens is None else tuple(tokens)
    shares = np.random.default_rng(3).normal(size=len(tokens)).astype(np.float32)
    guesses = tuple(
        tuple((f"guess{layer}{rank}", 0.5 / (rank + 1)) for rank in range(3)) for layer in range(3)
    )
    return Inspection(
        tokens=tuple(tokens),
        answer=(("positive", "98.1 %"), ("negative", "1.9 %")),
        attention=(maps("text to text", tokens, tokens),),
        norms=(norms("text", tokens),),
        attributions=(
            Attribution("positive", 2.5, 0.25, shares),
            Attribution("negative", -2.5, -0.25, -shares),
        ),
        masks=(MaskGuesses(1, guesses), MaskGuesses(2, guesses[::-1])),
    )


def translation() -> Inspection:
    """Of a model with a decoder: three attentions, of which one is not square."""
    source, written = words(6), tokens_of(["eins", "zwei", "drei", "</s>"])
    given = tokens_of(["<s>", "eins", "zwei", "drei"])
    return Inspection(
        tokens=source,
        answer=(("translation", "eins zwei drei"),),
        attention=(
            maps("translation to source", written, source),
            maps("translation to translation", written, given),
            maps("source to source", source, source, layers=3),
        ),
        norms=(norms("source", source, 3), norms("translation", written)),
    )
