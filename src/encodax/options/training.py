"""Settings of a training run and of a new model."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

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
from encodax.options.fields import CHECKPOINTS, DEVICES, MONITORING, PARTIAL, option
from encodax.options.presets import TransformerSize, transformer_config

Precision = Literal["float32", "bfloat16", "int8"]
"""Number format of products. Residuals, statistics of norms and softmax are float32 in all."""
Kind = Literal["wordpiece", "bpe", "char"]
"""Kind of a tokenizer that is trained."""
Schedule = Literal["cosine", "linear", "constant", "inverse_sqrt"]
"""Decay of the learning rate after the warm-up."""

LARGEST = 2**31 - 1
"""Largest number of steps, and largest size of an array: both are int32."""


@dataclass(frozen=True)
class Adam:
    """Constants of Adam (Kingma & Ba 2015, arXiv:1412.6980, section 2)."""

    b1: float = 0.9
    """Exponential decay rate of the first moment, ..."""
    b2: float = 0.999
    """... and of the second moment."""
    eps: float = 1e-8
    """Term added to the denominator, the root of the second moment."""


@dataclass(frozen=True)
class LoraConfig:
    """Rank, scale and target modules of the adapters."""

    rank: int = 8
    """r, the rank: the inner size of the product of the two matrices."""
    alpha: float = 16.0
    """Numerator of the product's scale, alpha / r, so that a rate for one rank suits others."""
    targets: str = r"attention/(query|value)$"
    """Regular expression of the modules; queries and values by default (section 4.2, 7.1)."""

    def __post_init__(self) -> None:
        if self.rank <= 0:
            raise EncodaxError(f"lora_rank = {self.rank} is not above 0")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise EncodaxError(f"lora_alpha = {self.alpha} is not above 0")
        compiled(self.targets)

    @property
    def scale(self) -> float:
        """Scale of the product: alpha / r."""
        return self.alpha / self.rank


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression.

    Raises:
        EncodaxError: it is not one.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise EncodaxError(f"{pattern!r} is not a regular expression: {error}") from error


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run."""

    steps: int | None = option(
        None,
        "Number of optimizer steps.",
    )
    """Number of optimizer steps; None to count in epochs."""
    epochs: int | float | None = option(
        None,
        "Passes over the data, such as 3 or 0.5.  \\[default: 10]",
    )
    """Number of passes over the data, such as 3 or 0.5; 10 if neither `steps` nor this is given."""
    batch_size: int | None = option(
        None,
        "Examples in a batch.",
    )
    """Number of examples in a batch, instead of tokens."""
    batch_tokens: int | None = option(
        None,
        "Tokens in a batch, instead.  \\[default: 2048]",
    )
    """Number of tokens in a batch, padding included; 2,048 if `batch_size` is not given either."""
    learning_rate: float = option(
        1e-3,
        "Peak rate.  \\[default: 1e-3 from scratch, 5e-5 with --model]",
    )
    """Peak learning rate."""
    warmup: float = option(
        0.1,
        "Share of steps that warm up, or their number.  \\[default: 0.1]",
    )
    """Share of the steps that warm up; above 1, the number of warm-up steps."""
    schedule: Schedule = option(
        "cosine",
        "Decay after warm-up: cosine, linear, constant, inverse_sqrt.  \\[default: cosine; "
        "translation inverse_sqrt]",
    )
    """Decay of the learning rate after the warm-up."""
    weight_decay: float = option(
        0.01,
        "Weight decay of AdamW.  \\[default: 0.01]",
    )
    beta1: float = Adam.b1
    """Exponential decay rate of the gradient's first moment."""
    beta2: float = option(
        Adam.b2,
        "Second-moment decay of Adam.  \\[default: 0.999; translation 0.98]",
    )
    """Exponential decay rate of the gradient's second moment."""
    adam_eps: float = option(
        Adam.eps,
        "Epsilon of Adam.  \\[default: 1e-8; translation 1e-9]",
    )
    """Term added to the denominator (the root of the second moment) for numerical stability."""
    average: int | None = option(
        None,
        "At the end, also try the mean of this many newest checkpoints.",
    )
    """Number of newest checkpoints whose parameters are averaged at the end (Vaswani et al. 2017,
    section 6.1); the average becomes the model if it is better. None for no average."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient."""
    accumulate: int = option(
        1,
        "Micro-batches in a batch.  \\[default: 1]",
        panel=DEVICES,
    )
    """Number of micro-batches in a batch, one after another: for batches that exceed the devices'
    memory."""
    layer_decay: float = option(
        1.0,
        "Factor of the learning rate from each layer to the one below.  \\[default: 1]",
        panel=PARTIAL,
    )
    """Factor of the learning rate from each layer to the one below (Clark et al. 2020)."""
    freeze: str | None = option(
        None,
        "Regular expression of parameters to freeze, by their names in `encodax info`.",
        panel=PARTIAL,
    )
    """Regular expression of parameters (`path/leaf`) to freeze."""
    lora_rank: int | None = option(
        None,
        "Train LoRA adapters of this rank; OUT is then an adapter.",
        panel=PARTIAL,
    )
    """Rank of LoRA adapters, which are trained together with the head instead of all parameters
    (`step/lora.py`)."""
    lora_alpha: float = option(
        LoraConfig.alpha,
        "Adapters are scaled by alpha / rank.",
        panel=PARTIAL,
    )
    """LoRA's alpha: adapters are scaled by alpha / rank."""
    lora_targets: str = option(
        LoraConfig.targets,
        "Regular expression of the modules to adapt.  \\[default: queries and values]",
        panel=PARTIAL,
    )
    """Regular expression of the modules that get an adapter."""
    merge: bool = option(
        False,
        "Write a whole model, adapters merged.",
        panel=PARTIAL,
    )
    """Whether to write a whole model, adapters merged, instead of an adapter."""
    precision: Precision | None = option(
        None,
        "Number format of products; all else is float32.  \\[default: float32 on CPU]",
        panel=DEVICES,
        type=Literal["float32", "bfloat16"],
    )
    """Number format of products; parameters stay float32. None for float32 on CPU, bfloat16 on
    accelerators."""
    mesh: str | None = option(
        None,
        "Mesh, such as data=4,fsdp=2: rows divided over all devices, parameters over "
        "fsdp.  \\[default: all on data]",
        panel=DEVICES,
    )
    """Mesh of devices, such as `data=4,fsdp=2`; None for all devices on `data`."""
    remat: Remat = option(
        "none",
        "Recompute to save memory: none, dots, full.  \\[default: none]",
        panel=DEVICES,
    )
    """Rematerialization: what layers recompute in the backward pass to save memory, see
    `ExecutionConfig`."""
    scan: bool = option(
        False,
        "Compile one layer for all, which is faster to compile.",
        panel=DEVICES,
    )
    """Whether to compile one layer for all, see `ExecutionConfig`."""
    evaluate_every: int | None = option(
        None,
        "Steps between evaluations.  \\[default: a tenth of the run]",
    )
    """Number of steps between evaluations; a tenth of the run by default."""
    save_every: int | None = option(
        None,
        "Steps between checkpoints.  \\[default: --evaluate-every]",
        panel=CHECKPOINTS,
    )
    """Number of steps between checkpoints; as between evaluations by default."""
    keep: int = option(
        2,
        "Newest checkpoints to keep, besides the best.  \\[default: 2]",
        panel=CHECKPOINTS,
    )
    """Number of newest checkpoints to keep, in addition to the best one."""
    bad_steps: int = option(
        10,
        "Stop after this many non-finite steps in a row.  \\[default: 10]",
        panel=MONITORING,
    )
    """Number of steps in a row with a loss or gradient that is not finite after which the run
    stops."""
    profile_steps: str | None = option(
        None,
        "Steps to profile: 10:15 traces 10 to 14 to OUT/profile.",
        panel=MONITORING,
    )
    """Steps to profile: `10:15` is 10 to 14."""
    metric: str | None = option(
        None,
        "Evaluation metric that selects the best model; every task has `loss`.  "
        "\\[default: the task's; for classes macro f1]",
    )
    """Metric on the evaluation data that decides which model is the best; None for the task's
    own."""
    patience: int | None = option(
        None,
        "Stop after this many evaluations without improvement.",
    )
    """Number of evaluations without a better metric after which the run stops; None for no
    limit."""
    seed: int = option(
        0,
        "Random seed; equal seeds give equal runs.",
        show_default=True,
    )
    """Seed of the parameters, the order of the examples, and dropout."""
    truncate: bool = option(
        False,
        "Cut texts that are longer than the model takes.",
    )
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
                "of steps, 2 or more; 0 is for none"
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
            raise EncodaxError("precision int8 is not for training: choose float32 or bfloat16")
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
            raise EncodaxError(
                f"profile_steps {self.profile_steps!r} is not START:STOP, such as 10:15"
            )
        return range(int(first), int(end))


