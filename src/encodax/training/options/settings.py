"""Settings of a training run and of a new model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

from encodax.config import (
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    LayerConfig,
    NormConfig,
    Remat,
    TransformerConfig,
)
from encodax.errors import EncodaxError
from encodax.inference.precision import Precision
from encodax.text.tokenizer import Kind
from encodax.training.options.presets import TransformerSize, transformer_config
from encodax.training.step.lora import LoraConfig
from encodax.training.step.optimizer import Adam, Schedule

LARGEST = 2**31 - 1
"""Largest number of steps, and largest size of an array: both are int32."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run."""

    steps: int | None = None
    """Number of optimizer steps; None to count in epochs."""
    epochs: int | float | None = None
    """Number of passes over the data, such as 3 or 0.5; 10 if neither `steps` nor this is given."""
    batch_tokens: int | None = None
    """Number of tokens in a batch, padding included; 2,048 if `batch_size` is not given either."""
    batch_size: int | None = None
    """Number of examples in a batch, instead of tokens."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup: float = 0.1
    """Share of the steps that warm up; above 1, the number of warm-up steps."""
    schedule: Schedule = "cosine"
    """Decay of the learning rate after the warm-up."""
    weight_decay: float = 0.01
    beta1: float = Adam.b1
    """Exponential decay rate of the gradient's first moment."""
    beta2: float = Adam.b2
    """Exponential decay rate of the gradient's second moment."""
    adam_eps: float = Adam.eps
    """Term added to the denominator (the root of the second moment) for numerical stability."""
    average: int | None = None
    """Number of newest checkpoints whose parameters are averaged at the end (Vaswani et al. 2017,
    section 6.1); the average becomes the model if it is better. None for no average."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient."""
    accumulate: int = 1
    """Number of micro-batches in a batch, one after another: for batches that exceed the devices'
    memory."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one below (Clark et al. 2020)."""
    freeze: str | None = None
    """Regular expression of parameters (`path/leaf`) to freeze."""
    lora_rank: int | None = None
    """Rank of LoRA adapters, which are trained together with the head instead of all parameters
    (`step/lora.py`)."""
    lora_alpha: float = LoraConfig.alpha
    """LoRA's alpha: adapters are scaled by alpha / rank."""
    lora_targets: str = LoraConfig.targets
    """Regular expression of the modules that get an adapter."""
    merge: bool = False
    """Whether to write a whole model, adapters merged, instead of an adapter."""
    precision: Precision | None = None
    """Number format of products; parameters stay float32. None for float32 on CPU, bfloat16 on
    accelerators."""
    mesh: str | None = None
    """Mesh of devices, such as `data=4,fsdp=2`; None for all devices on `data`."""
    remat: Remat = "none"
    """Rematerialization: what layers recompute in the backward pass to save memory, see
    `ExecutionConfig`."""
    scan: bool = False
    """Whether to compile one layer for all, see `ExecutionConfig`."""
    evaluate_every: int | None = None
    """Number of steps between evaluations; a tenth of the run by default."""
    save_every: int | None = None
    """Number of steps between checkpoints; as between evaluations by default."""
    keep: int = 2
    """Number of newest checkpoints to keep, in addition to the best one."""
    bad_steps: int = 10
    """Number of steps in a row with a loss or gradient that is not finite after which the run
    stops."""
    profile_steps: str | None = None
    """Steps to profile: `10:15` is 10 to 14."""
    metric: str | None = None
    """Metric on the evaluation data that decides which model is the best; None for the task's
    own."""
    patience: int | None = None
    """Number of evaluations without a better metric after which the run stops; None for no
    limit."""
    seed: int = 0
    """Seed of the parameters, the order of the examples, and dropout."""
    truncate: bool = False
    """Whether to cut texts that are longer than the model takes, instead of refusing them."""

    def __post_init__(self) -> None:
        for name in (
            "steps", "epochs", "batch_tokens", "batch_size", "learning_rate", "clip_norm",
            "evaluate_every", "patience", "accumulate", "save_every", "keep", "bad_steps",
            "adam_eps", "average",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise EncodaxError(f"{name} = {value} is not above 0")
        for name in ("learning_rate", "weight_decay", "epochs"):
            if not math.isfinite(getattr(self, name) or 0):
                raise EncodaxError(f"{name} = {getattr(self, name)} is not finite")
        _check_sizes(self, "steps", "epochs", "batch_tokens", "batch_size", "warmup", "lora_rank")
        if not (0 <= self.warmup < 1 or (self.warmup > 1 and float(self.warmup).is_integer())):
            raise EncodaxError(
                f"warmup = {self.warmup:g} is neither a share of the steps, below 1, nor a number "
                "of them, from 2 on; 0 is for none"
            )
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise EncodaxError(f"{name} = {getattr(self, name)} is not in 0..1")
        if not 0 < self.layer_decay <= 1:
            raise EncodaxError(f"layer_decay = {self.layer_decay} is not in 0..1")
        if self.weight_decay < 0:
            raise EncodaxError(f"weight_decay = {self.weight_decay} is below 0")
        if not 0 <= self.seed < 2**32:
            raise EncodaxError(f"seed = {self.seed} is not in 0..{2**32 - 1}")
        for name, kind in (("schedule", Schedule), ("remat", Remat), ("precision", Precision)):
            value = getattr(self, name)
            if value is not None and value not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise EncodaxError(f"{name} {value!r} is not one of: {known}")
        if self.precision == "int8":
            raise EncodaxError("precision int8 cannot be trained in: choose float32 or bfloat16")
        if self.epochs is not None and float(self.epochs).is_integer():
            object.__setattr__(self, "epochs", int(self.epochs))  # 3.0 and 3 are the same setting
        self.profiled()
        _ = self.lora
        if self.steps is not None and self.epochs is not None:
            raise EncodaxError("give steps or epochs, not both")
        if self.batch_tokens is not None and self.batch_size is not None:
            raise EncodaxError("give batch_tokens or batch_size, not both")

    @property
    def lora(self) -> LoraConfig | None:
        """Settings of the LoRA adapters; None without them.

        Raises:
            EncodaxError: a setting is invalid.
        """
        if self.lora_rank is None:
            return None
        return LoraConfig(self.lora_rank, self.lora_alpha, self.lora_targets)

    def profiled(self) -> range:
        """Return the steps to profile, counted from 1.

        Raises:
            EncodaxError: `profile_steps` is not two numbers, the second larger.
        """
        if self.profile_steps is None:
            return range(0)
        first, _, end = self.profile_steps.partition(":")
        if not (first.isdecimal() and end.isdecimal() and 0 < int(first) < int(end)):
            raise EncodaxError(f"profile_steps {self.profile_steps!r} is not such as 10:15")
        return range(int(first), int(end))


@dataclass(frozen=True)
class NewModel:
    """Shape of a new model: by default, a small BERT."""

    layers: int = 2
    """L, the number of layers."""
    width: int = 128
    """D, the width of the hidden states."""
    heads: int = 4
    """H, the number of attention heads."""
    ffn: int | None = None
    """F, the inner width of the feed-forward layers; four times the width by default."""
    max_positions: int = 512
    """Longest sequence in tokens."""
    dropout_rate: float = 0.1
    attention_dropout_rate: float | None = None
    """Dropout rate of attention weights; `dropout_rate` by default."""
    tokenizer: Kind = "wordpiece"
    vocabulary_size: int = 8_000
    """Largest size of the tokenizer's vocabulary."""
    lowercase: bool = False
    """Whether the tokenizer removes case and accents (wordpiece only)."""

    def __post_init__(self) -> None:
        sizes = ("layers", "width", "heads", "ffn", "max_positions", "vocabulary_size")
        for name in sizes:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise EncodaxError(f"{name} = {value} is not above 0")
        _check_sizes(self, *sizes)
        if self.tokenizer not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise EncodaxError(f"tokenizer {self.tokenizer!r} is not one of: {known}")
        if self.width % self.heads:
            raise EncodaxError(f"width {self.width} is not a multiple of heads {self.heads}")
        for name in ("dropout_rate", "attention_dropout_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise EncodaxError(f"{name} = {value} is not in 0..1")

    def encoder(self, vocabulary_size: int) -> EncoderConfig:
        """Return an encoder of this shape, as in BERT: post-norm, learned positions, biases."""
        norm = NormConfig(eps=1e-12)
        layer = LayerConfig(
            AttentionConfig(
                self.heads,
                self.width // self.heads,
                dropout_rate=_or(self.attention_dropout_rate, self.dropout_rate),
            ),
            FeedForwardConfig(self.inner_width),
            norm=norm,
            dropout_rate=self.dropout_rate,
        )
        embeddings = EmbeddingsConfig(
            vocabulary_size=vocabulary_size,
            width=self.width,
            max_positions=self.max_positions,
            type_vocabulary_size=2,
            norm=norm,
            dropout_rate=self.dropout_rate,
        )
        return EncoderConfig(embeddings, (layer,) * self.layers)

    @property
    def inner_width(self) -> int:
        """F, the inner width of the feed-forward layers."""
        return self.ffn or 4 * self.width

    def transformer(self, vocabulary_size: int) -> TransformerConfig:
        """Return a Transformer of this shape, as in Marian, with L layers on each side."""
        size = TransformerSize(
            self.layers,
            self.width,
            self.heads,
            self.inner_width,
            self.dropout_rate,
            _or(self.attention_dropout_rate, self.dropout_rate),
        )
        return transformer_config(
            size,
            vocabulary_size,
            positions="sinusoidal_halves",
            max_positions=self.max_positions,
            output_bias=True,
        )


def _check_sizes(choices: Any, *names: str) -> None:
    """Refuse sizes that exceed an int32.

    Raises:
        EncodaxError: names the first one that is too large.
    """
    for name in names:
        if (value := getattr(choices, name)) is not None and value > LARGEST:
            raise EncodaxError(f"{name} = {value} is above {LARGEST}, the most there can be")


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


DEFAULTS_OF_TASKS: dict[str, dict[str, Any]] = {
    "translation": {
        "tokenizer": "bpe",
        "schedule": "inverse_sqrt",
        "beta2": 0.98,
        "adam_eps": 1e-9,
        "weight_decay": 0.0,
        "label_smoothing": 0.1,
    },
}
"""Defaults that differ for a task (Vaswani et al. 2017, section 5): fields of `TrainSettings`,
`NewModel` and `LossOptions`."""
