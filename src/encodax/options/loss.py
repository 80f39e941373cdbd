"""Options of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from encodax.errors import EncodaxError
from encodax.options.fields import LOSS, option

SchemeName = Literal["iob", "iobes", "bilou", "bmes", "io", "none"]
"""Scheme of tags. `iob`: B and I (IOB1 and IOB2); `iobes`: E ends a span, S is a span of one word;
`bilou`: L and U instead of E and S; `bmes`: M instead of I; `io`: the label of the span for each of
its words; `none`: a label for each word, without spans (parts of speech)."""
SimilarityLoss = Literal["ranking", "cosent", "cosine"]


@dataclass(frozen=True)
class LossOptions:
    """Options of losses; each task accepts those that its `OPTIONS` name."""

    label_smoothing: float = option(
        0.0,
        "Label smoothing.  \\[default: 0; translation 0.1]",
        panel=LOSS,
    )
    """Share of the probability that is spread over all classes (classification of texts or
    tokens)."""
    class_weights: str | Mapping[str, int | float] | Sequence[int | float] | None = option(
        None,
        "Weights of labels: balanced, or LABEL=2.5,... (classification, multi-label).",
        panel=LOSS,
        type=str,
    )
    """Weight of each label (classification, multi-label): `balanced`, which is n / (C n_c) as in
    scikit-learn; a number for some labels, 1 for the others; or a list in the order of the
    labels."""
    tag_scheme: SchemeName | None = option(
        None,
        "Scheme of the tags; none for a label of each word (token-classification).  "
        "\\[default: inferred]",
        panel=LOSS,
        type=SchemeName,
    )
    """Tag scheme (token-classification); None to infer it from all tags."""
    mask_rate: float = option(
        0.15,
        "Share of tokens to mask (masked-lm).  \\[default: 0.15]",
        panel=LOSS,
    )
    """Share of tokens that are masked (masked-lm): 0.15 in BERT, 0.3 in later work (Wettig et al.
    2023, arXiv:2202.08005)."""
    whole_words: bool = option(
        False,
        "Mask all tokens of a word, or none (masked-lm).",
        panel=LOSS,
    )
    """Mask all tokens of a word or none (masked-lm)."""
    similarity_loss: SimilarityLoss | None = option(
        None,
        "Loss: ranking, cosent, cosine (embedding).  \\[default: by the data]",
        panel=LOSS,
    )
    """Loss on vectors (embedding); None for `cosent` with scored pairs, else `ranking`."""
    similarity_scale: float = option(
        20.0,
        "Scale of cosines in the loss (embedding).  \\[default: 20]",
        panel=LOSS,
    )
    """Factor of the cosines, the inverse of a temperature (embedding)."""
    widths: tuple[int, ...] = option(
        (),
        "Matryoshka: shorter widths to train too, such as 192,96 (embedding).",
        panel=LOSS,
        type=str,
    )
    """Widths to which vectors may be truncated, trained in addition to the full width (embedding;
    Matryoshka, Kusupati et al. 2022, arXiv:2205.13147)."""
    temperature: float = option(
        2.0,
        "Temperature of probabilities (distillation).  \\[default: 2]",
        panel=LOSS,
    )
    """Temperature of both models' probabilities (distillation; Hinton et al. 2015,
    arXiv:1503.02531)."""
    hidden_weight: float = option(
        1.0,
        "Weight of the hidden-state loss (distillation).  \\[default: 1]",
        panel=LOSS,
    )
    """Weight of the loss on hidden states, relative to that on outputs (distillation)."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise EncodaxError(f"label_smoothing = {self.label_smoothing} is not in 0..1")
        if not 0 < self.mask_rate < 1:
            raise EncodaxError(f"mask_rate = {self.mask_rate} is not in 0..1")
        for name in ("similarity_scale", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise EncodaxError(f"{name} = {getattr(self, name)} is not above 0")
        if not 0 <= self.hidden_weight < math.inf:
            raise EncodaxError(f"hidden_weight = {self.hidden_weight} is below 0, or not finite")
        known = get_args(SimilarityLoss)
        if self.similarity_loss not in (None, *known):
            message = f"similarity_loss {self.similarity_loss!r} is not one of: {', '.join(known)}"
            raise EncodaxError(message)
