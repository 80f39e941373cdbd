"""Commands that use a model: from `evaluate` and `predict` to `rerank`."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from encodax.cli.app import command, json_line
from encodax.cli.options import (
    SAMPLING_PANEL,
    SEARCH_PANEL,
    AggregationKind,
    Beams,
    Columns,
    EarlyStopping,
    EmptyInputs,
    EmptyTexts,
    Format,
    InputFormat,
    LengthPenalty,
    MaxAnswerTokens,
    MaxTokens,
    MaxWait,
    MinTokens,
    ModelPath,
    NoRepeatNgram,
    OutputFile,
    Precision,
    RepetitionPenalty,
    Revision,
    Stride,
    Suppress,
    TagSchemeName,
    TargetLanguage,
    TextInput,
    TopK,
    Truncate,
    VectorType,
    column_names,
    early_stopping_of,
)
from encodax.errors import EncodaxError


@command()
def evaluate(
    model: ModelPath,
    data: Annotated[Path, typer.Option(help="Labelled examples, or - for standard input.")],
    target: Annotated[
        Path | None,
        typer.Option(help="File of translations, one a line, for --data with the sources."),
    ] = None,
    to: TargetLanguage = None,
    format: Annotated[
        Format | None, typer.Option(help="Format of the data, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    aggregation: AggregationKind = None,
    tag_scheme: TagSchemeName = None,
    stride: Stride = None,
    max_answer_tokens: MaxAnswerTokens = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    early_stopping: EarlyStopping = None,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    no_repeat_ngram: NoRepeatNgram = None,
    repetition_penalty: RepetitionPenalty = None,
    suppress: Suppress = None,
    bleu_tokenizer: Annotated[
        str | None,
        typer.Option(help="Tokenizer of sacrebleu; none for tokenized texts.  \\[default: 13a]"),
    ] = None,
) -> None:
    """Measure a model on labelled examples; print one JSON object.

    Examples:
      encodax evaluate runs/sentiment --data test.jsonl

      encodax evaluate runs/en-de --data test.en --target test.de
    """
    from encodax.data.aligned import Aligned
    from encodax.data.records import open_records
    from encodax.models.seq2seq_model import Seq2SeqModel
    from encodax.tasks import translation
    from encodax.tasks.decoding import DecodingOptions, decoding_of
    from encodax.tasks.task import load_any

    asked: DecodingOptions = {
        "aggregation": aggregation,
        "tag_scheme": tag_scheme,
        "stride": stride,
        "max_answer_tokens": max_answer_tokens,
    }
    if target is None:
        records: Any = open_records(str(data), columns=column_names(columns), format=format)
    elif columns is None and format in (None, "txt"):
        records = Aligned(data, target)
    else:
        raise EncodaxError(
            "--target is for two files with matching lines: leave out --columns and --format"
        )
    of_translation: dict[str, Any] = {
        "beams": beams,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping_of(early_stopping),
        "max_tokens": max_tokens,
        "to": to,
        "min_tokens": min_tokens,
        "no_repeat_ngram": no_repeat_ngram,
        "repetition_penalty": repetition_penalty,
        "suppress": suppress,
        "bleu_tokenizer": bleu_tokenizer,
    }
    loaded = load_any(model, revision=revision)
    if isinstance(loaded, Seq2SeqModel):
        from encodax.inference.translator import Translator

        decoding_of(translation.TASK, asked)  # refuses options: translation has none
        translator = Translator(loaded, precision=precision)
        found: dict[str, Any] = translator.evaluate(
            records,
            truncate=truncate,
            on_empty=on_empty,
            tokenize=of_translation.pop("bleu_tokenizer") or "13a",
            no_repeat_ngram_size=of_translation.pop("no_repeat_ngram"),
            suppress_tokens=of_translation.pop("suppress"),
            **of_translation,
        )
        sys.stdout.write(json_line(found))
        return
    for name, given in {"target": target, **of_translation}.items():
        if given is not None:
            option = f"--{name.replace('_', '-')}"
            raise EncodaxError(
                f"{option} is for translation, and the model is not a translator: leave it out"
            )
    from encodax.inference import evaluation

    found = evaluation.evaluate(
        loaded,
        records,
        truncate=truncate,
        precision=precision,
        on_empty=on_empty,
        **asked,
    )
    sys.stdout.write(json_line(found))


@command()
def predict(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    output: OutputFile = "-",
    format: InputFormat = None,
    columns: Columns = None,
    on_empty: EmptyTexts = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
    aggregation: AggregationKind = None,
    tag_scheme: TagSchemeName = None,
    stride: Stride = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Question answering: number of answers, the next best under `alternatives`.  "
            "\\[default: 1]",
        ),
    ] = None,
    max_answer_tokens: MaxAnswerTokens = None,
) -> None:
    """Print the answer to each text: JSON Lines, one line for each input, in order.

    Examples:
      encodax predict runs/sentiment "a wonderful film"

      cat texts.txt | encodax predict runs/sentiment --input - > answers.jsonl

      encodax predict runs/names --input reports.txt --stride 64

    A question-answering model takes records: {"question": ..., "context": ...}

      encodax predict runs/answers --input ask.jsonl --top-k 3

    Class scores are probabilities. A cross-encoder takes records {"query": ...,
    "text": ...}; its files define its scores: see `encodax info`.
    """
    from encodax.cli import inputs
    from encodax.data import sources
    from encodax.inference.predictors import Predictor
    from encodax.inference.progress import with_progress
    from encodax.tasks import task_of_records
    from encodax.tasks.empty import EmptyTextRule

    inputs.check_output(output, model, input)
    records = inputs.records_of(texts, input, columns=columns, format=format)
    predictor: Predictor[Any] = Predictor.load(
        model,
        revision=revision,
        precision=precision,
        aggregation=aggregation,
        tag_scheme=tag_scheme,
        stride=stride,
        top_k=top_k,
        max_answer_tokens=max_answer_tokens,
    )
    task, records = task_of_records(predictor.model.config, records)
    inputs.note_scores(predictor.model.config, is_cross_encoder=task.is_cross_encoder)
    empties = EmptyTextRule(on_empty)
    parse = functools.partial(task.parse, labelled=False)
    examples = empties.parsed(parse, records, task.text_fields)
    with sources.open_output(output) as stream:
        live = inputs.live_of(texts, input, max_wait, stream.flush)
        answers = predictor.answers(examples, truncate=truncate, empties=empties, live=live)
        for example, answer in with_progress(answers, shown=None if input else False):
            text = (example.text,) if isinstance(example.text, str) else example.text
            fields = dict(zip(task.text_fields, text, strict=False))
            answered = task.no_answer if answer is None else task.to_json(answer)
            stream.write(json_line({**fields, **answered}))


@command()
def embed(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    output: Annotated[
        str, typer.Option(help="File to write (.npy, .parquet, .jsonl); - for JSON Lines.")
    ] = "-",
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt to put before each text.")
    ] = None,
    vector_type: Annotated[
        VectorType,
        typer.Option(
            "--vectors", help="Number format of the vectors; int8 and binary take fewer bytes."
        ),
    ] = "float32",
    ranges: Annotated[
        Path | None,
        typer.Option(help="File of ranges for int8, the same for a corpus and its queries."),
    ] = None,
    save_ranges: Annotated[
        Path | None,
        typer.Option(help="File to write the ranges of these vectors to, for --ranges."),
    ] = None,
    precision: Precision = None,
    format: InputFormat = None,
    columns: Columns = None,
    on_empty: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            "--on-empty",
            help="Empty texts: refuse them, leave them out, or keep them as rows of zeros.",
        ),
    ] = "error",
    max_wait: MaxWait = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Convert each text to a vector.

    Examples:
      encodax embed sentence-transformers/all-MiniLM-L6-v2 "a text" "another"

      encodax embed MODEL --input texts.txt --output vectors.npy

    int8 needs the ranges of a corpus, or of a sample of it. Use the same ranges
    for the corpus and for its queries:

      encodax embed MODEL --input texts.txt --output v.npy --save-ranges r.json

      encodax embed MODEL "a query" --vectors int8 --ranges r.json
    """
    import numpy as np

    from encodax.cli import inputs
    from encodax.inference import vector_files, vectors
    from encodax.inference.embedder import Embedder
    from encodax.inference.progress import with_progress
    from encodax.storage import overlap
    from encodax.tasks.empty import EmptyTextRule

    vector_files.kind_of(output)
    if ranges is not None and save_ranges is not None:
        raise EncodaxError(
            "give --ranges or --save-ranges, not both: one reads ranges, the other writes them"
        )
    inputs.check_output(output, model, input)
    if save_ranges is not None:
        inputs.check_output(str(save_ranges), model, input, option="--save-ranges")
    overlap.check_apart({"--output": output, "--save-ranges": save_ranges}, {"--ranges": ranges})
    stored = vectors.converter(vector_type, None if ranges is None else vectors.read_ranges(ranges))
    empties = EmptyTextRule(on_empty)
    examples = inputs.examples_of(
        inputs.records_of(texts, input, columns=columns, format=format), empties
    )
    embedder = Embedder.load(model, revision=revision, precision=precision)
    before = embedder.model.config.usage.prompt(prompt)
    none = stored(np.zeros((0, embedder.width), np.float32))
    seen = vectors.RunningRanges(embedder.width)
    live = inputs.live_of(texts, input, max_wait, sys.stdout.flush) if output == "-" else None
    answers = embedder.answers(examples, before, truncate=truncate, empties=empties, live=live)
    with vector_files.opened(output, none.shape[1], none.dtype) as file:
        for example, vector in with_progress(answers, shown=None if input else False):
            seen.add(vector)
            file.write(example.parts[0], stored(vector[None])[0])
    if save_ranges is not None:
        seen.save(save_ranges)


