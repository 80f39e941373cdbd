"""How to train: every choice of a run in one frozen place."""

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
"""Of the number of a step and the sizes of arrays, which are int32."""


@dataclass(frozen=True)
class TrainSettings:
    """The choices of a training run."""

    steps: int | None = None
    """Optimizer steps; None to count in epochs."""
    epochs: int | float | None = None
    """Times that every example is seen, such as 3 or 0.5; 10 when neither is given."""
    batch_tokens: int | None = None
    """Tokens of a batch, padding included; 2,048 when `batch_size` is not given either."""
    batch_size: int | None = None
    """Examples of a batch, instead of tokens."""
    learning_rate: float = 1e-3
    """The highest."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises; above 1, their number."""
    schedule: Schedule = "cosine"
    """How it falls after that."""
    weight_decay: float = 0.01
    beta1: float = Adam.b1
    """How much of the mean of gradients stays from step to step."""
    beta2: float = Adam.b2
    """How much of the mean of their squares stays."""
    adam_eps: float = Adam.eps
    """Added to the root of that."""
    average: int | None = None
    """Checkpoints, the newest, whose parameters are averaged at the end (Vaswani et al. 2017,
    section 6.1); the mean is the model where it is better. None for no average."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient."""
    accumulate: int = 1
    """Micro-batches of a batch, one after another: for batches that the devices cannot hold."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one below it (Clark et al. 2020)."""
    freeze: str | None = None
    """Regular expression of parameters (`path/leaf`) that are not trained."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank, and the head, instead of all (`step/lora.py`)."""
    lora_alpha: float = LoraConfig.alpha
    """What adapters add counts alpha / rank times."""
    lora_targets: str = LoraConfig.targets
    """Regular expression of the modules that have one."""
    merge: bool = False
    """Write a whole model, adapters merged, instead of an adapter."""
    precision: Precision | None = None
    """Of products; parameters stay float32. None for float32 on CPU, bfloat16 on accelerators."""
    mesh: str | None = None
    """Such as `data=4,fsdp=2`; None for all devices on `data`."""
    remat: Remat = "none"
    """What layers compute again in the backward pass, to save memory, as `Execution` says."""
    scan: bool = False
    """Compile one layer for all, as `Execution` says."""
    evaluate_every: int | None = None
    """Steps between evaluations; a tenth of the run when not given."""
    save_every: int | None = None
    """Steps between checkpoints; as often as evaluations when not given."""
    keep: int = 2
    """Checkpoints that stay, the newest, beside the best."""
    bad_steps: int = 10
    """Steps in a row whose loss or gradient is not finite after which the run stops."""
    profile_steps: str | None = None
    """Steps that the profiler looks at: `10:15` is 10 to 14."""
    metric: str | None = None
    """Of the evaluation data, which says which model is the best; None for that of the task."""
    patience: int | None = None
    """Evaluations without a better metric after which the run stops; None to go on."""
    seed: int = 0
    """Of the parameters, the order of the examples, and dropout."""
    truncate: bool = False
    """Cut texts that are longer than the model takes, instead of refusing them."""

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
            object.__setattr__(self, "epochs", int(self.epochs))  # 3.0 is the choice that 3 is
        self.profiled()
        _ = self.lora
        if self.steps is not None and self.epochs is not None:
            raise EncodaxError("give steps or epochs, not both")
        if self.batch_tokens is not None and self.batch_size is not None:
            raise EncodaxError("give batch_tokens or batch_size, not both")

    @property
    def lora(self) -> LoraConfig | None:
        """The adapters that are trained, if any are.

        Raises:
            EncodaxError: they cannot be.
        """
        if self.lora_rank is None:
            return None
        return LoraConfig(self.lora_rank, self.lora_alpha, self.lora_targets)

    def profiled(self) -> range:
        """The steps that the profiler looks at, from 1.

        Raises:
            EncodaxError: they are not two numbers, the second larger.
        """
        if self.profile_steps is None:
            return range(0)
        first, _, end = self.profile_steps.partition(":")
        if not (first.isdecimal() and end.isdecimal() and 0 < int(first) < int(end)):
            raise EncodaxError(f"profile_steps {self.profile_steps!r} is not such as 10:15")
        return range(int(first), int(end))


@dataclass(frozen=True)
class NewModel:
    """The shape of a model that is trained from scratch: a small BERT."""

    layers: int = 2
    """L."""
    width: int = 128
    """D."""
    heads: int = 4
    """H."""
    ffn: int | None = None
    """F; four times the width when not given."""
    max_positions: int = 512
    """Longest sequence in tokens."""
    dropout_rate: float = 0.1
    attention_dropout_rate: float | None = None
    """Of attention weights; as `dropout_rate` when not given."""
    tokenizer: Kind = "wordpiece"
    vocabulary_size: int = 8_000
    """Largest vocabulary of the tokenizer."""
    lowercase: bool = False
    """Whether the tokenizer drops case and accents (wordpiece alone)."""

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
        """The encoder of that shape, as BERT has it: post-norm, learned positions, biases."""
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
        """F."""
        return self.ffn or 4 * self.width

    def transformer(self, vocabulary_size: int) -> TransformerConfig:
        """The Transformer of that shape, as Marian has it; L layers on each side."""
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
    """Refuse what no counter and no array has room for.

    Raises:
        EncodaxError: names the first that is too large.
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
"""What a task has other defaults for (Vaswani et al. 2017, section 5): fields of `TrainSettings`,
`NewModel` and `LossOptions`."""
