"""The model card: the README.md of a model directory, as the hub shows it."""

from __future__ import annotations

import json

from encodax.config import ModelConfig, Seq2SeqConfig
from encodax.errors import plain

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
    names = ", ".join(plain(" ".join(label.split())) for label in config.labels)
    labels = f"\nLabels: {names}.\n" if names else ""
    limit = config.max_length or embeddings.max_positions
    about = f"""A Transformer encoder of the family `{model_type}`, saved by
[Encodax](https://pypi.org/project/encodax): {len(encoder.layers)} layers of width
{embeddings.model_width}, {embeddings.vocabulary_size:,} tokens, sequences of up to
{limit or "any number of"} tokens.
{labels}"""
    use = PREDICTORS[kind].format(json.dumps(name))
    return _card(f"{loadable}pipeline_tag: {PIPELINES[kind]}", model_type, name, about, use)


def text_of_seq2seq(config: Seq2SeqConfig, model_type: str, name: str) -> str:
    """The card of a sequence-to-sequence model."""
    encoder, decoder = config.transformer.encoder, config.transformer.decoder
    embeddings = encoder.embeddings
    native = model_type.startswith("encodax")
    loadable = "" if native else "library_name: transformers\n"
    about = f"""A Transformer of the family `{model_type}`, saved by
[Encodax](https://pypi.org/project/encodax): {len(encoder.layers)} encoder and
{len(decoder.layers)} decoder layers of width {embeddings.model_width},
{embeddings.vocabulary_size:,} tokens.
"""
    use = f'encodax.Translator.load({json.dumps(name)}).translate(["some text"])'
    return _card(f"{loadable}pipeline_tag: translation", model_type, name, about, use)


def _card(head: str, model_type: str, name: str, about: str, use: str) -> str:
    return f"""---
{head}
tags:
- encodax
- jax
- {model_type}
---

# {name}

{about}
```python
import encodax

{use}
```
"""
