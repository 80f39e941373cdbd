"""No key of a published file falls through: it is used, ignored with a reason, or refused by name.

`config.json` has a test of its own, by family (`families/test_keys.py`). What a key does is told by
the tests of its file; here every key of the published lists is tried.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizer_directories import goldens, write
from toys import writer

from encodax import Seq2SeqModel
from encodax.errors import EncodaxError
from encodax.families import ignored_keys
from encodax.generation import config as generation_config
from encodax.model_files import peft_config, sentence_modules
from encodax.storage.json_files import OFF, FileKeys, Settings
from encodax.text import published
from encodax.text.tokenizer import Tokenizer

PARITY = Path(__file__).parents[1] / "parity"
LISTS: dict[str, Any] = json.loads((PARITY / "published_keys.json").read_text(encoding="utf-8"))
SENTENCE = PARITY / "goldens-sentence" / "norm-and-dropout"
VALUES: tuple[Any, ...] = (True, 3, "x", ["x"], {"x": 1})
"""All of them on; of whichever type a key is, the others are wrong."""
NO_REASONS = {ignored_keys.UNREAD, published.UNREAD, OFF}
"""What is said of keys that no list has."""


def check(key: str, value: Any, read: Any) -> None:
    """Read files with this value at a key, and see what became of it."""
    try:
        keys: FileKeys = read()
    except EncodaxError as error:
        assert key in str(error), f"{key} = {value!r} is refused by another name: {error}"
        assert str(error).isprintable()
    else:
        reason = None if key in keys.used else keys.reasons[key]
        assert reason not in NO_REASONS, f"{key} = {value!r} falls through"


@pytest.mark.parametrize("key", LISTS["adapter_config.json"])
def test_of_adapters(key: str, tmp_path: Path) -> None:
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["query"]}
    path = tmp_path / "adapter_config.json"
    for value in VALUES:
        path.write_text(json.dumps({**plain, key: value}))
        check(key, value, lambda: peft_config.read(path).keys)


@pytest.mark.parametrize("key", LISTS["generation_config.json"])
def test_of_generation(key: str) -> None:
    config = writer().config
    ids = {"decoder_start_token_id": config.decoder_start_id, "eos_token_id": config.eos_id}
    for value in VALUES:
        said = Settings({**ids, key: value}, where="generation_config.json")

        def read(said: Settings = said) -> FileKeys:
            return generation_config.read(said, config, longest=32, is_published=True)[1]

        check(key, value, read)


OF_MODULES = {
    "sentence_bert_config.json": "base.modules.transformer.Transformer",
    "1_Pooling/config.json": "sentence_transformer.modules.pooling.Pooling",
    "2_Dense/config.json": "base.modules.dense.Dense",
    "3_LayerNorm/config.json": "sentence_transformer.modules.layer_norm.LayerNorm",
    "4_Dropout/config.json": "sentence_transformer.modules.dropout.Dropout",
    "5_Normalize/config.json": "base.modules.normalize.Normalize",
}
"""The file of a module in the directory that is tried -> the module's name in the list."""


@pytest.mark.parametrize("file", [*OF_MODULES, "config_sentence_transformers.json"])
def test_of_modules(file: str, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(SENTENCE, directory)
    path = directory / file
    if file in OF_MODULES:
        keys = LISTS["modules"][OF_MODULES[file]]["saved"]
    else:
        keys = LISTS["settings"][file]
    plain = json.loads(path.read_text()) if path.exists() else {}
    for key in keys:
        for value in VALUES:
            path.write_text(json.dumps({**plain, key: value}))

            def read() -> FileKeys:
                found = sentence_modules.read(directory)
                assert found is not None
                return found.files[file]

            check(key, value, read)


BASES: dict[str, dict[str, Any]] = {
    files["tokenizer_config.json"]["tokenizer_class"]: files
    for files in goldens()["bases"].values()
    if "tokenizer_config.json" in files
}
"""Class of tokenizers -> the files of a small directory."""
BASES["EsmTokenizer"] = {**goldens()["bases"]["esm-files"], "tokenizer_config.json": {}}
BASES["BartTokenizer"] = {**BASES["RobertaTokenizer"], "config.json": {"model_type": "bart"}}
for kind, model_type in (("MBart", "mbart"), ("MBart50", "mbart"), ("Pegasus", "pegasus")):
    BASES[f"{kind}Tokenizer"] = {
        **BASES["XLMRobertaTokenizer"],
        "config.json": {"model_type": model_type},
        "tokenizer_config.json": {},
    }
TOKENIZERS = [name for name in LISTS["tokenizer_config.json"] if name in BASES]
"""But those of M2M100 and NLLB, whose models are not read."""


@pytest.mark.parametrize("name", TOKENIZERS)
def test_of_tokenizers(name: str, tmp_path: Path) -> None:
    files = BASES[name]
    write(tmp_path, files)
    plain = {**files["tokenizer_config.json"], "tokenizer_class": name}
    path = tmp_path / "tokenizer_config.json"
    for key in LISTS["tokenizer_config.json"][name]:
        for value in VALUES:
            path.write_text(json.dumps({**plain, key: value}))
            check(key, value, lambda: Tokenizer.load(tmp_path).keys["tokenizer_config.json"])


def test_a_model_that_generates_tells_of_its_file(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    assert "generation_config.json" in Seq2SeqModel.load(tmp_path / "model").files
