"""Encoder model: configuration, parameters and tokenizer. It is run through one `hk.transform`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Int

from encodax.config import (
    UNROLLED,
    EmbeddingsConfig,
    ExecutionConfig,
    HeadKind,
    ModelConfig,
    Pooling,
    Problem,
)
from encodax.data import packing
from encodax.data.batches import row_tokens_for
from encodax.model_files import hub, peft, saved_model
from encodax.model_files.saved_model import ModelParts
from encodax.models import heads, loading
from encodax.models.base import BaseModel
from encodax.models.forward import initial_params, transformed, width_of
from encodax.process import forks
from encodax.storage import reading
from encodax.text.tokenizer import Encoding, Text, Tokenizer, numbered
from encodax.types.batches import AnyArray, ModelOutput, PackedBatch, Params

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Model(ModelParts, BaseModel):
    """Encoder model that is loaded, trained and saved.

    `apply` is pure: it works under `jax.jit`, `jax.grad` and with Optax. Its fields are the parts
    that a model directory holds.
    """

    @classmethod
    def create(cls, config: ModelConfig, tokenizer: Tokenizer, *, seed: int = 0) -> Model:
        """Create a model with random parameters."""
        forks.check()
        return cls(config, initial_params(config, jax.random.key(seed)), tokenizer)

    @classmethod
    def load(
        cls,
        path_or_id: Path | str,
        *,
        revision: str | None = None,
        token: str | None = None,
        encoder_only: bool = False,
    ) -> Model:
        """Read a model: `config.json`, safetensors, tokenizer files, sentence-transformers modules.

        If the directory holds an adapter (`adapter_config.json`, as PEFT writes it), load its base
        model and merge the adapter.

        Args:
            path_or_id: a directory in the Hugging Face layout, or an id on the Hugging Face hub.
            revision: branch, tag or commit of a model on the hub.
            token: access token for a private model on the hub.
            encoder_only: drop the head, even one of an unknown kind. No effect on the head of an
                embedder or of an adapter.

        Raises:
            EncodaxError: a file is missing or broken, or needs a feature that is not supported; or
                the hub cannot be reached.
        """
        directory = hub.directory_of(path_or_id, revision=revision, token=token)
        parts = reading.read_consistently(
            directory, lambda: loading.read(directory, token, encoder_only=encoder_only)
        )
        return cls(**vars(parts))

    def with_adapter(self, directory: Path | str) -> Model:
        """Return this model with a LoRA adapter in PEFT's layout merged.

        The head is the one that the adapter file holds. If the adapter's directory has a tokenizer
        or module files of sentence-transformers, these are used too.

        Raises:
            EncodaxError: a file is missing or broken; the adapter was made for another model, or
                needs a feature that is not supported.
        """
        place = Path(directory)
        return reading.read_consistently(place, lambda: loading.merge(self, peft.read(place)))

    def with_head(
        self,
        kind: HeadKind,
        classes: int = 0,
        *,
        labels: Sequence[str] = (),
        problem: Problem = "single_label",
        seed: int = 0,
    ) -> Model:
        """Return the same encoder with a head of another kind, as its family defines it.

        Head parameters that the weights file holds (BERT's pooler) are taken from there; the others
        are initialised from `seed`.

        Args:
            kind: kind of the new head.
            classes: C, the number of classes of a `sequence` or `token` head without `labels`.
            labels: names of the classes; `LABEL_0`, ... when not given.
            problem: problem type of a `sequence` head, which says how its scores are read.
            seed: random seed of the new parameters.

        Raises:
            EncodaxError: the family has no head of this kind.
        """
        return heads.with_head(self, kind, classes, labels=labels, problem=problem, seed=seed)

    def with_embeddings(self, pooling: Pooling = "mean", *, normalize: bool = False) -> Model:
        """Return the same encoder as an embedder, one vector for each text, without parameters."""
        return heads.with_embeddings(self, pooling, normalize=normalize)

    def pooled_after(self, prompt: str) -> Model:
        """Return the model for texts that begin with `prompt`.

        If prompt tokens are excluded from pooling, the head skips as many tokens as the prompt has,
        special tokens at the start included.
        """
        head = self.config.head
        if self.config.usage.include_prompt or not prompt or head is None:
            return self
        ids = self.tokenizer.encode([prompt])[0].truncated(self.longest_sequence).token_ids
        vocabulary = self.tokenizer.vocabulary()
        special = {vocabulary[token] for token in self.tokenizer.special_tokens.values()}
        count = len(ids) - (len(ids) > 0 and int(ids[-1]) in special)
        head = replace(head, skipped_tokens=count)
        return replace(self, config=replace(self.config, head=head))

    def save(self, directory: Path | str, *, overwrite: bool = False) -> None:
        """Write a model directory, atomically.

        The layout is Hugging Face's, under the names of the published family with this combination
        of blocks; an embedder also has the module files of sentence-transformers. If the family has
        the encoder but no such head, the head goes into separate files (`head.json`,
        `head.safetensors`). If no family has the encoder, `model_type` is `encodax`, with a
        warning: only Encodax can load it.

        Raises:
            EncodaxError: the directory exists and `overwrite` is False, or it cannot be written.
        """
        saved_model.write(Path(directory), self, max_length=self.max_length, overwrite=overwrite)

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Save the model, upload it to the Hugging Face hub, and return its address there.

        Args:
            name: name of the repository, such as `me/my-encoder`.
            private: whether only its owner can see it.
            token: access token of the hub; by default HF_TOKEN, or that of the stored login.

        Raises:
            EncodaxError: the hub refuses it or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / name.rsplit("/", 1)[-1]
            self.save(directory)
            return hub.upload(directory, name, private=private, token=token)

    @property
    def _length(self) -> ModelConfig:
        return self.config

    @property
    def _embeddings(self) -> Sequence[EmbeddingsConfig]:
        return (self.config.encoder.embeddings,)

    def encode(
        self, texts: Sequence[Text], *, truncate: bool = False, names: Sequence[str] | None = None
    ) -> tuple[list[Encoding], int]:
        """Tokenize texts (or pairs), within the model's length limit.

        Args:
            texts: texts to tokenize.
            truncate: truncate texts longer than `longest_sequence`.
            names: names of the texts in error messages.

        Returns:
            The token sequences, and the number of truncated ones.

        Raises:
            EncodaxError: a text is empty, or is too long and `truncate` is False; or `texts` is a
                single string.
        """
        names = names or numbered(texts)
        encodings = self._tokenized(texts, names)
        return packing.check_lengths(
            encodings, self.longest_sequence, truncate=truncate, names=names
        )

    def windows(
        self, texts: Sequence[str], overlap: int, *, names: Sequence[str] | None = None
    ) -> list[list[Encoding]]:
        """Tokenize texts of any length, split into windows that fit the model.

        Args:
            texts: texts to tokenize.
            overlap: number of tokens of a text that two consecutive windows share; below `room`.
            names: names of the texts in error messages.

        Raises:
            EncodaxError: a text is empty.
        """
        names = names or numbered(texts)
        encodings = self._tokenized(texts, names)
        packing.refuse_empty(encodings, names)
        return [encoding.windows(0, self.max_text_tokens, overlap) for encoding in encodings]

    @property
    def max_text_tokens(self) -> int:
        """Maximum number of tokens of one text in a sequence, special tokens not counted."""
        (frame,) = self.tokenizer.encode(["a"])
        return self.longest_sequence - int(np.count_nonzero(frame.sequence_ids != 0))

    def batch(self, texts: Sequence[Text], *, truncate: bool = False) -> PackedBatch:
        """Return a batch with one text (or pair) in each row, in order.

        The row length is rounded up to a power of two, so that `apply` under `jax.jit` compiles
        only a few times.

        Raises:
            EncodaxError: a text is empty, or is too long and `truncate` is False.
        """
        encodings, _ = self.encode(texts, truncate=truncate)
        batch = packing.assemble(
            [[encoding] for encoding in encodings],
            row_count=len(encodings),
            row_tokens=row_tokens_for([len(encoding) for encoding in encodings] or [1], smallest=1),
            slots=1,
        )
        self.check(batch)
        return batch

    def apply(
        self,
        params: Params,
        batch: PackedBatch,
        *,
        is_training: bool = False,
        rng: Array | None = None,
        record: AbstractSet[str] = frozenset(),
        tokens: Int[AnyArray, "B M"] | None = None,
        head_only: bool = False,
        execution: ExecutionConfig = UNROLLED,
    ) -> ModelOutput:
        """Run the model: a pure function of its arguments.

        Args:
            params: `self.params`, or others of the same shapes.
            batch: the batch to run on.
            is_training: apply dropout.
            rng: random key for dropout; needed only in training.
            record: names of the stages to record, as in `Encoder`.
            tokens: row indices of the only tokens that a `token` head scores: the logits are
                (B, M, C), and `hidden` is (B, M, D). None for all tokens.
            head_only: `hidden` is not needed. If the head reads only the first token of each
                sequence, the last layer computes only these tokens, and `hidden` is (B, N, D).
            execution: how the layers are run; the numbers are the same.
        """
        forks.check()
        forward = transformed(self.config, execution).apply
        output: ModelOutput = forward(
            params,
            rng,
            batch,
            is_training=is_training,
            record=record,
            tokens=tokens,
            head_only=head_only,
        )
        return output

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's classes, in order."""
        return self.config.labels

    @property
    def layer_count(self) -> int:
        """Number of layers that have their own parameters."""
        encoder = self.config.encoder
        return len(set(encoder.parameter_groups or range(len(encoder.layers))))

    @property
    def vector_width(self) -> int:
        """E: width of the vector of an `embedding` head."""
        head, usage = self.config.head, self.config.usage
        model_width = self.config.encoder.embeddings.model_width
        width = model_width if head is None else width_of(head, model_width)
        return min(width, usage.truncate_dim or width)
