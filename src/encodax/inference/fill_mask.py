"""Guesses what stands under the mask token."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from encodax.data.stream import MAX_WAIT, Live
from encodax.errors import EncodaxError
from encodax.inference.engine import Engine, EngineBacked, EngineOptions
from encodax.inference.progress import listed
from encodax.models.encoder_model import Model
from encodax.tasks.empty import Empties, OnEmpty
from encodax.tasks.task import Example, encode_whole, unlabelled
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput


@dataclass(frozen=True)
class Guess:
    """A token for a place."""

    token: str
    """The entry of the vocabulary."""
    token_id: int
    score: float
    """Its probability."""
    text: str
    """The text with this token in that place; all else, other masks too, stands as it was given."""
    token_text: str = ""
    """The token as it is read: `ehr` for `##ehr`, ` out` for `Ġout`, where it begins a word."""


class FillMask(EngineBacked):
    """The most probable tokens for each mask of a text."""

    def __init__(
        self,
        model: Model,
        *,
        top_k: int = 5,
        targets: Sequence[str] = (),
        **options: Unpack[EngineOptions],
    ):
        """Take a model with a masked-language-model head.

        Args:
            model: the model.
            top_k: guesses for each mask.
            targets: words to choose from, each one token of the vocabulary; all tokens without any.
                Their probabilities are those among all tokens.
            **options: how it runs.

        Raises:
            EncodaxError: the model has no such head, its tokenizer no mask token, `top_k` is not in
                1 .. V, or a target is not one token.
        """
        head, tokenizer = model.config.head, model.tokenizer
        if head is None or head.kind != "vocabulary":
            raise EncodaxError(
                "the model has no masked-language-model head: choose one that has, such as "
                "google-bert/bert-base-uncased, or train one with `encodax train masked-lm`"
            )
        if tokenizer.mask_id is None or tokenizer.mask_token is None:
            raise EncodaxError("the tokenizer of the model has no mask token")
        if not 1 <= top_k <= head.classes:
            raise EncodaxError(f"top_k = {top_k} is not in 1..{head.classes}")
        self.mask_token = tokenizer.mask_token
        self._mask_id = tokenizer.mask_id

        wanted = np.asarray([_target_id(model, word) for word in dict.fromkeys(targets)], np.int32)

        def best(output: ModelOutput) -> tuple[Array, Array]:
            assert output.logits is not None
            probabilities = jax.nn.softmax(output.logits.astype(jnp.float32))
            if not len(wanted):
                scores, ids = jax.lax.top_k(probabilities, top_k)
                return scores, ids
            scores, places = jax.lax.top_k(probabilities[..., wanted], min(top_k, len(wanted)))
            return scores, jnp.asarray(wanted)[places]

        super().__init__(model, Engine(model, best, "token", **options))

    def predict(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> list[list[list[Guess]]]:
        """For each text, for each mask in it, guesses, the most probable first.

        Args:
            texts: a list of texts that hold the mask token.
            truncate: cut what is longer than the model takes.
            on_empty: what becomes of empty texts: `error` refuses them, `skip` leaves them out, and
                `keep` has no guesses for them: there is no mask.
            progress: show a progress bar; None for where standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text has no mask token, or is too long without `truncate`.
        """
        stream = functools.partial(self.stream, truncate=truncate, on_empty=on_empty, max_wait=None)
        return list(listed(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[list[list[Guess]]]:
        """Guesses for texts that may never end, in order, as they come.

        Args:
            texts: the source; it is read a window ahead.
            truncate: cut what is longer than the model takes.
            on_empty: what becomes of empty texts.
            max_wait: seconds that a text waits for others, while the source is silent. It is read
                on a thread of its own; None to read it on yours, in whole windows.
        """
        found = self.answers(
            unlabelled(texts),
            truncate=truncate,
            empties=Empties(on_empty),
            live=Live.of(max_wait),
        )
        return (guesses for _, guesses in found)

    def answers(
        self,
        examples: Iterable[Example],
        *,
        truncate: bool = False,
        empties: Empties | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, list[list[Guess]]]]:
        """Each example with the guesses for the masks of its text, in order.

        Args:
            examples: each of one text.
            truncate: cut what is too long.
            empties: what becomes of empty texts, where they are not refused.
            live: for examples that come in their own time: how long one waits for others.
        """
        empties = empties or Empties("error")

        def encode(window: list[Example]) -> tuple[list[list[Encoding]], int]:
            sequences, cut = encode_whole(self.model, window, truncate=truncate)
            for example, (encoding,) in zip(window, sequences, strict=True):
                if len(self._masks(encoding)) == 0:
                    raise EncodaxError(
                        f"{example.where}: the text has no {self.mask_token} to fill"
                    )
            return sequences, cut

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        for example, encodings, scored in self._engine.stream(
            examples, tokenize, Example.characters, live=live
        ):
            guesses = [
                [
                    self._guess(
                        example.parts[0], encoding.offsets[place], int(token_id), float(score)
                    )
                    for token_id, score in zip(ids[place], scores[place], strict=True)
                ]
                for encoding, (scores, ids) in zip(encodings, scored, strict=True)
                for place in self._masks(encoding).tolist()
            ]
            if encodings or empties.rule == "keep":
                yield example, guesses
        empties.note()

    def _masks(self, encoding: Encoding) -> np.ndarray:
        """Where the masks of a sequence are."""
        return np.flatnonzero(encoding.token_ids == self._mask_id)

    def _guess(self, text: str, place: np.ndarray, token_id: int, score: float) -> Guess:
        """One token for the mask that stands at these characters of a text."""
        tokenizer = self.model.tokenizer
        (token,) = tokenizer.tokens([token_id])
        word, joint = tokenizer.written(token_id)
        before, after = self._around(text, *place.tolist())
        # Where the mask does not hold the space before it, a token of the text does.
        is_of_token = tokenizer.mask_takes_space or tokenizer.continues_words
        if joint == "goes on" and is_of_token:
            before = before.rstrip()
        elif joint == "begins a word" and before and not before[-1].isspace():
            before += " "
        shown = f" {word}" if joint == "begins a word" else word
        return Guess(token, token_id, score, before + word + after, shown)

    def _around(self, text: str, start: int, end: int) -> tuple[str, str]:
        """What stands before a mask and after it: its place may hold the spaces around it."""
        at = text.find(self.mask_token, start, end)
        if at < 0:  # normalized, it may be written in another way
            taken = text[start:end]
            at = start + len(taken) - len(taken.lstrip())
            return text[:at], text[at + len(taken.strip()) :]
        return text[:at], text[at + len(self.mask_token) :]


def _target_id(model: Model, word: str) -> int:
    """The token of an entry of the vocabulary, such as `out` or `Ġout`, or else of a text."""
    tokenizer = model.tokenizer
    if (entry := tokenizer.id_of(word)) is not None:
        return entry
    (alone,) = tokenizer.encode([word])
    pieces = tokenizer.tokens(alone.token_ids[~alone.is_special])
    if len(pieces) != 1 or pieces[0] == tokenizer.special_tokens.get("unk_token"):
        raise EncodaxError(
            f"the target {word!r} is not one token of the model but "
            f"{', '.join(pieces) or 'none'}: a mask is filled with one"
        )
    return int(alone.token_ids[~alone.is_special][0])
