"""The model card: the README.md of a model directory, as the hub shows it."""

from __future__ import annotations

import json

from encodax.config import ModelConfig

CARD_FILE = "README.md"

PIPELINES = {
    None: "feature-extraction",
    "embedding": "sentence-similarity",
    "sequence": "text-classification",
    "token": "token-classification",
    "span": "question-answering",
    "vocabulary": "fill-mask",
}
"""Kind of head -> the hub's name of the task."""
PREDICTORS = {
    "embedding": 'encodax.Embedder.load({0}).encode(["some text"])',
    "sequence": 'encodax.Classifier.load({0}).predict(["some text"])',
    "token": 'encodax.TokenClassifier.load({0}).predict(["some text"])',
    "span": 'encodax.QuestionAnswerer.load({0}).predict([("a question", "a context")])',
    "vocabulary": 'encodax.FillMask.load({0}).predict(["a text with a [MASK] in it"])',
    None: "encodax.load({0})",
}


def text(config: ModelConfig, model_type: str, name: str) -> str:
    """The card of a model: what the hub reads, what the model is, and how to use it."""
    kind = config.head.kind if config.head else None
    is_embedder = kind == "embedding"
    encoder = config.encoder
    embeddings = encoder.embeddings
    library = "sentence-transformers" if is_embedder else "transformers"
    loadable = "" if model_type == "encodax" else f"library_name: {library}\n"
    names = ", ".join(" ".join(label.split()) for label in config.labels)
    labels = f"\nLabels: {names}.\n" if names else ""
    limit = config.max_length or embeddings.max_positions
    return f"""---
{loadable}pipeline_tag: {PIPELINES[kind]}
tags:
- encodax
- jax
- {model_type}
---

# {name}

A Transformer encoder of the family `{model_type}`, saved by
[Encodax](https://pypi.org/project/encodax): {len(encoder.layers)} layers of width
{embeddings.model_width}, {embeddings.vocabulary_size:,} tokens, sequences of up to
{limit or "any number of"} tokens.
{labels}
```python
import encodax

{PREDICTORS[kind].format(json.dumps(name))}
```
"""
