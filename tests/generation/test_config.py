"""What a directory says of generation: taken as transformers takes it, or refused by name."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from directories import edit_json, refusal
from toys import writer

from encodax import Seq2SeqModel, Translator
from encodax.generation.config import GenerationConfig
from encodax.generation.search import BeamSearch, LogitsRules, Sampling

VOCABULARY = writer().tokenizer.vocabulary_size
FILE = "generation_config.json"


def loaded(tmp_path: Path, **said: Any) -> Seq2SeqModel:
    """A model whose directory says this of generation, as transformers would write it."""
    writer().save(tmp_path / "model", overwrite=True)
    config = writer().config
    ids = {"decoder_start_token_id": config.decoder_start_id, "eos_token_id": config.eos_id}
    content = {**ids, "pad_token_id": config.pad_id, "transformers_version": "5.23.0", **said}
    (tmp_path / "model" / FILE).write_text(json.dumps(content))
    return Seq2SeqModel.load(tmp_path / "model")


def test_a_model_made_here_says_nothing(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    said = Seq2SeqModel.load(tmp_path / "model").default_generation_config
    assert said == writer().default_generation_config == GenerationConfig.of(writer().config)
    assert said.has_no_search_settings
    assert (said.beams, said.max_tokens, said.stated) == (BeamSearch(4, 0.6, 5.0), None, ())
    assert said.rules == LogitsRules(bad_words_ids=((writer().config.pad_id,),))


def test_what_transformers_wrote_leaves_out_is_its_default(tmp_path: Path) -> None:
    said = loaded(tmp_path).default_generation_config
    assert (said.beams, said.rules) == (BeamSearch(1, 1.0, 0.0), LogitsRules())
    assert (said.max_tokens, said.sampling, said.stated) == (20, Sampling(top_k=50), ())


SUMMARY: dict[str, Any] = {
    "num_beams": 4,
    "length_penalty": 2.0,
    "max_length": 24,
    "min_length": 5,
    "early_stopping": True,
    "no_repeat_ngram_size": 3,
    "forced_bos_token_id": 2,
    "forced_eos_token_id": 3,
}


def test_the_settings_of_a_summarizer(tmp_path: Path) -> None:
    model = loaded(tmp_path, **SUMMARY)
    said = model.default_generation_config
    assert said.beams == BeamSearch(4, 2.0, 0.0, early_stopping=True)
    assert said.max_tokens == 23  # max_length counts the token that the decoder begins with
    assert said.rules == LogitsRules(
        min_tokens=4, no_repeat_ngram_size=3, forced_bos_token_id=2, forced_eos_token_id=(3,)
    )
    assert dict(said.stated) == SUMMARY
    assert model.files[FILE].kept == {"transformers_version": "5.23.0"}
    model.save(tmp_path / "again")
    assert Seq2SeqModel.load(tmp_path / "again").default_generation_config == said


def test_new_tokens_go_before_lengths(tmp_path: Path) -> None:
    said = loaded(
        tmp_path, max_length=9, max_new_tokens=12, min_length=7, min_new_tokens=2
    ).default_generation_config
    assert (said.max_tokens, said.rules.min_tokens) == (12, 2)


def test_several_are_drawn_where_the_directory_says_so(tmp_path: Path) -> None:
    translator = Translator(loaded(tmp_path, do_sample=True, num_return_sequences=3))
    assert (
        translator.generation_options().draws,
        translator.generation_options(n_best=1).draws,
    ) == (3, 1)
    assert len(translator.translate(["ab"])[0].others) == 2


def test_no_sequence_is_longer_than_the_model_takes(tmp_path: Path) -> None:
    assert loaded(tmp_path, max_length=500).default_generation_config.max_tokens == 32


def test_old_directories_say_it_in_config_json(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    task = {"summarization": {"num_beams": 9}}  # transformers 5 reads it nowhere
    edit_json(
        tmp_path / "model" / "config.json",
        lambda content: content.update(
            num_beams=6, max_length=20, bad_words_ids=[[3, 4]], task_specific_params=task
        ),
    )
    model = Seq2SeqModel.load(tmp_path / "model")
    said = model.default_generation_config
    assert (said.beams.size, said.max_tokens) == (6, 19)
    assert said.rules.bad_words_ids == ((3, 4),)
    assert model.files["config.json"].kept["task_specific_params"] == task
    model.save(tmp_path / "again")
    assert Seq2SeqModel.load(tmp_path / "again").default_generation_config == said
    assert "num_beams" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_config_json_is_not_asked_where_there_is_the_other_file(tmp_path: Path) -> None:
    loaded(tmp_path, num_beams=2)
    edit_json(tmp_path / "model" / "config.json", lambda content: content.update(num_beams=6))
    assert Seq2SeqModel.load(tmp_path / "model").default_generation_config.beams.size == 2


def test_off_values_change_nothing(tmp_path: Path) -> None:
    off = {
        "num_beam_groups": 1,
        "diversity_penalty": 0.0,
        "guidance_scale": 1.0,
        "penalty_alpha": None,
        "top_k": 0,
        "top_p": 0,
        "use_cache": False,
        "output_scores": True,
        "constraints": None,
    }
    assert loaded(tmp_path, **off).default_generation_config.sampling == Sampling(top_k=1)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_beams": -1}, "num_beams = -1 is not a whole number in 1..1000000"),
        ({"num_beams": "4"}, 'num_beams = "4" is not a whole number'),
        ({"num_beams": True}, "num_beams = true is not a whole number"),
        ({"max_length": 10**9}, "max_length = 1000000000 is not a whole number in 1..1000000"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0 is not a whole number in 1..1000000"),
        ({"max_length": 1}, "max_length = 1 leaves no room after the decoder start token"),
        ({"length_penalty": "long"}, 'length_penalty = "long" is not a finite number'),
        ({"length_penalty": 9.0}, "length_penalty = 9.0 is not in -5..5"),
        ({"early_stopping": "soon"}, 'early_stopping = "soon" is not one of: false, true, "never"'),
        ({"repetition_penalty": 0}, "repetition_penalty = 0 is not above 0"),
        ({"do_sample": 1}, "do_sample = 1 is neither true nor false"),
        ({"do_sample": True, "num_beams": 2}, "do_sample = true with num_beams = 2 is not supp"),
        ({"do_sample": True, "temperature": 0.0}, "temperature = 0.0 is not above 0 and finite"),
        ({"num_return_sequences": 2}, "num_return_sequences = 2 is more than num_beams = 1"),
        ({"num_beam_groups": 2, "num_beams": 4}, "num_beam_groups = 2 is not supported"),
        ({"diversity_penalty": 0.5}, "diversity_penalty = 0.5 is not supported"),
        ({"guidance_scale": 1.5}, "guidance_scale = 1.5 is not supported; remove the key"),
        ({"force_words_ids": [[3]]}, "force_words_ids = [[3]] is not supported"),
        ({"stop_strings": ["."]}, 'stop_strings = ["."] is not supported'),
        ({"watermarking_config": {"bias": 2.0}}, 'watermarking_config = {"bias": 2.0} is not'),
        ({"eos_token_id": [1, VOCABULARY]}, f"vocabulary, which has 0..{VOCABULARY - 1}"),
        ({"suppress_tokens": [-1]}, "suppress_tokens = [-1] needs token ids of the vocabulary"),
        ({"forced_bos_token_id": VOCABULARY}, f"first is {VOCABULARY}, and the vocabulary has"),
        ({"bad_words_ids": [3]}, "bad_words_ids = [3] is not a list of lists of token ids"),
        ({"bad_words_ids": [[]]}, "bad_words_ids = [[]] has a sequence without tokens"),
        (
            {"sequence_bias": {"3": 1.0}},
            'sequence_bias = {"3": 1.0} is not a list of [tokens, number]',
        ),
        ({"exponential_decay_length_penalty": [2]}, "is not [tokens, factor]"),
        (
            {"forced_eos_token_id": 3, "suppress_tokens": [3]},
            "forced_eos_token_id = 3 is among suppress_tokens",
        ),
    ],
)
def test_what_is_not_computed_is_refused(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    found = refusal(functools.partial(loaded, tmp_path, **said))
    assert message in found
    assert "config.json" in found
