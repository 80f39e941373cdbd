"""Spans and answers beside those of transformers, by tokenizer and language.

    python -m interop.pipelines --reference PYTHON [--markdown] [--golden FILE]

Run it with the project's Python. PYTHON is that of an environment made of
`interop/requirements.txt`. For each kind of tokenizer a small random tagger and a small random
answerer are made and saved here; the reference loads them. All aggregations of
TokenClassificationPipeline, and the best answer over windows, must be the same, but for:

  edges  the reference's span begins with a space, or leaves off the accents of its last letter;
         a token that is a space alone is a span to it
  words  the reference tells words by heuristics (is there a space before? has the piece as many
         characters?), and takes a clause of Chinese, or a space that is a token, for a word. With
         its words, our answer is the same as its.

A cell is the number of answers, and how many of them differ for these reasons. Anything else is
printed, and the exit code is 1. `--golden` writes `tests/inference/pipelines.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

import encodax
from benchmarks.harness import children, tables
from encodax.config import ModelConfig
from encodax.inference.engine import Engine, head_output
from encodax.models.encoder_model import Model
from encodax.options.training import NewModel
from encodax.tasks import question_answering, token_classification
from encodax.text.tokenizer import Encoding, Tokenizer

TEXTS = {
    "English": [
        "Ada Lovelace met Charles Babbage in London, didn't she?",
        "  The U.S. e-mail (of 3.5 MB)  reached B2B's office at 10:30.",
    ],
    "German": [
        "Jürgen Groß aus Köln-Mülheim fuhr für 12,50 € nach Österreich.",
        "Die Straßenbahnhaltestelle heißt »Übersee«!",
    ],
    "Chinese": ["我叫韩梅梅,住在成都。", "北京大学在海淀区, iPhone手机3月上市。"],
    "Japanese": ["昨日、東京でマットさんと寿司を食べた。", "ガンダムは日本のアニメです。"],
    "Hindi": ["मैं दिल्ली में हूँ।", "नरेन्द्र मोदी भारत के प्रधानमंत्री हैं।"],
    "Arabic": ["وُلِدَ أحمد زويل في دمنهور، مصر.", "كتابٌ جديدٌ في المكتبة"],
    "Hebrew": ["שָׁלוֹם עֲלֵיכֶם, דָּוִד בֶּן־גּוּרְיוֹן!", "תֵּל אָבִיב הִיא עִיר"],
    "Thai": ["สวัสดีชาวโลก ครับ", "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย"],
    "accents": [
        "Le cafe\u0301 de Rene\u0301 a\u0300 Orle\u0301ans",
        "Zoe\u0308 und A\u030angstro\u0308m",
    ],
    "emoji": ["I ❤️ 👩\u200d👩\u200d👧 and 🙂 in 🇩🇪!", "👍🏽 ok, see you 🎉🎉"],
}
WAYS = ("none", "simple", "first", "average", "max")
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LIMIT = 48
"""Tokens of a window, so that contexts have several."""
TOLERANCE = 1e-4
CORPUS = [text for texts in TEXTS.values() for text in texts]
QUESTIONS = [
    (language, ["who is it?", " ".join([*texts, *texts])]) for language, texts in TEXTS.items()
]
BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
ROBERTA = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def wordpiece(lowercase: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=list(BERT.values()), show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def byte_level(special: dict[str, str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def unigram(
    special: dict[str, str], pre_tokenizer: pre_tokenizers.PreTokenizer
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()  # of the published ones, near enough
    backend.pre_tokenizer = pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=400,
        special_tokens=list(special.values()),
        unk_token=special["unk_token"],
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def framed(backend: tokenizers.Tokenizer, special: dict[str, str]) -> tokenizers.Tokenizer:
    begin, end = special["cls_token"], special["sep_token"]
    ids = backend.get_vocab()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(begin, ids[begin]), (end, ids[end])],
    )
    return backend


def roberta() -> tokenizers.Tokenizer:
    backend = byte_level(ROBERTA)
    ids = backend.get_vocab()
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False
    )
    return backend


def modernbert() -> tokenizers.Tokenizer:
    backend = byte_level(BERT)
    backend.normalizer = normalizers.NFC()
    return framed(backend, BERT)


def metaspace(*before: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.Metaspace()])


KINDS: dict[str, Any] = {
    "bert, cased": lambda: (framed(wordpiece(False), BERT), BERT),
    "bert, uncased": lambda: (framed(wordpiece(True), BERT), BERT),
    "roberta": lambda: (roberta(), ROBERTA),
    "deberta": lambda: (framed(byte_level(BERT), BERT), BERT),
    "modernbert": lambda: (modernbert(), BERT),
    "xlm-roberta": lambda: (
        framed(unigram(ROBERTA, metaspace(pre_tokenizers.WhitespaceSplit())), ROBERTA),
        ROBERTA,
    ),
    "deberta-v2": lambda: (framed(unigram(BERT, metaspace()), BERT), BERT),
    "unsplit": lambda: (
        framed(unigram(ROBERTA, pre_tokenizers.Metaspace(split=False)), ROBERTA),
        ROBERTA,
    ),
}
"""How published models of each kind tokenize, but for the vocabulary."""


def models_of(kind: str) -> tuple[Model, Model]:
    """A tagger and an answerer of random parameters, whose answers are far apart."""
    backend, special = KINDS[kind]()
    tokenizer = Tokenizer(backend, special_tokens=special)
    shape = NewModel(layers=1, width=16, heads=2, ffn=32, max_positions=256)
    encoder = shape.encoder(tokenizer.vocabulary_size)
    base = Model.create(ModelConfig(encoder, labels=(), pad_id=tokenizer.pad_id), tokenizer)
    tagger = base.with_head("token", labels=LABELS, seed=1)
    return spread(tagger), spread(base.with_head("span", seed=2))


def spread(model: Model) -> Model:
    random = np.random.default_rng(0)
    params = {
        path: {
            name: random.normal(0, 1.0 if "head" in path else 0.3, leaf.shape).astype(np.float32)
            if name == "w"
            else leaf
            for name, leaf in leaves.items()
        }
        for path, leaves in model.params.items()
    }
    return dataclasses.replace(model, params=params)


# Differences, and why.


def in_their_words(
    scores: np.ndarray, encoding: Encoding, theirs: dict[str, Any], way: Any
) -> list[list[Any]]:
    """Our spans where words and offsets are the reference's."""
    count = len(encoding)
    places = np.arange(count, dtype=np.int32)
    by_token = dataclasses.replace(
        encoding,
        offsets=np.stack([places, places + 1], axis=1),
        word_ids=np.asarray(theirs["words"], np.int32),
        word_rule="pieces",
    )
    found = token_classification.decode(scores, by_token, LABELS, way, " " * count)
    offsets = theirs["offsets"]
    return [[offsets[s.start][0], offsets[s.end - 1][1], s.label, s.score] for s in found]


