"""Report page of the demo: measurements with pictures."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax
import numpy as np
from babel import Locale

from encodax._version import __version__
from encodax.demo.answers import LIMIT, MODEL_NAME, TOP_K, Outcome, Skipped
from encodax.demo.baseline import Measurement, read_with_dateparser
from encodax.demo.dates import FIRST_DAY, LANGUAGES, LAST_DAY, STYLES, DatedText
from encodax.demo.seq2seq import DecoderResult
from encodax.inspection.inspector import Inspector
from encodax.models.encoder_model import Model
from encodax.nn import sinusoidal_table
from encodax.pages import diagrams, report
from encodax.pages.report import (
    Bar,
    Bars,
    Numbers,
    Page,
    Pictures,
    Quotation,
    Quotations,
    Remark,
    Section,
    Table,
    TaggedText,
    TaggedTexts,
)
from encodax.training.loop.fit import FitResult
from encodax.types.batches import Span
from encodax.types.inspection import AttentionMaps

KINDS = ("day", "month", "year")
SHOWN_LANGUAGES = ("en", "ja", "ar", "fr", "hi", "ru", "th", "he", "ko", "el", "am", "my")
"""Languages whose first date that was read correctly is shown: many scripts and orders."""
MISTAKES = 5
MAP_LANGUAGE = "ja"  # short texts, and the same character as part of two fields
PACKAGES = ("jax", "dm-haiku", "optax", "numpy", "babel", "dateparser")


@dataclass(frozen=True)
class ReportData:
    """Contents of the report."""

    fitted: FitResult
    dated: Sequence[DatedText]
    """Evaluation dates."""
    spans: Sequence[tuple[Span, ...]]
    """Spans that the encoder found in each date."""
    answers: Sequence[str | None]
    """Date that was read from the spans."""
    encoder: Measurement
    dateparser: Measurement
    with_language: Measurement
    """Measurement of `dateparser` when it is given the language of each text."""
    writing: DecoderResult
    """Results of the sequence-to-sequence model on the same dates."""
    choices: dict[str, Any]
    """Settings of the encoder's training."""
    outcome: Outcome
    """Result of act two."""


def render(material: ReportData) -> str:
    """Return the page as HTML."""
    encoder, dateparser = material.encoder, material.dateparser
    highlights = (
        ("exact match of the encoder", _percent(encoder.match.overall)),
        ("exact match of dateparser", _percent(dateparser.match.overall)),
        ("of training, on a CPU" if _on_cpu() else "of training", _seconds(material)),
        ("dates per second, encoder", f"{encoder.texts_per_second:,.0f}"),
        ("dates per second, dateparser", f"{dateparser.texts_per_second:,.0f}"),
    )
    return report.render(
        Page(
            title=f"Reading dates in {len(LANGUAGES)} languages",
            introduction=(
                "A small Transformer encoder, trained from scratch on characters, tags the day, "
                "the month and the year of a date; a few lines make an ISO date of the tags. It "
                f"is judged by {encoder.count:,} dates whose strings it never saw in training, "
                f"beside dateparser, a library of rules.{_announced(material.outcome)}"
            ),
            highlights=Numbers(highlights),
            sections=(
                _examples(material),
                _comparison(material),
                _languages(material),
                _mistakes(material),
                _learning(material),
                _attention(material),
                _positions(material),
                _writer(material),
                _answers(material.outcome),
                _machine(material),
            ),
            footer=f"Made by the command “encodax demo” of Encodax {__version__}.",
        )
    )


def _comparison(material: ReportData) -> Section:
    rows = [
        ("encoder", material.encoder),
        ("sequence to sequence", material.writing.measurement),
        ("dateparser", material.dateparser),
        ("dateparser, told the language of each date", material.with_language),
    ]
    table = Table(
        "A match is exact when day, month and year are all right.",
        ("", "exact match", "dates", "dates per second"),
        tuple(
            (
                name,
                _percent(measured.match.overall),
                f"{measured.count:,}",
                f"{measured.texts_per_second:,.0f}",
            )
            for name, measured in rows
        ),
    )
    faster = material.with_language.texts_per_second / material.dateparser.texts_per_second
    return Section(
        "What is compared",
        (
            "Both read the same strings. Babel wrote them from the Unicode CLDR in the styles "
            f"{', '.join(STYLES)}, for days from {FIRST_DAY.year} to {LAST_DAY.year}; language, "
            "style and day are drawn evenly. The encoder learned from other dates written in the "
            "same ways. So this asks whether it has learned the patterns and the names of "
            f"{len(LANGUAGES)} languages, not whether it can read what is written in a new way.",
            "Nothing in dateparser was fitted to these styles, though its words come from the CLDR "
            "too. It is told which languages may occur, and that day, month and year are all "
            "there. It reads much that the encoder cannot: times, “two days ago”, years of two "
            "digits, and some 200 languages, with no training.",
            f"Told the language of each date, dateparser is {faster:.1f} times as fast as without. "
            "The encoder is never told. It runs on all cores "
            f"({_cores()} here), dateparser on one; neither time has loading in it.",
        ),
        (table,),
    )


