"""Meaning of a model's scores, and differences from `CrossEncoder` of sentence-transformers."""

from __future__ import annotations

from encodax.config import HeadConfig, InferenceConfig, ModelConfig
from encodax.model_files.sentence_modules import default_activation

NO_USAGE = InferenceConfig()
BY_PROBLEM = {"single_label": "softmax", "multi_label": "sigmoid", "regression": "linear"}
"""Activation of the logits, by the head's problem type."""
CROSS_ENCODER_ARGUMENTS = {
    "softmax": "apply_softmax=True",
    "sigmoid": "activation_fn=torch.nn.Sigmoid()",
}
"""Argument of `CrossEncoder.predict` that gives the scores of an activation."""


def activation_of(head: HeadConfig, usage: InferenceConfig = NO_USAGE) -> str:
    """Return the name of the activation of a head's logits, a key of `SCORE_ACTIVATIONS`.

    Class scores become probabilities: softmax for one right class, sigmoid for each class if
    several may be right. Quantities and span ends stay logits. The activation of a cross-encoder
    takes precedence, except a linear one over several classes: these become probabilities.
    """
    if head.kind == "span":
        return "linear"
    activation = usage.activation if head.kind == "sequence" else None
    if activation is not None and (head.classes == 1 or activation != "linear"):
        return activation
    return BY_PROBLEM[head.problem]


def cross_encoder_activation(config: ModelConfig) -> str | None:
    """Return the activation that `CrossEncoder` applies to the logits; None for other heads."""
    if config.head is None or config.head.kind != "sequence":
        return None
    return config.usage.activation or default_activation(config.head.classes)


def describe_scores(config: ModelConfig) -> str | None:
    """Describe the scores of labels; for one score, compare them with those of `CrossEncoder`.

    Returns None if there are no such scores.
    """
    head = config.head
    if head is None or head.kind not in ("sequence", "token"):
        return None
    return difference(config, is_cross_encoder=head.classes == 1) or _named(
        activation_of(head, config.usage)
    )


def difference(config: ModelConfig, *, is_cross_encoder: bool = False) -> str | None:
    """Describe how scores differ from those of `CrossEncoder`, and how to get the other ones.

    Args:
        config: configuration of the model.
        is_cross_encoder: whether it is used as one; if False, its files must say that it is.

    Returns:
        A description, or None if `CrossEncoder` gives the same scores.
    """
    head, theirs = config.head, cross_encoder_activation(config)
    if head is None or theirs is None or not (is_cross_encoder or config.usage.activation):
        return None
    if (own := activation_of(head, config.usage)) == theirs:
        return None
    way = "encodax rerank gives those too"
    if head.classes > 1:
        way = f"its predict(..., {CROSS_ENCODER_ARGUMENTS[own]}) gives these"
    there = f"CrossEncoder of sentence-transformers gives the {_named(theirs)}"
    return f"{_named(own)}, and {there}: {way}"


def _named(activation: str) -> str:
    return "logits" if activation == "linear" else f"{activation} of the logits"
