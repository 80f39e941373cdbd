"""Models with another head: a new one of their family, an embedder's, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from encodax.config import HeadConfig, HeadKind, InferenceConfig, Pooling, Problem
from encodax.model_files import saved_model
from encodax.model_files.saved_model import AnyParts, of_encoder
from encodax.models.forward import initial_params


def without_head(model: AnyParts) -> AnyParts:
    """Return the encoder without its head."""
    params = {path: leaves for path, leaves in model.params.items() if of_encoder(path)}
    return replace(model, config=replace(model.config, head=None, labels=()), params=params)


def with_head(
    model: AnyParts,
    kind: HeadKind,
    classes: int,
    *,
    labels: Sequence[str] = (),
    problem: Problem = "single_label",
    seed: int = 0,
) -> AnyParts:
    """Return the same encoder with a head of another kind; arguments as in `Model.with_head`."""
    if kind in ("sequence", "token"):
        labels = labels or [f"LABEL_{index}" for index in range(classes)]
    family = saved_model.family_of(model.config)
    head = family.new_head(model.config, kind, len(labels) or classes)
    if kind == "sequence":
        head = replace(head, problem=problem)
    config = replace(
        model.config, head=head, labels=tuple(labels), max_length=None, usage=InferenceConfig()
    )
    params = dict(initial_params(config, jax.random.key(seed)))
    params |= {path: leaves for path, leaves in model.params.items() if of_encoder(path)}
    extra = dict(model.extra_tensors)
    of_head = [path for path in params if not of_encoder(path)] if family.has(kind) else []
    for path in of_head:
        for leaf, fresh in params[path].items():
            tensor = family.tensor(config, path, leaf)
            found = extra.pop(tensor.name, None)
            if found is not None and found.shape == tensor.file_shape(fresh.shape):
                parameter = jnp.asarray(tensor.to_parameter(found, fresh.shape))
                params[path] = {**params[path], leaf: parameter}
    extra = {name: a for name, a in extra.items() if family.is_ignored(config, name)}
    return replace(model, config=config, params=params, extra_tensors=extra)


def with_embeddings(model: AnyParts, pooling: Pooling, *, normalize: bool) -> AnyParts:
    """Return the same encoder as an embedder, one vector for each text, without parameters."""
    old, head = model.config.head, HeadConfig("embedding", pooling=pooling, normalize=normalize)
    is_embedder = old is not None and old.kind == "embedding"
    # Prompts of a cross-encoder do not apply to vectors.
    usage = model.config.usage if is_embedder else InferenceConfig()
    bare = without_head(model)
    return replace(bare, config=replace(bare.config, head=head, usage=usage))
