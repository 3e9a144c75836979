"""Unigram tokens: lossless at any length, the likeliest segmentation, sealed shards of tokens."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import (
    Sample,
    Skip,
    encoding_of,
    is_written,
    open_shard,
    open_shards,
    write_shard,
)
from speechscale.tokens.unigram import (
    UnigramSpec,
    UnigramTokenizer,
    UnigramTrainingTask,
    is_trained,
    load_unigram,
    plan_token_shards,
    repeated_sequences,
    sample_utterances,
    train_unigram,
    train_unigram_task,
    write_token_shard,
)

CLUSTERS = 12
SPEC = UnigramSpec(vocabulary=60)
WORDS = [[0, 1, 2], [3, 4, 5, 6, 7], [8, 2], [1, 9, 3, 0], [7, 8, 9, 10], [5, 0, 4]]
RNG = np.random.default_rng(0)
SPEECH = [np.concatenate([WORDS[i] for i in RNG.integers(len(WORDS), size=40)]) for _ in range(60)]


@pytest.fixture(scope="module")
def unigram() -> UnigramTokenizer:
    return UnigramTokenizer(train_unigram(SPEECH, CLUSTERS, SPEC))


@given(st.lists(st.lists(st.integers(0, CLUSTERS - 1)), max_size=5))
@settings(max_examples=60, deadline=None)
def test_decoding_inverts_encoding(unigram: UnigramTokenizer, utterances: list[list[int]]) -> None:
    arrays = [np.array(units, dtype=np.int16) for units in utterances]
    tokens = unigram.encode(arrays)
    assert [unigram.decode(some).tolist() for some in tokens] == utterances
    assert all(((some >= 0) & (some < SPEC.vocabulary)).all() for some in tokens)


@pytest.mark.parametrize("clusters, first", [(500, 0), (32_000, 31_900)])
def test_every_unit_is_a_token_even_if_it_does_not_occur(clusters: int, first: int) -> None:
    spec = UnigramSpec(vocabulary=clusters + 20)
    unigram = UnigramTokenizer(train_unigram([some + first for some in SPEECH], clusters, spec))
    units = np.arange(clusters)[::-1].astype(np.int16)
    assert unigram.decode(unigram.encode([units])[0]).tolist() == units.tolist()
    assert unigram.vocabulary == spec.vocabulary


def test_segmentation_has_the_highest_likelihood(unigram: UnigramTokenizer) -> None:
    """Against all segmentations, by dynamic programming over the model's own scores."""
    ids = range(1, SPEC.vocabulary + 1)
    score = {tuple(unigram.decode(np.array([i - 1])).tolist()): unigram._processor.get_score(i) for i in ids}
    for utterance in SPEECH[:5]:
        best = [0.0]
        for end in range(1, len(utterance) + 1):
            pieces = ((tuple(utterance[start:end].tolist()), best[start]) for start in range(end))
            best.append(max(before + score[piece] for piece, before in pieces if piece in score))
        found = sum(unigram._processor.get_score(int(i) + 1) for i in unigram.encode([utterance])[0])
        assert found == pytest.approx(best[-1], rel=1e-6)


def test_tokens_are_longer_than_the_mean_word(unigram: UnigramTokenizer) -> None:
    units, tokens = sum(map(len, SPEECH)), sum(map(len, unigram.encode(SPEECH)))
    assert units / tokens > 21 / 6  # the mean length of the words


def test_training_is_deterministic_and_records_no_path(unigram: UnigramTokenizer) -> None:
    model = train_unigram(SPEECH, CLUSTERS, SPEC)
    assert model == train_unigram(SPEECH, CLUSTERS, SPEC)
    assert b"seeds.tsv" in model and tempfile.gettempdir().encode() not in model


def test_long_utterance_is_trained_on_and_encoded_completely() -> None:
    rng = np.random.default_rng(1)
    words = np.tile([10, 3, 11, 6, 2, 9, 0, 0, 0, 0], 300)  # occurs only at its end
    long = np.concatenate([rng.integers(0, CLUSTERS, 100_000), words])
    model = train_unigram([*SPEECH, long], CLUSTERS, UnigramSpec(vocabulary=200))
    unigram = UnigramTokenizer(model)
    tokens = unigram.encode([long, long[:7]])
    assert len(unigram.encode([words])[0]) < 320
    assert np.array_equal(unigram.decode(tokens[0]), long) and np.array_equal(
        unigram.decode(tokens[1]), long[:7]
    )


