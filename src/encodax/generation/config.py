"""Generation settings of a model directory: `generation_config.json`, or `config.json` without it.

Each field of transformers' `GenerationConfig` is applied, ignored, or refused by name. As in
transformers, if there is a `generation_config.json`, such keys in `config.json` are ignored.

If a directory has any setting of the search, or was written by transformers, missing settings take
transformers' defaults: greedy search, 20 tokens. Otherwise, as in directories that Encodax writes,
the defaults are Encodax's: 4 beams, the paper's length penalty, 50 tokens more than the source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encodax.config import Seq2SeqConfig
from encodax.errors import EncodaxError
from encodax.families.ignored_keys import MEMORY, OUTPUT, PROVENANCE, TOKEN_ID, UNREAD
from encodax.generation.search import BeamSearch, DecodingLimits, LogitsRules, Sampling
from encodax.storage import json_files
from encodax.storage.json_files import FileKeys, Settings, shown

FILE = "generation_config.json"
MOST_LENGTH = 1_000_000
"""Largest number of tokens accepted; a larger one is a mistake."""
DEFAULT_MAX_NEW_TOKENS = 20
"""Default number of tokens that transformers generates."""
TOP_K = 50
"""Default `top_k` of transformers."""

ASSISTED = "it is another way to the same tokens"
HARMLESS: dict[str, str] = {
    **dict.fromkeys(
        ("output_attentions", "output_hidden_states", "output_logits", "output_scores"), OUTPUT
    ),
    "return_dict_in_generate": OUTPUT,
    **dict.fromkeys(
        (
            "use_cache", "cache_implementation", "cache_config", "max_cache_len", "compile_config",
            "continuous_batching_config", "disable_compile", "low_memory", "prefill_chunk_size",
        ),
        MEMORY,
    ),
    **dict.fromkeys(
        (
            "assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind",
            "is_assistant", "max_matching_ngram_size", "num_assistant_tokens",
            "num_assistant_tokens_schedule", "prompt_lookup_num_tokens", "speculation_type",
            "target_lookbehind", "use_mtp",
        ),
        ASSISTED,
    ),
    "_commit_hash": PROVENANCE,
    "_from_model_config": PROVENANCE,
    "transformers_version": PROVENANCE,
    "bos_token_id": TOKEN_ID,
}  # fmt: skip
"""Fields that do not change any token -> the reason."""
REFUSED: dict[str, tuple[Any, ...]] = {
    "assistant_ensemble_weight": (),
    "constraints": (),
    "diversity_penalty": (0.0,),
    "dola_layers": (),
    "force_words_ids": (),
    "guidance_scale": (1.0,),
    "max_time": (),
    "num_beam_groups": (1,),
    "penalty_alpha": (0.0,),
    "stop_strings": ([],),
    "token_healing": (False,),
    "watermarking_config": ({},),
    **dict.fromkeys(
        (
            "assistant_model", "logits_processor", "negative_prompt_attention_mask",
            "negative_prompt_ids", "prefix_allowed_tokens_fn", "stopping_criteria", "streamer",
            "synced_gpus",
        ),
        (),
    ),
}  # fmt: skip
"""Fields that are not supported -> values, besides null, that turn them off."""
IDS = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
OF_RULES = (
    "bad_words_ids", "begin_suppress_tokens", "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty", "exponential_decay_length_penalty", "forced_bos_token_id",
    "forced_eos_token_id", "min_length", "min_new_tokens", "no_repeat_ngram_size",
    "remove_invalid_values", "renormalize_logits", "repetition_penalty", "sequence_bias",
    "suppress_tokens",
)  # fmt: skip
OF_SAMPLING = (
    "epsilon_cutoff", "eta_cutoff", "min_p", "temperature", "top_h", "top_k", "top_p", "typical_p",
)  # fmt: skip
OF_SEARCH = ("do_sample", "early_stopping", "length_penalty", "num_beams", "num_return_sequences")
OF_LENGTH = ("max_length", "max_new_tokens")
APPLIED = (*IDS, *OF_LENGTH, *OF_SEARCH, *OF_RULES, *OF_SAMPLING)
"""Fields that are read."""
SILENT = {*IDS, "bad_words_ids", "forced_bos_token_id", "max_length"}
"""Fields that Encodax writes for every model; they do not set the search."""
OFF: dict[str, Any] = {
    "do_sample": False, "early_stopping": False, "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
    "length_penalty": 1.0, "min_length": 0, "no_repeat_ngram_size": 0, "num_beams": 1,
    "num_return_sequences": 1, "remove_invalid_values": False, "repetition_penalty": 1.0,
    "temperature": 1.0, "top_k": TOP_K, "top_p": 1.0, "typical_p": 1.0,
}  # fmt: skip
"""Defaults of transformers that are not null."""


@dataclass(frozen=True)
class GenerationConfig:
    """Generation settings used by default."""

    decoder_start_id: int
    eos_ids: tuple[int, ...]
    pad_id: int
    rules: LogitsRules = field(default_factory=LogitsRules)
    beams: BeamSearch = field(default_factory=BeamSearch)
    """Beam search; with one beam, greedy search."""
    do_sample: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings, used if `do_sample`."""
    n_best: int = 1
    max_tokens: int | None = None
    """Maximum number of tokens, EOS included; None for a number that depends on the source."""
    has_no_search_settings: bool = True
    """Whether the directory has no setting of the search."""
    stated: tuple[tuple[str, Any], ...] = ()
    """Settings of the directory, as they are written there."""

    @classmethod
    def of(cls, config: Seq2SeqConfig) -> GenerationConfig:
        """Return the default settings of a model."""
        ends = DecodingLimits.of(config, 1)
        return cls(ends.decoder_start_id, ends.eos_ids, ends.pad_id, ends.rules)