def edge(text: str, tokens: list[str], offsets: list[list[int]]) -> list[list[int]]:
    """The reference's offsets without spaces, and with all accents of the last letter."""
    found = []
    for index, (start, end) in enumerate(offsets):
        if tokens[index] in ("▁", "Ġ") and not text[start:end].isspace():
            end = start
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        later = [place for place, last in offsets[index + 1 :] if last > place]
        limit = min(later[:1] or [len(text)])
        while start < end < limit and is_mark(text[end]):
            end += 1
        found.append([start, end])
    return found


def is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"


def same(ours: list[list[Any]], theirs: list[list[Any]]) -> bool:
    if len(ours) != len(theirs):
        return False
    return all(
        a[:2] == b[:2] and names(a[2]) == names(b[2]) and abs(a[3] - b[3]) < TOLERANCE
        for a, b in zip(ours, theirs, strict=True)
    )


def names(label: str) -> str:
    return label.removeprefix("B-").removeprefix("I-")


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A text, and what our tagger says of it."""

    text: str
    encoding: Encoding
    scores: np.ndarray

    def spans(self, way: Any) -> list[list[Any]]:
        found = token_classification.decode(self.scores, self.encoding, LABELS, way, self.text)
        return [[span.start, span.end, span.label, span.score] for span in found]


def tagged(model: Model) -> list[Tagged]:
    encodings = model.tokenizer.encode(CORPUS)
    scores = Engine(model, *head_output(model.config.head)).run(encodings)
    return [Tagged(*each) for each in zip(CORPUS, encodings, scores, strict=True)]


def compared(
    model: Model, ours: Tagged, theirs: dict[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """For each aggregation whether answers are the same, or why not; and what is unexplained."""
    text, encoding = ours.text, ours.encoding
    if encoding.token_ids.tolist() != theirs["ids"]:
        return dict.fromkeys(WAYS, "wrong"), [f"{text!r}: other tokens"]
    kept = np.flatnonzero(~encoding.is_special).tolist()
    wanted = edge(text, model.tokenizer.tokens(encoding.token_ids), theirs["offsets"])
    if (found := encoding.offsets[kept].tolist()) != [wanted[token] for token in kept]:
        return dict.fromkeys(WAYS, "wrong"), [f"{text!r}: offsets {found} are not {wanted}"]
    words = np.diff(encoding.words(text)[kept]) != 0
    is_cut_alike = np.array_equal(words, np.diff(np.asarray(theirs["words"])[kept]) != 0)
    reasons, problems = {}, []
    for way in WAYS:
        found, its = ours.spans(way), theirs["spans"][way]
        if same(found, its):
            reasons[way] = "same"
        elif not same(in_their_words(ours.scores, encoding, theirs, way), its):
            reasons[way] = "wrong"
            problems.append(f"{way}, {text!r}: {found} is not {its}")
        else:
            is_edge = is_cut_alike or way in ("none", "simple")
            reasons[way] = "edges" if is_edge else "words"
    return reasons, problems


def compared_answers(
    model: Model, pairs: list[list[str]], theirs: list[dict[str, Any]]
) -> tuple[list[Counter[str]], list[str]]:
    counts, problems = [], []
    answers = encodax.QuestionAnswerer(model).predict([(q, c) for q, c in pairs])
    for (_, context), ours, its in zip(pairs, answers, theirs, strict=True):
        start, end = its["start"], its["end"]
        assert ours.text == context[ours.start : ours.end]
        ((start_seen, end_seen),) = edge(context, [""], [[start, end]])
        is_blank = not context[start:end].strip() or not {"▁", "Ġ"}.isdisjoint(its["tokens"])
        same_score = abs(ours.score - its["score"]) < TOLERANCE * max(1, abs(its["score"]))
        if same_score and (ours.start, ours.end) == (start, end):
            counts.append(Counter(same=1))
        elif is_blank or (same_score and (ours.start, ours.end) == (start_seen, end_seen)):
            # A space alone is no answer here, and none of its ends.
            counts.append(Counter(edges=1))
        else:
            counts.append(Counter(wrong=1))
            problems.append(f"answer {ours} is not {its}, {context[start:end]!r}")
    return counts, problems


def cell(counts: Counter[str]) -> str:
    reasons = ", ".join(f"{counts[w]} {w}" for w in ("edges", "words", "wrong") if counts[w])
    return f"{counts.total()}" + (f" ({reasons})" if reasons else "")


class Golden:
    """What a test without the reference compares with: some texts, where answers are the same."""

    KINDS = ("bert, cased", "bert, uncased", "roberta")
    LANGUAGES = ("English", "Chinese", "Hindi", "accents")

    def __init__(self) -> None:
        self.tokenizers: dict[str, Any] = {}
        self.cases: list[dict[str, Any]] = []

    def keep(
        self, kind: str, model: Model, ours: Tagged, theirs: dict[str, Any], reasons: dict[str, str]
    ) -> None:
        texts = [text for language in self.LANGUAGES for text in TEXTS[language]]
        if kind not in self.KINDS or ours.text not in texts:
            return
        self.tokenizers[kind] = json.loads(model.tokenizer._backend.to_str())
        spans = {way: theirs["spans"][way] for way in WAYS if reasons[way] == "same"}
        case = {"tokenizer": kind, "text": ours.text, "ids": theirs["ids"], "spans": spans}
        self.cases.append({**case, "scores": np.round(ours.scores, 5).tolist()})

    def write(self, path: Path) -> None:
        content = {"labels": LABELS, "tokenizers": self.tokenizers, "cases": self.cases}
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def measured(reference: str, folder: Path, golden: Golden) -> tuple[list[list[str]], list[str]]:
    """A row for each tokenizer, and what is unexplained."""
    question_answering.WINDOW = LIMIT
    made = {kind: models_of(kind) for kind in KINDS}
    places = {}
    for number, (kind, (tagger, answerer)) in enumerate(made.items()):
        places[kind] = {
            "tagger": str(folder / f"{number}-t"),
            "answerer": str(folder / f"{number}-a"),
        }
        tagger.save(places[kind]["tagger"])
        answerer.save(places[kind]["answerer"])
    questions = [pair for _, pair in QUESTIONS]
    job = {"models": places, "texts": CORPUS, "questions": questions, "ways": WAYS, "limit": LIMIT}
    (folder / "job.json").write_text(json.dumps(job))
    files = folder / "job.json", folder / "out.json"
    children.run(reference, "interop.reference.pipelines", *files)
    said = json.loads((folder / "out.json").read_text())
    rows, problems = [], []
    for kind, (tagger, answerer) in made.items():
        by_text = dict(
            zip(CORPUS, zip(tagged(tagger), said[kind]["texts"], strict=True), strict=True)
        )
        of_answers, wrong = compared_answers(answerer, questions, said[kind]["answers"])
        problems += [f"{kind}: {line}" for line in wrong]
        row = [kind]
        for number, texts in enumerate(TEXTS.values()):
            total = of_answers[number]
            for text in texts:
                ours, theirs = by_text[text]
                reasons, wrong = compared(tagger, ours, theirs)
                total += Counter(reasons.values())
                golden.keep(kind, tagger, ours, theirs, reasons)
                problems += [f"{kind}: {line}" for line in wrong]
            row.append(cell(total))
        rows.append(row)
    return rows, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", metavar="PYTHON", required=True)
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    parser.add_argument("--golden", metavar="FILE", type=Path, help="write what the tests read")
    options = parser.parse_args()
    golden = Golden()
    with tempfile.TemporaryDirectory() as folder:
        rows, problems = measured(options.reference, Path(folder), golden)
    if options.golden:
        golden.write(options.golden)
    tables.show(["tokenizer", *TEXTS], rows, markdown=options.markdown, end="\n\n")
    for problem in problems:
        print(f"- {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
