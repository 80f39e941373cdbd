"""Runtime: devices, number format and compilation, for everything that runs a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from encodax.errors import EncodaxError
from encodax.inference.compile_cache import compile_cache
from encodax.inference.precision import Precision, cast, default_precision
from encodax.types.batches import PackedBatch, Params

BATCH_TOKENS = {"cpu": 1024}
"""Tokens in a full batch of one device. On CPU, more gains nothing and exceeds the CPU's caches."""
BATCH_TOKENS_OF_ACCELERATORS = 32_768
COMPILER_OPTIONS: dict[str, dict[str, Any]] = {"cpu": {"xla_cpu_prefer_vector_width": 512}}
"""Options of XLA, by platform. Vectors as wide as AVX-512's give 5 to 8 % in bfloat16 and int8."""


class Runtime:
    """Devices that share the rows of a batch, and the number format of products on them."""

    def __init__(
        self, devices: Sequence[jax.Device] | None = None, precision: Precision | None = None
    ):
        """Choose where and how models run.

        Args:
            devices: devices, each with its share of the rows; None for all local devices.
            precision: number format of products; None for float32 on CPU, and bfloat16 on
                accelerators.
        """
        devices = jax.local_devices() if devices is None else devices
        mesh = Mesh(np.asarray(devices), ("data",))
        self.device_count = len(devices)
        self.platform = devices[0].platform
        self.precision: Precision = precision or default_precision()
        self.replicated = NamedSharding(mesh, P())
        """Sharding of parameters: whole on each device."""
        self.by_row = NamedSharding(mesh, P("data"))
        """Sharding of batches: each device has its share of the rows."""

    def batch_tokens(self, wanted: int | None = None) -> int:
        """Return the tokens in a full batch of one device: as wanted, or what suits the device."""
        if wanted is not None:
            return wanted
        return BATCH_TOKENS.get(self.platform, BATCH_TOKENS_OF_ACCELERATORS)

    def place(self, params: Params) -> Params:
        """Convert parameters to the number format, and put them on every device.

        Raises:
            EncodaxError: there is no such precision.
        """
        placed: Params = jax.device_put(cast(params, self.precision), self.replicated)
        return placed

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Keep compiled programs on disk, and products in float32 exact: without TF32."""
        exact = jax.default_matmul_precision("highest")
        with compile_cache(), exact if self.precision == "float32" else contextlib.nullcontext():
            yield

    def compile(self, jitted: Any, *examples: Any) -> Callable[..., Any]:
        """Compile a jitted function for arguments of these shapes."""
        with self.computing():
            compiled: Callable[..., Any] = jitted.lower(*examples).compile(
                compiler_options=COMPILER_OPTIONS.get(self.platform)
            )
        return compiled


def check_finite(arrays: Any) -> None:
    """Refuse output with a number that is not finite.

    Raises:
        EncodaxError: there is one: the parameters are broken.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays)):
        raise EncodaxError(
            "the model's scores are not finite: its parameters are broken; fetch or train it again"
        )


def empty_batch(row_count: int, row_tokens: int, slots: int) -> PackedBatch:
    """Return an empty batch of this shape, to compile for."""
    tokens = np.zeros((row_count, row_tokens), np.int32)
    empty = np.zeros((row_count, slots), np.int32)
    return PackedBatch(tokens, tokens, tokens, tokens, empty, empty)
