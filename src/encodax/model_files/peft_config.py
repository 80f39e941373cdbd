"""Settings of an adapter, `adapter_config.json`: every key is used, ignored, or refused.

Tensors and settings together define the adapter: a module is adapted if the settings select it,
with the rank and the scale that they give it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from encodax.config import HeadKind
from encodax.errors import EncodaxError
from encodax.storage import json_files
from encodax.storage.json_files import FileKeys, Settings, shown

Number = TypeVar("Number", int, float)
Start = Literal["as it is", "less QR", "less SVD"]
"""Change that PEFT makes to a weight when it loads an adapter, before it adds A B."""

KINDS: dict[str, HeadKind] = {"SEQ_CLS": "sequence", "TOKEN_CLS": "token", "QUESTION_ANS": "span"}
"""`task_type` -> the kind of head that it needs."""
OTHER_TASKS = ("CAUSAL_LM", "FEATURE_EXTRACTION")
"""Values of `task_type` that need no head."""
SEQ2SEQ_TASK = "SEQ_2_SEQ_LM"

ALL_LINEAR = "all-linear"
"""Value of `target_modules` that selects every linear layer."""

PLAIN_STARTS = ("", "gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base unchanged; the file has the trained A and B."""
UNKNOWN_STARTS = {
    "corda": "subtracted a product from the base that depends on texts and is not in the file",
    "loftq": "rounded the base to few bits",
    "lora_ga": "subtracted a product from the base that depends on texts and is not in the file",
    "pissa_niter": "subtracted a product from the base that PEFT draws again each time",
}
"""Prefixes of `init_lora_weights` that change the base -> why the change cannot be recomputed."""

MERGE_HINT = (
    "where it was trained, call model.merge_and_unload().save_pretrained(directory) of PEFT, save "
    "the tokenizer there too, and load that"
)
"""Advice for getting a full model in place of an adapter."""
MERGED: dict[str, str] = {
    "kasa_config": "it narrows the base, and puts singular values between A and B",
    "lora_bias": "it adds biases of A B",
    "target_parameters": "it adapts parameters by their own names",
    "trainable_token_indices": "it trains rows of the embedding",
    "use_bdlora": "its matrices are blocks",
    "use_dora": "it scales each row of the sum (DoRA)",
    "velora_config": "it keeps projections of gradients beside A and B",
}
"""Keys of features that are not supported here, but that a merged model contains."""
NEVER_MERGED: dict[str, str] = {
    "alora_invocation_tokens": "it adapts only the tokens after these",
    "arrow_config": "it chooses among adapters for each token",
    "layer_replication": "it repeats layers of the base",
    "megatron_config": "it is for layers that are spread over devices",
    "monteclora_config": "it draws weights at random",
    "use_qalora": "it averages groups of inputs",
}
"""Keys of features that no merged model can contain."""

ENDING = r"(.*\.)?({})$"
"""Regular expression for a key of `rank_pattern` or `alpha_pattern` in a module's name."""
PART = r"(^|.*\.){}($|\..*)"
"""Regular expression for one of `modules_to_save`."""
NUMBERED = r"(?:^|.*?\.){}\.(?P<number>\d+)\."
"""Regular expression for one of `layers_pattern`, with the number of the layer."""
ANY_NUMBERED = r".*?\.[^.]*\.(?P<number>\d+)\."
"""Regular expression for the number of the layer without `layers_pattern`: the first number."""

HOW_TRAINED = "it says how the adapter was trained, not what is computed with it"
BEGUN = "it says how init_lora_weights started, and that is accounted for"
HARMLESS: dict[str, str] = {
    "auto_mapping": "it names the class that PEFT wrapped, and no code of a directory is run",
    "corda_config": BEGUN,
    "eva_config": BEGUN,
    "fan_in_fan_out": "PEFT sets it to false for a linear layer, and no other layer is adapted",
    "inference_mode": HOW_TRAINED,
    "loftq_config": BEGUN,
    "lora_dropout": HOW_TRAINED,
    "lora_ga_config": BEGUN,
    "megatron_core": "it belongs to megatron_config, which is off",
    "peft_version": "it says where the adapter comes from",
    "qalora_group_size": "it belongs to use_qalora, which is off",
    "runtime_config": "PEFT does not read it from a file",
}
"""Keys that do not change any output -> the reason."""


