"""The cuDNN form without a GPU: what it hands to the kernel, and what it makes of the answer.

The kernel itself is emulated, from the arrays that JAX's own code makes for it.
"""

import json
import re
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close, normal
from jax._src.cudnn import fused_attention_stablehlo as jax_cudnn

from encodax.nn.kernels import cudnn
from encodax.nn.kernels.cudnn import cudnn_attention, packed_segments, why_device_unsupported
from encodax.nn.kernels.dispatch import attention, attention_weights
from encodax.nn.kernels.plain import AttentionOptions

QUERIES = jnp.array([[1, 1, 1, 2, 2, 3, 0], [1, 2, 2, 0, 4, 4, 4], [0] * 7])  # (B, T)
KEYS = jnp.array([[1, 2, 2, 2, 3, 3, 3, 3, 4], [2, 2, 3, 4, 4, 4, 0, 0, 0], [1] * 9])  # (B, S)


def ragged_attention(
    qkv: tuple[jax.Array, ...], segments: list[tuple[int, ...]], scale: float, causal: bool
) -> jax.Array:
    """Attention of each segment alone, over tokens of all rows in one line; NaN at the rest."""
    q, k, v = (z.reshape(-1, *z.shape[2:]) for z in qkv)  # (B * T or S, H, K)
    allowed = np.zeros((len(q), len(k)), bool)
    for first, queries, first_key, keys in segments:
        own, others = slice(first, first + queries), slice(first_key, first_key + keys)
        allowed[own, others] = np.tri(queries, keys) if causal else True
    scores = scale * jnp.einsum("thk,shk->hts", q, k)
    weights = jax.nn.softmax(jnp.where(allowed, scores, -1e30), axis=-1)
    out = jnp.einsum("hts,shk->thk", weights, v)
    return jnp.where(allowed.any(axis=1)[:, None, None], out, jnp.nan).reshape(qkv[0].shape)


def emulated_kernel(
    q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float, mask_type: Any, **places: jax.Array
) -> jax.Array:
    """What cuDNN is documented to do with packed rows; memory it leaves alone holds NaN."""
    names = ("q_seqlen", "kv_seqlen", "q_offsets", "kv_offsets")
    for name, array in places.items():
        assert array.dtype == np.int32, name
    # JAX's own code makes lengths and offsets of all rows in one line, the offsets in elements.
    fixed = jax_cudnn._fix_seqlen_offsets(*(places[name] for name in names), q, k)
    lengths, key_lengths, starts, key_starts = (np.asarray(array).ravel() for array in fixed)
    per_token = q.shape[2] * q.shape[3]
    segments = [
        (starts[i] // per_token, lengths[i], key_starts[i] // per_token, key_lengths[i])
        for i in range(len(lengths))
        if lengths[i] > 0
    ]
    causal = mask_type is jax_cudnn.MaskType.PADDING_CAUSAL

    @jax.custom_vjp
    def kernel(*qkv: jax.Array) -> jax.Array:
        return ragged_attention(qkv, segments, scale, causal)

    def backwards(qkv: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
        gradients = []
        for position, z in enumerate(jax.vjp(kernel.fun, *qkv)[1](gradient)):
            written = np.zeros(z.shape[0] * z.shape[1], bool)
            for segment in segments:
                first, count = segment[:2] if position == 0 else segment[2:]
                written[first : first + count] = True
            gradients.append(jnp.where(written.reshape(z.shape[:2])[..., None, None], z, jnp.nan))
        return tuple(gradients)

    kernel.defvjp(lambda *qkv: (kernel(*qkv), qkv), backwards)
    return kernel(q, k, v)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(dot_product_attention=emulated_kernel, MaskType=jax_cudnn.MaskType)
    monkeypatch.setattr(cudnn, "_jax_cudnn", lambda: module)
    monkeypatch.setattr(cudnn, "why_unsupported", lambda *_: None)  # float32 compares closer


def inputs(rows: int, queries: int, keys: int) -> tuple[jax.Array, ...]:
    q = normal(rows, queries, 2, 8, seed=1)
    return q, *normal(2, rows, keys, 2, 8, seed=2)


def assert_is_plain(queries: jax.Array, keys: jax.Array, **options: Any) -> None:
    """Forwards and backwards, with nothing left of the memory that the kernel does not write."""
    qkv = inputs(*queries.shape, keys.shape[1])
    cotangent = normal(*qkv[0].shape, seed=3)
    results = []
    for form in ("cudnn", "plain"):

        def of(q: jax.Array, k: jax.Array, v: jax.Array, form: str = form) -> jax.Array:
            return attention(q, k, v, queries, keys, **options, implementation=form)

        output, pull_back = jax.vjp(of, *qkv)
        results.append([output, *pull_back(cotangent)])
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("max_segments", [None, 4])
@pytest.mark.parametrize("keys", [QUERIES, KEYS], ids=["self", "cross"])
def test_the_kernel_is_given_what_makes_it_the_plain_form(
    keys: jax.Array, max_segments: int | None
) -> None:
    assert_is_plain(QUERIES, keys, max_segments=max_segments)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("options", [{"causal": True}, {"scale": 0.7}])
def test_options_that_the_kernel_takes_reach_it(options: dict[str, Any]) -> None:
    assert_is_plain(QUERIES, QUERIES, **options)


@pytest.mark.usefixtures("emulated")
def test_rows_of_one_sequence_are_packed_too() -> None:
    one_each = jnp.array([[1] * 5 + [0] * 2, [1] * 7])
    assert_is_plain(one_each, one_each, max_segments=1)


@pytest.mark.usefixtures("emulated")
@hypothesis.settings(max_examples=10)
@hypothesis.given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4))), min_size=2, max_size=2)
)
def test_any_segments_are_handed_over(rows: list[list[tuple[int, int]]]) -> None:
    segments = []
    for row in rows:
        tokens = [
            token for n, (gap, count) in enumerate(row, 1) for token in [0] * gap + [n] * count
        ]
        segments.append((tokens + [0] * 8)[:8])
    q = k = v = normal(2, 8, 1, 8)
    options = AttentionOptions(jnp.array(segments), jnp.array(segments), scale=0.3)
    plain = attention(q, k, v, *[jnp.array(segments)] * 2, scale=0.3, implementation="plain")
    assert_close(cudnn_attention(q, k, v, options), plain)


