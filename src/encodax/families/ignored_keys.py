"""Keys of `config.json` that change no answer, each with the reason.

Every key of a published configuration class is read by its family, is listed here or in the
family's `ignored_keys`, or is refused. A test checks all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from encodax.storage.json_files import FileKeys, Settings

OUTPUT = "it says what the reference returns, not what it computes"
MEMORY = "it trades memory for time, and changes no number"
FIRST_WEIGHTS = "it says how new weights are drawn, and these are read"
TOKEN_ID = "the tokenizer puts this token where it belongs"
PROVENANCE = "it says where the model comes from"
GENERATION = "it is for generation, and an encoder generates nothing"
OTHER_HEAD = "it is for a head or a block that this model does not have"
UNREAD = "the published class does not read it"
TRAINING = "it is for training"

ANY: dict[str, str] = {
    "_commit_hash": PROVENANCE,
    "_name_or_path": PROVENANCE,
    "finetuning_task": PROVENANCE,
    "transformers_version": PROVENANCE,
    "output_attentions": OUTPUT,
    "output_hidden_states": OUTPUT,
    "return_dict": OUTPUT,
    "tie_last_hidden_states": OUTPUT,
    "torchscript": OUTPUT,
    "_attn_implementation": MEMORY,
    "_attn_implementation_autoset": MEMORY,
    "attn_implementation": MEMORY,
    "chunk_size_feed_forward": MEMORY,
    "gradient_checkpointing": MEMORY,
    "use_bfloat16": MEMORY,
    "use_cache": MEMORY,
    "init_std": FIRST_WEIGHTS,
    "initializer_cutoff_factor": FIRST_WEIGHTS,
    "initializer_factor": FIRST_WEIGHTS,
    "initializer_range": FIRST_WEIGHTS,
    "bos_token_id": TOKEN_ID,
    "cls_token_id": TOKEN_ID,
    "eos_token_id": TOKEN_ID,
    "sep_token_id": TOKEN_ID,
    "tokenizer_class": "the tokenizer's files are read with it",
    "label2id": "it repeats what id2label says",
    "auto_map": "it names code, and no code of a directory is run",
}
"""Harmless keys of every family."""
OF_GENERATION = (
    "begin_suppress_tokens", "bad_words_ids", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
    "length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups",
    "num_beams", "num_return_sequences", "output_scores", "prefix", "remove_invalid_values",
    "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "task_specific_params",
    "temperature", "top_k", "top_p", "typical_p",
)  # fmt: skip
"""Generation keys that older versions of transformers write into every `config.json`."""
ENCODERS: dict[str, str] = {**ANY, **dict.fromkeys(OF_GENERATION, GENERATION)}
"""Harmless keys of every family of encoders."""
FIXED_OF_ANY: dict[str, tuple[object, ...]] = {
    "cross_attention_hidden_size": (None,),
    "partial_rotary_factor": (1.0, None),
    "per_layer_config": ({}, None),
    "pruned_heads": ({}, None),
    "tie_encoder_decoder": (False, None),
}
"""Keys that files of any family may have, and their supported values."""
FIXED_OF_ENCODERS: dict[str, tuple[object, ...]] = {
    **FIXED_OF_ANY,
    "is_encoder_decoder": (False, None),
}
"""Keys that files of encoders may have, and their supported values."""
FIXED_OF_SEQ2SEQ: dict[str, tuple[object, ...]] = {
    **FIXED_OF_ANY,
    "is_encoder_decoder": (True, None),
}
"""Keys that files of sequence-to-sequence models may have, and their supported values."""


def account(
    settings: Settings,
    *,
    ignored_keys: Mapping[str, str],
    of_family: Collection[str],
) -> FileKeys:
    """Account for the keys of a configuration that a family has read.

    Args:
        settings: the configuration.
        ignored_keys: keys that change no answer, with the reason.
        of_family: keys that the family reads for only some of its heads.

    Raises:
        EncodaxError: a key is unknown, and the directory has custom code, which may read it.
            Without such code, the published class does not read the key either.
    """
    code = settings.plain().get("auto_map")
    runs_code = isinstance(code, Mapping) and any(name.startswith("AutoModel") for name in code)
    others = dict.fromkeys(of_family, OTHER_HEAD)
    return settings.settle({**others, **ignored_keys}, unknown=None if runs_code else UNREAD)