@dataclass(frozen=True)
class NewModel:
    """Shape of a new model: by default, a small BERT."""

    layers: int = option(
        2,
        "Number of layers.  \\[default: 2]",
    )
    """L, the number of layers."""
    width: int = option(
        128,
        "Width of the hidden states.  \\[default: 128]",
    )
    """D, the width of the hidden states."""
    heads: int = option(
        4,
        "Attention heads.  \\[default: 4]",
    )
    """H, the number of attention heads."""
    ffn: int | None = option(
        None,
        "Feed-forward width.  \\[default: 4 x width]",
    )
    """F, the inner width of the feed-forward layers; four times the width by default."""
    max_positions: int = option(
        512,
        "Longest text in tokens.  \\[default: 512]",
    )
    """Longest sequence in tokens."""
    dropout_rate: float = option(
        0.1,
        "Dropout rate.  \\[default: 0.1]",
        name="dropout",
    )
    attention_dropout_rate: float | None = option(
        None,
        "Dropout rate of attention weights.  \\[default: --dropout]",
        name="attention-dropout",
    )
    """Dropout rate of attention weights; `dropout_rate` by default."""
    tokenizer: Kind = option(
        "wordpiece",
        "Kind: wordpiece, bpe, char.  \\[default: wordpiece; translation bpe]",
    )
    vocabulary_size: int = option(
        8_000,
        "Largest vocabulary.  \\[default: 8000]",
    )
    """Largest size of the tokenizer's vocabulary."""
    lowercase: bool = option(
        False,
        "Remove case and accents.",
    )
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


