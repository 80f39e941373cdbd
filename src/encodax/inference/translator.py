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
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from encodax.data.packing import assemble
from encodax.data.stream import MAX_WAIT, Live, until_error, windows
from encodax.errors import EncodaxError
from encodax.generation.config import GenerationConfig
from encodax.generation.sampling import check_count
from encodax.generation.search import (
    BeamSearch,
    DecodingLimits,
    EarlyStopping,
    Generated,
    LogitsRules,
    Sampling,
    beam_search,
    decode,
)
from encodax.inference.compile_cache import compile_cache
from encodax.inference.engine import COMPILER_OPTIONS
from encodax.inference.precision import Precision, cast, default_precision
from encodax.inference.progress import listed
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.process import forks
from encodax.storage.json_files import shown
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
from encodax.text.sentencepiece import LANGUAGE
from encodax.text.tokenizer import EncodedPair, Encoding
from encodax.types.batches import PackedBatch, Params

logger = logging.getLogger(__name__)

SOURCE_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)
"""Tokens that sources have room for: few, so that few shapes are ever compiled."""
EXTRA_TOKENS = 50
"""Tokens that a target may have more than its source has room for (Vaswani et al. 2017, section
6.1, where it is the source's own length)."""
LANGUAGES_SHOWN = 8
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
    """The next best ones of a search, best first; or what else was drawn."""

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
class GenerationOptions:
    """How targets are generated: by a search, by drawing, or greedily where it is neither."""

    beams: BeamSearch | None = field(default_factory=BeamSearch)
    sampling: Sampling | None = None
    seed: int = 0
    """Of what is drawn: what a text draws depends on it and on the text's place in the input."""
    n_best: int = 1
    """Translations of a source: the best of a search, or so many that are drawn."""
    max_tokens: int | None = None
    """Longest target, the end included; None for `EXTRA_TOKENS` than the source."""
    to: str | None = None
    """The code of the target's language, of a model that has several."""
    rules: LogitsRules | None = None
    """What may come next, beside what the model says; None for what its directory says."""

    def __post_init__(self) -> None:
        if self.sampling is not None and self.beams is not None:
            raise EncodaxError("tokens are drawn, or beams are searched: choose one")
        most = 1 if self.beams is None else self.beams.size
        if self.sampling is not None:
            check_count("n_best", self.n_best)
        elif not 1 <= self.n_best <= most:
            raise EncodaxError(f"n_best = {self.n_best} is not in 1..{most}, the number of beams")
        if self.max_tokens is not None:
            check_count("max_tokens", self.max_tokens)
        if not 0 <= self.seed < 2**32:
            raise EncodaxError(f"seed = {self.seed} is not in 0..{2**32 - 1}")

    @classmethod
    def of(
        cls,
        said: GenerationConfig,
        *,
        beams: int | BeamSearch | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
        sampling: Sampling | None = None,
        n_best: int | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        to: str | None = None,
        **rules: Any,
    ) -> GenerationOptions:
        """What a model's directory says, with what is given here in its place.

        Args:
            said: by the directory.
            beams: how many, of which 1 is greedy; or all of the search.
            length_penalty: exponent of the length by which beams are compared, as transformers
                has it.
            early_stopping: when beams stop: False, True or "never", as transformers has it.
            sampling: draw tokens; no beams are searched then.
            n_best: translations of each source; of a search, no more than there are beams.
            max_tokens: longest target, the end included.
            seed: of what is drawn.
            to: the code of the target's language.
            **rules: fields of `LogitsRules`, such as `no_repeat_ngram_size`.

        Raises:
            EncodaxError: there is no such option, or options do not go together.
        """
        if sampling is None and beams is None and said.do_sample:
            sampling = said.sampling
        chosen = beams if isinstance(beams, BeamSearch) else said.beams
        if beams is not None and not isinstance(beams, BeamSearch):
            chosen = dataclasses.replace(chosen, size=beams)
        if length_penalty is not None:
            chosen = dataclasses.replace(chosen, length_penalty=length_penalty, offset=0.0)
        if early_stopping is not None:
            chosen = dataclasses.replace(chosen, early_stopping=early_stopping)
        is_search = sampling is None and (isinstance(beams, BeamSearch) or chosen.size > 1)
        if not is_search and (length_penalty is not None or early_stopping is not None):
            raise EncodaxError("length_penalty and early_stopping go with beams: choose 2 or more")
        if n_best is None:
            most = chosen.size if is_search else 1
            n_best = said.n_best if sampling is not None or said.n_best <= most else 1
        return cls(
            chosen if is_search else None,
            sampling,
            seed,
            n_best,
            said.max_tokens if max_tokens is None else max_tokens,
            to,
            said.rules.changed(**rules),
        )

    @property
    def draws(self) -> int:
        """Sequences of a source that are drawn; 1 where none are."""
        return 1 if self.sampling is None else self.n_best