@command("embed-corpus")
def embed_corpus(
    model: ModelPath,
    input: Annotated[
        str, typer.Option(help="A folder, a glob or a file (.parquet), or the URI of one.")
    ],
    output: Annotated[str, typer.Option(help="Folder (or URI) to write, or to resume.")],
    column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    actors: Annotated[
        int | None,
        typer.Option(
            help="Number of workers.  \\[default: one a GPU, or one a machine without any]"
        ),
    ] = None,
    partition_rows: Annotated[int, typer.Option(help="Number of rows in an output file.")] = 65_536,
    on_empty: Annotated[
        Literal["error", "keep"],
        typer.Option(
            "--on-empty", help="Empty texts and nulls: refuse them, or give them vectors of zeros."
        ),
    ] = "error",
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Name of the model's prompt to put before each text.  "
            "\\[default: the one for documents]"
        ),
    ] = None,
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Compute a vector for each row of Parquet files, on all devices of a Ray cluster.

    Without a cluster (RAY_ADDRESS) it runs on this machine. Repeat the command to
    resume after a stop: it writes the files that are missing, and rewrites those
    whose input rows have changed. A different model or different options are
    refused, and so is an output with vectors of rows that are no longer in the
    input: these are named.

    Example: encodax embed-corpus MODEL --input texts/ --output vectors/
    """
    from dataclasses import asdict

    from encodax.corpus import embed as corpus

    with redirect_stdout(sys.stderr):  # Ray prints there which actors it restarts
        result = corpus.embed_corpus(
            model,
            input,
            output,
            column=column,
            actors=actors,
            prompt=prompt,
            truncate=truncate,
            revision=revision,
            precision=precision,
            partition_rows=partition_rows,
            on_empty=on_empty,
        )
    sys.stdout.write(json_line({"output": output, **asdict(result)}))


@command()
def translate(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    output: OutputFile = "-",
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    early_stopping: EarlyStopping = None,
    n_best: Annotated[
        int | None,
        typer.Option(
            help="Number of translations of each text (with --json): the best ones, at most one "
            "for each beam; or with --sample, the number of samples.",
            min=1,
            rich_help_panel=SEARCH_PANEL,
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", help="Sample tokens instead of beam search.", rich_help_panel=SAMPLING_PANEL
        ),
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Divisor of the logits.", rich_help_panel=SAMPLING_PANEL)
    ] = None,
    sample_top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            help="Sample from this many most probable tokens.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from the fewest tokens whose probabilities reach this sum.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from tokens with at least this share of the largest probability.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    typical_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from tokens nearest to the entropy that reach this sum.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of sampling.", rich_help_panel=SAMPLING_PANEL)
    ] = 0,
    max_tokens: MaxTokens = None,
    min_tokens: MinTokens = None,
    no_repeat_ngram: NoRepeatNgram = None,
    repetition_penalty: RepetitionPenalty = None,
    suppress: Suppress = None,
    to: TargetLanguage = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines with scores, instead of lines of text.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option(help="Number of texts translated together.", min=1)
    ] = 32,
    format: InputFormat = None,
    columns: Columns = None,
    on_empty: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            "--on-empty",
            help="Empty texts: refuse them, leave them out, or keep them as empty lines.",
        ),
    ] = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
) -> None:
    """Translate texts, or generate what the model is for: one line for each input, in order.

    Examples:
      encodax translate runs/en-de "two men are running"

      cat texts.txt | encodax translate runs/en-de --input - > translated.txt

      encodax translate runs/en-de --input texts.txt --n-best 4 --json

      encodax translate runs/en-de "two men" --sample --n-best 3 --json

    Records have a field "source" or "text".
    """
    from encodax.cli import inputs
    from encodax.data import sources
    from encodax.inference.progress import with_progress
    from encodax.inference.translator import Translator
    from encodax.tasks import translation
    from encodax.tasks.empty import EmptyTextRule

    if (n_best or 1) > 1 and not as_json:
        raise EncodaxError("--n-best needs --json: a line of text holds one translation")
    drawn: dict[str, Any] = {
        "temperature": temperature,
        "top_k": sample_top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
    }
    given = {name: value for name, value in drawn.items() if value is not None}
    if given and not sample:
        raise EncodaxError("--temperature, --top-k, --top-p, --min-p and --typical-p need --sample")
    inputs.check_output(output, model, input)
    records = inputs.records_of(texts, input, columns=columns, format=format)
    empties = EmptyTextRule(on_empty)
    sources_of = empties.parsed(translation.source_of, records, ("source", "text"))
    translator = Translator.load(
        model, revision=revision, precision=precision, batch_size=batch_size
    )
    options = translator.generation_options(
        beams=beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping_of(early_stopping),
        n_best=n_best if as_json else 1,
        sampling=dataclasses.replace(translator.model.default_generation_config.sampling, **given)
        if sample
        else None,
        seed=seed,
        max_tokens=max_tokens,
        to=to,
        min_tokens=min_tokens,
        no_repeat_ngram_size=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        suppress_tokens=suppress,
    )
    with sources.open_output(output) as stream:
        live = inputs.live_of(texts, input, max_wait, stream.flush)
        answers = translator.answers(
            sources_of, options, truncate=truncate, empties=empties, live=live
        )
        for example, answer in with_progress(answers, shown=None if input else False):
            if as_json:
                stream.write(json_line({"source": example.text, **answer.to_json()}))
            else:
                stream.write(" ".join(answer.text.splitlines()) + "\n")


@command("fill-mask")
def fill_mask(
    model: ModelPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT")] = None,
    input: TextInput = None,
    top_k: TopK = 5,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Word to choose from, one token of the vocabulary; may be repeated. For models "
            "like RoBERTa, ' word' is the one after a space."
        ),
    ] = None,
    format: InputFormat = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
    max_wait: MaxWait = None,
) -> None:
    """Fill the mask: JSON Lines, one line for each mask, the most probable guesses first.

    The mask is a token of the model's vocabulary, such as [MASK] (BERT) or <mask> (RoBERTa).

    Example: encodax fill-mask google-bert/bert-base-uncased "Paris is the [MASK] of France."
    """
    from dataclasses import asdict

    from encodax.cli import inputs
    from encodax.inference.fill_mask import FillMask
    from encodax.tasks.empty import IN_DATA, EmptyTextRule

    empties = EmptyTextRule(on_empty, IN_DATA)
    found = inputs.examples_of(
        inputs.records_of(texts, input, columns=columns, format=format), empties
    )
    filler = FillMask.load(
        model, top_k=top_k, targets=target or (), revision=revision, precision=precision
    )
    live = inputs.live_of(texts, input, max_wait, sys.stdout.flush)
    for example, masks in filler.answers(found, truncate=truncate, empties=empties, live=live):
        for number, guesses in enumerate(masks):
            line = {"text": example.text, "mask": number}
            sys.stdout.write(json_line({**line, "guesses": [asdict(guess) for guess in guesses]}))


@command()
def search(
    model: ModelPath,
    queries: Annotated[list[str], typer.Argument(metavar="QUERY")],
    corpus: Annotated[
        str, typer.Option(help="File of texts (JSON, CSV, TSV, Parquet, .txt; BEIR), or -.")
    ],
    top_k: TopK = 5,
    format: Annotated[
        Format | None, typer.Option(help="Format of the corpus, if its name does not show it.")
    ] = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Find the texts of a corpus that are most similar to each query: JSON Lines, best first.

    In a corpus in BEIR's format a text is the title and the text, and the results
    contain its _id.

    Example: encodax search MODEL --corpus texts.txt "how do I mend a tyre"
    """
    from encodax.cli import inputs
    from encodax.data import formats
    from encodax.inference.embedder import Embedder
    from encodax.inference.vectors import search_stream
    from encodax.tasks.empty import IN_DATA, EmptyTextRule

    empties = EmptyTextRule(on_empty, IN_DATA)
    examples = inputs.examples_of(
        inputs.records_of(None, corpus, columns=columns, format=format), empties
    )
    embedder = Embedder.load(model, revision=revision, precision=precision)
    queried, before = embedder.prompt_of("query"), embedder.prompt_of("document")
    nearest = embedder.nearest(queries, top_k=top_k, truncate=truncate)
    answers = embedder.answers(examples, before, truncate=truncate, empties=empties)
    kept = search_stream(answers, nearest)  # the texts of hits only
    if not kept:
        raise EncodaxError(f"{formats.name_of(corpus)}: there is no text to search")
    for prompt, of_what in ((queried, "each query"), (before, "each text of the corpus")):
        if prompt:
            logging.getLogger("encodax").warning(
                "%r is put before %s: it is the model's prompt", prompt, of_what
            )
    for query, hits in zip(queries, nearest.hits(), strict=True):
        for hit in hits:
            example = kept[hit.index]
            sys.stdout.write(inputs.hit_line(query, hit.score, example.target, example))