def values_of(directory: Path, published: Mapping[str, Any]) -> Settings:
    """Read the settings of a directory from `generation_config.json`, or from `config.json`.

    Raises:
        EncodaxError: the file cannot be read.
    """
    place = directory / FILE
    if json_files.is_there(place):
        return Settings(json_files.read(place, hint=""), where=place)
    known = {*APPLIED, *REFUSED, "bos_token_id"}
    found = {key: value for key, value in published.items() if key in known and value is not None}
    if published.get("force_bos_token_to_be_generated") is True:
        found["forced_bos_token_id"] = published.get("bos_token_id")
    return Settings(found, where=directory / "config.json")


def read(
    values: Settings, config: Seq2SeqConfig, *, longest: int, is_published: bool
) -> tuple[GenerationConfig, FileKeys]:
    """Parse the settings of a directory.

    Args:
        values: result of `values_of`.
        config: configuration of the model.
        longest: maximum number of tokens of a sequence.
        is_published: whether transformers wrote `config.json`.

    Returns:
        The settings, and the keys of the file: used, or kept with a reason.

    Raises:
        EncodaxError: a value is invalid, or needs a feature that is not supported.
    """
    rows = config.transformer.decoder.embeddings.vocabulary_size
    fields = _Fields(values, rows)
    for key, off in REFUSED.items():
        value = fields[key]
        if value is not None and value not in off:
            raise fields.error(key, "is not supported; remove the key to generate without it")
    length = fields.count("max_length", minimum=1)
    decisive = {key for key in APPLIED if fields[key] is not None} - SILENT
    has_settings = bool(decisive) or is_published or "transformers_version" in values
    has_settings |= length is not None and length < longest
    defaults = GenerationConfig.of(config)
    begin = fields.token("decoder_start_token_id")
    if begin is None and has_settings:
        begin = fields.token("bos_token_id")
    pad = fields.token("pad_token_id")
    found = replace(
        defaults,
        decoder_start_id=defaults.decoder_start_id if begin is None else begin,
        eos_ids=fields.tokens("eos_token_id") or defaults.eos_ids,
        pad_id=defaults.pad_id if pad is None else pad,
        rules=_rules(fields, defaults.rules if not has_settings else LogitsRules()),
    )
    if has_settings:
        stated = ((key, fields[key]) for key in APPLIED if key not in IDS)
        found = replace(
            found,
            beams=_beams(fields),
            do_sample=fields.flag("do_sample"),
            sampling=_sampling(fields),
            n_best=fields.count("num_return_sequences", minimum=1) or 1,
            has_no_search_settings=False,
            max_tokens=_max_tokens(fields, length, config, longest),
            stated=tuple((key, v) for key, v in stated if v is not None and v != OFF.get(key)),
        )
        _check(fields, found)
    return found, values.settle(HARMLESS, unknown=UNREAD)


