"""Sequence-to-sequence model: configuration, parameters and tokenizer."""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from encodax import families
from encodax.config import (
    UNROLLED,
    DecoderConfig,
    EmbeddingsConfig,
    EncoderConfig,
    ExecutionConfig,
    Seq2SeqConfig,
)
from encodax.data import packing
from encodax.errors import EncodaxError
from encodax.families import native_seq2seq
from encodax.families.seq2seq import BAD_WORDS, FORCED_BOS, Seq2SeqFamily
from encodax.generation import config as generation_config
from encodax.generation.config import GenerationConfig
from encodax.model_files import hub, model_card, weights
from encodax.model_files.saved_model import (
    CONFIG_FILE,
    GENERATION_FILE,
    missing_model_hint,
    named_as,
    with_kept,
    write_directory,
)
from encodax.models.base import BaseModel, check_texts, longest_sequence
from encodax.models.initialization import draw_params
from encodax.nn import DecoderCache, Transformer, functional
from encodax.process import forks
from encodax.storage import json_files, reading
from encodax.storage.json_files import FileKeys, ModelFiles, Settings, is_there
from encodax.text.sentencepiece import LANGUAGE
from encodax.text.tokenizer import EncodedPair, Encoding, Tokenizer, numbered
from encodax.types.batches import (
    ModelOutput,
    PackedBatch,
    PairBatch,
    Params,
)

WITH_LANGUAGES = ("mbart",)
"""Families whose targets begin with a token for the target language."""
LANGUAGE_CODE = re.compile("[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")
"""Pattern of such a token, such as `de_DE`."""


@functools.cache
def _haiku_transformed(
    config: Seq2SeqConfig, execution: ExecutionConfig = UNROLLED
) -> hk.MultiTransformed:
    """Return the model's functions: the full forward pass, and decoding one token at a time."""

    def functions() -> Any:
        model = Transformer(config.transformer, execution)
        return model, (model, model.encode, model.begin, model.step)

    return hk.multi_transform(functions)


