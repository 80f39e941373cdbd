"""A model: configuration, parameters and tokenizer. The one `hk.transform` is here."""

from __future__ import annotations

import functools
import json
import shutil
import warnings
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from encodax import atomic, families, weights
from encodax.config import ModelConfig
from encodax.data import packing
from encodax.data.batches import row_tokens_for
from encodax.errors import EncodaxError
from encodax.families import native
from encodax.nn import Encoder, Head, functional
from encodax.tokenizer import Encoding, Text, Tokenizer
from encodax.types import ModelOutput, PackedBatch, Params

CONFIG_FILE = "config.json"


@functools.cache
def _transformed(config: ModelConfig) -> hk.Transformed:
    def forward(batch: PackedBatch, *, is_training: bool, record: AbstractSet[str]) -> ModelOutput:
        encoder = Encoder(config.encoder, name="encoder")
        encoded = encoder(batch, is_training=is_training, record=record)
        logits = None
        if config.head is not None:
            logits = Head(config.head, name="head")(encoded.hidden, batch, is_training=is_training)
        return ModelOutput(encoded.hidden, logits, encoded.records)

    return hk.transform(forward)


def initial_params(config: ModelConfig, key: Array) -> Params:
    """Fresh parameters, drawn from a random key.

    Not compiled: it runs once, over two tokens, and compiling would take longer.
    """
    dummy = PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32))
    params: Params = _transformed(config).init(key, dummy, is_training=False, record=frozenset())
    return params


@dataclass(frozen=True)
class Model:
    """What is loaded, trained and saved. `apply` is pure: it works under jit, grad and Optax."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer

    @classmethod
    def create(cls, config: ModelConfig, tokenizer: Tokenizer, *, seed: int = 0) -> Model:
        """A model with fresh parameters."""
        return cls(config, initial_params(config, jax.random.key(seed)), tokenizer)

    @classmethod
    def load(cls, directory: Path | str) -> Model:
        """Read a model directory: `config.json`, `model.safetensors`, `tokenizer.json`.

        Raises:
            EncodaxError: a file is missing or broken, or asks for what is not supported.
        """
        directory = Path(directory)
        published = _read_json(directory / CONFIG_FILE)
        if "model_type" not in published:
            raise EncodaxError(f"{directory / CONFIG_FILE}: the key 'model_type' is missing")
        family = families.family_named(published["model_type"])
        config = family.read_config(published)
        shapes = jax.eval_shape(functools.partial(initial_params, config), jax.random.key(0))
        tensor_of = functools.partial(family.tensor, config)
        params = weights.load(directory / weights.WEIGHTS_FILE, shapes, tensor_of)
        tokenizer = Tokenizer.load(directory)
        rows = config.encoder.embeddings.vocabulary_size
        if tokenizer.vocabulary_size > rows:
            raise EncodaxError(
                f"{directory}: the tokenizer has {tokenizer.vocabulary_size} tokens and the "
                f"embedding {rows} rows; they are not of one model"
            )
        return cls(config, params, tokenizer)

    def save(self, directory: Path | str, *, overwrite: bool = False) -> None:
        """Write a model directory, whole or not at all.

        It is in the Hugging Face layout, under the names of the published family that has this
        combination of blocks. Where none has it, the family is `encodax`, with a warning: only
        Encodax loads it then.

        Raises:
            EncodaxError: the directory exists and is not to be overwritten, or cannot be written.
        """
        family = families.family_for(self.config)
        if family.MODEL_TYPE == native.MODEL_TYPE:
            warnings.warn(
                f"{directory}: no published family has this combination of blocks; "
                f"saved as model_type {native.MODEL_TYPE}, which only Encodax loads",
                stacklevel=2,
            )

        def write(place: Path) -> None:
            text = json.dumps(family.write_config(self.config), indent=2, ensure_ascii=False)
            (place / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
            tensor_of = functools.partial(family.tensor, self.config)
            weights.save(place / weights.WEIGHTS_FILE, self.params, tensor_of)
            # The library makes a file that its owner alone can read.
            shutil.copymode(place / CONFIG_FILE, place / weights.WEIGHTS_FILE)
            self.tokenizer.save(place, max_length=self.max_length)

        atomic.write_directory(Path(directory), write, overwrite=overwrite)

    @property
    def max_length(self) -> int | None:
        """Most tokens of a sequence, special tokens included; None where there is no limit."""
        return self.config.encoder.embeddings.max_positions

    def encode(
        self, texts: Sequence[Text], *, truncate: bool = False, names: Sequence[str] | None = None
    ) -> tuple[list[Encoding], int]:
        """Tokenize texts (or pairs) that the model can take.

        Args:
            texts: what to tokenize.
            truncate: cut what is longer than the model takes.
            names: what each text is called in an error.

        Returns:
            The token sequences, and how many of them were cut.

        Raises:
            EncodaxError: a text is empty, or longer than the model without `truncate`; or one
                string is given where a list is wanted.
        """
        if isinstance(texts, str):
            raise EncodaxError("wants a list of texts, not one string")
        encodings = self.tokenizer.encode(texts)
        limit = self.max_length or max(map(len, encodings), default=0)
        names = names or [f"text {index}" for index in range(len(encodings))]
        return packing.within(encodings, limit, truncate=truncate, names=names)

    def batch(self, texts: Sequence[Text], *, truncate: bool = False) -> PackedBatch:
        """Texts (or pairs) as a batch of one text a row, in order.

        The number of tokens in a row is rounded up to a power of two, so that `apply` under jit
        compiles a few times only.

        Raises:
            EncodaxError: a text is empty, or longer than the model without `truncate`.
        """
        encodings, _ = self.encode(texts, truncate=truncate)
        batch = packing.assemble(
            encodings,
            [[index] for index in range(len(encodings))],
            row_count=len(encodings),
            row_tokens=row_tokens_for([len(encoding) for encoding in encodings] or [1], smallest=1),
            slots=1,
        )
        self.check(batch)
        return batch

    def check(self, batch: PackedBatch) -> None:
        """Refuse, on the host, what JAX would clamp without a word.

        Raises:
            EncodaxError: an id outside the vocabulary, or a position beyond the table.
        """
        embeddings = self.config.encoder.embeddings
        functional.check_below("token id", batch.token_ids, embeddings.vocabulary_size)
        if embeddings.max_positions is not None:
            functional.check_below("position", batch.position_ids, embeddings.max_positions)

    def apply(
        self,
        params: Params,
        batch: PackedBatch,
        *,
        is_training: bool = False,
        rng: Array | None = None,
        record: AbstractSet[str] = frozenset(),
    ) -> ModelOutput:
        """Run the model: a pure function of its arguments.

        Args:
            params: `self.params`, or others of the same shapes.
            batch: what to run on.
            is_training: apply dropout.
            rng: the random key that dropout draws from; needed in training alone.
            record: stages to keep, as `Encoder` says.
        """
        forward = _transformed(self.config).apply
        output: ModelOutput = forward(params, rng, batch, is_training=is_training, record=record)
        return output

    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise EncodaxError(f"{path} does not exist: is {path.parent} a model directory?")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncodaxError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise EncodaxError(f"{path} wants an object, not a {type(content).__name__}")
    return content