def _beams(fields: _Fields) -> BeamSearch:
    stop = fields["early_stopping"]
    stop = False if stop is None else stop
    if not (isinstance(stop, bool) or stop == "never"):
        raise fields.error("early_stopping", 'is not one of: false, true, "never"')
    penalty = fields.number("length_penalty")
    count = fields.count("num_beams", minimum=1) or 1
    beams: BeamSearch = fields.made(
        BeamSearch, count, 1.0 if penalty is None else penalty, 0.0, stop
    )
    return beams


def _sampling(fields: _Fields) -> Sampling:
    values = {key: fields.number(key) for key in OF_SAMPLING if key != "top_k"}
    top_k = fields.count("top_k")
    if values["top_p"] == 0:  # only the most probable token is left
        values["top_p"], top_k = None, 1
    given = {key: value for key, value in values.items() if value is not None}
    sampling: Sampling = fields.made(
        Sampling, top_k=TOP_K if top_k is None else top_k or None, **given
    )
    return sampling


def _max_tokens(fields: _Fields, length: int | None, config: Seq2SeqConfig, longest: int) -> int:
    """Return the maximum number of tokens; `max_length` also counts the decoder start token."""
    new = fields.count("max_new_tokens", minimum=1)
    if new is not None:
        return min(new, longest)
    if length is not None:
        if length == 1:
            raise fields.error("max_length", "leaves no room after the decoder start token")
        return min(length - 1, longest)
    positions = config.transformer.decoder.embeddings.max_positions
    return min(DEFAULT_MAX_NEW_TOKENS, longest if positions is None else positions - 1)


def _rules(fields: _Fields, default: LogitsRules) -> LogitsRules:
    min_new, min_length = fields.count("min_new_tokens"), fields.count("min_length")
    decay = fields["exponential_decay_length_penalty"]
    if decay is not None:
        if not (isinstance(decay, list) and len(decay) == 2 and _is_count(decay[0])):
            raise fields.error("exponential_decay_length_penalty", "is not [tokens, factor]")
        factor = fields.checked("exponential_decay_length_penalty", decay[1], minimum=0.0)
        decay = decay[0], factor
    words = fields["bad_words_ids"]
    first = fields.token("forced_bos_token_id")
    given: dict[str, Any] = {
        "sequence_bias": fields.biases("sequence_bias"),
        "encoder_repetition_penalty": fields.penalty("encoder_repetition_penalty"),
        "repetition_penalty": fields.penalty("repetition_penalty"),
        "no_repeat_ngram_size": fields.count("no_repeat_ngram_size"),
        "encoder_no_repeat_ngram_size": fields.count("encoder_no_repeat_ngram_size"),
        "bad_words_ids": None if words is None else fields.sequences("bad_words_ids", words),
        "min_tokens": max((min_length or 0) - 1, 0) if min_new is None else min_new,
        "forced_bos_token_id": first,
        "forced_eos_token_id": fields.tokens("forced_eos_token_id"),
        "remove_invalid_values": fields.flag("remove_invalid_values"),
        "exponential_decay_length_penalty": decay,
        "suppress_tokens": fields.tokens("suppress_tokens"),
        "begin_suppress_tokens": fields.tokens("begin_suppress_tokens"),
        "renormalize_logits": fields.flag("renormalize_logits"),
    }
    return replace(default, **{key: value for key, value in given.items() if value is not None})