@dataclass(frozen=True)
class _Group:
    """Sources of one shape that are translated together."""

    places: list[int]
    """In their window."""
    room: int
    height: int


class Translator(forks.OfOneProcess):
    """Translates texts, in order: one program for each shape, and few shapes.

    A source of up to S tokens takes a row of S; targets have room for S + `EXTRA_TOKENS`. Rows of a
    batch do not change each other, so a text is translated alike in whichever company. After
    `warm_up`, or once each shape has come up, nothing is compiled again.
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
        forks.check()
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
        self._has_told = False

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
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
        **options: Any,
    ) -> list[Translation]:
        """The translation of each text, in order.

        What no option says is as the model's directory says it (`generation_config.json`); where
        that says nothing, 4 beams are searched with the paper's length penalty (`BeamSearch`), and
        a translation may have 50 tokens more than its source.

        Args:
            texts: the sources.
            truncate: cut sources that are longer than the model takes.
            on_empty: what becomes of empty texts: `error` refuses them, `skip` leaves them out, and
                `keep` has `NOTHING` for them.
            progress: show a progress bar; None for where standard error is a terminal and the list
                is long.
            **options: as `generation` has them.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`; or there are more beams
                than the vocabulary has tokens; or there is no such option.
        """
        stream = functools.partial(
            self.stream, truncate=truncate, on_empty=on_empty, max_wait=None, **options
        )
        return list(listed(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
        **options: Any,
    ) -> Iterator[Translation]:
        """The translations of texts that may never end, in order, as they come.

        Args:
            texts: the sources; they are read a window ahead.
            truncate: as `translate` has it.
            on_empty: what becomes of empty texts.
            max_wait: seconds that a text waits for others, while the source is silent. It is read
                on a thread of its own; None to read it on yours, in whole windows.
            **options: as `generation` has them.
        """
        found = self.answers(
            unlabelled(texts),
            self.generation_options(**options),
            truncate=truncate,
            empties=Empties(on_empty),
            live=Live.of(max_wait),
        )
        return (answer for _, answer in found)

    def generation_options(self, **options: Any) -> GenerationOptions:
        """How targets are generated with these options, and by what the directory says.

        Args:
            **options: `beams`, how many are searched, 1 for the most probable token each time;
                `length_penalty` and `early_stopping` of beams; `n_best`, translations of each
                source, the others in `Translation.others`; `sampling`, to draw tokens instead, by
                `seed` and a text's place, `n_best` times; `max_tokens`, of the longest translation,
                the end included; `to`, the code of the language that is wanted, of a model that has
                several (`>>fra<<` before a text of Marian's is the same); and the fields of
                `encodax.generation.search.LogitsRules`, such as `min_tokens`,
                `no_repeat_ngram_size`, `repetition_penalty` and `suppress_tokens`.

        Raises:
            EncodaxError: there is no such option, or options do not go together.
        """
        to, languages = options.get("to"), self.model.language_ids
        if to in languages:  # an unknown one is refused where texts are encoded
            options.setdefault("forced_bos_token_id", languages[to])
        return GenerationOptions.of(self.model.generates_by, **options)

    def answers(
        self,
        examples: Iterable[Example],
        generation: GenerationOptions,
        *,
        truncate: bool = False,
        empties: Empties | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, Translation]]:
        """Each example with the translation of its source, in order.

        Args:
            examples: whose texts are translated.
            generation: how.
            truncate: cut sources that are longer than the model takes.
            empties: what becomes of empty texts, where they are not refused.
            live: for examples that come in their own time: how long one waits for others.
        """
        forks.check()
        empties = empties or Empties("error")
        encode = functools.partial(self._encoded, generation=generation, truncate=truncate)

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        self._check(generation)
        self._tell()
        cut = never_ended = without = answered = 0
        with contextlib.closing(windows(examples, Example.characters, live)) as pieces:
            for window in pieces:
                asked, sequences, cut_here, error = until_error(window.items, tokenize)
                end = error or window.end
                cut += cut_here
                without += sum(self._asks_nothing(example, generation) for example in asked)
                answers = self._translated(sequences, generation, answered)
                for example, answer in zip(asked, answers, strict=True):
                    never_ended += sum(each.is_cut for each in (answer, *answer.others))
                    if answer is not NOTHING or empties.rule == "keep":
                        yield example, answer
                answered += len(asked)
                if not isinstance(end, StopIteration | None):
                    raise end
        empties.note()
        if cut:
            logger.warning("%d texts were cut to %d tokens", cut, self.model.longest_sequence)
        if without:
            languages = self.model.tokenizer.languages or ()
            logger.warning(
                "%d texts name no target language, and the model has %d (to, --to): %s",
                without,
                len(languages),
                ", ".join(languages[:LANGUAGES_SHOWN])
                + (", ..." if len(languages) > LANGUAGES_SHOWN else ""),
            )
        if never_ended:
            logger.warning(
                "%d translations had not ended when they were as long as they may become; "
                "give more tokens (max_tokens, --max-tokens) if they are to be longer",
                never_ended,
            )

    def _encoded(
        self, examples: list[Example], *, generation: GenerationOptions, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """The token sequences of sources, and how many were cut."""
        texts, names = [each.parts[0] for each in examples], [each.where for each in examples]
        if self.model.tokenizer.languages is not None:  # a language would hide that there is none
            bare = [LANGUAGE.sub("", text) for text in texts]
            refuse_unseen(bare, names, self.model.tokenizer.encode)
        encodings, cut = self.model.encode(texts, to=generation.to, truncate=truncate, names=names)
        return [[encoding] for encoding in encodings], cut

    def _asks_nothing(self, example: Example, generation: GenerationOptions) -> bool:
        """Whether a model of several languages is not told which."""
        is_told = generation.to is not None or LANGUAGE.match(example.parts[0])
        return len(self.model.tokenizer.languages or ()) > 1 and not is_told

    def _tell(self) -> None:
        """Say once what the directory says of generation."""
        said = self.model.generates_by
        if said.is_silent or self._has_told:
            return
        self._has_told = True
        settings = ", ".join(f"{key} = {shown(value)}" for key, value in said.said)
        logger.warning(
            "generated as the model's directory says: %s; each option given here goes before",
            settings or f"greedily, at most {said.max_tokens} tokens, as transformers by default",
        )

    def _check(self, generation: GenerationOptions) -> None:
        vocabulary = self.model.config.transformer.decoder.embeddings.vocabulary_size
        for name, tokens in (generation.rules or LogitsRules()).token_ids().items():
            for token in tokens:
                if not 0 <= token < vocabulary:
                    raise EncodaxError(
                        f"{name}: there is no token {token}; the vocabulary has 0..{vocabulary - 1}"
                    )
        if generation.beams is not None and generation.beams.size > vocabulary:
            raise EncodaxError(
                f"beams = {generation.beams.size} is more than the {vocabulary} tokens of the "
                "vocabulary; choose fewer"
            )
        limit = self.model.longest_sequence
        if (generation.max_tokens or 0) > limit:
            raise EncodaxError(
                f"max_tokens = {generation.max_tokens} is more than the {limit} that the model "
                "takes"
            )

    def _translated(
        self, sequences: Sequence[Sequence[Encoding]], generation: GenerationOptions, before: int
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
            found = self._generated(rows, numbers, group, generation)
            for row, place in enumerate(group.places):
                answers[filled[place]] = self._read(found, row, generation)
        return answers

    def _groups(self, encodings: Sequence[Encoding]) -> Iterator[_Group]:
        by_room: dict[int, list[int]] = {}
        for place in sorted(range(len(encodings)), key=lambda i: -len(encodings[i])):
            room = next(room for room in SOURCE_LENGTHS if room >= len(encodings[place]))
            by_room.setdefault(room, []).append(place)
        most = self._heights[-1]
        for room, places in by_room.items():
            for start in range(0, len(places), most):
                chosen = places[start : start + most]
                height = next(height for height in self._heights if height >= len(chosen))
                yield _Group(chosen, room, height)

    def _generated(
        self,
        encodings: list[Encoding],
        numbers: list[int],
        group: _Group,
        generation: GenerationOptions,
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
        draws = np.asarray([*numbers, *numbers[:1] * missing]).astype(np.uint32)
        seed = np.uint32(generation.seed)
        for held in self._held(group.room, generation):
            program = self._program(group.height, group.room, held, generation)
            found: Generated = jax.device_get(program(self._params, batch, seed, draws))
            if not found.is_open.any():
                break
        # A search passes over what is no number, and then finds nothing.
        if not (np.isfinite(found.scores).all() and found.lengths[:, 0].all()):
            raise EncodaxError("the model's scores are not finite: its parameters are broken")
        return found

    def _read(self, found: Generated, row: int, generation: GenerationOptions) -> Translation:
        """The translations of a row: the best or first, and the others that were asked for."""
        ends, answers = self.model.generates_by.eos_ids, []
        for token_ids, length, score in zip(
            found.token_ids[row], found.lengths[row], found.scores[row], strict=True
        ):
            if not length:  # there are fewer sequences than beams
                continue
            own = np.asarray(token_ids[: int(length)])
            is_cut = int(own[-1]) not in ends
            text = self.model.tokenizer.decode(own)
            answers.append(Translation(text, float(score), len(own), is_cut))
        best, *others = answers[: generation.n_best]
        return dataclasses.replace(best, others=tuple(others))

    def warm_up(self, longest: int | None = None, **options: Any) -> None:
        """Compile for every shape, so that no text will wait for it.

        Args:
            longest: most tokens that sources will have; None for what the model takes.
            **options: as `generation` has them.
        """
        most, chosen = longest or self.model.longest_sequence, self.generation_options(**options)
        self._check(chosen)
        for room in [
            *(room for room in SOURCE_LENGTHS if room < most),
            *_first_of(SOURCE_LENGTHS, most),
        ]:
            for height in self._heights:
                for held in self._held(room, chosen):
                    self._program(height, room, held, chosen)

    def _longest(self, room: int, generation: GenerationOptions) -> int:
        """Most tokens of a target."""
        return generation.max_tokens or min(room + EXTRA_TOKENS, self.model.longest_sequence)

    def _held(self, room: int, generation: GenerationOptions) -> list[int]:
        """Tokens that targets have room for: at first for what most want, then for the longest."""
        longest, usual = self._longest(room, generation), room + EXTRA_TOKENS
        return [usual, longest] if 2 * usual < longest else [longest]

    def _program(
        self, height: int, room: int, held: int, generation: GenerationOptions
    ) -> Callable[..., Generated]:
        forks.check()
        rules = self.model.generates_by.rules if generation.rules is None else generation.rules
        longest = self._longest(room, generation)
        key = (
            height,
            room,
            held,
            longest,
            generation.beams,
            generation.sampling,
            generation.draws,
            rules,
        )
        if key not in self._programs:
            said = self.model.generates_by
            ends = DecodingLimits(
                said.decoder_start_id, said.eos_ids, said.pad_id, longest, rules, held
            )
            self._programs[key] = self._compiled(height, room, ends, generation)
        return self._programs[key]

    def _compiled(
        self, height: int, room: int, ends: DecodingLimits, generation: GenerationOptions
    ) -> Callable[..., Generated]:
        model = self.model

        def run(params: Params, source: PackedBatch, seed: Any, draws: Any) -> Generated:
            cache = model.begin(params, source, ends.held)
            step = functools.partial(model.step, params)
            source_ids = jnp.asarray(source.token_ids)
            if generation.beams is not None:
                return beam_search(step, cache, ends, generation.beams, source_ids=source_ids)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), draws)
            return decode(
                step,
                cache,
                ends,
                sampling=generation.sampling,
                keys=keys,
                count=generation.draws,
                source_ids=source_ids,
            )

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
        records: Any,
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
        tokenize: str = "13a",
        **options: Any,
    ) -> dict[str, Any]:
        """BLEU and chrF of the translations of records that have a target.

        Args:
            records: `source` and `target` of each.
            truncate: as `translate` has it.
            on_empty: what becomes of records of an empty text: `error` refuses them, and `skip`
                leaves them out.
            tokenize: of BLEU, as sacrebleu names it; `none` for texts that are tokenized.
            **options: as `generation` has them.

        Raises:
            EncodaxError: there is no record, or one has no target; or sacrebleu is not installed,
                or has no such tokenizer.
        """
        translation.scorers(tokenize)  # what is missing is told before the work
        examples = labelled(translation, records, on_empty)
        empties = Empties(on_empty, IN_DATA)
        generation = dataclasses.replace(self.generation_options(**options), n_best=1)
        found = self.answers(examples, generation, truncate=truncate, empties=empties)
        pairs = ((answer.text, example.target) for example, answer in found)
        return translation.bleu_and_chrf(pairs, tokenize=tokenize)

    def translate_tokens(self, source: str, *, truncate: bool = False) -> EncodedPair:
        """A source and the very tokens that a search finds for it, be they none or cut.

        Args:
            source: the text.
            truncate: cut what is longer than the model takes.

        Raises:
            EncodaxError: the text is empty or too long.
        """
        generation = self.generation_options()
        self._check(generation)
        encodings, _ = self.model.encode([source], truncate=truncate, names=["the text"])
        (group,) = self._groups(encodings)
        found = self._generated(encodings, [0], group, generation)
        token_ids = np.asarray(found.token_ids[0, 0, : found.lengths[0, 0]])
        return EncodedPair.of(
            encodings[0], _as_encoding(token_ids), self.model.config.decoder_start_id
        )


def _as_encoding(token_ids: np.ndarray) -> Encoding:
    """Tokens that no text was cut into."""
    zeros = np.zeros_like(token_ids)
    return Encoding(token_ids, zeros, np.stack([zeros, zeros], axis=1), zeros.astype(bool), zeros)


def _first_of(rooms: Sequence[int], tokens: int) -> list[int]:
    """The smallest room for so many tokens."""
    return [room for room in rooms if room >= tokens][:1]
