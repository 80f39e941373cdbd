"""The other side of `interop/pipelines.py`, for a JOB in a file, with a file to write."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    TokenClassificationPipeline,
    pipeline,
)

LONGEST_ANSWER = 30


def tagged(directory: str, texts: list[str], ways: list[str]) -> list[dict[str, Any]]:
    """Of each text: tokens, offsets, words as the pipeline tells them, and spans by aggregation."""
    pipe = pipeline("token-classification", model=directory, device="cpu")
    assert isinstance(pipe, TokenClassificationPipeline)
    return [
        {
            **parts_of(pipe, text),
            "spans": {way: spans(pipe(text, aggregation_strategy=way)) for way in ways},
        }
        for text in texts
    ]


def parts_of(pipe: Any, text: str) -> dict[str, Any]:
    encoded = pipe.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["special_tokens_mask"]
    found = pipe.gather_pre_entities(
        text, ids, [[0.0]] * len(ids), encoded["offset_mapping"], mask, "first"
    )
    words, word = [-1] * len(ids), -1
    for entity in found:
        word += not (entity["is_subword"] and word >= 0)
        words[entity["index"]] = word
    return {"ids": ids, "offsets": encoded["offset_mapping"], "words": words}


def spans(found: list[dict[str, Any]]) -> list[list[Any]]:
    return [
        [s["start"], s["end"], s.get("entity_group") or s["entity"], float(s["score"])]
        for s in found
    ]


def answered(directory: str, pairs: list[list[str]], limit: int) -> list[dict[str, Any]]:
    """The best answer over windows of the context, as SQuAD's own evaluation chooses it.

    The pipeline that did this is gone from transformers 5. It is the pair of a start and an end,
    not before it, of at most `LONGEST_ANSWER` tokens, whose logits have the largest sum.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForQuestionAnswering.from_pretrained(directory).eval()
    found = []
    for question, context in pairs:
        others = len(tokenizer(question, "a")["input_ids"]) - len(
            tokenizer("a", add_special_tokens=False)["input_ids"]
        )
        room = limit - others
        encoded = tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=limit,
            stride=min(128, room // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        best: tuple[float, int, int, list[int]] = (float("-inf"), 0, 0, [])
        for index, ids in enumerate(encoded["input_ids"]):
            inputs = {
                name: torch.tensor([encoded[name][index]])
                for name in tokenizer.model_input_names
                if name in encoded
            }
            with torch.no_grad():
                output = model(**inputs)
            start, end = output.start_logits[0].numpy(), output.end_logits[0].numpy()
            own = [i for i in range(len(ids)) if encoded.sequence_ids(index)[i] == 1]
            offsets = encoded["offset_mapping"][index]
            for first in own:
                for last in own:
                    score = float(start[first] + end[last])
                    if first <= last < first + LONGEST_ANSWER and score > best[0]:
                        best = score, offsets[first][0], offsets[last][1], [ids[first], ids[last]]
        score, begin, finish, ends = best
        tokens = tokenizer.convert_ids_to_tokens(ends)
        found.append({"score": score, "start": begin, "end": finish, "tokens": tokens})
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    job = json.loads(Path(sys.argv[1]).read_text())
    found = {
        name: {
            "texts": tagged(places["tagger"], job["texts"], job["ways"]),
            "answers": answered(places["answerer"], job["questions"], job["limit"]),
        }
        for name, places in job["models"].items()
    }
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
