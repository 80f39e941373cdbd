"""Attention by cuDNN on NVIDIA GPUs; segments of packed rows are given as lengths and offsets.

JAX's public function passes no packed rows to cuDNN; a function private to JAX does. So it is
looked up carefully, and where it is missing or has changed, this implementation is refused.
Not measured: it has been lowered for CUDA, forward and backward, and compared with an emulation
of the kernel on the CPU. It has not run on a GPU yet.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from encodax.nn.kernels.plain import AttentionOptions

KERNEL_WIDTH = 128
"""Largest width of a head in this kernel, forward and backward; widths are multiples of 8."""

CUDNN_VERSION = 90600
"""Oldest cuDNN version that takes packed rows, according to JAX's tests."""

KEYWORD_ARGUMENTS = frozenset(
    {"q_seqlen", "kv_seqlen", "q_offsets", "kv_offsets", "scale", "mask_type"}
)
"""Arguments of JAX's function that are passed by name here."""


@dataclass(frozen=True)
class Segments:
    """Positions of the segments of each row, as the kernel takes them; -1 in empty slots."""

    lengths: Int[Array, "B N"]
    offsets: Int[Array, "B N+1"]
    """Row index of each segment's first token. The last column is -1: lengths give the ends."""
    tokens: Bool[Array, "B T"]
    """Whether a token belongs to a slot."""


def cudnn_attention(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
) -> Float[Array, "B T H K"]:
    """Attend inside each segment, in cuDNN's fused kernel (Dao et al. 2022).

    Time and memory of a kernel call grow with the slots of a row, `max_segments`: in training it
    keeps a float32 for each slot, head and token of a row. `jax.vmap` over this function is
    refused by JAX.

    Raises:
        ValueError: the kernel does not take this device, dtype or option.
    """
    if reason := why_unsupported(q, k, v, options):
        raise ValueError(f"attention implementation 'cudnn' is not possible here: {reason}")
    queries, keys = packed_segments(
        options.query_segments, options.key_segments, _slots(options, q.shape[1], k.shape[1])
    )
    # The kernel writes neither outputs nor gradients at tokens of no segment: old contents of the
    # memory would stay there. The first `where` clears the gradients, the last one the outputs.
    q = jnp.where(queries.tokens[..., None, None], q, 0)
    k, v = (jnp.where(keys.tokens[..., None, None], z, 0) for z in (k, v))
    jax_cudnn = _jax_cudnn()
    masks = jax_cudnn.MaskType
    out = jax_cudnn.dot_product_attention(
        q,
        k,
        v,
        q_seqlen=queries.lengths,
        kv_seqlen=keys.lengths,
        q_offsets=queries.offsets,
        kv_offsets=keys.offsets,
        scale=options.scale,
        mask_type=masks.PADDING_CAUSAL if options.causal else masks.PADDING,
    )
    return jnp.where(queries.tokens[..., None, None], out, 0)  # (B, T, H, K)


def packed_segments(
    query_segments: Int[Array, "B T"], key_segments: Int[Array, "B S"], slots: int
) -> tuple[Segments, Segments]:
    """Return the lengths and offsets of the segments of queries and of keys.

    A segment without queries, or without keys, is an empty slot of both: the kernel pairs the
    n-th segment of the queries with the n-th of the keys.
    """
    both = _lengths(query_segments, slots), _lengths(key_segments, slots)  # (B, N) each
    is_full = (both[0] > 0) & (both[1] > 0)  # (B, N)
    sides = zip((query_segments, key_segments), both, strict=True)
    first, second = (_placed(segments, lengths, is_full) for segments, lengths in sides)
    return first, second


def _lengths(segments: Int[Array, "B T"], slots: int) -> Int[Array, "B N"]:
    counts = jax.vmap(lambda row: jnp.bincount(row, length=slots + 1))(segments)  # (B, N + 1)
    return counts[:, 1:].astype(jnp.int32)  # without padding


