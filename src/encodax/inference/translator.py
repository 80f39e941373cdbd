"""Translator: target texts for source texts, by a sequence-to-sequence model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from encodax.data.packing import assemble
from encodax.data.stream import MAX_WAIT, Live, tokenize_until_error, windows
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
from encodax.inference.loading import Loading
from encodax.inference.precision import Precision
from encodax.inference.progress import answer_list
from encodax.inference.runtime import Runtime, empty_batch
from encodax.models.seq2seq_model import Seq2SeqModel
from encodax.process import forks
from encodax.storage.json_files import shown
from encodax.tasks import translation
from encodax.tasks.empty import (
    IN_DATA,
    EmptyTextRule,
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
"""Row lengths for sources, in tokens: few, so that few shapes are ever compiled."""
EXTRA_TOKENS = 50
"""Number of tokens that a target may have more than the row of its source (Vaswani et al. 2017,
section 6.1, where it is more than the source's own length)."""
LANGUAGES_SHOWN = 8
"""Number of languages that a warning names."""
BATCH_SIZE = 32
"""Number of sources that are translated together."""


@dataclass(frozen=True)
class Translation:
    """Translation of a source."""

    text: str
    score: float
    """Log-probability of its tokens; for beam search, divided by the length penalty."""
    tokens: int
    """Number of tokens, the end-of-sequence token included."""
    is_cut: bool = False
    """Whether it reached the maximal length without an end-of-sequence token."""
    others: tuple[Translation, ...] = ()
    """Next best translations of beam search, best first; or further samples."""

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """Return `translation`, `score` and `tokens`; `is_cut` and `others` if they are set."""
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


EMPTY_TRANSLATION = Translation("", 0.0, 0)
"""Translation of an empty text."""


@dataclass(frozen=True)
class GenerationOptions:
    """Options for generating targets: beam search, sampling, or greedy search without either."""

    beams: BeamSearch | None = field(default_factory=BeamSearch)
    sampling: Sampling | None = None
    seed: int = 0
    """Seed of sampling; the samples of a text depend on it and on the text's place in the input."""
    n_best: int = 1
    """Number of translations of a source: the best of beam search, or samples."""
    max_tokens: int | None = None
    """Maximal length of a target, the end-of-sequence token included; None for `EXTRA_TOKENS` more
    than the source."""
    to: str | None = None
    """Code of the target language, for a model with several."""
    rules: LogitsRules | None = None
    """Rules for the next token's logits; None for those of the model's directory."""

    def __post_init__(self) -> None:
        if self.sampling is not None and self.beams is not None:
            raise EncodaxError("give sampling or beams, not both")
        limit = 1 if self.beams is None else self.beams.size
        if self.sampling is not None:
            check_count("n_best", self.n_best)
        elif not 1 <= self.n_best <= limit:
            raise EncodaxError(f"n_best = {self.n_best} is not in 1..{limit}, the number of beams")
        if self.max_tokens is not None:
            check_count("max_tokens", self.max_tokens)
        if not 0 <= self.seed < 2**32:
            raise EncodaxError(f"seed = {self.seed} is not in 0..{2**32 - 1}")

    @classmethod
    def of(
        cls,
        defaults: GenerationConfig,
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
        """Merge the settings of a model's directory with options, which take precedence.

        Args:
            defaults: settings of the directory.
            beams: number of beams, 1 for greedy search; or all settings of the search.
            length_penalty: exponent of the length in the scores of beams, as in transformers.
            early_stopping: when beam search stops: False, True or "never", as in transformers.
            sampling: settings of sampling, which replaces beam search.
            n_best: number of translations of each source; for beam search, at most the number of
                beams.
            max_tokens: maximal length of a target, the end-of-sequence token included.
            seed: seed of sampling.
            to: code of the target language.
            **rules: fields of `LogitsRules`, such as `no_repeat_ngram_size`.

        Raises:
            EncodaxError: there is no such option, or options exclude each other.
        """
        if sampling is None and beams is None and defaults.do_sample:
            sampling = defaults.sampling
        chosen = beams if isinstance(beams, BeamSearch) else defaults.beams
        if beams is not None and not isinstance(beams, BeamSearch):
            chosen = dataclasses.replace(chosen, size=beams)
        if length_penalty is not None:
            chosen = dataclasses.replace(chosen, length_penalty=length_penalty, offset=0.0)
        if early_stopping is not None:
            chosen = dataclasses.replace(chosen, early_stopping=early_stopping)
        is_search = sampling is None and (isinstance(beams, BeamSearch) or chosen.size > 1)
        if not is_search and (length_penalty is not None or early_stopping is not None):
            raise EncodaxError("length_penalty and early_stopping need beams: choose 2 or more")
        if n_best is None:
            limit = chosen.size if is_search else 1
            n_best = defaults.n_best if sampling is not None or defaults.n_best <= limit else 1
        return cls(
            chosen if is_search else None,
            sampling,
            seed,
            n_best,
            defaults.max_tokens if max_tokens is None else max_tokens,
            to,
            defaults.rules.changed(**rules),
        )

    @property
    def draws(self) -> int:
        """Number of samples of a source; 1 without sampling."""
        return 1 if self.sampling is None else self.n_best


@dataclass(frozen=True)
class _Group:
    """Sources that are translated together, in one shape."""

    places: list[int]
    """Positions of the sources in their window."""
    room: int
    height: int


class Translator(Loading, forks.NotPicklable):
    """Translator of texts, in order; it compiles one program for each shape, and few shapes.

    A source of up to S tokens takes a row of S; targets have room for S + `EXTRA_TOKENS`. Rows of a
    batch do not affect each other, so a text's translation does not depend on its neighbours. After
    `warm_up`, or once each shape has occurred, nothing is compiled again.
    """

    def __init__(
        self,
        model: Seq2SeqModel,
        *,
        precision: Precision | None = None,
        devices: Sequence[jax.Device] | None = None,
        batch_size: int = BATCH_SIZE,
    ):
        """Set up the translator; nothing is compiled yet.

        Args:
            model: the model.
            precision: number format of products; None for float32 on CPU, and bfloat16 on
                accelerators.
            devices: devices to run on, each with its share of the rows; None for all local devices.
            batch_size: number of sources that one device translates together.

        Raises:
            EncodaxError: there is no such precision, or the batch size is below 1.
        """
        if batch_size < 1:
            raise EncodaxError(f"batch_size = {batch_size} is below 1")
        forks.check()
        self.model = model
        self._runtime = Runtime(devices, precision)
        counts = sorted({1, max(1, batch_size // 4), batch_size})
        self._heights = [count * self._runtime.device_count for count in counts]
        self._params = self._runtime.place(model.params)
        self._programs: dict[Any, Callable[..., Generated]] = {}
        self._has_logged = False

    @classmethod
    def _loader(cls) -> Callable[..., Seq2SeqModel]:
        return Seq2SeqModel.load

    @property
    def precision(self) -> Precision:
        """Number format of products."""
        return self._runtime.precision

    def translate(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        progress: bool | None = None,
        **options: Any,
    ) -> list[Translation]:
        """Return the translation of each text, in order.

        Options that are not given are those of the model's `generation_config.json`. Without that
        file, beam search has 4 beams and the paper's length penalty (`BeamSearch`), and a
        translation
        may have 50 tokens more than its source.

        Args:
            texts: the sources.
            truncate: cut sources that are longer than the model takes.
            on_empty: treatment of empty texts: `error` refuses them, `skip` leaves them out, `keep`
                gives them `EMPTY_TRANSLATION`.
            progress: show a progress bar; None to show one if standard error is a terminal and the
                list is long.
            **options: see `generation_options`.

        Raises:
            EncodaxError: a text is empty, or too long without `truncate`; or there are more beams
                than the vocabulary has tokens; or there is no such option.
        """
        stream = functools.partial(
            self.stream, truncate=truncate, on_empty=on_empty, max_wait=None, **options
        )
        return list(answer_list(texts, stream, progress=progress))

    def stream(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = False,
        on_empty: OnEmpty = "error",
        max_wait: float | None = MAX_WAIT,
        **options: Any,
    ) -> Iterator[Translation]:
        """Yield the translations of texts, in order, as texts arrive; the source may be endless.

        Args:
            texts: the sources; they are read one window ahead.
            truncate: see `translate`.
            on_empty: treatment of empty texts, see `translate`.
            max_wait: longest time in seconds that a text waits for others while the source is
                silent. The source is read on a separate thread; None reads it on the caller's
                thread, in whole windows.
            **options: see `generation_options`.
        """
        found = self.answers(
            unlabelled(texts),
            self.generation_options(**options),
            truncate=truncate,
            empties=EmptyTextRule(on_empty),
            live=Live.of(max_wait),
        )
        return (answer for _, answer in found)

    def generation_options(self, **options: Any) -> GenerationOptions:
        """Return the settings of generation: these options, then those of the model's directory.

        Args:
            **options: `beams`, the number of beams, 1 for greedy search; `length_penalty` and
                `early_stopping` of beam search; `n_best`, the number of translations of each
                source,
                the others in `Translation.others`; `sampling`, to sample `n_best` times instead, by
                `seed` and a text's place; `max_tokens`, the maximal length of a translation, the
                end-of-sequence token included; `to`, the code of the target language, for a model
                with several (`>>fra<<` before a text does the same for Marian's); and the fields of
                `encodax.generation.search.LogitsRules`, such as `min_tokens`,
                `no_repeat_ngram_size`, `repetition_penalty` and `suppress_tokens`.

        Raises:
            EncodaxError: there is no such option, or options exclude each other.
        """
        to, languages = options.get("to"), self.model.language_ids
        if to in languages:  # an unknown language is refused where texts are encoded
            options.setdefault("forced_bos_token_id", languages[to])
        return GenerationOptions.of(self.model.default_generation_config, **options)

    def answers(
        self,
        examples: Iterable[Example],
        generation: GenerationOptions,
        *,
        truncate: bool = False,
        empties: EmptyTextRule | None = None,
        live: Live | None = None,
    ) -> Iterator[tuple[Example, Translation]]:
        """Yield each example with the translation of its source, in order.

        Args:
            examples: examples whose texts are translated.
            generation: settings of generation.
            truncate: cut sources that are longer than the model takes.
            empties: treatment of empty texts; None refuses them.
            live: settings for a source that may pause, such as the longest wait; None for whole
                windows.
        """
        forks.check()
        empties = empties or EmptyTextRule("error")
        encode = functools.partial(self._encoded, generation=generation, truncate=truncate)

        def tokenize(window: list[Example]) -> tuple[list[Sequence[Encoding]], int]:
            return empties.sequences(encode, window)

        self._check(generation)
        self._log_generation_config()
        cut = never_ended = without = answered = 0
        with contextlib.closing(windows(examples, Example.characters, live)) as pieces:
            for window in pieces:
                asked, sequences, cut_here, error = tokenize_until_error(window.items, tokenize)
                cut += cut_here
                without += sum(self._lacks_language(example, generation) for example in asked)
                answers = self._translated(sequences, generation, answered)
                for example, answer in zip(asked, answers, strict=True):
                    never_ended += sum(each.is_cut for each in (answer, *answer.others))
                    if answer is not EMPTY_TRANSLATION or empties.rule == "keep":
                        yield example, answer
                answered += len(asked)
                if failed := error or window.error:
                    raise failed
        empties.note()
        self.model.log_cut(cut)
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
                "%d translations were cut at the largest number of tokens; for complete ones, "
                "allow more (max_tokens, --max-tokens)",
                never_ended,
            )

    def _encoded(
        self, examples: list[Example], *, generation: GenerationOptions, truncate: bool
    ) -> tuple[list[list[Encoding]], int]:
        """Return the token sequences of sources, and the number of sources that were cut."""
        texts, names = [each.parts[0] for each in examples], [each.where for each in examples]
        if self.model.tokenizer.languages is not None:  # a language code would hide an empty text
            bare = [LANGUAGE.sub("", text) for text in texts]
            refuse_unseen(bare, names, self.model.tokenizer.encode)
        encodings, cut = self.model.encode(texts, to=generation.to, truncate=truncate, names=names)
        return [[encoding] for encoding in encodings], cut

    def _lacks_language(self, example: Example, generation: GenerationOptions) -> bool:
        """Return whether the target language is missing for a model that has several."""
        is_given = generation.to is not None or LANGUAGE.match(example.parts[0])
        return len(self.model.tokenizer.languages or ()) > 1 and not is_given

    def _log_generation_config(self) -> None:
        """Log once the generation settings of the model's directory."""
        defaults = self.model.default_generation_config
        if defaults.has_no_search_settings or self._has_logged:
            return
        self._has_logged = True
        settings = ", ".join(f"{key} = {shown(value)}" for key, value in defaults.stated)
        logger.warning(
            "generated as the model's directory says: %s; options given here override it",
            settings
            or f"greedily, at most {defaults.max_tokens} tokens, as transformers by default",
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
        """Translate a window in groups of sources of similar length; `before` texts precede it.

        An empty source has no sequence; its translation is `EMPTY_TRANSLATION`.
        """
        filled = [place for place, own in enumerate(sequences) if own]
        encodings = [sequences[place][0] for place in filled]
        answers = [EMPTY_TRANSLATION] * len(sequences)
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
        limit = self._heights[-1]
        for room, places in by_room.items():
            for start in range(0, len(places), limit):
                chosen = places[start : start + limit]
                height = next(height for height in self._heights if height >= len(chosen))
                yield _Group(chosen, room, height)

    def _generated(
        self,
        encodings: list[Encoding],
        numbers: list[int],
        group: _Group,
        generation: GenerationOptions,
    ) -> Generated:
        """Return the targets of one group, in NumPy; `numbers` are the texts' input places."""
        # Padding rows repeat the first one, so that they end when it does.
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
        for held in self._allocated_lengths(group.room, generation):
            program = self._program(group.height, group.room, held, generation)
            found: Generated = jax.device_get(program(self._params, batch, seed, draws))
            if not found.is_open.any():
                break
        # Beam search skips scores that are NaN, and then finds nothing.
        if not (np.isfinite(found.scores).all() and found.lengths[:, 0].all()):
            raise EncodaxError(
                "the model's scores are not finite: its parameters are broken; fetch or train it "
                "again"
            )
        return found

    def _read(self, found: Generated, row: int, generation: GenerationOptions) -> Translation:
        """Return the best or first translation of a row, with the others that were asked for."""
        ends, answers = self.model.default_generation_config.eos_ids, []
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
        """Compile for every shape, so that no text waits for it.

        Args:
            longest: most tokens of a source; None for the model's limit.
            **options: see `generation_options`.
        """
        limit, chosen = longest or self.model.longest_sequence, self.generation_options(**options)
        self._check(chosen)
        for room in [
            *(room for room in SOURCE_LENGTHS if room < limit),
            *_first_of(SOURCE_LENGTHS, limit),
        ]:
            for height in self._heights:
                for held in self._allocated_lengths(room, chosen):
                    self._program(height, room, held, chosen)

    def _longest(self, room: int, generation: GenerationOptions) -> int:
        """Return the maximal length of a target in tokens."""
        return generation.max_tokens or min(room + EXTRA_TOKENS, self.model.longest_sequence)

    def _allocated_lengths(self, room: int, generation: GenerationOptions) -> list[int]:
        """Return the target lengths to allocate in turn: enough for most, then the maximum."""
        longest, usual = self._longest(room, generation), room + EXTRA_TOKENS
        return [usual, longest] if 2 * usual < longest else [longest]

    def _program(
        self, height: int, room: int, held: int, generation: GenerationOptions
    ) -> Callable[..., Generated]:
        forks.check()
        rules = (
            self.model.default_generation_config.rules
            if generation.rules is None
            else generation.rules
        )
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
            defaults = self.model.default_generation_config
            ends = DecodingLimits(
                defaults.decoder_start_id, defaults.eos_ids, defaults.pad_id, longest, rules, held
            )
            self._programs[key] = self._compiled(height, room, ends, generation)
        return self._programs[key]

    def _compiled(
        self, height: int, room: int, ends: DecodingLimits, generation: GenerationOptions
    ) -> Callable[..., Generated]:
        model = self.model

        def run(params: Params, source: PackedBatch, seed: Any, draws: Any) -> Generated:
            cache = model.begin(params, source, ends.buffer_length)
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

        whole, by_row = self._runtime.replicated, self._runtime.by_row
        shardings = whole, by_row, whole, by_row
        jitted = jax.jit(run, in_shardings=shardings, out_shardings=by_row)
        seed, draws = np.uint32(0), np.zeros(height, np.uint32)
        batch = empty_batch(height, room, slots=1)
        return self._runtime.compile(jitted, self._params, batch, seed, draws)

    def evaluate(
        self,
        records: Any,
        *,
        truncate: bool = False,
        on_empty: OnEmptyInData = "error",
        tokenize: str = "13a",
        **options: Any,
    ) -> dict[str, Any]:
        """Return BLEU and chrF of the translations of records with a target.

        Args:
            records: records with a `source` and a `target` each.
            truncate: see `translate`.
            on_empty: treatment of records with an empty text: `error` refuses them, `skip` leaves
                them out.
            tokenize: tokenizer of BLEU, by its name in sacrebleu; `none` for texts that are
                tokenized.
            **options: see `generation_options`.

        Raises:
            EncodaxError: there is no record, or one has no target; or sacrebleu is not installed,
                or has no such tokenizer.
        """
        translation.scorers(tokenize)  # raises its errors before the work
        examples = labelled(translation.TASK, records, on_empty)
        empties = EmptyTextRule(on_empty, IN_DATA)
        generation = dataclasses.replace(self.generation_options(**options), n_best=1)
        found = self.answers(examples, generation, truncate=truncate, empties=empties)
        pairs = ((answer.text, example.target) for example, answer in found)
        return translation.bleu_and_chrf(pairs, tokenize=tokenize)

    def translate_tokens(self, source: str, *, truncate: bool = False) -> EncodedPair:
        """Return a source with the target tokens of its translation, even if these are none or cut.

        Args:
            source: the text.
            truncate: cut a source that is longer than the model takes.

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
    """Wrap generated tokens, which belong to no text, as an encoding."""
    zeros = np.zeros_like(token_ids)
    return Encoding(token_ids, zeros, np.stack([zeros, zeros], axis=1), zeros.astype(bool), zeros)


def _first_of(rooms: Sequence[int], tokens: int) -> list[int]:
    """Return the smallest row length that fits `tokens`, in a list; an empty list if none does."""
    return [room for room in rooms if room >= tokens][:1]
