"""The sequence-to-sequence model: what its batches may change, what it refuses, save and load."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blocks import assert_close
from directories import edit_json, refusal, store, tensors_of
from hypothesis import given
from hypothesis import strategies as st
from toys import same, writer

import encodax
from encodax import Seq2SeqModel
from encodax.config import EmbeddingsConfig, Placement
from encodax.data.packing import assemble_pairs, best_fit_pairs
from encodax.errors import EncodaxError
from encodax.models.encoder_model import Model
from encodax.models.seq2seq_model import initial_params, is_seq2seq
from encodax.nn import sinusoidal_table, transformer
from encodax.options.presets import TransformerSize, transformer_config
from encodax.tasks.losses import cross_entropy
from encodax.tasks.task import Targets
from encodax.text.tokenizer import EncodedPair, Encoding, Tokenizer
from encodax.types.batches import ModelOutput, PackedBatch, PairBatch

SIZE: dict[str, Any] = {"row_count": 3, "row_tokens": (12, 10), "slots": 4}
VOCABULARY = writer().tokenizer.vocabulary_size


def sequence(ids: list[int]) -> Encoding:
    return Encoding(
        token_ids=np.asarray(ids, np.int32),
        type_ids=np.zeros(len(ids), np.int32),
        offsets=np.zeros((len(ids), 2), np.int32),
        is_special=np.zeros(len(ids), bool),
        sequence_ids=np.zeros(len(ids), np.int32),
    )


def pair_of(source: list[int], target: list[int]) -> EncodedPair:
    return EncodedPair.of(sequence(source), sequence(target), writer().config.decoder_start_id)


def ids(most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=most)


PAIRS = st.lists(st.builds(pair_of, ids(7), ids(6)), min_size=1, max_size=5)
PAIR = pair_of([5, 9, 2, 7, 3], [8, 1, 6, 11, 3])


@functools.cache
def compiled(
    placement: Placement = "post", record: frozenset[str] = frozenset()
) -> Callable[[PairBatch], ModelOutput]:
    """Of `writer`, one program for each shape."""
    model = writer(placement)
    return jax.jit(lambda batch: model.apply(model.params, batch, record=record))


def rows_of(pairs: list[EncodedPair]) -> list[list[int]]:
    lengths = [len(p.source) for p in pairs], [len(p.given) for p in pairs]
    return best_fit_pairs(lengths, SIZE["row_tokens"], SIZE["slots"])


def batch_of(pairs: list[EncodedPair], rows: list[list[int]]) -> PairBatch:
    return assemble_pairs([[pairs[index] for index in row] for row in rows], **SIZE)


def pieces(rows: list[list[int]], batch: PackedBatch) -> dict[int, tuple[int, slice]]:
    """Of each pair, its row and its tokens there."""
    found = {}
    for b, row in enumerate(rows):
        for n, index in enumerate(row):
            start = int(batch.starts[b, n])
            found[index] = b, slice(start, start + int(batch.lengths[b, n]))
    return found


def loss_of(output: ModelOutput, pairs: list[EncodedPair], rows: list[list[int]]) -> Any:
    """The loss over all pairs of a batch, as (sum, weight)."""
    assert output.logits is not None
    values, weights = np.zeros((2, *output.logits.shape[:2]), np.float32)
    for index, (row, tokens) in pieces(rows, batch_of(pairs, rows).target).items():
        values[row, tokens], weights[row, tokens] = pairs[index].wanted, 1
    targets = Targets(jnp.asarray(values, jnp.int32), jnp.asarray(weights))
    return cross_entropy(output.logits, targets, 0.1)


# --- how it begins


def test_queries_keys_and_values_are_drawn_as_one_layer() -> None:
    sizes = TransformerSize(layers=1, width=128, heads=4, feed_forward_width=16, dropout_rate=0.0)
    config = dataclasses.replace(writer().config, transformer=transformer_config(sizes, 50))
    params = initial_params(config, jax.random.key(0))
    limit = math.sqrt(6 / (128 + 3 * 128))
    for sublayer in ("encoder/layer_0/attention", "decoder/layer_0/cross_attention"):
        for name in ("query", "key", "value"):
            w = np.asarray(params[f"{sublayer}/{name}"]["w"])
            assert 0.999 * limit < np.abs(w).max() <= limit * 1.0001
            assert w.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    output = np.asarray(params["decoder/layer_0/cross_attention/output"]["w"])
    assert output.std() == pytest.approx(math.sqrt(2 / 256), rel=0.02)


# --- what a batch may change


@pytest.mark.parametrize("placement", ["post", "pre"])
@given(pairs=PAIRS)
def test_packed_pairs_are_pairs_alone(placement: Placement, pairs: list[EncodedPair]) -> None:
    apply, rows = compiled(placement), rows_of(pairs)
    rows = rows[: SIZE["row_count"]]
    batch = batch_of(pairs, rows)
    together = apply(batch)
    total, weight = loss_of(together, pairs, rows)
    assert together.logits is not None and np.isfinite(together.logits).all()
    total_alone = weight_alone = 0.0
    for index, (row, tokens) in pieces(rows, batch.target).items():
        alone = apply(batch_of(pairs, [[index]]))
        assert alone.logits is not None
        length = len(pairs[index].given)
        assert_close(together.logits[row, tokens], alone.logits[0, :length], 1e-5)
        own, own_weight = loss_of(alone, pairs, [[index]])
        total_alone, weight_alone = total_alone + own, weight_alone + own_weight
    assert weight == weight_alone == sum(len(pairs[i].wanted) for row in rows for i in row)
    assert_close(total, total_alone, 1e-5)


@given(
    pairs=PAIRS,
    order=st.permutations(range(SIZE["row_count"])),
    noise=st.integers(0, 2**31),
)
def test_the_order_of_rows_and_what_stands_at_padding_change_nothing(
    pairs: list[EncodedPair], order: list[int], noise: int
) -> None:
    batch = batch_of(pairs, rows_of(pairs)[: SIZE["row_count"]])
    logits = np.asarray(compiled()(batch).logits)
    moved: PairBatch = jax.tree.map(lambda leaf: leaf[order], batch)
    np.testing.assert_array_equal(compiled()(moved).logits, logits[order])

    random = np.random.default_rng(noise)

    def noisy(side: PackedBatch) -> PackedBatch:
        is_padding = np.asarray(side.segment_ids) == 0
        drawn = random.integers(0, VOCABULARY, side.token_ids.shape)
        return dataclasses.replace(
            side, token_ids=np.where(is_padding, drawn, side.token_ids).astype(np.int32)
        )

    other = compiled()(PairBatch(noisy(batch.source), noisy(batch.target)))
    is_real = np.asarray(batch.target.segment_ids) > 0
    np.testing.assert_array_equal(np.asarray(other.logits)[is_real], logits[is_real])


def test_room_changes_nothing() -> None:
    model = writer()
    small = assemble_pairs([[PAIR]], row_count=1, row_tokens=(5, 5), slots=1)
    large = assemble_pairs([[], [PAIR]], row_count=3, row_tokens=(64, 33), slots=7)
    first, second = (model.apply(model.params, batch).logits for batch in (small, large))
    assert first is not None and second is not None
    assert_close(second[1, :5], first[0], 1e-5)


@given(target=ids(10), place=st.integers(0, 9), token=st.integers(0, VOCABULARY - 1))
def test_nothing_after_a_position_changes_what_stands_before_it(
    target: list[int], place: int, token: int
) -> None:
    given_ids = [writer().config.decoder_start_id, *target][: SIZE["row_tokens"][1]]
    place %= len(given_ids)
    changed = [*given_ids[:place], token, *given_ids[place + 1 :]]
    found = []
    for each in (given_ids, changed):
        pair = dataclasses.replace(PAIR, given=sequence(each))
        found.append(np.asarray(compiled()(batch_of([pair], [[0]])).logits)[0, : len(each)])
    before, after = found
    np.testing.assert_array_equal(before[:place], after[:place])
    if changed != given_ids:
        assert np.abs(before[place:] - after[place:]).max() > 1e-4


@given(source=ids(12), place=st.integers(0, 11))
def test_every_token_of_the_source_is_seen_from_every_token_of_the_target(
    source: list[int], place: int
) -> None:
    place %= len(source)
    token = (source[place] + 1) % VOCABULARY
    changed = [*source[:place], token, *source[place + 1 :]]
    logits = [
        np.asarray(compiled()(batch_of([dataclasses.replace(PAIR, source=sequence(each))], [[0]]))
                   .logits)[0, :5]
        for each in (source, changed)
    ]  # fmt: skip
    assert (np.abs(logits[0] - logits[1]).max(axis=-1) > 1e-6).all()


# --- what it looks at


@pytest.mark.parametrize("placement", ["post", "pre"])
@given(pairs=PAIRS)
def test_recorded_attention_is_what_may_be_looked_at(
    placement: Placement, pairs: list[EncodedPair]
) -> None:
    rows = rows_of(pairs)[: SIZE["row_count"]]
    batch = batch_of(pairs, rows)
    records = compiled(placement, transformer.STAGES)(batch).records
    assert records.keys() == transformer.STAGES
    source, target = (np.asarray(side.segment_ids) for side in (batch.source, batch.target))
    sides = {
        "source_attention": (source, source),
        "target_attention": (target, target),
        "cross_attention": (target, source),
    }
    for stage, (queries, keys) in sides.items():
        assert len(records[stage]) == 2
        may = (queries[:, :, None] == keys[:, None, :]) & (queries > 0)[:, :, None]
        if stage == "target_attention":
            may &= np.tri(queries.shape[1], dtype=bool)
        for weights in map(np.asarray, records[stage]):
            assert weights.shape == (3, 2, queries.shape[1], keys.shape[1])
            is_query = np.broadcast_to((queries > 0)[:, None], weights.shape[:3])
            np.testing.assert_allclose(weights.sum(axis=-1)[is_query], 1, atol=1e-5)
            assert (weights[~np.broadcast_to(may[:, None], weights.shape)] == 0).all()
            assert (weights[np.broadcast_to(may[:, None], weights.shape)] > 0).all()


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_recorded_states_go_from_the_embeddings_to_what_is_scored(placement: Placement) -> None:
    model, batch = writer(placement), batch_of([PAIR], [[0]])
    output = compiled(placement, transformer.STAGES)(batch)
    config = model.config.transformer
    wanted = {"encoder": model.encode_states(model.params, batch.source), "decoder": output.hidden}
    stacks = ("encoder", "source", config.encoder), ("decoder", "target", config.decoder)
    for name, side, stack in stacks:
        states = output.records[f"{side}_hidden"]
        assert len(states) == 2 + 1
        first, middle, last = map(np.asarray, states)
        assert_close(first, embedded(stack.embeddings, model, getattr(batch, side)), 1e-5)
        assert np.abs(middle - first).max() > 0.1
        assert np.abs(last - middle).max() > 0.1
        if stack.final_norm is not None:
            norm = model.params[f"{name}/final_norm"]
            last = normalized(last) * norm["alpha"] + norm["beta"]
        assert_close(last, wanted[name], 1e-5)
    assert (config.encoder.final_norm is None) == (placement == "post")


def embedded(config: EmbeddingsConfig, model: Seq2SeqModel, side: PackedBatch) -> np.ndarray:
    """Rows of the one table, and sinusoids."""
    rows = np.asarray(model.params["encoder/embeddings/token"]["w"])[side.token_ids]
    scale = math.sqrt(config.width) if config.scale_by_sqrt_width else 1
    return rows * scale + np.asarray(sinusoidal_table(32, 16, halves=True))[side.position_ids]


def normalized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("stage", sorted(transformer.STAGES))
def test_recording_changes_no_number(stage: str) -> None:
    model, batch = writer(), batch_of([PAIR], [[0]])
    plain = model.apply(model.params, batch)
    recorded = model.apply(model.params, batch, record=frozenset({stage}))
    np.testing.assert_array_equal(recorded.logits, plain.logits)
    assert (plain.records, recorded.records.keys()) == ({}, {stage})


def test_an_unknown_stage_is_refused() -> None:
    model = writer()
    known = "cross_attention, source_attention, source_hidden, target_attention, target_hidden"
    with pytest.raises(ValueError, match=f"no stage hidden to record; known: {known}"):
        model.apply(model.params, batch_of([PAIR], [[0]]), record=frozenset({"hidden"}))


# --- a token at a time


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_a_token_at_a_time_gives_the_scores_of_the_whole(placement: Placement) -> None:
    model = writer(placement)
    pairs = [PAIR, pair_of([4, 3], [5, 9, 3]), pair_of([6, 7, 8, 3], [10])]
    wanted = compiled(placement)(batch_of(pairs, [[0], [1], [2]])).logits
    assert wanted is not None
    batch = batch_of(pairs, [[0], [1], [2]])
    cache = jax.jit(model.begin, static_argnums=2)(model.params, batch.source, 5)
    step = jax.jit(model.step)
    for place in range(5):
        scores, cache = step(model.params, jnp.asarray(batch.target.token_ids[:, place]), cache)
        for row, pair in enumerate(pairs):
            if place < len(pair.given):
                assert_close(scores[row], wanted[row, place], 1e-5)


# --- texts


def test_a_pair_is_given_shifted_right_and_wanted_whole() -> None:
    model = writer()
    (pair,), cut = model.encode_pairs([("abc", "CBA")], names=["it"])
    assert cut == 0
    ids_of = model.tokenizer.vocabulary()
    end = ids_of["[SEP]"]
    assert pair.source.token_ids.tolist() == [*(ids_of[c] for c in "abc"), end]
    assert pair.wanted.tolist() == [*(ids_of[c] for c in "CBA"), end]
    assert pair.given.token_ids.tolist() == [
        model.config.decoder_start_id,
        *pair.wanted[:-1].tolist(),
    ]
    assert pair.given.token_ids.dtype == np.int32


@given(st.text("abcd", min_size=1, max_size=20), st.text("ABCD", min_size=1, max_size=20))
def test_a_pair_of_any_text_is_shifted_right(source: str, target: str) -> None:
    model = writer()
    (pair,), _ = model.encode_pairs([(source, target)], names=["it"])
    assert pair.wanted[-1] == pair.source.token_ids[-1] == model.config.eos_id
    assert len(pair.wanted) == len(pair.given) == len(target) + 1
    np.testing.assert_array_equal(pair.given.token_ids[1:], pair.wanted[:-1])
    assert model.tokenizer.decode(pair.wanted) == target


def test_both_sides_may_be_cut_and_end_all_the_same() -> None:
    model = writer()
    pairs = [("a" * 40, "B"), ("a", "B" * 32), ("a" * 31, "B" * 31)]
    found, cut = model.encode_pairs(pairs, truncate=True, names=list("xyz"))
    assert cut == 2
    assert [(len(pair.source), len(pair.given)) for pair in found] == [(32, 2), (2, 32), (32, 32)]
    for pair in found:
        assert pair.source.token_ids[-1] == pair.wanted[-1] == model.config.eos_id


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("a" * 32, "B"), "it: 33 tokens, and the model takes 32; .*truncate=True"),
        (("a", "B" * 32), "the target of it: 33 tokens, and the model takes 32"),
        (("", "B"), "it: the text is empty"),
        (("a", ""), "the target of it: the text is empty"),
        (("\ud800", "B"), "it: character 0 of the text, .* is not Unicode"),
        (("a", "B\udc00"), "the target of it: character 1 of the text, .* is not Unicode"),
    ],
)
def test_a_side_that_cannot_be_is_named(pair: tuple[str, str], message: str) -> None:
    with pytest.raises(EncodaxError, match=f"^{message}"):
        writer().encode_pairs([pair], names=["it"])


def test_one_string_is_no_list_of_texts() -> None:
    with pytest.raises(EncodaxError, match="give a list of texts, not one string"):
        writer().encode("abc")


def test_a_text_has_a_number_where_it_has_no_name() -> None:
    with pytest.raises(EncodaxError, match=r"^text 1: the text is empty"):
        writer().encode(["a", ""])


@pytest.mark.parametrize(
    ("side", "name", "value", "message"),
    [
        ("source", "token_ids", VOCABULARY, f"token id {VOCABULARY}"),
        ("target", "token_ids", VOCABULARY, f"token id {VOCABULARY}"),
        ("source", "token_ids", -1, "token id -1"),
        ("target", "position_ids", 32, "position 32"),
        ("source", "position_ids", 32, "position 32"),
    ],
)
def test_what_is_out_of_range_is_refused_on_the_host(
    side: str, name: str, value: int, message: str
) -> None:
    batch = batch_of([PAIR], [[0]])
    writer().check(batch)
    array = np.array(getattr(getattr(batch, side), name))
    array[0, 1] = value
    spoilt = dataclasses.replace(getattr(batch, side), **{name: array})
    with pytest.raises(EncodaxError, match=message):
        writer().check(dataclasses.replace(batch, **{side: spoilt}))


# --- directories


def assert_equal(first: Seq2SeqModel, second: Seq2SeqModel) -> None:
    assert same(first.params, second.params)
    assert first.tokenizer.vocabulary() == second.tokenizer.vocabulary()
    assert first.extra_tensors.keys() == second.extra_tensors.keys()
    batch = batch_of([PAIR], [[0]])
    np.testing.assert_array_equal(
        first.apply(first.params, batch).logits, second.apply(second.params, batch).logits
    )


def test_what_is_saved_is_loaded_as_marian(tmp_path: Path) -> None:
    model = writer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "model")
    loaded = Seq2SeqModel.load(tmp_path / "model")
    assert_equal(model, loaded)
    assert loaded.config == dataclasses.replace(model.config, family="marian")
    assert is_seq2seq(tmp_path / "model")
    assert loaded.max_length == loaded.longest_sequence == 32
    assert loaded.layer_count == 2
    assert loaded.labels == ()
    loaded.save(tmp_path / "again")
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        first, second = ((tmp_path / place / name).read_bytes() for place in ("model", "again"))
        assert first == second, name


def test_the_files_are_those_of_transformers(tmp_path: Path) -> None:
    model = writer()
    model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("marian", ["MarianMTModel"])
    assert config["is_encoder_decoder"] is True
    never = [[model.config.pad_id]]
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert generation == {
        "decoder_start_token_id": model.config.decoder_start_id,
        "eos_token_id": model.config.eos_id,
        "pad_token_id": model.config.pad_id,
        "max_length": 32,
        "bad_words_ids": never,
    }
    tensors = tensors_of(tmp_path / "model")
    assert sum(array.size for array in tensors.values()) == model.parameter_count()
    assert tensors["final_logits_bias"].shape == (1, VOCABULARY)
    of_layer = {name.split("layers.1.")[1] for name in tensors if "decoder.layers.1." in name}
    assert {"self_attn.q_proj.weight", "encoder_attn.out_proj.bias", "fc2.weight"} <= of_layer
    assert {"encoder_attn_layer_norm.weight", "final_layer_norm.bias"} <= of_layer


def test_what_no_family_has_is_saved_for_encodax_alone(tmp_path: Path) -> None:
    model = writer("pre")
    halved = dataclasses.replace(model.config.transformer, output_scale=0.5)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, transformer=halved))
    with pytest.warns(UserWarning, match="saved as model_type encodax-seq2seq, which only Encodax"):
        model.save(tmp_path / "model")
    loaded = Seq2SeqModel.load(tmp_path / "model")
    assert_equal(model, loaded)
    assert loaded.config == dataclasses.replace(model.config, family="encodax-seq2seq")
    assert is_seq2seq(tmp_path / "model")


def test_what_a_file_carries_beside_the_model_is_kept(tmp_path: Path) -> None:
    model = writer()
    model.save(tmp_path / "model")
    width = model.config.transformer.encoder.embeddings.width
    table = np.asarray(sinusoidal_table(3, width, halves=True))
    name = "model.encoder.embed_positions.weight"
    store(tmp_path / "model", tensors_of(tmp_path / "model") | {name: table})
    loaded = Seq2SeqModel.load(tmp_path / "model")
    assert loaded.extra_tensors.keys() == {name}
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(tensors_of(tmp_path / "again")[name], table)
    assert_equal(Seq2SeqModel.load(tmp_path / "again"), loaded)


def test_positions_that_are_no_sinusoids_are_refused(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    width = writer().config.transformer.encoder.embeddings.width
    name = "model.decoder.embed_positions.weight"
    table = np.asarray(sinusoidal_table(3, width))  # not halves
    store(tmp_path / "model", tensors_of(tmp_path / "model") | {name: table})
    assert f"{name} is not a table of sinusoids" in refusal(
        lambda: Seq2SeqModel.load(tmp_path / "model")
    )


def test_a_shared_table_is_read_under_any_of_its_names(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    tensors = tensors_of(tmp_path / "model")
    tensors["model.decoder.embed_tokens.weight"] = tensors.pop("model.shared.weight")
    store(tmp_path / "model", tensors)
    assert_equal(Seq2SeqModel.load(tmp_path / "model"), writer())


def test_what_is_said_of_generation_is_kept(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    place = tmp_path / "model" / "generation_config.json"
    edit_json(place, lambda content: content.update(num_beams=6, bad_words_ids=[[0], [3], [1, 2]]))
    loaded = Seq2SeqModel.load(tmp_path / "model")
    assert loaded.config.suppressed_ids == (0, 3)
    loaded.save(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert again["num_beams"] == 6
    assert Seq2SeqModel.load(tmp_path / "again").config == loaded.config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": "MarianMTModel"}, "architectures must be a list of class names"),
        ({"normalize_before": True}, "normalize_before = True is not supported"),
        ({"static_position_embeddings": False}, "static_position_embeddings = False is not"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    writer().save(tmp_path / "model")
    edit_json(tmp_path / "model" / "config.json", lambda content: content.update(changes))
    (tmp_path / "model" / "generation_config.json").unlink()
    assert message in refusal(lambda: Seq2SeqModel.load(tmp_path / "model"))


def test_what_is_said_of_generation_counts_there_alone(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    place = tmp_path / "model" / "generation_config.json"
    edit_json(place, lambda content: content.update(decoder_start_token_id=5, eos_token_id=[1, 4]))
    loaded = Seq2SeqModel.load(tmp_path / "model")
    assert (loaded.config.decoder_start_id, loaded.config.eos_id) == (0, writer().config.eos_id)
    assert (
        loaded.default_generation_config.decoder_start_id,
        loaded.default_generation_config.eos_ids,
    ) == (5, (1, 4))
    loaded.save(tmp_path / "again")
    assert (
        Seq2SeqModel.load(tmp_path / "again").default_generation_config
        == loaded.default_generation_config
    )


def test_a_target_that_the_tokenizer_does_not_end_is_refused() -> None:
    model = dataclasses.replace(writer(), tokenizer=Tokenizer.train(["ab"], "char", begins=False))
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, eos_id=5))
    with pytest.raises(EncodaxError, match="does not end it with token 5"):
        model.encode_pairs([("a", "b")], names=["line 1"])


def test_more_room_than_positions_is_refused() -> None:
    model = writer()
    limit = model.config.transformer.decoder.embeddings.max_positions
    assert limit is not None
    source = PackedBatch.from_rows(np.asarray([[1, 2]], np.int32))
    with pytest.raises(EncodaxError, match=f"is more than the {limit} positions"):
        model.begin(model.params, source, limit + 1)


@pytest.mark.parametrize("copy", ["model.encoder.embed_tokens.weight", "lm_head.weight"])
def test_copies_of_the_one_table_are_read_where_they_are_equal(tmp_path: Path, copy: str) -> None:
    writer().save(tmp_path / "model")
    tensors = tensors_of(tmp_path / "model")
    store(tmp_path / "model", tensors | {copy: tensors["model.shared.weight"]})
    assert_equal(Seq2SeqModel.load(tmp_path / "model"), writer())
    store(tmp_path / "model", tensors | {copy: tensors["model.shared.weight"] + 1})
    message = refusal(lambda: Seq2SeqModel.load(tmp_path / "model"))
    assert copy in message


def test_a_model_of_another_kind_is_refused_by_either(tmp_path: Path, tiny_model: Model) -> None:
    writer().save(tmp_path / "pairs")
    tiny_model.save(tmp_path / "encoder")
    message = refusal(lambda: Model.load(tmp_path / "pairs"))
    assert message.startswith(
        "model_type 'marian' is a sequence-to-sequence model: use `encodax tr"
    )
    assert refusal(lambda: encodax.load(tmp_path / "pairs")) == message
    message = refusal(lambda: Seq2SeqModel.load(tmp_path / "encoder"))
    assert message == (
        "model_type 'bert' is an encoder, which writes no text: use `encodax predict` or "
        "`encodax embed`, or read it with encodax.Model.load"
    )
    assert not is_seq2seq(tmp_path / "encoder")


@pytest.mark.parametrize("model_type", ["m2m_100", None, 7, ["marian"], {}])
def test_an_unknown_model_type_is_refused(tmp_path: Path, model_type: object) -> None:
    writer().save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    edit_json(config, lambda content: content.update(model_type=model_type))
    message = refusal(lambda: Seq2SeqModel.load(tmp_path / "model"))
    assert message.startswith(f"model_type {model_type!r} is not supported; sequence-to-sequence m")
    assert not is_seq2seq(tmp_path / "model")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    message = refusal(lambda: Seq2SeqModel.load(tmp_path))
    assert message == f"{tmp_path}/config.json does not exist: {tmp_path} is empty"
    assert not is_seq2seq(tmp_path)


@pytest.mark.parametrize(
    ("key", "what"),
    [("decoder_start_token_id", "begins"), ("eos_token_id", "ends"), ("pad_token_id", "pads")],
)
def test_tokens_outside_of_the_vocabulary_are_refused(tmp_path: Path, key: str, what: str) -> None:
    writer().save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    edit_json(config, lambda content: content.update({key: VOCABULARY}))
    (tmp_path / "model" / "generation_config.json").unlink()
    message = refusal(lambda: Seq2SeqModel.load(tmp_path / "model"))
    wanted = f"the token that {what} is {VOCABULARY}, and the vocabulary has 0..{VOCABULARY - 1}"
    assert message == f"{config}: {wanted}"


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    writer().save(tmp_path / "model")
    larger = Tokenizer.train(["abcdABCDefgh"], "char", begins=False)
    larger.save(tmp_path / "model")
    count = larger.vocabulary_size
    assert count > VOCABULARY
    message = refusal(lambda: Seq2SeqModel.load(tmp_path / "model"))
    assert f"the tokenizer has {count} tokens and the embedding {VOCABULARY} rows" in message


def test_a_directory_is_replaced_where_asked(tmp_path: Path, tiny_model: Model) -> None:
    place = tmp_path / "model"
    tiny_model.with_embeddings().save(place)
    assert (place / "modules.json").is_file()
    assert "exists" in refusal(lambda: writer().save(place))
    (place / "notes.txt").write_text("mine")
    writer().save(place, overwrite=True)
    assert not (place / "modules.json").exists()
    assert (place / "notes.txt").read_text() == "mine"
    assert_equal(Seq2SeqModel.load(place), writer())
    tiny_model.save(place, overwrite=True)
    assert not (place / "generation_config.json").exists()
    assert Model.load(place).labels == tiny_model.labels


def test_a_card_says_how_it_is_used(tmp_path: Path) -> None:
    writer().save(tmp_path / "my model")
    card = (tmp_path / "my model" / "README.md").read_text(encoding="utf-8")
    assert "Translator" in card


def test_fresh_parameters_follow_the_seed() -> None:
    config, tokenizer = writer().config, writer().tokenizer
    first, second, other = (
        Seq2SeqModel.create(config, tokenizer, seed=seed).params for seed in (3, 3, 4)
    )
    assert same(first, second)
    assert not same(first, other)