def _check(fields: _Fields, found: GenerationConfig) -> None:
    """Refuse values that contradict each other.

    Raises:
        EncodaxError: there are such values; the error names them.
    """
    count, many = found.beams.size, found.n_best
    if found.do_sample and count > 1:
        raise fields.error(
            "do_sample", f"with num_beams = {count} is not supported: remove one of them"
        )
    if many > count and not found.do_sample:
        raise fields.error(
            "num_return_sequences",
            f"is more than num_beams = {count}: raise num_beams, or set do_sample to true",
        )
    banned = set(found.rules.suppress_tokens)
    for key in ("forced_bos_token_id", "forced_eos_token_id"):
        wanted = set(found.rules.token_ids()[key])
        if wanted and wanted <= banned:
            raise fields.error(key, "is among suppress_tokens: remove it from one of them")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_LENGTH


class _Fields:
    """Checked values of the file; None for those that are null or missing."""

    def __init__(self, values: Settings, vocabulary: int):
        self._values = values
        self._vocabulary = vocabulary

    def __getitem__(self, key: str) -> Any:
        return self._values.get(key)

    def error(self, key: str, problem: str) -> EncodaxError:
        return EncodaxError(f"{self._values.where}: {key} = {shown(self[key])} {problem}")

    def made(self, kind: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Create an object that checks its own values; add the file's name to its error."""
        try:
            return kind(*arguments, **options)
        except EncodaxError as error:
            raise EncodaxError(f"{self._values.where}: {error}") from error

    def count(self, key: str, *, minimum: int = 0) -> int | None:
        value = self[key]
        if value is None:
            return None
        if not _is_count(value) or value < minimum:
            raise self.error(key, f"is not a whole number in {minimum}..{MOST_LENGTH}")
        return int(value)

    def flag(self, key: str) -> bool:
        value = self[key]
        if not isinstance(value, bool | None):
            raise self.error(key, "is neither true nor false")
        return bool(value)

    def number(self, key: str) -> float | None:
        value = self[key]
        return None if value is None else self.checked(key, value)

    def checked(self, key: str, value: Any, *, minimum: float = -math.inf) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and minimum <= value):
            bound = "" if minimum == -math.inf else f" >= {minimum:g}"
            raise self.error(key, f"is not a finite number{bound}")
        return float(value)

    def penalty(self, key: str) -> float | None:
        value = self.number(key)
        if value is not None and value <= 0:
            raise self.error(key, "is not above 0")
        return value

    def id(self, key: str, value: Any) -> int:
        if not (_is_count(value) and value < self._vocabulary):
            raise self.error(
                key, f"needs token ids of the vocabulary, which has 0..{self._vocabulary - 1}"
            )
        return int(value)

    def token(self, key: str) -> int | None:
        return None if self[key] is None else self.id(key, self[key])

    def tokens(self, key: str) -> tuple[int, ...] | None:
        """Return one token id, or a list of them, as a tuple."""
        value = self[key]
        if value is None:
            return None
        return tuple(self.id(key, each) for each in (value if isinstance(value, list) else [value]))

    def sequences(self, key: str, value: Any) -> tuple[tuple[int, ...], ...]:
        if not isinstance(value, list) or not all(isinstance(each, list) for each in value):
            raise self.error(key, "is not a list of lists of token ids")
        if not all(value):
            raise self.error(key, "has a sequence without tokens")
        return tuple(tuple(self.id(key, token) for token in each) for each in value)

    def biases(self, key: str) -> tuple[tuple[tuple[int, ...], float], ...] | None:
        value = self[key]
        if value is None:
            return None
        if not isinstance(value, list) or not all(
            isinstance(each, list) and len(each) == 2 for each in value
        ):
            raise self.error(key, "is not a list of [tokens, number]")
        tokens = self.sequences(key, [each[0] for each in value])
        return tuple(
            dict(
                (own, self.checked(key, each[1])) for own, each in zip(tokens, value, strict=True)
            ).items()
        )
