"""A model: configuration, parameters and tokenizer. The one `hk.transform` is here."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from encodax.config import (
    UNROLLED,
    Execution,
    HeadConfig,
    HeadKind,
    ModelConfig,
    Pooling,
    Problem,
    Usage,
)
from encodax.data import packing
from encodax.data.batches import row_tokens_for
from encodax.data.stream import ROW_TOKENS
from encodax.errors import EncodaxError
from encodax.model_files import hub, peft, saved_model
from encodax.model_files.saved_model import of_encoder
from encodax.nn import Encoder, Head, functional
from encodax.process import forks
from encodax.storage import reading
from encodax.storage.json_files import ModelFiles
from encodax.text.tokenizer import Encoding, Text, Tokenizer, check_unicode, numbered
from encodax.types.batches import AnyArray, ModelOutput, PackedBatch, Params

CONFIG_FILE = "config.json"


@functools.cache
def _haiku_transformed(config: ModelConfig, execution: Execution = UNROLLED) -> hk.Transformed:
    def forward(
        batch: PackedBatch,
        *,
        is_training: bool,
        record: AbstractSet[str],
        tokens: Array | None = None,
        head_only: bool = False,
    ) -> ModelOutput:
        encoder = Encoder(config.encoder, execution, name="encoder")
        read = batch
        takes_first = (
            config.head is not None
            and config.head.pooling == "cls"
            and not config.head.skipped_tokens
        )
        if head_only and takes_first and not record:
            tokens = jnp.asarray(batch.starts)  # (B, N)
            read = replace(
                batch, starts=jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
            )
        encoded = encoder(batch, tokens=tokens, is_training=is_training, record=record)
        logits = vectors = None
        if config.head is not None:
            answer = Head(config.head, name="head")(
                encoded.hidden, read, token_table=encoder.token_table, is_training=is_training
            )
            is_vector = config.head.kind == "embedding"
            if is_vector:
                vectors = answer[..., : config.usage.truncate_dim]
            else:
                logits = answer
        return ModelOutput(encoded.hidden, logits, vectors, encoded.records)

    return hk.transform(forward)


def initial_params(config: ModelConfig, key: Array) -> Params:
    """Fresh parameters, drawn from a random key.

    Not compiled: it runs once, over two tokens, and compiling would take longer.
    """
    dummy = PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32))
    params: Params = _haiku_transformed(config).init(
        key, dummy, is_training=False, record=frozenset()
    )
    return params


@dataclass(frozen=True)
class Model:
    """What is loaded, trained and saved. `apply` is pure: it works under jit, grad and Optax."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    extra_tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Tensors of the file that the model does not compute with, such as BERT's pooler beside an
    embedder; saved back."""
    files: ModelFiles = field(default_factory=dict)
    """What became of the keys of each JSON file it was read from (`encodax info --files`)."""

    @classmethod
    def create(cls, config: ModelConfig, tokenizer: Tokenizer, *, seed: int = 0) -> Model:
        """A model with fresh parameters."""
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

        Of an adapter (`adapter_config.json`, as PEFT writes it) that is the model it was made for,
        with the adapter merged.

        Args:
            path_or_id: a directory in the Hugging Face layout, or an id on its hub.
            revision: a branch, tag or commit, of a model on the hub.
            token: for a private model on the hub.
            encoder_only: leave the head out, whatever it is, and whether it is known; not that of
                an embedder, nor of an adapter.

        Raises:
            EncodaxError: a file is missing or broken, or asks for what is not supported; or the
                hub cannot be reached.
        """
        directory = hub.directory_of(path_or_id, revision=revision, token=token)
        return reading.whole(directory, lambda: cls._read(directory, token, encoder_only))

    @classmethod
    def _read(cls, directory: Path, token: str | None, encoder_only: bool) -> Model:
        forks.check()
        if peft.is_adapter(directory):
            return cls._adapted(directory, token)
        return cls._whole(directory, encoder_only=encoder_only)

    @classmethod
    def _whole(cls, directory: Path, *, encoder_only: bool = False) -> Model:
        parts = saved_model.read(directory, parameter_shapes, encoder_only=encoder_only)
        return cls(parts.config, parts.params, parts.tokenizer, parts.extra_tensors, parts.files)

    @classmethod
    def _adapted(cls, directory: Path, token: str | None) -> Model:
        """The model that an adapter names, with the adapter merged."""
        adapter = peft.read(directory)
        if adapter.has_base:
            return cls._whole(adapter.place)._with(adapter)
        base = peft.base_directory(adapter.settings, token)
        return reading.whole(base, lambda: cls._of_base(base, adapter))

    @classmethod
    def _of_base(cls, base: Path, adapter: peft.Adapter) -> Model:
        if peft.is_adapter(base):
            raise EncodaxError(
                f"{adapter.place}: its base {base} is an adapter too: load that, save the "
                "model whole, and name it as the base"
            )
        return cls._whole(base)._with(adapter)

    def with_adapter(self, directory: Path | str) -> Model:
        """The same model with an adapter of PEFT's layout merged (LoRA).

        It has the head that the adapter wants, which stands in the adapter's file; and the
        tokenizer and the modules of sentence-transformers that stand beside it, where they do.

        Raises:
            EncodaxError: a file is missing or broken; the adapter is of another model, or computes
                what is not supported.
        """
        place = Path(directory)
        return reading.whole(place, lambda: self._with(peft.read(place)))

    def _with(self, adapter: peft.Adapter) -> Model:
        model = self._without_head() if adapter.makes_embedder else self
        if (wanted := peft.head_of(adapter, self.config)) is not None:
            head, labels = wanted
            model = self.with_head(head.kind, head.classes, labels=labels, problem=head.problem)
            model = replace(model, config=replace(model.config, head=head))
        leaves = adapter.leaves(model.config, model.params)
        if wanted is not None:
            _check_head(model, self, leaves, adapter.place)
        both = {path: {**own, **leaves.get(path, {})} for path, own in model.params.items()}
        model = replace(model, params=peft.merge(both), files={**model.files, **adapter.files})
        return model._replaced(saved_model.adapted(model._parts(), adapter.place, adapter.modules))

    def _without_head(self) -> Model:
        """The bare encoder."""
        params = {path: leaves for path, leaves in self.params.items() if of_encoder(path)}
        return replace(self, config=replace(self.config, head=None, labels=()), params=params)

    def _parts(self) -> saved_model.Parts:
        return saved_model.Parts(
            self.config, self.params, self.tokenizer, self.extra_tensors, self.files
        )

    def _replaced(self, parts: saved_model.Parts) -> Model:
        return replace(
            self,
            config=parts.config,
            params=parts.params,
            tokenizer=parts.tokenizer,
            extra_tensors=parts.extra_tensors,
            files=parts.files,
        )

    def with_head(
        self,
        kind: HeadKind,
        classes: int = 0,
        *,
        labels: Sequence[str] = (),
        problem: Problem = "single_label",
        seed: int = 0,
    ) -> Model:
        """The same encoder with a head of another kind, as its family has it.

        Parameters of the head that the file carried beside the encoder (BERT's pooler) are taken
        from there; the others are drawn from `seed`.

        Args:
            kind: of the head.
            classes: C of a head on sequences or tokens, where there are no labels.
            labels: names of the classes; `LABEL_0`, ... when not given.
            problem: what the scores of a `sequence` head mean.
            seed: of the fresh parameters.

        Raises:
            EncodaxError: the family has no such head.
        """
        if kind in ("sequence", "token"):
            labels = labels or [f"LABEL_{index}" for index in range(classes)]
        family = saved_model.family_of(self.config)
        head = family.new_head(self.config, kind, len(labels) or classes)
        if kind == "sequence":
            head = replace(head, problem=problem)
        config = replace(
            self.config, head=head, labels=tuple(labels), max_length=None, usage=Usage()
        )
        params = dict(initial_params(config, jax.random.key(seed)))
        params |= {path: leaves for path, leaves in self.params.items() if of_encoder(path)}
        carried = dict(self.extra_tensors)
        of_head = [path for path in params if not of_encoder(path)] if family.has(kind) else []
        for path in of_head:
            for leaf, fresh in params[path].items():
                tensor = family.tensor(config, path, leaf)
                found = carried.pop(tensor.name, None)
                if found is not None and found.shape == tensor.file_shape(fresh.shape):
                    parameter = jnp.asarray(tensor.to_parameter(found, fresh.shape))
                    params[path] = {**params[path], leaf: parameter}
        carried = {name: a for name, a in carried.items() if family.is_ignored(config, name)}
        return replace(self, config=config, params=params, extra_tensors=carried)

    def with_embeddings(self, pooling: Pooling = "mean", *, normalize: bool = False) -> Model:
        """The same encoder, giving one vector for each text: the head has no parameters."""
        old, head = self.config.head, HeadConfig("embedding", pooling=pooling, normalize=normalize)
        params = {path: leaves for path, leaves in self.params.items() if of_encoder(path)}
        is_embedder = old is not None and old.kind == "embedding"
        # The prompts of a cross-encoder are none for vectors.
        usage = self.config.usage if is_embedder else Usage()
        config = replace(self.config, head=head, labels=(), usage=usage)
        return replace(self, config=config, params=params)

    def pooled_after(self, prompt: str) -> Model:
        """The same model as it reads texts with that prompt before them.

        Where the tokens of a prompt are not to enter the pooling, it leaves out as many as the
        prompt alone has, with what the tokenizer puts before a text.
        """
        head = self.config.head
        if self.config.usage.pools_prompt or not prompt or head is None:
            return self
        ids = self.tokenizer.encode([prompt])[0].truncated(self.longest_sequence).token_ids
        vocabulary = self.tokenizer.vocabulary()
        special = {vocabulary[token] for token in self.tokenizer.special_tokens.values()}
        count = len(ids) - (len(ids) > 0 and int(ids[-1]) in special)
        head = replace(head, skipped_tokens=count)
        return replace(self, config=replace(self.config, head=head))

    def save(self, directory: Path | str, *, overwrite: bool = False) -> None:
        """Write a model directory, whole or not at all.

        It is in the Hugging Face layout, under the names of the published family that has this
        combination of blocks; an embedder has the module files of sentence-transformers too. Where
        a family has the encoder but no such head, the head stands in files of its own
        (`head.json`, `head.safetensors`). Where none has the encoder either, the family is
        `encodax`, with a warning: only Encodax loads it then.

        Raises:
            EncodaxError: the directory exists and is not to be overwritten, or cannot be written.
        """
        parts = saved_model.Parts(
            self.config, self.params, self.tokenizer, self.extra_tensors, self.files
        )
        saved_model.write(Path(directory), parts, max_length=self.max_length, overwrite=overwrite)

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Save, and put the directory on the Hugging Face hub; gives its address there.

        Args:
            name: of the repository, such as `me/my-encoder`.
            private: whether only its owner sees it.
            token: the hub's; HF_TOKEN or the one that was logged in with otherwise.

        Raises:
            EncodaxError: the hub refuses it or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / name.rsplit("/", 1)[-1]
            self.save(directory)
            return hub.upload(directory, name, private=private, token=token)

    @property
    def max_length(self) -> int | None:
        """Most tokens of a sequence, special tokens included; None where there is no limit."""
        limits = self.config.max_length, self.config.encoder.embeddings.max_positions
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def longest_sequence(self) -> int:
        """Most tokens of a sequence that is run: `max_length`, or what the longest row holds."""
        return min(self.max_length or ROW_TOKENS[-1], ROW_TOKENS[-1])

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
        names = names or numbered(texts)
        encodings = self._tokenized(texts, names)
        return packing.within(encodings, self.longest_sequence, truncate=truncate, names=names)

    def windows(
        self, texts: Sequence[str], overlap: int, *, names: Sequence[str] | None = None
    ) -> list[list[Encoding]]:
        """Tokenize texts of any length, each cut into windows that the model can take.

        Args:
            texts: what to tokenize.
            overlap: tokens of a text that a window shares with the one before; below `room`.
            names: what each text is called in an error.

        Raises:
            EncodaxError: a text is empty.
        """
        names = names or numbered(texts)
        encodings = self._tokenized(texts, names)
        packing.refuse_empty(encodings, names)
        return [encoding.pieces(0, self.room, overlap) for encoding in encodings]

    @property
    def room(self) -> int:
        """Most tokens of one text in a sequence, beside those that stand for no text."""
        (frame,) = self.tokenizer.encode(["a"])
        return self.longest_sequence - int(np.count_nonzero(frame.sequence_ids != 0))

    def _tokenized(self, texts: Sequence[Text], names: Sequence[str]) -> list[Encoding]:
        """Texts (or pairs) of any length as tokens that the model has rows of."""
        if isinstance(texts, str):
            raise EncodaxError("a list of texts is wanted, not one string")
        for name, text in zip(names, texts, strict=True):
            for each in (text,) if isinstance(text, str) else text:
                check_unicode(each, name)
        encodings = self.tokenizer.encode(texts, names)
        rows = self.config.encoder.embeddings.vocabulary_size
        self.tokenizer.check_rows(encodings, rows, names)
        return encodings

    def batch(self, texts: Sequence[Text], *, truncate: bool = False) -> PackedBatch:
        """Texts (or pairs) as a batch of one text a row, in order.

        The number of tokens in a row is rounded up to a power of two, so that `apply` under jit
        compiles a few times only.

        Raises:
            EncodaxError: a text is empty, or longer than the model without `truncate`.
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
        tokens: Int[AnyArray, "B M"] | None = None,
        head_only: bool = False,
        execution: Execution = UNROLLED,
    ) -> ModelOutput:
        """Run the model: a pure function of its arguments.

        Args:
            params: `self.params`, or others of the same shapes.
            batch: what to run on.
            is_training: apply dropout.
            rng: the random key that dropout draws from; needed in training alone.
            record: stages to keep, as `Encoder` says.
            tokens: row indices of the tokens that alone a head on tokens is to score: the logits
                are (B, M, C) then, and `hidden` is (B, M, D). None for all.
            head_only: `hidden` is not wanted for its own sake. Where the head reads the first
                token of each sequence alone, the last layer then computes no other, and `hidden` is
                (B, N, D).
            execution: how the stack is run; the numbers are the same.
        """
        forks.check()
        forward = _haiku_transformed(self.config, execution).apply
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
    def depth(self) -> int:
        """Layers that have parameters of their own."""
        encoder = self.config.encoder
        return len(set(encoder.parameter_groups or range(len(encoder.layers))))

    @property
    def vector_width(self) -> int:
        """E: numbers in the vector of an `embedding` head."""
        head, usage = self.config.head, self.config.usage
        model_width = self.config.encoder.embeddings.model_width
        width = model_width if head is None else width_of(head, model_width)
        return min(width, usage.truncate_dim or width)

    def parameter_count(self) -> int:
        """Number of trained values."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))


