"""The texts that are embedded, made from published data sets and always the same."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path

DOCUMENT_WORDS = (100, 400)
SHORT_WORDS = (4, 10)
SHORT_TEXTS = 50


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    sentences: int = 8_000
    documents: int = 2_000
    sample: int = 1_000
    """Sentences that batch sizes are tried on; an eighth as many documents."""
    calls: int = 100
    """Of one text, a round."""
    rounds: int = 5
    document_rounds: int = 3
    start_rounds: int = 5
    memory: tuple[int, int] = (1_000, 100_000)
    """Sentences of two processes whose peaks are compared."""
    reference_memory: int = 20_000
    """The greater number for the other libraries, which would take long for more."""


QUICK = Sizes(
    sentences=800,
    documents=80,
    sample=200,
    calls=20,
    rounds=2,
    document_rounds=2,
    start_rounds=1,
    memory=(500, 2_000),
    reference_memory=1_000,
)


def write_texts(data: Path, folder: Path, sizes: Sizes) -> dict[str, Path]:
    """Write every list of texts that is needed; from its name to its file."""
    sentences, documents = sts_sentences(data), wikitext_documents(data, sizes.documents)
    short = [text for text in sentences if SHORT_WORDS[0] <= len(text.split()) <= SHORT_WORDS[1]]
    texts = {
        "sentences": sentences[: sizes.sentences],
        "documents": documents,
        "latency": short[:SHORT_TEXTS],
        "sentences-sample": sentences[-sizes.sample :],
        "documents-sample": documents[:: sizes.documents // max(sizes.sample // 8, 16) or 1],
    }
    for count in {*sizes.memory, sizes.reference_memory}:
        texts[f"memory-{count}"] = list(itertools.islice(itertools.cycle(sentences), count))
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.json" for name in texts}
    for name, path in paths.items():
        path.write_text(json.dumps(texts[name]), encoding="utf-8")
    return paths


def sts_sentences(data: Path) -> list[str]:
    """The different sentences of STS 2014 and 2015, judged or not, shuffled."""
    found: dict[str, None] = {}
    for path in sorted((data / "sts").glob("*/*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for _, *pair in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found.update(dict.fromkeys(pair))
    sentences = list(found)
    random.Random(0).shuffle(sentences)
    return sentences


def wikitext_documents(data: Path, count: int) -> list[str]:
    """Documents of WikiText's words as they follow each other, over and over, without headings."""
    words: list[str] = []
    for path in sorted((data / "wikitext2").glob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = (line.strip() for line in file)
            words += [word for line in lines if not line.startswith("=") for word in line.split()]
    chooser, stream = random.Random(0), itertools.cycle(words)
    lengths = [chooser.randint(*DOCUMENT_WORDS) for _ in range(count)]
    return [" ".join(itertools.islice(stream, length)) for length in lengths]