@command()
def rerank(
    model: ModelPath,
    query: Annotated[str, typer.Argument(metavar="QUERY")],
    input: TextInput = None,
    top_k: Annotated[
        int | None, typer.Option(help="Number of results.  \\[default: all]", min=1)
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Name of the model's prompt to put before the query.")
    ] = None,
    format: InputFormat = None,
    columns: Columns = None,
    on_empty: EmptyInputs = "error",
    precision: Precision = None,
    revision: Revision = None,
    truncate: Truncate = False,
) -> None:
    """Rank texts by how well they answer a query, with a cross-encoder: JSON Lines, best first.

    Example: encodax rerank cross-encoder/ms-marco-MiniLM-L6-v2 "a question" --input texts.txt
    """
    from array import array

    import numpy as np

    from encodax.cli import inputs
    from encodax.data.records import open_records
    from encodax.inference.predictors import Reranker
    from encodax.tasks.embedding import document_of
    from encodax.tasks.empty import IN_DATA, EmptyTextRule

    records = open_records(inputs.source_of(input), columns=column_names(columns), format=format)
    empties = EmptyTextRule(on_empty, IN_DATA)
    examples = inputs.examples_of(records, empties)
    reranker = Reranker.load(model, revision=revision, precision=precision)
    inputs.note_scores(reranker.model.config, is_cross_encoder=True)
    numbers, scores = array("q"), array("d")  # texts are read a second time, so that none is held
    for example, score in reranker.answers(
        query, examples, prompt=prompt, truncate=truncate, empties=empties
    ):
        numbers.append(example.target)
        scores.append(score)
    for place in map(int, np.argsort(-np.asarray(scores), kind="stable")[:top_k]):
        index = numbers[place]
        document = document_of(records[index])
        sys.stdout.write(inputs.hit_line(query, scores[place], index, document))
