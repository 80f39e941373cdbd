"""The other side of `interop/round_trip_seq2seq.py`: loads a model, runs it, and saves it.

It reads a JSON list of texts on standard input, and writes a line of JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

FOLDER, SAVED, MOST, BEAMS = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), 4


@torch.no_grad()
def main() -> None:
    texts = json.load(sys.stdin)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, loading = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        FOLDER, output_loading_info=True, attn_implementation="eager"
    )
    model.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    found = {
        "class": type(model).__name__,
        "loading": {key: sorted(map(str, value)) for key, value in loading.items() if value},
        "ids": [tokenizer(text)["input_ids"] for text in texts],
    }
    given = [ids[:-1] or ids for ids in found["ids"]]
    start = model.generation_config.decoder_start_token_id
    arrays = {}
    for row, (ids, own) in enumerate(zip(found["ids"], given, strict=True)):
        source, target = torch.tensor([ids]), torch.tensor([[start, *own]])
        arrays[f"logits{row}"] = model(source, decoder_input_ids=target).logits[0].numpy()
    padded = tokenizer(texts, return_tensors="pt", padding=True)
    options = {"max_new_tokens": MOST, "do_sample": False, "early_stopping": False}
    for beams in (1, BEAMS):
        tokens = model.generate(
            input_ids=padded.input_ids, attention_mask=padded.attention_mask,
            num_beams=beams, length_penalty=1.0, **options,
        )  # fmt: skip
        found[f"beams{beams}"] = [row[1:] for row in tokens.tolist()]
    model.save_pretrained(SAVED)
    tokenizer.save_pretrained(SAVED)
    np.savez(SAVED / "logits.npz", **arrays)
    print(json.dumps(found))


main()
