"""Fill-mask predictor: the most probable tokens in place of a mask token."""

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
from encodax.inference.progress import answer_list
from encodax.models.encoder_model import Model
from encodax.tasks.empty import EmptyTextRule, OnEmpty
from encodax.tasks.task import Example, encode_whole, unlabelled
from encodax.text.tokenizer import Encoding
from encodax.types.batches import ModelOutput


@dataclass(frozen=True)
class Guess:
    """Candidate token for a mask."""

    token: str
    """Entry of the vocabulary."""
    token_id: int
    score: float
    """Probability of the token."""
    text: str
    """Text with this token in place of the mask; the rest, other masks too, is unchanged."""
    token_text: str = ""
    """Token in readable form: `ehr` for `##ehr`, ` out` for `Ġout`, which begins a word."""


class FillMask(EngineBacked):
    """Predictor of the most probable tokens for each mask of a text."""

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
            top_k: number of guesses for each mask.
            targets: words to choose from, each one token of the vocabulary; none for all tokens.
                The probabilities are always those among all tokens.
            **options: see `EngineOptions`.

        Raises:
            EncodaxError: the model has no such head, its tokenizer no mask token, `top_k` is not in
                1 .. V, or a target is not one token.
        """
        head, tokenizer = model.config.head, model.tokenizer
        if head is None or head.kind != "vocabulary":
            raise EncodaxError(
                "the model has no masked-language-model head: choose one that has one, such as "
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
        """Return the guesses for each mask of each text, the most probable first.

        Args:
            texts: a list of texts that contain the mask token.
            truncate: cut texts that are longer than the model takes.
            on_empty: treatment of empty texts: `error` refuses them, `skip` leaves them out, `keep`
                gives them an empty list: they have no mask.
            progress: show a progress bar; None to show one if standard error is a terminal and the
                list is long.

        Raises:
            EncodaxError: a text has no mask token, or is too long without `truncate`.
        """
        stream = functools.partial(self.stream, truncate=truncate, on_empty=on_empty, max_wait=None)
        return list(answer_list(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
    ) -> Iterator[list[list[Guess]]]:
        """Yield the guesses for texts, in order, as the texts arrive; the source may be endless.

        Args:
            texts: the source; it is read one window ahead.
            truncate: cut texts that are longer than the model takes.
            on_empty: treatment of empty texts, see `predict`.
            max_wait: longest time in seconds that a text waits for others while the source is
                silent. The source is read on a separate thread; None reads it on the caller's
                thread, in whole windows.
        """
        found = self.answers(
            unlabelled(texts),
            truncate=truncate,
            empties=EmptyTextRule(on_empty),
            live=Live.of(max_wait),
        )
        return (guesses for _, guesses in found)

    def answers(
        self,
        examples: Iterable[Example],
        *,
        truncate: bool = False,
        empties: EmptyTextRule | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, list[list[Guess]]]]:
        """Yield each example with the guesses for the masks of its text, in order.

        Args:
            examples: examples of one text each.
            truncate: cut texts that are too long.
            empties: treatment of empty texts; None refuses them.
            live: settings for a source that may pause, such as the longest wait; None for whole
                windows.
        """
        empties = empties or EmptyTextRule("error")

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
        """Return the positions of the masks of a sequence."""
        return np.flatnonzero(encoding.token_ids == self._mask_id)

    def _guess(self, text: str, place: np.ndarray, token_id: int, score: float) -> Guess:
        """Return one token as a guess for the mask at these character offsets of a text."""
        tokenizer = self.model.tokenizer
        (token,) = tokenizer.tokens([token_id])
        word, joint = tokenizer.written(token_id)
        before, after = self._around(text, *place.tolist())
        # If the mask does not include the space before it, a token of the text does.
        is_of_token = tokenizer.mask_takes_space or tokenizer.continues_words
        if joint == "goes on" and is_of_token:
            before = before.rstrip()
        elif joint == "begins a word" and before and not before[-1].isspace():
            before += " "
        shown = f" {word}" if joint == "begins a word" else word
        return Guess(token, token_id, score, before + word + after, shown)

    def _around(self, text: str, start: int, end: int) -> tuple[str, str]:
        """Return the text before and after a mask; its offsets may include spaces around it."""
        at = text.find(self.mask_token, start, end)
        if at < 0:  # normalization may have changed its spelling
            taken = text[start:end]
            at = start + len(taken) - len(taken.lstrip())
            return text[:at], text[at + len(taken.strip()) :]
        return text[:at], text[at + len(self.mask_token) :]


def _target_id(model: Model, word: str) -> int:
    """Return the id of a word: of an entry of the vocabulary (`out`, `Ġout`), or of a text."""
    tokenizer = model.tokenizer
    if (entry := tokenizer.id_of(word)) is not None:
        return entry
    (alone,) = tokenizer.encode([word])
    pieces = tokenizer.tokens(alone.token_ids[~alone.is_special])
    if len(pieces) != 1 or pieces[0] == tokenizer.special_tokens.get("unk_token"):
        raise EncodaxError(
            f"the target {word!r} is not one token of the model but {', '.join(pieces) or 'none'}: "
            "a mask takes one token"
        )
    return int(alone.token_ids[~alone.is_special][0])