def _placed(
    segments: Int[Array, "B T"], lengths: Int[Array, "B N"], is_full: Bool[Array, "B N"]
) -> Segments:
    rows, tokens = segments.shape
    index = jnp.broadcast_to(jnp.arange(tokens, dtype=jnp.int32), segments.shape)  # (B, T)
    row = jnp.arange(rows)[:, None]  # (B, 1)
    starts = jnp.full((rows, lengths.shape[1] + 1), tokens, jnp.int32)  # (B, N + 1)
    starts = starts.at[row, segments].min(index, mode="drop")[:, 1:]  # (B, N)
    slot_is_full = jnp.pad(is_full, ((0, 0), (1, 0)))  # (B, N + 1), padding in front
    return Segments(
        lengths=jnp.where(is_full, lengths, -1),
        offsets=jnp.pad(
            jnp.where(is_full, starts, -1), ((0, 0), (0, 1)), constant_values=-1
        ),  # (B, N + 1)
        tokens=slot_is_full.at[row, segments].get(mode="fill", fill_value=False),
    )


def _slots(options: AttentionOptions, queries: int, keys: int) -> int:
    """Return the most segments a row may have: its number of tokens where none is given."""
    limit = min(queries, keys)
    if options.max_segments is not None:
        limit = min(limit, options.max_segments)
    return max(2, limit)  # JAX takes one slot for a row that is not packed


def why_unsupported(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S H K"],
    v: Float[Array, "B S H K"],
    options: AttentionOptions,
) -> str | None:
    """Return the reason why the kernel cannot be used; None where it can."""
    width = q.shape[-1]
    reasons = {
        f"it takes bfloat16 and float16, not {q.dtype}": q.dtype not in (jnp.bfloat16, jnp.float16),
        "queries, keys and values have different dtypes": not q.dtype == k.dtype == v.dtype,
        f"heads of width {width} are not a multiple of 8 up to {KERNEL_WIDTH}": (
            width % 8 != 0 or width > KERNEL_WIDTH
        ),
        "it has no dropout of these keys": options.dropout_keys is not None,
        # It would need the whole bias of every row, together with the segments.
        "it takes no bias with packed rows": options.bias is not None,
        # Its window looks back only and needs a causal mask; here windows look both ways.
        "its window is of another kind": options.window is not None,
        # Its causal index is inside a segment, here inside a row: equal for a single sequence only.
        "it is causal only in self-attention": (
            options.causal and options.query_segments is not options.key_segments
        ),
        "its offsets are int32": max(q.size, k.size) >= 1 << 31,
    }
    return next((text for text, applies in reasons.items() if applies), why_device_unsupported())


def why_device_unsupported() -> str | None:
    """Return the reason why the device or this JAX cannot run the kernel; None where they can."""
    if platform() not in ("gpu", "cuda"):
        return f"it needs an NVIDIA GPU, and the device is {platform()}"
    device = jax.local_devices(backend="gpu")[0]
    if "cuda" not in device.client.platform_version:
        return f"it needs an NVIDIA GPU, and this one is {device.device_kind}"
    try:
        jax_cudnn = _jax_cudnn()
        version = jax_cudnn.check_cudnn_version()
    except Exception as error:  # private code of JAX, and a library that may be absent
        return f"JAX does not offer it: {error}"
    if version < CUDNN_VERSION:
        return f"cuDNN {version} is older than {CUDNN_VERSION}"
    capability = tuple(int(part) for part in str(device.compute_capability).split("."))
    if capability < (9, 0):
        return f"packed rows need compute capability 9.0, and this is {device.compute_capability}"
    return None


def platform() -> str:
    """Return the platform of computations: that of `jax.default_device` or the default backend."""
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else str(device.platform)


def _jax_cudnn() -> ModuleType:
    """Return JAX's private module, with the function and the arguments needed here.

    Raises:
        ImportError: this version of JAX lacks one of them.
    """
    module = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    known = inspect.signature(module.dot_product_attention).parameters
    if missing := KEYWORD_ARGUMENTS - set(known):
        raise ImportError(f"its function has no {', '.join(sorted(missing))}")
    return module