def _languages(material: ReportData) -> Section:
    encoder = material.encoder.match.by_language
    dateparser = material.dateparser.match.by_language
    both = [language for language in encoder if language in dateparser]
    ahead = [language for language in both if encoder[language] > dateparser[language]]
    behind = [language for language in both if encoder[language] < dateparser[language]]
    bars = tuple(
        Bar(
            _name(language),
            Locale.parse(language).get_language_name(language) or "",
            language,
            (encoder[language], dateparser.get(language)),
        )
        for language in sorted(encoder, key=_name)
    )
    named = f": {_listed([_name(language) for language in behind])}" if behind else ""
    return Section(
        "Language by language",
        (
            f"The encoder is ahead in {len(ahead)} languages, the two are level in "
            f"{len(both) - len(ahead) - len(behind)}, and dateparser is ahead in "
            f"{len(behind)}{named}.",
        ),
        (Bars("Exact match, in percent.", ("language", "encoder", "dateparser"), bars),),
    )


def _examples(material: ReportData) -> Section:
    shown = [index for language in SHOWN_LANGUAGES for index in _right(material, language)[:1]]
    return Section(
        "Dates and their tags",
        ("Each date is shown with the tags that the encoder gave it.",),
        (
            _tagged(
                material,
                shown,
                "The first date of the style “full” read right in each of some languages.",
            ),
        ),
    )


def _mistakes(material: ReportData) -> Section:
    wrong = [
        index
        for index, written in enumerate(material.dated)
        if material.answers[index] != written.iso
    ]
    if not wrong:
        return Section("Mistakes of the encoder", ("It made none.",))
    shown = wrong[:MISTAKES]
    return Section(
        "Mistakes of the encoder",
        (f"It read {len(wrong):,} of {len(material.answers):,} dates wrong.",),
        (_tagged(material, shown, f"The first {len(shown)} of them."),),
    )


def _right(material: ReportData, language: str) -> list[int]:
    """Return the indices of a language's dates in the full style that were read correctly."""
    return [
        index
        for index, written in enumerate(material.dated)
        if (written.language, written.style) == (language, "full")
        and material.answers[index] == written.iso
    ]


def _tagged(material: ReportData, indices: Sequence[int], caption: str) -> TaggedTexts:
    texts = [material.dated[index].text for index in indices]
    by_rules = read_with_dateparser(texts, LANGUAGES)
    items = []
    for index, ruled in zip(indices, by_rules, strict=True):
        written, answer = material.dated[index], material.answers[index]
        remarks = [
            Remark(who, given or "no date", given == written.iso)
            for who, given in (("encoder", answer), ("dateparser", ruled))
        ]
        if not all(remark.is_good for remark in remarks):
            remarks.append(Remark("it is", written.iso))
        items.append(
            TaggedText(
                written.text,
                tuple(material.spans[index]),
                _name(written.language),
                written.language,
                tuple(remarks),
            )
        )
    return TaggedTexts(caption, tuple(items), KINDS)


def _learning(material: ReportData) -> Section:
    fitted = material.fitted
    return Section(
        "How it learned",
        (
            f"{fitted.steps:,} steps took {fitted.seconds:.0f} s, compilation and evaluations "
            f"included: {fitted.tokens_per_second:,.0f} tokens (characters) per second. Dates are "
            f"packed into rows, so that only {fitted.padding:.1%} of their room is padding. The "
            f"parameters kept are those of step {fitted.best_step:,}, the best by F1 over the "
            "tags of validation dates, which are neither learned from nor judged by.",
        ),
        (
            Pictures(
                "The loss is of one batch a step, pale, with a running mean.",
                (
                    diagrams.learning_curve(
                        fitted.curve, "loss", "training loss", is_logarithmic=True
                    ),
                    diagrams.learning_curve(fitted.curve, "eval_f1", "F1 on validation dates"),
                ),
            ),
        ),
    )


def shown_in_maps(dated: Sequence[DatedText]) -> str:
    """Return the text whose attention is shown: the longest in a language of short texts."""
    in_language = [written.text for written in dated if written.language == MAP_LANGUAGE]
    return max(in_language or [dated[0].text], key=len)


def _attention(material: ReportData) -> Section:
    text = shown_in_maps(material.dated)
    model = material.fitted.model
    assert isinstance(model, Model)
    (looks,) = Inspector(model, steps=0).inspect(text).attention
    return Section(
        "Where it looks",
        (
            f"The attention of each head over “{text}”. A row is a character, and says how much "
            "of each other character it takes in: the stronger the colour, the more. Each row sums "
            "to 1.",
        ),
        (
            Pictures(
                "The number shows when the pointer rests on a cell.", _heads(looks), is_small=True
            ),
        ),
    )


def _heads(looks: AttentionMaps) -> tuple[str, ...]:
    """Return a picture of every head."""
    queries, keys = ([token.text for token in side] for side in (looks.queries, looks.keys))
    others = None if looks.keys is looks.queries else keys
    return tuple(
        diagrams.attention_map(weights, queries, f"layer {layer}, {view}", keys=others)
        for layer, maps in enumerate(looks.cells, 1)
        for view, weights in zip(looks.views, maps, strict=True)
        if view.startswith("head")
    )