@dataclass(frozen=True)
class PeftConfig:
    """Content of `adapter_config.json`."""

    where: Path
    base: str | None
    """Base model: a directory, or an id on the hub."""
    revision: str | None
    """Branch, tag or commit of the base model on the hub."""
    kind: HeadKind | None
    """Kind of the head that the adapter was trained with; None if unknown."""
    rank: int
    alpha: float
    is_stable: bool
    """Whether the scale is alpha / sqrt(r) rather than alpha / r (rsLoRA)."""
    ranks: Mapping[str, int]
    """Regular expression of modules -> their rank, if it is not `rank`."""
    alphas: Mapping[str, float]
    """Regular expression of modules -> their alpha, if it is not `alpha`."""
    targets: str | tuple[str, ...]
    """Regular expression of the adapted modules, or suffixes of their names."""
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...]
    """Indices of the only layers that are adapted; () for all."""
    layers_pattern: tuple[str, ...]
    """Names that precede these indices in a module's name; () for any name."""
    whole: tuple[str, ...]
    """Modules that are saved in full, as parts of their names."""
    is_tied: bool
    """Whether an embedding that is saved in full is shared with a tied head."""
    start: Start
    keys: FileKeys = field(default_factory=FileKeys)
    """Keys of the file: used, or kept with a reason."""

    def rank_of(self, module: str) -> int:
        """Return the rank r of a module, by its name in PEFT's model."""
        return _of_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """Return the scale s of a module, the factor of A B."""
        rank = self.rank_of(module)
        alpha = _of_pattern(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_stable else rank)

    def adapts(self, module: str) -> bool:
        """Return whether PEFT adapts a linear layer of this name."""
        if _names(self.excluded, module) or self.saves(module):
            return False
        if isinstance(self.targets, str):
            return self.targets.lower() == ALL_LINEAR or _names(self.targets, module)
        return _names(self.targets, module) and self._is_in_a_chosen_layer(module)

    def saves(self, module: str) -> bool:
        """Return whether PEFT saves a module in full, by itself or as a part of another."""
        return any(re.match(PART.format(name), module) for name in self.whole)

    def wants(self, module: str) -> bool:
        """Return whether `modules_to_save` requires the tensors of a module in the file."""
        parts = module.split(".")
        above = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return bool(self.whole) and any(name.endswith(self.whole) for name in above)

    def _is_in_a_chosen_layer(self, module: str) -> bool:
        if not self.layers:
            return True
        patterns = [NUMBERED.format(name) for name in self.layers_pattern] or [ANY_NUMBERED]
        found = (re.match(pattern, module) for pattern in patterns)
        number = next((match["number"] for match in found if match), None)
        return number is not None and int(number) in self.layers


def _of_pattern(patterns: Mapping[str, Number], module: str, default: Number) -> Number:
    """Return the value of the first pattern that matches a module's name, or its end."""
    found = (value for key, value in patterns.items() if re.match(ENDING.format(key), module))
    return next(found, default)


def _names(names: str | tuple[str, ...], module: str) -> bool:
    """Return whether a regular expression, or one of several suffixes, matches a module's name."""
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def read(path: Path) -> PeftConfig:
    """Read and check `adapter_config.json`.

    Raises:
        EncodaxError: the file is missing or broken, or a key needs an unsupported feature.
    """
    content = json_files.read(path, hint=": is it the directory of an adapter?")
    settings = Settings(content, where=path)
    value = _Values(settings)
    value.checked("peft_type", lambda found: found == "LORA", '"LORA"')
    for key in (*MERGED, *NEVER_MERGED):
        _refuse_where_on(settings, key)
    if (bias := settings.get("bias", "none")) != "none":
        raise EncodaxError(f"{path}: bias = {shown(bias)} is not supported: {MERGE_HINT}")
    if settings.get("task_type") == SEQ2SEQ_TASK:
        raise EncodaxError(
            f"{path}: adapters of sequence-to-sequence models (task_type) are not supported: "
            f"{MERGE_HINT}"
        )
    start = _start(settings)
    task = value.optional("task_type", _is_task, f"one of {', '.join([*KINDS, *OTHER_TASKS])}")
    layers = value.optional("layers_to_transform", _are_layers, "a number or numbers")
    pattern = value.optional("layers_pattern", _are_names, "a name or names")
    targets = value.checked(
        "target_modules", lambda found: bool(found) and _are_names(found), "the names of modules"
    )
    excluded = value.optional("exclude_modules", _are_names, "a name or names")
    alphas = value.optional("alpha_pattern", _all(_is_number), "an object of numbers")
    if isinstance(targets, str) and (layers or pattern):
        raise EncodaxError(f"{path}: layers_to_transform needs target_modules as a list")
    config = PeftConfig(
        where=path,
        base=value.optional("base_model_name_or_path", _is_text, "a name"),
        revision=value.optional("revision", _is_text, "a name"),
        kind=KINDS.get(task or ""),
        rank=value.checked("r", _is_rank, "a whole number above 0", 8),
        alpha=float(value.checked("lora_alpha", _is_number, "a number", 8)),
        is_stable=bool(value.optional("use_rslora", _is_flag, "true or false")),
        ranks=value.optional("rank_pattern", _all(_is_rank), "an object of ranks") or {},
        alphas={name: float(alpha) for name, alpha in (alphas or {}).items()},
        targets=_tuple(targets),
        excluded=_tuple(excluded),
        layers=(layers,) if isinstance(layers, int) else tuple(layers or ()),
        layers_pattern=(pattern,) if isinstance(pattern, str) else tuple(pattern or ()),
        whole=tuple(value.optional("modules_to_save", _are_listed, "a list of names") or ()),
        is_tied=bool(value.optional("ensure_weight_tying", _is_flag, "true or false")),
        start=start,
    )
    _check(config)
    return replace(config, keys=settings.settle(HARMLESS))


