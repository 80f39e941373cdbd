"""Target texts for source texts, by a sequence-to-sequence model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from encodax.data.packing import assemble
from encodax.data.sources import Record
from encodax.data.stream import until_error, windows
from encodax.errors import EncodaxError
from encodax.generation import (
    Beams,
    Ends,
    Generated,
    Sampling,
    check_count,
    generate,
    search,
)
from encodax.inference.compile_cache import compile_cache
from encodax.inference.engine import COMPILER_OPTIONS
from encodax.inference.precision import Precision, cast, default_precision
from encodax.inference.progress import listed
from encodax.sentencepiece_files import LANGUAGE
from encodax.seq2seq_model import Seq2SeqModel
from encodax.tasks import translation
from encodax.tasks.empty import (
    IN_DATA,
    Empties,
    OnEmpty,
    OnEmptyInData,
    labelled,
    refuse_unseen,
)
from encodax.tasks.task import Example, unlabelled
from encodax.tokenizer import EncodedPair, Encoding
from encodax.types import PackedBatch, Params

logger = logging.getLogger(__name__)

ROOMS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)
"""Tokens that sources have room for: few, so that few shapes are ever compiled."""
LONGER = 50
"""Tokens that a target may have more than its source has room for (Vaswani et al. 2017, section
6.1, where it is the source's own length)."""
SOME = 8
"""Languages that a note names."""
BATCH_SIZE = 32
"""Sources that are translated together."""


@dataclass(frozen=True)
class Translation:
    """What a model makes of a source."""

    text: str
    score: float
    """Log-probability of its tokens; of a search, divided by the length penalty."""
    tokens: int
    """The end included."""
    is_cut: bool = False
    """Whether it had not ended when it was as long as it may become."""
    others: tuple[Translation, ...] = ()
    """The next best ones of a search, best first."""

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """`translation`, `score` and `tokens`; `is_cut` and `others` where there is such."""
        fields: dict[str, Any] = {
            "translation": self.text,
            "score": self.score,
            "tokens": self.tokens,
        }
        if self.is_cut:
            fields["is_cut"] = True
        if self.others:
            fields["others"] = [other.to_json() for other in self.others]
        return fields


NOTHING = Translation("", 0.0, 0)
"""What an empty text is translated to."""


@dataclass(frozen=True)
class Manner:
    """How targets are generated: by a search, by drawing, or greedily where it is neither."""

    beams: Beams | None = field(default_factory=Beams)
    sampling: Sampling | None = None
    seed: int = 0
    """Of what is drawn: what a text draws depends on it and on the text's place in the input."""
    n_best: int = 1
    """Translations of a source that are wanted of a search."""
    max_tokens: int | None = None
    """Longest target, the end included; None for `LONGER` than the source."""
    to: str | None = None
    """The code of the target's language, of a model that has several."""

    def __post_init__(self) -> None:
        if self.sampling is not None and self.beams is not None:
            raise EncodaxError("tokens are drawn, or beams are searched: choose one")
        most = 1 if self.beams is None else self.beams.count
        if not 1 <= self.n_best <= most:
            raise EncodaxError(f"n_best = {self.n_best} is not in 1..{most}, the number of beams")
        if self.max_tokens is not None:
            check_count("max_tokens", self.max_tokens)
        if not 0 <= self.seed < 2**32:
            raise EncodaxError(f"seed = {self.seed} is not in 0..{2**32 - 1}")

    @classmethod
    def of(cls, beams: int | Beams = 4, sampling: Sampling | None = None, **others: Any) -> Manner:
        """By so many beams, of which 1 is greedy; drawing leaves beams out."""
        if not isinstance(beams, Beams):
            beams = Beams(beams)
        is_searched = sampling is None and beams.count > 1
        return cls(beams if is_searched else None, sampling, **others)


@dataclass(frozen=True)
class _Group:
    """Sources of one shape that are translated together."""

    places: list[int]
    """In their window."""
    room: int
    height: int


class Translator:
    """Translates texts, in order: one program for each shape, and few shapes.

    A source of up to S tokens takes a row of S; targets have room for S + `LONGER`. Rows of a batch
    do not change each other, so a text is translated alike in whichever company. After `warm_up`,
    or once each shape has come up, nothing is compiled again.
    """

    def __init__(
        self,
        model: Seq2SeqModel,
        *,
        precision: Precision | None = None,
        devices: Sequence[jax.Device] | None = None,
        batch_size: int = BATCH_SIZE,
    ):
        """Compile nothing yet.

        Args:
            model: the model.
            precision: of products; None for float32 on CPU, and bfloat16 on accelerators.
            devices: what it runs on, each with its share of the rows; None for all there are.
            batch_size: sources that one device translates together.

        Raises:
            EncodaxError: there is no such precision, or the batch size is below 1.
        """
        if batch_size < 1:
            raise EncodaxError(f"batch_size = {batch_size} is below 1")
        self.model = model
        devices = jax.local_devices() if devices is None else devices
        self._platform = devices[0].platform
        counts = sorted({1, max(1, batch_size // 4), batch_size})
        self._heights = [count * len(devices) for count in counts]
        mesh = Mesh(np.asarray(devices), ("data",))
        self._replicated, self._by_row = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        self.precision: Precision = precision or default_precision()
        self._params = jax.device_put(cast(model.params, self.precision), self._replicated)
        self._programs: dict[Any, Callable[..., Generated]] = {}

    @classmethod
    def load(
        cls,
        path_or_id: Path | str,
        *,
        revision: str | None = None,
        token: str | None = None,
        **options: Any,
    ) -> Self:
        """Make it of a model directory, or of a model of the hub.

        Args:
            path_or_id: a directory, or an id such as `Helsinki-NLP/opus-mt-en-de`.
            revision: a branch, tag or commit of the hub's repository.
            token: for a private one.
            **options: what the class takes beside a model.

        Raises:
            EncodaxError: as `Seq2SeqModel.load`.
        """
        return cls(Seq2SeqModel.load(path_or_id, revision=revision, token=token), **options)

    def translate(
        self,
        texts: Sequence[str],
        *,
        beams: int | Beams = 4,
        n_best: int = 1,
        sampling: Sampling | None = None,
        seed: int = 0,
        max_tokens: int | None = None,
        to: str | None = None,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
    ) -> list[Translation]:
        """The translation of each text, in order.

        Args:
            texts: the sources.
            beams: how many are searched; 1 for the most probable token each time. Their length
                penalty is the paper's (`Beams`).
            n_best: translations of each source, the others in `Translation.others`.
            sampling: draw tokens instead.
            seed: of what is drawn, with a text's place in the list.
            max_tokens: longest translation, the end included; 50 more than the source when not
                given.
            to: the code of the language that is wanted, of a model that has several (`>>fra<<`
                before a text is the same).
            truncate: cut sources that are longer than the model takes.
            on_empty: what becomes of empty texts: `error` refuses them, `skip` leaves them out, and
                `keep` has `NOTHING` for them.
            progress: show a progress bar; None for where standard error is a terminal and the list
                is long.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`; or there are more beams
                than the vocabulary has tokens.
        """
        stream = functools.partial(
            self.stream,
            beams=beams,
            n_best=n_best,
            sampling=sampling,
            seed=seed,
            max_tokens=max_tokens,
            to=to,
            truncate=truncate,
            on_empty=on_empty,
        )
        return list(listed(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        **manner: Any,
    ) -> Iterator[Translation]:
        """The translations of texts that may never end, in order; they are read by windows.

        Args:
            texts: the sources.
            truncate: as `translate` has it, and the rest too.
            on_empty: what becomes of empty texts.
            **manner: `beams`, `n_best`, `sampling`, `seed`, `max_tokens`, `to`.
        """
        found = self.answers(
            unlabelled(texts),
            Manner.of(**manner),
            truncate=truncate,
            empties=Empties(on_empty),
        )
        return (answer for _, answer in found)

    def answers(
        self,
        examples: Iterable[Example],
        manner: Manner,
        *,
        truncate: bool = False,
        empties: Empties | None = None,
    ) -> Iterator[tuple[Example, Translation]]:
        """Each example with the translation of its source, in order.

        Args:
            examples: whose texts are translated.
            manner: how.
            truncate: cut sources that are longer than the model takes.
            empties: what becomes of empty texts, where they are not refused.
        """
        empties = empties or Empties("error")
        encode = functools.partial(self._encoded, manner=manner, truncate=truncate)

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        self._check(manner)
        cut = never_ended = without = answered = 0
        for window, end in windows(examples, Example.characters):
            window, sequences, cut_here, error = until_error(window, tokenize)
            end = error or end
            cut += cut_here
            without += sum(self._asks_nothing(example, manner) for example in window)
            answers = self._translated(sequences, manner, answered)
            for example, answer in zip(window, answers, strict=True):
                never_ended += answer.is_cut
                if answer is not NOTHING or empties.rule == "keep":
                    yield example, answer
            answered += len(window)
            if not isinstance(end, StopIteration | None):
                raise end
            if end is not None:
                break
        empties.note()
        if cut:
            logger.warning("%d texts were cut to %d tokens", cut, self.model.longest_sequence)
        if without:
            languages = self.model.tokenizer.languages or ()
            logger.warning(
                "%d texts name no target language, and the model has %d (to, --to): %s",
                without,
                len(languages),
                ", ".join(languages[:SOME]) + (", ..." if len(languages) > SOME else ""),
            )
        if never_ended:
            logger.warning(
                "%d translations had not ended when they were as long as they may become; "
                "give more tokens (max_tokens, --max-tokens) if they are to be longer",
                never_ended,
            )

    def _encoded(
        self, examples: list[Example], *, manner: Manner, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """The token sequences of sources, and how many were cut."""
        texts, names = [each.parts[0] for each in examples], [each.where for each in examples]
        if self.model.tokenizer.languages is not None:  # a language would hide that there is none
            bare = [LANGUAGE.sub("", text) for text in texts]
            refuse_unseen(bare, names, self.model.tokenizer.encode)
        encodings, cut = self.model.encode(texts, to=manner.to, truncate=truncate, names=names)
        return [[encoding] for encoding in encodings], cut

    def _asks_nothing(self, example: Example, manner: Manner) -> bool:
        """Whether a model of several languages is not told which."""
        is_told = manner.to is not None or LANGUAGE.match(example.parts[0])
        return len(self.model.tokenizer.languages or ()) > 1 and not is_told

    def _check(self, manner: Manner) -> None:
        vocabulary = self.model.config.transformer.decoder.embeddings.vocabulary_size
        if manner.beams is not None and manner.beams.count > vocabulary:
            raise EncodaxError(
                f"beams = {manner.beams.count} is more than the {vocabulary} tokens of the "
                "vocabulary; choose fewer"
            )
        limit = self.model.longest_sequence
        if (manner.max_tokens or 0) > limit:
            raise EncodaxError(
                f"max_tokens = {manner.max_tokens} is more than the {limit} that the model takes"
            )

    def _translated(
        self, sequences: Sequence[Sequence[Encoding]], manner: Manner, before: int
    ) -> list[Translation]:
        """A window, by groups of sources that are about as long; so many came before it.

        Of an empty source there is no sequence, and `NOTHING` is made of it.
        """
        filled = [place for place, own in enumerate(sequences) if own]
        encodings = [sequences[place][0] for place in filled]
        answers = [NOTHING] * len(sequences)
        for group in self._groups(encodings):
            rows = [encodings[place] for place in group.places]
            numbers = [before + filled[place] for place in group.places]
            found = self._generated(rows, numbers, group, manner)
            for row, place in enumerate(group.places):
                answers[filled[place]] = self._read(found, row, manner)
        return answers

    def _groups(self, encodings: Sequence[Encoding]) -> Iterator[_Group]:
        by_room: dict[int, list[int]] = {}
        for place in sorted(range(len(encodings)), key=lambda i: -len(encodings[i])):
            room = next(room for room in ROOMS if room >= len(encodings[place]))
            by_room.setdefault(room, []).append(place)
        most = self._heights[-1]
        for room, places in by_room.items():
            for start in range(0, len(places), most):
                chosen = places[start : start + most]
                height = next(height for height in self._heights if height >= len(chosen))
                yield _Group(chosen, room, height)

    def _generated(
        self, encodings: list[Encoding], numbers: list[int], group: _Group, manner: Manner
    ) -> Generated:
        """Targets of one group, in NumPy; the numbers are those of its texts in the input."""
        # Rows that nobody asked for repeat the first one, so that they end when it does.
        missing = group.height - len(encodings)
        batch = assemble(
            [[encoding] for encoding in [*encodings, *encodings[:1] * missing]],
            row_count=group.height,
            row_tokens=group.room,
            slots=1,
        )
        self.model.check(batch)
        program = self._program(group.height, group.room, manner)
        draws = np.asarray([*numbers, *numbers[:1] * missing]).astype(np.uint32)
        seed = np.uint32(manner.seed)
        found: Generated = jax.device_get(program(self._params, batch, seed, draws))
        # A search passes over what is no number, and then finds nothing.
        if not (np.isfinite(found.scores).all() and found.lengths[:, 0].all()):
            raise EncodaxError("the model's scores are not finite: its parameters are broken")
        return found

    def _read(self, found: Generated, row: int, manner: Manner) -> Translation:
        """The translations of a row: the best, and the others that were asked for."""
        end, answers = self.model.config.end_id, []
        for token_ids, length, score in zip(
            found.token_ids[row], found.lengths[row], found.scores[row], strict=True
        ):
            if not length:  # there are fewer sequences than beams
                continue
            own = np.asarray(token_ids[: int(length)])
            is_cut = bool(own[-1] != end)
            text = self.model.tokenizer.decode(own)
            answers.append(Translation(text, float(score), len(own), is_cut))
        best, *others = answers[: manner.n_best]
        return dataclasses.replace(best, others=tuple(others))

    def warm_up(self, longest: int | None = None, **manner: Any) -> None:
        """Compile for every shape, so that no text will wait for it.

        Args:
            longest: most tokens that sources will have; None for what the model takes.
            **manner: as `stream` has it.
        """
        most, chosen = longest or self.model.longest_sequence, Manner.of(**manner)
        self._check(chosen)
        for room in [*(room for room in ROOMS if room < most), *_first_of(ROOMS, most)]:
            for height in self._heights:
                self._program(height, room, chosen)

    def _program(self, height: int, room: int, manner: Manner) -> Callable[..., Generated]:
        longest = manner.max_tokens or min(room + LONGER, self.model.longest_sequence)
        key = (height, room, longest, manner.beams, manner.sampling)
        if key not in self._programs:
            self._programs[key] = self._compiled(height, room, longest, manner)
        return self._programs[key]

    def _compiled(
        self, height: int, room: int, longest: int, manner: Manner
    ) -> Callable[..., Generated]:
        model, config = self.model, self.model.config
        ends = Ends.of(config, longest)

        def run(params: Params, source: PackedBatch, seed: Any, draws: Any) -> Generated:
            cache = model.begin(params, source, longest)
            step = functools.partial(model.step, params)
            if manner.beams is not None:
                return search(step, cache, ends, manner.beams)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), draws)
            return generate(step, cache, ends, sampling=manner.sampling, keys=keys)

        tokens, slot = np.zeros((height, room), np.int32), np.zeros((height, 1), np.int32)
        empty = PackedBatch(tokens, tokens, tokens, tokens, slot, slot)
        whole, by_row = self._replicated, self._by_row
        shardings = whole, by_row, whole, by_row
        jitted = jax.jit(run, in_shardings=shardings, out_shardings=by_row)
        exact = jax.default_matmul_precision("highest")  # no TF32 where float32 is asked for
        with compile_cache(), exact if self.precision == "float32" else contextlib.nullcontext():
            seed, draws = np.uint32(0), np.zeros(height, np.uint32)
            lowered = jitted.lower(self._params, empty, seed, draws)
            compiled: Callable[..., Generated]
            compiled = lowered.compile(compiler_options=COMPILER_OPTIONS.get(self._platform))
        return compiled

    def evaluate(
        self,
        records: Iterable[Record],
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
        tokenize: str = "13a",
        **manner: Any,
    ) -> dict[str, Any]:
        """BLEU and chrF of the translations of records that have a target.

        Args:
            records: `source` and `target` of each.
            truncate: as `translate` has it.
            on_empty: what becomes of records of an empty text: `error` refuses them, and `skip`
                leaves them out.
            tokenize: of BLEU, as sacrebleu names it; `none` for texts that are tokenized.
            **manner: as `stream` has it.

        Raises:
            EncodaxError: there is no record, or one has no target; or sacrebleu is not installed,
                or has no such tokenizer.
        """
        translation.scorers(tokenize)  # what is missing is told before the work
        examples = labelled(translation, records, on_empty)
        empties = Empties(on_empty, IN_DATA)
        found = self.answers(examples, Manner.of(**manner), truncate=truncate, empties=empties)
        pairs = list(found)
        if not pairs:
            raise EncodaxError("the data set is empty: it has no example")
        return translation.compared(
            [answer.text for _, answer in pairs],
            [example.target for example, _ in pairs],
            tokenize=tokenize,
        )

    def written(self, source: str, *, truncate: bool = False) -> EncodedPair:
        """A source and the very tokens that a search finds for it, be they none or cut.

        Args:
            source: the text.
            truncate: cut what is longer than the model takes.

        Raises:
            EncodaxError: the text is empty or too long.
        """
        manner = Manner()
        self._check(manner)
        encodings, _ = self.model.encode([source], truncate=truncate, names=["the text"])
        (group,) = self._groups(encodings)
        found = self._generated(encodings, [0], group, manner)
        token_ids = np.asarray(found.token_ids[0, 0, : found.lengths[0, 0]])
        return EncodedPair.of(encodings[0], _as_encoding(token_ids), self.model.config.begin_id)


def _as_encoding(token_ids: np.ndarray) -> Encoding:
    """Tokens that no text was cut into."""
    zeros = np.zeros_like(token_ids)
    return Encoding(token_ids, zeros, np.stack([zeros, zeros], axis=1), zeros.astype(bool), zeros)


def _first_of(rooms: Sequence[int], tokens: int) -> list[int]:
    """The smallest room for so many tokens."""
    return [room for room in rooms if room >= tokens][:1]