@given(st.lists(st.lists(st.integers(0, 2), max_size=30), max_size=4), st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_seed_pieces_are_the_inner_nodes_of_the_suffix_tree(sentences: list[list[int]], longest: int) -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    for sentence in sentences:
        for length in range(2, longest + 2):
            counts.update(tuple(sentence[i : i + length]) for i in range(len(sentence) - length + 1))
    wanted = {
        piece: count
        for piece, count in counts.items()
        if len(piece) <= longest and count > 1 and all(counts[(*piece, unit)] < count for unit in range(3))
    }
    stream = np.array([unit for sentence in sentences for unit in [*sentence, -1]], dtype=np.int64)
    found = {
        tuple(stream[start : start + length].tolist()): count
        for part in repeated_sequences(stream, longest)
        for length, start, count in zip(*(some.tolist() for some in part), strict=True)
    }
    assert found == wanted


def test_vocabulary_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(UserError, match=r"too small for 5000 tokens \(it allows at most \d+\)"):
        train_unigram(SPEECH, CLUSTERS, UnigramSpec())
    with pytest.raises(UserError, match="5 tokens is smaller than the 12 units"):
        train_unigram(SPEECH, CLUSTERS, UnigramSpec(vocabulary=5))


def test_unknown_unit_is_an_error(unigram: UnigramTokenizer) -> None:
    with pytest.raises(UserError, match="units up to 12 are outside the vocabulary"):
        unigram.encode([np.array([3, 12])])


PREPROCESSING = {
    "unit_extractor": {"name": "log-mel"},
    "kmeans": {"name": "k", "sha256": "k"},
    "vocab_size": CLUSTERS + 2,
    "eos_token": CLUSTERS,
    "pad_token": CLUSTERS + 1,
    "plan_num_shards": 3,
}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of units; unit u lasts u + 1 frames of 40 ms."""
    for number in range(3):
        samples = [
            Sample(
                f"u{number}-{i}",
                np.append(units, CLUSTERS).astype(np.int16),
                0.04 * (units + 1).sum(),
                {"speaker": "v", "extra": {"task": "t"}},
                np.append(units + 1, 0),
            )
            for i, units in enumerate([*SPEECH[20 * number : 20 * number + 20], np.empty(0, dtype=int)])
        ]
        made = PREPROCESSING | {"num_assigned_records": 21 + number}
        write_shard(tmp_path / "units" / f"shard-{number:05d}", samples, [Skip("s", "corrupt", "why")], made)
    return tmp_path / "units"


def train(shards: Path, folder: Path, **changed: int) -> UnigramTrainingTask:
    task = UnigramTrainingTask(shards, SPEC.model_copy(update={"units": 3000, **changed}), folder)
    train_unigram_task(task)
    return task


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_token_shards_keep_rows_seconds_and_durations_of_unit_shards(shards: Path, tmp_path: Path) -> None:
    task = train(shards, tmp_path / "tokens" / "unigram")
    assert is_trained(task)
    for one in plan_token_shards(shards, task.folder, tmp_path / "tokens"):
        write_token_shard(one)
    unigram = load_unigram(task.folder)
    sources, made = open_shards(shards), open_shards(tmp_path / "tokens")
    assert len(made) == 3
    for source, shard in zip(sources, made, strict=True):
        verify_shard(shard.folder)
        assert shard.preprocessing["eos_token"] == 60 and shard.preprocessing["vocab_size"] == 62
        assert shard.preprocessing["unigram"]["vocabulary"] == 60
        assert shard.preprocessing["kmeans"] == PREPROCESSING["kmeans"]
        assert shard.seconds == source.seconds and shard.skips() == source.skips()
        rows = [{**row, "audio_steps": 0} for row in shard.rows()]
        assert rows == [{**row, "audio_steps": 0} for row in source.rows()]
        durations = shard.sample_durations()
        assert durations is not None
        for units, tokens, frames in zip(source.samples(), shard.samples(), durations, strict=True):
            assert np.array_equal(unigram.decode(tokens[:-1]), units[:-1]) and tokens[-1] == 60
            pieces = [unigram.decode(tokens[i : i + 1]) for i in range(len(tokens) - 1)]
            assert frames.tolist() == [*(int((piece + 1).sum()) for piece in pieces), 0]
    assert encoding_of(made[0]) == encoding_of(made[2]) != encoding_of(sources[0])


def test_resumed_tokenization_writes_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    whole = train(shards, tmp_path / "whole" / "unigram")
    parts = train(shards, tmp_path / "parts" / "unigram")
    for one in plan_token_shards(shards, whole.folder, tmp_path / "whole"):
        write_token_shard(one)
    tasks = plan_token_shards(shards, parts.folder, tmp_path / "parts")
    write_token_shard(tasks[2])
    for one in tasks:
        if not is_written(one.folder, one.preprocessing):
            write_token_shard(one)
    assert folder_bytes(tmp_path / "parts") == folder_bytes(tmp_path / "whole")


def test_artefacts_made_from_something_else_are_refused(shards: Path, tmp_path: Path) -> None:
    task = train(shards, tmp_path / "unigram")
    with pytest.raises(UserError, match="seed: found 0, wanted 1"):
        is_trained(UnigramTrainingTask(shards, task.spec.model_copy(update={"seed": 1}), task.folder))
    (one, *_) = plan_token_shards(shards, task.folder, tmp_path / "tokens")
    write_token_shard(one)
    other = train(shards, tmp_path / "other", seed=1)
    (again, *_) = plan_token_shards(shards, other.folder, tmp_path / "tokens")
    with pytest.raises(UserError, match=r"unigram\.sha256"):
        is_written(again.folder, again.preprocessing)
    foreign = PREPROCESSING | {"kmeans": {"name": "k", "sha256": "other"}, "plan_num_shards": 1}
    write_shard(tmp_path / "foreign" / "shard-00000", [], [], foreign)
    with pytest.raises(UserError, match=r"kmeans\.sha256: found 'other', wanted 'k'"):
        plan_token_shards(tmp_path / "foreign", task.folder, tmp_path / "x")
    shutil.rmtree(tmp_path / "tokens")
    for each in plan_token_shards(shards, task.folder, tmp_path / "tokens"):
        write_token_shard(each)
    with pytest.raises(UserError, match="holds unigram tokens already"):
        plan_token_shards(tmp_path / "tokens", task.folder, tmp_path / "x")


def test_modified_model_is_refused(shards: Path, tmp_path: Path) -> None:
    task = train(shards, tmp_path / "unigram")
    (task.folder / "unigram.model").write_bytes(b"x")
    with pytest.raises(UserError, match="differs from its seal"):
        load_unigram(task.folder)


def test_sample_is_seeded_and_large_enough(shards: Path) -> None:
    opened = open_shards(shards)
    some = sample_utterances(opened, 1000, seed=3)
    assert 1000 <= sum(map(len, some)) < 1000 + max(map(len, SPEECH))
    again = sample_utterances(opened, 1000, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
    assert len(sample_utterances(opened, 10**9, seed=3)) == 63
    everything = sorted(units.tolist() for units in sample_utterances(opened, 10**9, seed=4))
    assert everything == sorted(units[:-1].tolist() for shard in opened for units in shard.samples())


def test_shards_without_seconds_or_durations_give_tokens_without_them(tmp_path: Path) -> None:
    """The released schema has neither seconds nor durations."""
    samples = [
        Sample(f"u{i}", np.append(units, CLUSTERS).astype(np.int16), None, {})
        for i, units in enumerate(SPEECH)
    ]
    write_shard(tmp_path / "units" / "shard-00000", samples, [], PREPROCESSING | {"plan_num_shards": 1})
    task = train(tmp_path / "units", tmp_path / "unigram")
    (one,) = plan_token_shards(tmp_path / "units", task.folder, tmp_path / "tokens")
    write_token_shard(one)
    shard = open_shard(one.folder)
    assert shard.seconds is None and shard.durations is None and "seconds" not in shard.rows()[0]