def _positions(material: ReportData) -> Section:
    learned = np.asarray(material.fitted.model.params["encoder/embeddings/position"]["w"])
    fixed = np.asarray(sinusoidal_table(*learned.shape))
    longest = max(len(written.text) for written in material.dated) + 2
    return Section(
        "Where a character stands",
        (
            "Attention knows no order; a vector for each position brings it in. The paper "
            "(Vaswani et al. 2017, section 3.5) has sines of many wave lengths. This encoder, like "
            "BERT, learns a table of its own. Positions that no date reaches, from about "
            f"{longest} on, stay as random as they began.",
            "The learned table looks random too, until positions are compared: neighbours have "
            "become alike, as they are by construction in the paper’s.",
        ),
        (
            Pictures(
                "Above, the encodings: a row for each position, a column for each feature. Below, "
                "the cosine similarity of each two positions.",
                (
                    diagrams.positional_encodings(fixed, "fixed: sines and cosines"),
                    diagrams.positional_encodings(learned, "learned by this encoder"),
                    diagrams.position_similarity(fixed, "fixed: similarity of positions"),
                    diagrams.position_similarity(learned, "learned: similarity of positions"),
                ),
            ),
        ),
    )


def _writer(material: ReportData) -> Section:
    writing = material.writing
    fitted = writing.fitted
    wrong = [
        (written.text, given or "nothing", written.iso)
        for written, given in zip(material.dated, writing.answers, strict=True)
        if given != written.iso
    ]
    mistakes = Table("Its first mistakes.", ("text", "written", "it is"), tuple(wrong[:MISTAKES]))
    return Section(
        "The same dates, sequence to sequence",
        (
            "A decoder beside the encoder writes the ISO date, a sign at a time, with no tags and "
            f"no rules: it learned from pairs of texts alone, {fitted.steps:,} steps in "
            f"{fitted.seconds:.0f} s. It is right in "
            f"{_percent(writing.measurement.match.overall)} of the same "
            f"{writing.measurement.count:,} dates, where the tagger is in "
            f"{_percent(material.encoder.match.overall)}.",
            "Each map shows, for the signs that are written (down), what each head of the decoder "
            "looks at in the date (across).",
        ),
        (
            Pictures(
                "Attention of the decoder to the encoder.", _heads(writing.looks), is_small=True
            ),
            *((mistakes,) if wrong else ()),
        ),
    )


def _announced(outcome: Outcome) -> str:
    if isinstance(outcome, Skipped):
        return ""
    return (
        " Act two, at the end: the same code with published weights answers questions about Python."
    )


def _answers(outcome: Outcome) -> Section:
    title = "Act two: questions about Python"
    if isinstance(outcome, Skipped):
        return Section(title, (f"It was left out: {outcome.reason}",))
    numbers = (
        ("passages of Python’s help", f"{len(outcome.passages):,}"),
        ("tokens in them", f"{outcome.tokens:,}"),
        ("passages per second", f"{outcome.texts_per_second:,.0f}"),
    )
    questions = (
        Quotations(
            answer.question,
            tuple(
                Quotation(
                    found.passage.topic, f"{found.score:.2f}", found.snippet, found.passage.text
                )
                for found in answer.found
            ),
        )
        for answer in outcome.answers
    )
    return Section(
        title,
        (
            f"The same encoder code, with the published weights of {MODEL_NAME}, and no "
            "training. It makes one vector of each passage of the help that every Python carries "
            f"(of {platform.python_version()} here), and one of each question. Shown are the "
            f"{TOP_K} passages most similar to the question, with their topic, the cosine "
            "similarity, and the sentence that is nearest to the question; a click opens the whole "
            "passage.",
            "Similar is not the same as right: it finds where to read, and sometimes the wrong "
            f"place. Passages have at most {LIMIT} tokens, and are packed into rows. The "
            f"time, {outcome.seconds:.1f} s for all of them, has tokenizing in it; loading and "
            "compilation are left out.",
        ),
        (Numbers(numbers), *questions),
    )


def _machine(material: ReportData) -> Section:
    count = material.fitted.model.parameter_count()
    settings = ", ".join(f"{name} {value}" for name, value in material.choices.items())
    return Section(
        "Machine and settings",
        blocks=(
            Table(
                "",
                (),
                (
                    ("machine", f"{_cores()} cores, {platform.machine()}, {platform.system()}"),
                    ("JAX runs on", _device()),
                    ("Python", platform.python_version()),
                    ("Encodax", __version__),
                    *((package, metadata.version(package)) for package in PACKAGES),
                    ("parameters", f"{count:,}"),
                    ("training", settings),
                ),
            ),
        ),
    )


def _name(language: str) -> str:
    return Locale.parse(language).get_language_name("en") or language


def _listed(names: Sequence[str]) -> str:
    """Join at most eight names in a sentence."""
    if len(names) > 8:
        names = [*names[:7], f"{len(names) - 7} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _seconds(material: ReportData) -> str:
    return f"{material.fitted.seconds:.0f} s"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device() -> str:
    return str(jax.devices()[0].device_kind)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