def width_of(head: HeadConfig, model_width: int) -> int:
    """Numbers in the vector of an `embedding` head, before any are cut off."""
    if head.further_dense:
        return head.further_dense[-1].width
    poolings = 1 if head.pooling is None or isinstance(head.pooling, str) else len(head.pooling)
    return head.dense_width or model_width * poolings


def _check_head(model: Model, base: Model, leaves: Params, place: Path) -> None:
    """Refuse a head of which a part is neither in the base's file nor in the adapter's.

    Raises:
        EncodaxError: there is such a part; it would be drawn at random.
    """
    for path, own in model.params.items():
        for leaf in own if not of_encoder(path) else ():
            name = saved_model.family_of(model.config).tensor(model.config, path, leaf).name
            if name not in base.extra_tensors and leaf not in leaves.get(path, {}):
                raise EncodaxError(
                    f"{place}: {name} stands neither there nor in the base: it was drawn at random "
                    "and not saved; train again with its module among modules_to_save"
                )


def parameter_shapes(config: ModelConfig) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """The parameter tree without its values."""
    shapes: dict[str, dict[str, jax.ShapeDtypeStruct]]
    # The key is made inside, where making it compiles nothing.
    shapes = jax.eval_shape(lambda: initial_params(config, jax.random.key(0)))
    return shapes
