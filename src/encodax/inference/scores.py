"""What a model's scores are, and where `CrossEncoder` of sentence-transformers gives others."""

from __future__ import annotations

from encodax.config import HeadConfig, ModelConfig, Usage
from encodax.model_files.sentence_modules import usual_activation

NO_USAGE = Usage()
BY_PROBLEM = {"single_label": "softmax", "multi_label": "sigmoid", "regression": "linear"}
"""What scores mean -> what logits go through."""
HOW = {"softmax": "apply_softmax=True", "sigmoid": "activation_fn=torch.nn.Sigmoid()"}
"""What `CrossEncoder.predict` is to be told to give the same."""


def activation_of(head: HeadConfig, usage: Usage = NO_USAGE) -> str:
    """The name in `SCORE_ACTIVATIONS` of what the logits of a head go through.

    Scores become probabilities: of one class, or of each class alone where several may be right.
    A quantity, and the ends of a span, stay as they are. The activation of a cross-encoder goes
    before that, but several classes without one become probabilities.
    """
    if head.kind == "span":
        return "linear"
    activation = usage.activation if head.kind == "sequence" else None
    if activation is not None and (head.classes == 1 or activation != "linear"):
        return activation
    return BY_PROBLEM[head.problem]


def of_cross_encoder(config: ModelConfig) -> str | None:
    """The same for what `CrossEncoder` makes of a model's logits; None of another head."""
    if config.head is None or config.head.kind != "sequence":
        return None
    return config.usage.activation or usual_activation(config.head.classes)


def described(config: ModelConfig) -> str | None:
    """What the scores of labels are; of one score, what `CrossEncoder` makes of it too.

    None where there are none.
    """
    head = config.head
    if head is None or head.kind not in ("sequence", "token"):
        return None
    return difference(config, is_cross_encoder=head.classes == 1) or _named(
        activation_of(head, config.usage)
    )


def difference(config: ModelConfig, *, is_cross_encoder: bool = False) -> str | None:
    """What scores are that `CrossEncoder` would not give, and how to have the others.

    Args:
        config: of the model.
        is_cross_encoder: whether it is used as one; otherwise its files have to say that it is.

    Returns:
        None where it would give the same.
    """
    head, theirs = config.head, of_cross_encoder(config)
    if head is None or theirs is None or not (is_cross_encoder or config.usage.activation):
        return None
    if (own := activation_of(head, config.usage)) == theirs:
        return None
    way = "encodax rerank gives those too"
    if head.classes > 1:
        way = f"its predict(..., {HOW[own]}) gives these"
    there = f"CrossEncoder of sentence-transformers gives the {_named(theirs)}"
    return f"{_named(own)}, and {there}: {way}"


def _named(activation: str) -> str:
    return "logits" if activation == "linear" else f"{activation} of the logits"