@dataclass(frozen=True)
class Seq2SeqModel(BaseModel):
    """Sequence-to-sequence model that is loaded, trained and saved.

    `apply` is pure: it works under `jax.jit`, `jax.grad` and with Optax.
    """

    config: Seq2SeqConfig
    params: Params
    tokenizer: Tokenizer
    extra_tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Tensors of the weights file that the model does not use; they are saved again."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Generation settings of the directory as they were loaded; they are saved again."""
    generation_config: GenerationConfig | None = None
    """Parsed generation settings; None for the defaults of `config`."""
    files: ModelFiles = field(default_factory=dict)
    """Keys of each JSON file that was read: used, or kept with a reason and saved again."""

    @classmethod
    def create(cls, config: Seq2SeqConfig, tokenizer: Tokenizer, *, seed: int = 0) -> Seq2SeqModel:
        """Create a model with random parameters."""
        forks.check()
        return cls(config, initial_params(config, jax.random.key(seed)), tokenizer)

    @classmethod
    def load(
        cls, path_or_id: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Seq2SeqModel:
        """Read a model: `config.json`, safetensors, tokenizer files.

        Args:
            path_or_id: a directory in the Hugging Face layout, or an id on the Hugging Face hub.
            revision: branch, tag or commit of a model on the hub.
            token: access token for a private model on the hub.

        Raises:
            EncodaxError: a file is missing or broken, or needs a feature that is not supported; or
                the hub cannot be reached.
        """
        directory = hub.directory_of(path_or_id, revision=revision, token=token)
        return reading.read_consistently(directory, lambda: cls._read(directory))

    @classmethod
    def _read(cls, directory: Path) -> Seq2SeqModel:
        forks.check()
        place = directory / CONFIG_FILE
        stored = json_files.read(place, hint=missing_model_hint(directory))
        if "model_type" not in stored:
            raise EncodaxError(f"{place}: the key 'model_type' is missing")
        with named_as(place):
            family = families.seq2seq_family_named(
                stored["model_type"], stored.get("architectures")
            )
        settings = generation_config.values_of(directory, stored)
        published = Settings(_published(stored, settings.plain(), directory, family), where=place)
        with named_as(place):
            config = family.read_config(published)
        _check_ids(config, place)
        whole = config.transformer
        stacks: dict[str, EncoderConfig | DecoderConfig] = {
            "encoder": whole.encoder,
            "decoder": whole.decoder,
        }
        shapes = weights.checked_shapes(directory, family, config, stacks, parameter_shapes)
        generation, keys = generation_config.read(
            settings,
            config,
            longest=longest_sequence(config, _embeddings(config)),
            is_published="transformers_version" in stored,
        )
        files: dict[str, FileKeys] = {}
        if settings.where == directory / GENERATION_FILE:
            files[GENERATION_FILE] = keys
        else:  # these settings move to generation_config.json
            for key in keys.used:
                published.get(key)
        files[CONFIG_FILE] = family.account(published)
        loaded = weights.load(directory, shapes, family, config)
        tokenizer = Tokenizer.load(directory, model_type=family.MODEL_TYPE)
        rows = config.transformer.encoder.embeddings.vocabulary_size
        if tokenizer.least_rows > rows:  # BART's embedding has no row for the mask token
            raise EncodaxError(
                f"{directory}: the tokenizer has {tokenizer.vocabulary_size} tokens and the "
                f"embedding {rows} rows; they are from different models"
            )
        _check_positions(config, loaded.extra_tensors, directory)
        return cls(
            config,
            loaded.params,
            tokenizer,
            loaded.extra_tensors,
            settings.plain(),
            generation,
            {**files, **tokenizer.keys},
        )

    def save(self, directory: Path | str, *, overwrite: bool = False) -> None:
        """Write a model directory, atomically.

        The layout is Hugging Face's, under the names of the published family with this combination
        of blocks. If there is no such family, `model_type` says so, and only Encodax can load it.

        Raises:
            EncodaxError: the directory exists and `overwrite` is False, or it cannot be written.
        """
        directory = Path(directory)
        config = replace(self.config, max_length=None)
        family = families.SEQ2SEQ.holding(config)
        if family.MODEL_TYPE == native_seq2seq.MODEL_TYPE:
            warnings.warn(
                f"{directory}: no published family has this combination of blocks; "
                f"saved as model_type {native_seq2seq.MODEL_TYPE}, which only Encodax loads",
                stacklevel=2,
            )

        def write_to(place: Path) -> None:
            json_files.write(
                place / CONFIG_FILE,
                with_kept(family.write_config(config), self.files, CONFIG_FILE),
            )
            json_files.write(place / GENERATION_FILE, self._generation())
            carried = {**_position_tables(config, family), **self.extra_tensors}
            weights.save(place / weights.WEIGHTS_FILE, self.params, family, config, carried)
            self.tokenizer.save(
                place, max_length=self.max_length, model_type=family.MODEL_TYPE, has_types=False
            )
            if model_card.may_write(directory):
                card = model_card.text_of_seq2seq(config, family.MODEL_TYPE, directory.name)
                model_card.write(place, card)

        write_directory(directory, write_to, overwrite=overwrite)

    @property
    def default_generation_config(self) -> GenerationConfig:
        """Generation settings used by default."""
        return self.generation_config or GenerationConfig.of(self.config)

    def _generation(self) -> dict[str, Any]:
        """Return `generation_config.json`: the loaded settings and the ids transformers needs."""
        never, first = (
            [[number] for number in self.config.suppressed_ids],
            self.config.forced_bos_id,
        )
        ids: dict[str, Any] = {
            "decoder_start_token_id": self.config.decoder_start_id,
            "eos_token_id": self.config.eos_id,
            "pad_token_id": self.config.pad_id,
        }
        if self.default_generation_config.has_no_search_settings:
            ids |= {} if self.max_length is None else {"max_length": self.longest_sequence}
            ids |= {} if first is None else {FORCED_BOS: first}
            ids |= {BAD_WORDS: never} if never else {}
        return {**ids, **self.generation}

    @property
    def _length(self) -> Seq2SeqConfig:
        return self.config

    @property
    def _embeddings(self) -> Sequence[EmbeddingsConfig]:
        return _embeddings(self.config)

    @functools.cached_property
    def language_ids(self) -> dict[str, int]:
        """Language code -> token id that a target in this language begins with (mBART)."""
        if self.config.family not in WITH_LANGUAGES:
            return {}
        vocabulary = self.tokenizer.vocabulary()
        return {
            code: vocabulary[code] for code in sorted(vocabulary) if LANGUAGE_CODE.fullmatch(code)
        }

    def encode(
        self,
        texts: Sequence[str],
        *,
        to: str | None = None,
        truncate: bool = False,
        names: Sequence[str] | None = None,
    ) -> tuple[list[Encoding], int]:
        """Tokenize sources, within the model's length limit.

        Args:
            texts: texts to tokenize.
            to: code of the target language, for a model with several.
            truncate: truncate texts longer than `longest_sequence`.
            names: names of the texts in error messages.

        Returns:
            The token sequences, and the number of truncated ones.

        Raises:
            EncodaxError: a text is empty, or is too long and `truncate` is False, or asks for a
                language that the model does not have; or `texts` is a single string.
        """
        names = names or numbered(texts)
        check_texts(texts)
        if to is not None:
            if not self.language_ids and self.tokenizer.languages is None:
                raise EncodaxError(f"the model has one target language: leave out {to!r}")
            if to not in (self.language_ids or self.tokenizer.languages or ()):
                raise self._unknown_language(to, names[0] if names else "the texts")
        if to is not None and not self.language_ids:
            texts = [f">>{to}<< {text}" if text else text for text in texts]
        for name, text in zip(names, texts, strict=True):
            self._check_language(text, name)
        encodings = self._tokenized(texts, names)
        return packing.check_lengths(
            encodings, self.longest_sequence, truncate=truncate, names=names
        )

    def _check_language(self, text: str, name: str) -> None:
        """Refuse a text that asks for a language that the model does not have.

        Raises:
            EncodaxError: the text asks for such a language; the error names it and the known ones.
        """
        languages, asked = self.tokenizer.languages, LANGUAGE.match(text)
        if languages is None or asked is None or asked[1] in languages:
            return
        raise self._unknown_language(asked[1], name)

    def _unknown_language(self, asked: str, name: str) -> EncodaxError:
        languages = tuple(self.language_ids) or self.tokenizer.languages
        known = f"it has: {', '.join(languages)}" if languages else "it has one, without a name"
        return EncodaxError(f"{name}: the model has no target language {asked!r}; {known}")

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], *, truncate: bool = False, names: Sequence[str]
    ) -> tuple[list[EncodedPair], int]:
        """Tokenize sources and their targets for training; the arguments are those of `encode`."""
        sources, cut = self.encode([pair[0] for pair in pairs], truncate=truncate, names=names)
        names = [f"the target of {name}" for name in names]
        targets, cut_targets = packing.check_lengths(
            self.tokenizer.encode_targets([pair[1] for pair in pairs], names),
            self.longest_sequence,
            truncate=truncate,
            names=names,
        )
        rows = self.config.transformer.decoder.embeddings.vocabulary_size
        self.tokenizer.check_rows(targets, rows, names)
        for name, encoding in zip(names, targets, strict=True):
            if encoding.token_ids[-1] != self.config.eos_id:
                raise EncodaxError(
                    f"{name}: the tokenizer does not end it with token {self.config.eos_id}, with "
                    "which the model ends its outputs; they are from different models"
                )
        begin = self.config.decoder_start_id
        return [
            EncodedPair.of(source, target, begin)
            for source, target in zip(sources, targets, strict=True)
        ], cut + cut_targets

    def apply(
        self,
        params: Params,
        batch: PairBatch,
        *,
        is_training: bool = False,
        rng: Array | None = None,
        record: AbstractSet[str] = frozenset(),
        execution: ExecutionConfig = UNROLLED,
    ) -> ModelOutput:
        """Return the logits of the next token after each target token: a pure function.

        Args:
            params: `self.params`, or others of the same shapes.
            batch: sources, and decoder inputs.
            is_training: apply dropout.
            rng: random key for dropout; needed only in training.
            record: names of the stages to record, as in `Transformer`.
            execution: how the layers are run; the numbers are the same.
        """
        forks.check()
        whole, *_ = _haiku_transformed(self.config, execution).apply
        output: ModelOutput = whole(params, rng, batch, is_training=is_training, record=record)
        return output

    def begin(self, params: Params, source: PackedBatch, room: int) -> DecoderCache:
        """Encode one source in each row, and return the decoder cache for an empty target.

        Args:
            params: as in `apply`.
            source: (B, S), one segment in each row.
            room: maximum number of tokens of a target.

        Raises:
            EncodaxError: `room` is more than the decoder has positions for.
        """
        limit = self.config.transformer.decoder.embeddings.max_positions
        if limit is not None and room > limit:
            raise EncodaxError(f"room = {room} is more than the {limit} positions of the decoder")
        forks.check()
        _, _, begin, _ = _haiku_transformed(self.config).apply
        hidden = self.encode_states(params, source)
        cache: DecoderCache = begin(params, None, hidden, jnp.asarray(source.segment_ids), room)
        return cache

    def encode_states(self, params: Params, source: PackedBatch) -> Float[Array, "B S D"]:
        """Return the encoder's hidden states of packed sources; arguments as in `apply`."""
        forks.check()
        _, encode, *_ = _haiku_transformed(self.config).apply
        hidden: Array = encode(params, None, source)
        return hidden

    def step(
        self, params: Params, token_ids: Int[Array, " B"], cache: DecoderCache
    ) -> tuple[Float[Array, "B V"], DecoderCache]:
        """Return the logits of the token after `token_ids`, and the cache that includes it."""
        forks.check()
        *_, step = _haiku_transformed(self.config).apply
        found: tuple[Array, DecoderCache] = step(params, None, token_ids, cache)
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes: none, as the classes are tokens."""
        return ()

    @property
    def layer_count(self) -> int:
        """Number of encoder layers."""
        return len(self.config.transformer.encoder.layers)


def is_seq2seq(
    path_or_id: Path | str, *, revision: str | None = None, token: str | None = None
) -> bool:
    """Return whether a model directory, or a model on the hub, is a sequence-to-sequence model.

    Raises:
        EncodaxError: there is no such model.
    """
    directory = hub.directory_of(path_or_id, revision=revision, token=token)
    place = directory / CONFIG_FILE
    if not is_there(place):
        return False
    model_type = json_files.read(place, hint="").get("model_type")
    return families.SEQ2SEQ.get(model_type) is not None


def _embeddings(config: Seq2SeqConfig) -> tuple[EmbeddingsConfig, ...]:
    return config.transformer.encoder.embeddings, config.transformer.decoder.embeddings


def _published(
    stored: Mapping[str, Any],
    settings: Mapping[str, Any],
    directory: Path,
    family: families.FamilyOfSeq2Seq,
) -> dict[str, Any]:
    """Return `config.json`, with token ids of `generation_config.json` and the tying of weights.

    Newer files keep the token ids there; whether the output is tied follows from the weights file.
    """
    if family.MODEL_TYPE == native_seq2seq.MODEL_TYPE:
        return dict(stored)  # it is complete
    published = {
        key: value for key, value in stored.items() if key not in TOKEN_ID_KEYS or value is not None
    }
    words = settings.get(BAD_WORDS)
    has_words = isinstance(words, list) and all(isinstance(word, list) for word in words)
    for key in (*TOKEN_ID_KEYS, FORCED_BOS, *((BAD_WORDS,) if has_words else ())):
        if settings.get(key) is not None and (key not in TOKEN_ID_KEYS or key not in published):
            published[key] = settings[key]
    if isinstance(family, Seq2SeqFamily) and family.untied_output is not None:
        owns = weights.has_own(directory, *family.untied_output)
        tied = published.get("tie_word_embeddings")
        published.setdefault("scale_decoder_outputs", tied is not False)
        published["tie_word_embeddings"] = not owns
    return published


TOKEN_ID_KEYS = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
"""Keys for which null counts as missing."""


def _position_tables(
    config: Seq2SeqConfig, family: families.FamilyOfSeq2Seq
) -> dict[str, np.ndarray]:
    """Return sinusoidal position tables for the weights file, if the published class has them."""
    if not isinstance(family, Seq2SeqFamily) or not family.position_tables:
        return {}
    embeddings = config.transformer.encoder.embeddings
    assert embeddings.max_positions is not None
    table = functional.sinusoidal_table(embeddings.max_positions, embeddings.width, halves=True)
    return dict.fromkeys(family.position_tables, np.asarray(table))


def _check_positions(
    config: Seq2SeqConfig, carried: Mapping[str, np.ndarray], directory: Path
) -> None:
    """Refuse a stored position table that is not sinusoidal, if the model computes sinusoids.

    Raises:
        EncodaxError: there is such a table; the error names it.
    """
    embeddings = config.transformer.encoder.embeddings
    for name, table in carried.items():
        if not name.endswith("embed_positions.weight") or embeddings.positions == "learned":
            continue
        halves = embeddings.positions == "sinusoidal_halves"
        wanted = functional.sinusoidal_table(table.shape[0], embeddings.width, halves=halves)
        if table.shape != wanted.shape or np.abs(table - wanted).max() > HALF_PRECISION_TOLERANCE:
            raise EncodaxError(
                f"{directory}: {name} is not a table of sinusoids; trained positions of such a "
                "model are not supported"
            )


HALF_PRECISION_TOLERANCE = 5e-3
"""Tolerance for a number in -1..1 that was stored in 16 bits."""


def _check_ids(config: Seq2SeqConfig, place: Path) -> None:
    """Refuse special token ids outside the decoder's embedding, which JAX would clamp.

    Raises:
        EncodaxError: there is such an id; the error names the first one.
    """
    rows = config.transformer.decoder.embeddings.vocabulary_size
    ids = {"begins": config.decoder_start_id, "ends": config.eos_id, "pads": config.pad_id}
    ids |= {} if config.forced_bos_id is None else {"comes first": config.forced_bos_id}
    for what, number in [*ids.items(), *(("is never generated", i) for i in config.suppressed_ids)]:
        if not 0 <= number < rows:
            raise EncodaxError(
                f"{place}: the token that {what} is {number}, and the vocabulary has 0..{rows - 1}"
            )


def initial_params(config: Seq2SeqConfig, key: Array) -> Params:
    """Initialise parameters from a random key.

    Queries, keys and values are drawn as one layer D -> 3 H K by Glorot & Bengio 2010, as PyTorch
    and fairseq draw them, not as one layer for each head, as `Linear` does. Otherwise, scores of
    embeddings that are scaled by sqrt(D) are large from the first step, and the encoder's attention
    saturates under the high learning rates of section 5.3 of the paper.
    """
    dummy = PackedBatch.from_rows(jnp.zeros((1, 2), jnp.int32))
    params = draw_params(_haiku_transformed(config).init, key, PairBatch(dummy, dummy))
    for path, leaves in params.items():
        if path.rpartition("/")[2] in ("query", "key", "value"):
            width, heads, head_width = leaves["w"].shape
            share = (width + head_width) / (width + 3 * heads * head_width)
            leaves["w"] *= math.sqrt(share)
    return params


def parameter_shapes(config: Seq2SeqConfig) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Return the shapes of the parameters, without values."""
    shapes: dict[str, dict[str, jax.ShapeDtypeStruct]]
    shapes = jax.eval_shape(lambda: initial_params(config, jax.random.key(0)))
    return shapes
