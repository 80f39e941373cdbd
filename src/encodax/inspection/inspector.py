"""Inspector: attention, attribution of an answer to tokens, and predictions of each layer."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from encodax.config import EmbeddingsConfig, ModelConfig
from encodax.data import packing
from encodax.errors import EncodaxError
from encodax.inference.embedder import check_text
from encodax.inference.loading import Loading
from encodax.inference.translator import Translator
from encodax.inspection import attention_maps, attribution, scored_answer
from encodax.inspection.attention_maps import Resolution
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.process import forks
from encodax.tasks.task import AnyModel, load_any
from encodax.text.tokenizer import Encoding, Text
from encodax.types.batches import ModelOutput, PackedBatch, PairBatch, packed_batches_of
from encodax.types.inspection import (
    AttentionMaps,
    Attribution,
    Inspection,
    MaskGuesses,
    Norms,
    Token,
    TopWeights,
)

LONGEST = 4_096
"""Maximum number of tokens: the attention weights of one layer are H x T x T numbers."""
MOST_TARGETS = 16
"""Maximum number of scores that are attributed."""
STEPS = 16
"""Default number of points of the integral in attributions."""
GUESSES = 5
"""Default number of predictions for each mask."""


@dataclass(frozen=True)
class Stack:
    """Attention of the model: its name, its queries and keys, and the stage with its weights."""

    name: str
    stage: str
    queries: tuple[Token, ...]
    keys: tuple[Token, ...]

    @property
    def rolls(self) -> bool:
        """Whether layers build on one another, token by token: only then there is a rollout."""
        return self.stage != "cross_attention"


class Inspector(Loading):
    """Inspector of a model, for one text at a time.

    It runs in float32. Attention weights are computed separately from the model's own attention,
    from the same hidden states, so they are available with every attention implementation.
    """

    def __init__(self, model: AnyModel, *, steps: int = STEPS, top_k: int = GUESSES):
        """Set the model, of any family, with any head or none.

        Args:
            model: the model, which may be a sequence-to-sequence model.
            steps: number of points of the integral in attributions; more are more precise and take
                longer. With 0 there are no attributions.
            top_k: number of predictions for each mask.

        Raises:
            EncodaxError: `steps` is negative, or `top_k` not positive.
        """
        for name, value, minimum in (("steps", steps, 0), ("top_k", top_k, 1)):
            if value < minimum:
                raise EncodaxError(f"{name} = {value} is below {minimum}")
        if isinstance(model, Model):
            model = model.pooled_after(model.config.usage.default_text)
        self.model = model
        self.steps = steps
        self.top_k = top_k

    @classmethod
    def _loader(cls) -> Callable[..., AnyModel]:
        return load_any

    def inspect(
        self, text: str, second: str | None = None, *, truncate: bool = False
    ) -> Inspection:
        """Inspect a text, or a pair.

        Args:
            text: the text; for a question-answering model, the question.
            second: the other text of a pair, or the context. For an embedder, a text to compare
                with. For a translation model, the translation to inspect; by default, the model's.
            truncate: truncate texts longer than the model's limit.

        Raises:
            EncodaxError: a text is empty or too long, or the model takes no pair or needs one.
        """
        forks.check()
        with jax.default_matmul_precision("highest"):  # no TF32, as results are shown as float32
            if isinstance(self.model, Model):
                return self._of_encoder(self.model, text, second, truncate)
            return self._of_transformer(self.model, text, second, truncate)

    def _of_encoder(
        self, model: Model, text: str, second: str | None, truncate: bool
    ) -> Inspection:
        encodings, texts = _encoded(model, text, second, truncate)
        tokens = tuple(
            token
            for encoding, own in zip(encodings, texts, strict=True)
            for token in _tokens(model, encoding, own)
        )
        batch = packing.assemble(
            [encodings], row_count=1, row_tokens=len(tokens), slots=len(encodings)
        )
        model.check(batch)
        stack = Stack("text to text", "attention", tokens, tokens)
        masks = scored_answer.masks_of(model, encodings[0])
        # Scores of the whole vocabulary are computed only where they are needed.
        options = (
            {"tokens": jnp.asarray([masks or (0,)])} if scored_answer.fills_masks(model) else {}
        )
        output, maps = self._observed(batch, (stack,), ("hidden",), **options)
        if masks:
            answer, targets = scored_answer.fill_masks(model, output, masks)
        else:
            answer, targets = scored_answer.answer_of(model, output, encodings, texts)
        return Inspection(
            tokens=tokens,
            answer=answer,
            attention=maps,
            norms=(_norms("text", tokens, output.records["hidden"]),),
            attributions=self._attributed(batch, encodings, targets),
            masks=self._guessed(model, batch, output.records["hidden"], masks),
        )

    @functools.cached_property
    def _translator(self) -> Translator:
        assert isinstance(self.model, Seq2SeqModel)
        return Translator(self.model, precision="float32")

    def _of_transformer(
        self, model: Seq2SeqModel, text: str, second: str | None, truncate: bool
    ) -> Inspection:
        if second is None:
            pair = self._translator.translate_tokens(text, truncate=truncate)
        else:
            (pair,), _ = model.encode_pairs([(text, second)], truncate=truncate, names=["the text"])
        _check_length(len(pair.source), len(pair.given))
        source = _tokens(model, pair.source, (text,))
        written, given = (_entries(model, ids) for ids in (pair.wanted, pair.given.token_ids))
        batch = packing.assemble_pairs(
            [[pair]], row_count=1, row_tokens=(len(source), len(given)), slots=1
        )
        stacks = (
            Stack("translation to source", "cross_attention", written, source),
            Stack("translation to translation", "target_attention", written, given),
            Stack("source to source", "source_attention", source, source),
        )
        output, maps = self._observed(batch, stacks, ("source_hidden", "target_hidden"))
        targets = scored_answer.written_targets(pair, written)
        return Inspection(
            tokens=source,
            answer=(("translation", model.tokenizer.decode(pair.wanted)),),
            attention=maps,
            norms=(
                _norms("source", source, output.records["source_hidden"]),
                _norms("translation", given, output.records["target_hidden"]),
            ),
            attributions=self._attributed(batch, [pair.source], targets),
        )

    def _observed(
        self,
        batch: PackedBatch | PairBatch,
        stacks: Sequence[Stack],
        states: Sequence[str],
        **options: Any,
    ) -> tuple[ModelOutput, tuple[AttentionMaps, ...]]:
        """Return the output with the recorded hidden states, and the maps of each attention."""
        record = frozenset({*states, *(stack.stage for stack in stacks)})

        @jax.jit
        def observe(params: Any, batch: Any) -> tuple[ModelOutput, list[Any]]:
            output = self.model.apply(params, batch, record=record, **options)
            found = [
                attention_maps.reduce_attention(output.records[stack.stage], rolls=stack.rolls)
                for stack in stacks
            ]
            kept = {name: output.records[name] for name in states}
            return replace(output, records=kept), found

        output, found = observe(self.model.params, batch)
        maps = [_maps(stack, *arrays) for stack, arrays in zip(stacks, found, strict=True)]
        return output, tuple(maps)

    def _attributed(
        self,
        batch: PackedBatch | PairBatch,
        encodings: Sequence[Encoding],
        targets: Sequence[scored_answer.Target],
    ) -> tuple[Attribution, ...]:
        """Return how much each token contributes to each target."""
        targets = targets[:MOST_TARGETS]
        if not targets or not self.steps:
            return ()
        source = packed_batches_of(batch)[0]
        is_special = np.concatenate([encoding.is_special for encoding in encodings])

        @jax.jit
        def attribute(params: Any, batch: Any, hidden: Any, places: Array, classes: Array) -> Any:
            options: dict[str, Any] = {}
            if scored_answer.scores_tokens(self.model):  # then only these tokens are scored
                options = {"tokens": places.reshape(1, -1)}
                places = jnp.arange(places.size).reshape(places.shape)
            scores = functools.partial(scored_answer.scores_of, places=places, classes=classes)
            return attribution.integrated_gradients(
                self.model, params, batch, hidden, scores, self.steps, **options
            )

        found: list[Attribution] = []
        for segment, group in itertools.groupby(targets, key=lambda target: target.segment):
            own = list(group)
            hidden = _with_tokens(batch, self._hidden(source, is_special, segment)[None])
            places, classes = (
                np.asarray(numbers, np.int32)
                for numbers in ([each.places for each in own], [each.classes for each in own])
            )
            numbers = attribute(self.model.params, batch, hidden, places, classes)
            for target, shares, score, baseline in zip(own, *map(np.asarray, numbers), strict=True):
                found.append(Attribution(target.name, float(score), float(baseline), shares))
        return tuple(found)

    def _hidden(
        self, source: PackedBatch, is_special: Bool[np.ndarray, " T"], segment: int | None
    ) -> Int[np.ndarray, " T"]:
        """Return the text with all but special tokens masked; by padding if there is no mask token.

        A tokenizer may have a mask token without a row in the embedding, as for BART.
        """
        stand_in, rows = self.model.tokenizer.mask_id, _embeddings(self.model).vocabulary_size
        if stand_in is None or stand_in >= rows:
            stand_in = self.model.tokenizer.pad_id
        token_ids, segment_ids = np.asarray(source.token_ids[0]), np.asarray(source.segment_ids[0])
        stays = is_special if segment is None else is_special | (segment_ids != segment)
        return np.where(stays, token_ids, stand_in).astype(np.int32)

    def _guessed(
        self, model: Model, batch: PackedBatch, states: Sequence[Array], masks: Sequence[int]
    ) -> tuple[MaskGuesses, ...]:
        """Return the predictions for each mask after each layer."""
        if not masks:
            return ()
        assert model.config.head is not None
        top_k = min(self.top_k, model.config.head.classes)

        @jax.jit
        def guess(params: Any, batch: Any, states: Any, places: Any) -> Any:
            return attribution.guesses_by_layer(model, params, batch, states, places, top_k)

        scores, ids = map(np.asarray, guess(model.params, batch, states, jnp.asarray(masks)))
        return tuple(
            MaskGuesses(
                place,
                tuple(
                    tuple(zip(map(model.tokenizer.shown, own), map(float, score), strict=True))
                    for own, score in zip(ids[:, index], scores[:, index], strict=True)
                ),
            )
            for index, place in enumerate(masks)
        )


# --- the text


def _encoded(
    model: Model, text: str, second: str | None, truncate: bool
) -> tuple[list[Encoding], list[tuple[str, ...]]]:
    """Return the token sequences of the row, and the texts of each.

    An embedder reads one text at a time: the second one is a separate sequence, to which the first
    does not attend. The default prompt is put before each.
    """
    head = model.config.head
    kind = None if head is None else head.kind
    if kind == "span" and second is None:
        raise EncodaxError("the model answers questions: give a question and a context")
    if kind == "token" and second is not None:
        raise EncodaxError("token classification takes one text, not a pair")
    names = ["the text", "the second text"]
    texts: list[Text] = [text] if second is None else [(text, second)]
    if kind == "embedding":
        parts = zip(names, (text, second), strict=True)
        before = model.config.usage.default_text
        texts = [before + check_text(part, name) for name, part in parts if part is not None]
    names = names[: len(texts)]
    encodings, _ = model.encode(texts, truncate=truncate, names=names)
    if kind == "span" and not (encodings[0].sequence_ids == 1).any():
        raise EncodaxError("the context is empty")
    _check_length(sum(map(len, encodings)))
    return encodings, [(each,) if isinstance(each, str) else tuple(each) for each in texts]


def _check_length(*lengths: int) -> None:
    if max(lengths) > LONGEST:
        raise EncodaxError(
            f"the text has {max(lengths):,} tokens; an inspection takes {LONGEST:,} at most: give "
            "a part of it"
        )


def _tokens(model: AnyModel, encoding: Encoding, texts: Sequence[str]) -> tuple[Token, ...]:
    entries = model.tokenizer.tokens(encoding.token_ids)
    tokens = []
    for index, entry in enumerate(entries):
        sequence = encoding.sequence_ids[index]
        start, end = encoding.offsets[index]
        piece = "" if sequence < 0 else texts[sequence][start:end].strip()
        tokens.append(Token(piece or entry, entry, int(encoding.token_ids[index])))
    return tuple(tokens)


def _entries(model: AnyModel, token_ids: Int[np.ndarray, " T"]) -> tuple[Token, ...]:
    """Return tokens without offsets in a text: generated ones.

    Each is decoded together with the previous token, on which its leading space may depend.
    """
    decode, tokens = model.tokenizer.decode, []
    for place, entry in enumerate(model.tokenizer.tokens(token_ids)):
        before, token_id = token_ids[:place][-1:], int(token_ids[place])
        start, both = decode(before), decode([*before, token_id])
        piece = both.removeprefix(start).strip() if both.startswith(start) else ""
        is_whole = "\ufffd" not in start + both  # not a part of a character
        tokens.append(Token(piece if piece and is_whole else entry, entry, token_id))
    return tuple(tokens)


def _embeddings(model: AnyModel) -> EmbeddingsConfig:
    """Return the embeddings configuration of the text; in a model with a decoder, of the source."""
    config = model.config
    stack = config.encoder if isinstance(config, ModelConfig) else config.transformer.encoder
    return stack.embeddings


def _with_tokens(batch: Any, token_ids: Int[np.ndarray, "1 T"]) -> Any:
    """Return the batch with other tokens; for a pair, in the source."""
    if isinstance(batch, PackedBatch):
        return replace(batch, token_ids=token_ids)
    return replace(batch, source=replace(batch.source, token_ids=token_ids))


def _maps(stack: Stack, cells: Array, keys: Array, weights: Array) -> AttentionMaps:
    layers, views = cells.shape[:2]
    resolution = Resolution.of(layers * views, len(stack.queries), len(stack.keys))
    return AttentionMaps(
        name=stack.name,
        queries=stack.queries,
        keys=stack.keys,
        views=attention_maps.view_names(views - 1 - stack.rolls, rolls=stack.rolls),
        cells=np.asarray(cells),
        block=resolution.block,
        strongest=TopWeights(np.asarray(keys), np.asarray(weights)) if keys.shape[-1] else None,
    )


def _norms(name: str, tokens: tuple[Token, ...], states: Sequence[Array]) -> Norms:
    values = np.linalg.norm(
        np.stack([np.asarray(state[0], np.float32) for state in states]), axis=-1
    )
    return Norms(name, tokens, values)