def test_lengths_and_offsets_are_of_slots_with_queries_and_keys() -> None:
    queries, keys = packed_segments(QUERIES, KEYS, 4)
    np.testing.assert_array_equal(queries.lengths, [[3, 2, 1, -1], [-1, 2, -1, 3], [-1] * 4])
    np.testing.assert_array_equal(keys.lengths, [[1, 3, 4, -1], [-1, 2, -1, 3], [-1] * 4])
    np.testing.assert_array_equal(
        queries.offsets, [[0, 3, 5, -1, -1], [-1, 1, -1, 4, -1], [-1] * 5]
    )
    np.testing.assert_array_equal(keys.offsets, [[0, 1, 4, -1, -1], [-1, 0, -1, 3, -1], [-1] * 5])
    alone = (QUERIES == 0) | ((QUERIES == 1) & (jnp.arange(3) == 1)[:, None])
    np.testing.assert_array_equal(queries.tokens, ~alone)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes all the kernel offers, for tracing and lowering only."""
    monkeypatch.setattr(cudnn, "why_device_unsupported", lambda: None)
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(jax_cudnn, "check_compute_capability", lambda capability: True)


def custom_calls(
    of: Callable[..., Any], *arguments: jax.Array
) -> list[tuple[str, dict, list[str]]]:
    """The cuDNN calls of a program lowered for CUDA: names, configurations, types of operands."""
    text = jax.jit(of).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    calls = []
    for line in text.splitlines():
        if found := re.search(r'@(__cudnn\$\w+)\(.*?backend_config = "(.*?[^\\])"', line):
            config = json.loads(found[2].replace(r"\22", '"'))["cudnn_fmha_backend_config"]
            operands = re.search(r" : \((.*?)\) -> ", line)
            assert operands is not None
            calls.append((found[1], config, operands[1].split(", ")))
    return calls


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dtype", "name"), [(jnp.bfloat16, "bf16"), (jnp.float16, "f16")])
def test_it_lowers_to_the_kernel_for_packed_rows(dtype: Any, name: str, causal: bool) -> None:
    q = jnp.ones((2, 16, 3, 8), dtype)
    segments = jnp.ones((2, 16), jnp.int32)

    def of(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
        return attention(q, k, v, segments, segments, causal=causal, max_segments=4)

    def gradients(*arguments: jax.Array) -> Any:
        return jax.grad(lambda *qkv: of(*qkv, arguments[3]).sum(), (0, 1, 2))(*arguments[:3])

    places = ["tensor<2x4xi32>"] * 2 + ["tensor<2x5xi32>"] * 2
    [(call, config, operands)] = custom_calls(of, q, q, q, segments)
    assert call == "__cudnn$fmhaSoftmax"
    assert operands == [f"tensor<2x16x3x8x{name}>"] * 3 + places
    assert config["mask_type"] == ("PADDING_CAUSAL" if causal else "PADDING")
    assert config["max_seg_per_batch"] == 4
    assert config["fmha_scale"] == pytest.approx(8**-0.5)
    _, (call, config, operands) = custom_calls(gradients, q, q, q, segments)
    assert call == "__cudnn$fmhaSoftmaxBackward"
    assert operands[-4:] == places
    assert config["max_seg_per_batch"] == 4


@pytest.mark.usefixtures("hopper")
def test_it_is_not_lifted_with_other_numbers() -> None:
    q, segments = jnp.ones((5, 2, 16, 3, 8), jnp.bfloat16), jnp.ones((5, 2, 16), jnp.int32)

    def of(q: jax.Array, segments: jax.Array) -> jax.Array:
        return attention(q, q, q, segments, segments, implementation="cudnn")

    with pytest.raises(TypeError, match="reshape"):  # of JAX, which refuses to batch packed rows
        jax.jit(jax.vmap(of)).trace(q, segments).lower(lowering_platforms=("cuda",))


WANTED = {"dtype": jnp.bfloat16, "width": 8}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "float32": ({"dtype": jnp.float32}, {}, "bfloat16 and float16, not float32"),
    "no multiple of 8": ({"width": 12}, {}, "width 12"),
    "wide": ({"width": 136}, {}, "width 136"),
    "dropout": ({}, {"dropout_key": jax.random.key(0), "dropout_rate": 0.1}, "dropout"),
    "bias": ({}, {"bias": jnp.zeros((1, 2, 7, 7))}, "bias"),
    "window": ({}, {"window": 2}, "window"),
    "causal to others": ({}, {"causal": True, "key_segments": 1 * QUERIES}, "self-attention"),
}


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("case", REFUSED)
def test_what_the_kernel_does_not_take_is_left_to_another_form(case: str) -> None:
    shape, options, why = REFUSED[case]
    shape = WANTED | shape
    q = normal(3, 7, 2, shape["width"]).astype(shape["dtype"])
    options = {"key_segments": QUERIES} | options
    with pytest.raises(ValueError, match=f"'cudnn' is not possible here: .*{why}"):
        attention(q, q, q, QUERIES, **options, implementation="cudnn")
    plain = attention(q, q, q, QUERIES, **options, implementation="plain")
    assert_close(attention(q, q, q, QUERIES, **options), plain, 2e-2)
    rest = {name: value for name, value in options.items() if "dropout" not in name}
    assert attention_weights(q, q, QUERIES, **rest).shape == (3, 2, 7, 7)


@pytest.mark.usefixtures("hopper")
def test_mixed_dtypes_and_huge_offsets_are_refused() -> None:
    q = normal(3, 7, 2, 8).astype(jnp.bfloat16)
    with pytest.raises(ValueError, match="different dtypes"):
        attention(q, q.astype(jnp.float16), q, QUERIES, QUERIES, implementation="cudnn")

    def huge() -> jax.Array:
        q = jnp.zeros((1 << 10, 1 << 12, 8, 64), jnp.bfloat16)
        segments = jnp.ones(q.shape[:2], jnp.int32)
        return attention(q, q, q, segments, segments, implementation="cudnn")

    with pytest.raises(ValueError, match="int32"):
        jax.eval_shape(huge)


def test_a_cpu_is_told_apart() -> None:
    q = jnp.ones((3, 7, 2, 8), jnp.bfloat16)
    with pytest.raises(ValueError, match="an NVIDIA GPU, and the device is cpu"):
        attention(q, q, q, QUERIES, QUERIES, implementation="cudnn")


def a_gpu(capability: str = "9.0", platform_version: str = "cuda 12090") -> Callable[..., Any]:
    device = SimpleNamespace(
        client=SimpleNamespace(platform_version=platform_version),
        compute_capability=capability,
        device_kind="a card",
    )
    return lambda **_: [device]


def raising(error: Exception) -> Callable[[], ModuleType]:
    def call() -> ModuleType:
        raise error

    return call


def test_a_gpu_is_asked_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn, "platform", lambda: "gpu")
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(jax, "local_devices", a_gpu())
    assert why_device_unsupported() is None
    monkeypatch.setattr(jax, "local_devices", a_gpu("10.0"))
    assert why_device_unsupported() is None
    monkeypatch.setattr(jax, "local_devices", a_gpu("8.9"))
    assert why_device_unsupported() == "packed rows need compute capability 9.0, and this is 8.9"
    monkeypatch.setattr(jax, "local_devices", a_gpu(platform_version="rocm 60000"))
    assert why_device_unsupported() == "it needs an NVIDIA GPU, and this one is a card"
    monkeypatch.setattr(jax, "local_devices", a_gpu())
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", lambda: 90500)
    assert why_device_unsupported() == "cuDNN 90500 is older than 90600"
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", raising(RuntimeError("no cuDNN")))
    assert why_device_unsupported() == "JAX does not offer it: no cuDNN"


def test_a_jax_without_the_function_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn, "platform", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", a_gpu())

    def of_another_time(query: Any, key: Any, value: Any, scale: Any, mask_type: Any) -> None: ...

    monkeypatch.setattr(jax_cudnn, "dot_product_attention", of_another_time)
    assert "no kv_offsets, kv_seqlen, q_offsets, q_seqlen" in str(why_device_unsupported())
    absent = raising(ModuleNotFoundError("No module named 'jax._src.cudnn'"))
    monkeypatch.setattr(cudnn.importlib, "import_module", lambda name: absent())
    assert "No module named" in str(why_device_unsupported())


def test_the_platform_is_that_of_the_default_device() -> None:
    assert cudnn.platform() == "cpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert cudnn.platform() == "cpu"
    with jax.default_device("gpu"):
        assert cudnn.platform() == "gpu"