class _Values:
    """Reader of values that refuses those of a wrong type."""

    def __init__(self, settings: Settings):
        self._settings = settings

    def checked(
        self, key: str, is_valid: Callable[[Any], bool], wanted: str, default: Any = None
    ) -> Any:
        """Return a valid value, or raise."""
        value = self._settings.get(key, default)
        if not is_valid(value):
            raise EncodaxError(f"{self._settings.where}: {key} = {shown(value)} is not {wanted}")
        return value

    def optional(self, key: str, is_valid: Callable[[Any], bool], wanted: str) -> Any:
        """Return a valid value, or None if the key is missing or empty."""
        if self._settings.get(key) in (None, ""):
            return None
        return self.checked(key, is_valid, wanted)


def _is_number(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer too large for a float
        return False


def _is_rank(value: object) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_task(value: object) -> bool:
    return isinstance(value, str) and (value in KINDS or value in OTHER_TASKS)


def _are_listed(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _are_names(value: object) -> bool:
    return isinstance(value, str) or _are_listed(value)


def _are_layers(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(type(number) is int for number in numbers)


def _all(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def are_valid(value: object) -> bool:
        return isinstance(value, dict) and all(map(is_valid, value.values()))

    return are_valid


def _tuple(names: str | list[str] | None) -> str | tuple[str, ...]:
    return names if isinstance(names, str) else tuple(names or ())


def _refuse_where_on(settings: Settings, key: str) -> None:
    """Refuse a key of an unsupported feature, with advice where possible.

    Raises:
        EncodaxError: the key is set.
    """
    if value := settings.plain().get(key):
        is_merged = key in MERGED
        reason = MERGED[key] if is_merged else NEVER_MERGED[key]
        way_out = f": {MERGE_HINT}" if is_merged else ", which no merged model holds"
        raise EncodaxError(
            f"{settings.where}: {key} = {shown(value)} is not supported: {reason}{way_out}"
        )


def _start(settings: Settings) -> Start:
    """Return the change that PEFT makes to the base's weights when it loads the adapter.

    Raises:
        EncodaxError: the change cannot be recomputed, or is unknown.
    """
    value = settings.get("init_lora_weights", True)
    name = value.lower() if isinstance(value, str) else value
    if value == "pissa":
        return "less SVD"
    if name == "olora":
        return "less QR"
    if name is None or isinstance(name, bool) or (isinstance(name, str) and name in PLAIN_STARTS):
        return "as it is"
    known = (why for begin, why in UNKNOWN_STARTS.items() if str(name).startswith(begin))
    reason = next(known, "is not known here")
    raise EncodaxError(
        f"{settings.where}: init_lora_weights = {shown(value)} is not supported: it {reason}: "
        f"{MERGE_HINT}"
    )


def _check(config: PeftConfig) -> None:
    """Refuse invalid regular expressions.

    Raises:
        EncodaxError: a regular expression is invalid; the error names the key.
    """
    named = {
        "rank_pattern": map(ENDING.format, config.ranks),
        "alpha_pattern": map(ENDING.format, config.alphas),
        "target_modules": [config.targets] if isinstance(config.targets, str) else [],
        "exclude_modules": [config.excluded] if isinstance(config.excluded, str) else [],
        "layers_pattern": map(NUMBERED.format, config.layers_pattern),
        "modules_to_save": map(PART.format, config.whole),
    }
    for key, expressions in named.items():
        for expression in expressions:
            try:
                re.compile(expression)
            except (OverflowError, RecursionError, re.error) as error:
                raise EncodaxError(
                    f"{config.where}: {key} gives {shown(expression)}, which is not a regular "
                    f"expression: {error}"
                ) from error