@dataclass(frozen=True)
class RunOptions:
    """Options of the commands that train, beside the settings of a run."""

    resume: bool = option(False, "Resume from the newest checkpoint.", panel=CHECKPOINTS)
    """Whether to resume from the newest checkpoint."""
    resume_step: int | None = option(
        None, "Resume from the checkpoint of this step.", panel=CHECKPOINTS
    )
    """Step of the checkpoint to resume from; None for the newest."""
    checkpoints: Path | None = option(
        None, "Directory of the checkpoints.  \\[default: OUT.checkpoints]", panel=CHECKPOINTS
    )
    """Directory of the checkpoints."""
    distributed: bool = option(
        False, "Join the other processes started by SLURM, Kubernetes, ...", panel=DEVICES
    )
    """Whether to join the processes that a cluster manager has started."""
    coordinator: str | None = option(None, "HOST:PORT of process 0, to join it.", panel=DEVICES)
    """Address of process 0."""
    processes: int | None = option(None, "Number of processes.", panel=DEVICES)
    """Number of processes of the run."""
    process: int | None = option(None, "Index of this process, from 0.", panel=DEVICES)
    """Index of this process."""
    dry_run: bool = option(
        False,
        "Compile, run two steps, print time and memory; write nothing.",
        panel=MONITORING,
    )
    """Whether to take two steps only, and write nothing."""


def _check_sizes(choices: Any, *names: str) -> None:
    """Refuse sizes that exceed an int32.

    Raises:
        EncodaxError: names the first one that is too large.
    """
    for name in names:
        if (value := getattr(choices, name)) is not None and value > LARGEST:
            raise EncodaxError(f"{name} = {value} is above {LARGEST}, the largest value")


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
