"""Models read from their directories, with adapters merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from encodax.errors import EncodaxError
from encodax.model_files import peft, saved_model
from encodax.model_files.saved_model import AnyParts, ModelParts, of_encoder
from encodax.models.forward import parameter_shapes
from encodax.models.heads import with_head, without_head
from encodax.process import forks
from encodax.storage import reading
from encodax.types.batches import Params


def read(directory: Path, token: str | None, *, encoder_only: bool) -> ModelParts:
    """Read a model directory, or the base model of an adapter with the adapter merged.

    Raises:
        EncodaxError: a file is missing or broken, or needs a feature that is not supported.
    """
    forks.check()
    if peft.is_adapter(directory):
        return _read_adapted(directory, token)
    return saved_model.read(directory, parameter_shapes, encoder_only=encoder_only)


def _read_adapted(directory: Path, token: str | None) -> ModelParts:
    adapter = peft.read(directory)
    if adapter.has_base:
        return merge(saved_model.read(adapter.place, parameter_shapes), adapter)
    base = peft.base_directory(adapter.settings, token)
    return reading.read_consistently(base, lambda: _merged_into(base, adapter))


def _merged_into(base: Path, adapter: peft.Adapter) -> ModelParts:
    if peft.is_adapter(base):
        raise EncodaxError(
            f"{adapter.place}: its base {base} is an adapter too: load that, save the whole model, "
            "and name it as the base"
        )
    return merge(saved_model.read(base, parameter_shapes), adapter)


def merge(model: AnyParts, adapter: peft.Adapter) -> AnyParts:
    """Return a model with an adapter merged, and the adapter's head, tokenizer and modules.

    Raises:
        EncodaxError: the adapter was made for another model.
    """
    base, wanted = model, peft.head_of(adapter, model.config)
    if adapter.makes_embedder:
        model = without_head(model)
    if wanted is not None:
        head, labels = wanted
        model = with_head(model, head.kind, head.classes, labels=labels, problem=head.problem)
        model = replace(model, config=replace(model.config, head=head))
    leaves = adapter.leaves(model.config, model.params)
    if wanted is not None:
        _check_head(model, base, leaves, adapter.place)
    both = {path: {**own, **leaves.get(path, {})} for path, own in model.params.items()}
    model = replace(model, params=peft.merge(both), files={**model.files, **adapter.files})
    return saved_model.adapted(model, adapter.place, adapter.modules)


def _check_head(model: ModelParts, base: ModelParts, leaves: Params, place: Path) -> None:
    """Refuse a head with a parameter that is neither in the base's file nor in the adapter's.

    Raises:
        EncodaxError: there is such a parameter; it would be random.
    """
    for path, own in model.params.items():
        for leaf in own if not of_encoder(path) else ():
            name = saved_model.family_of(model.config).tensor(model.config, path, leaf).name
            if name not in base.extra_tensors and leaf not in leaves.get(path, {}):
                raise EncodaxError(
                    f"{place}: {name} is neither there nor in the base: it was drawn at random and "
                    "not saved; train again with its module among modules_to_save"
                )
