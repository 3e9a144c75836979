"""Several series in one study: the same speech as units, as unigram pieces, as characters, and a part of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from preprocessing import preprocessing_of
from toy_study import TINY_LADDER

from speechscale.errors import UserError
from speechscale.records.law import read_law
from speechscale.records.runs import read_record
from speechscale.records.runs_table import read_table
from speechscale.records.shards import Sample, open_shards, write_shard
from speechscale.study.ladder import ladder_runs, unique_tokens
from speechscale.study.run import run_study
from speechscale.study.spec import StudySpec, read_study
from speechscale.workers.local import LocalBackend

WORDS = ["the", "a", "old", "dog", "cat", "king", "sees", "likes", "finds", "red", "small", "ball", "drum"]
PREPROCESSING = preprocessing_of(26)
STUDY = f"""
name = "several"
title = "Several"
question = "Which is learnt faster?"
[corpus]
train = "train"
test = "test"
benchmarks = "benchmarks"
vocabulary = 28
unique_tokens = 6_000
{TINY_LADDER}
sizes = [{{ layers = 1, dim = 16, heads = 1, batch = 4, peak_lr = 8e-3 }}]
budgets = [{{ tokens = 1_280 }}, {{ tokens = 2_560 }}]
[[series]]
name = "speech"
[[series]]
name = "pieces"
unigram = {{ vocabulary = 40 }}
budgets = [{{ tokens = 1_280 }}]
[[series]]
name = "stories"
dataset = "stories"
budgets = [{{ tokens = 1_280, unique = 1_024 }}]
[[series]]
name = "text"
tokens = "characters"
sizes = [{{ layers = 1, dim = 8, heads = 1, batch = 4, peak_lr = 8e-3 }}]
[laws]
bootstrap = 100
"""


def spoken(name: str, text: str, **row: object) -> Sample:
    """Speech whose units are the letters of a text."""
    units = np.array([ord(letter) - ord("a") for letter in text if letter != " "] + [26])
    row = {"speaker": "v", "dataset": "prose", "transcript": text, **row}
    return Sample(name, units, 0.5 * len(text.split()), row, np.append(np.ones(len(units) - 1, dtype=int), 0))


def texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=8)) for _ in range(count)]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudySpec:
    monkeypatch.chdir(tmp_path)
    kinds = ("prose", "stories")
    train = [spoken(f"train{i}", text, dataset=kinds[i % 2]) for i, text in enumerate(texts(0, 200))]
    write_shard(Path("train/shard-0"), train[:120], [], PREPROCESSING)
    write_shard(Path("train/shard-1"), train[120:], [], PREPROCESSING)
    write_shard(
        Path("test/shard-0"),
        [spoken(f"test{i}", text) for i, text in enumerate(texts(1, 20))],
        [],
        PREPROCESSING,
    )
    items = []
    for number, text in enumerate(texts(2, 12)):
        for condition in ("seen", "unseen"):
            for correct, spelling in ((True, text), (False, text[::-1])):
                label = {
                    "task": "order",
                    "group_id": str(number),
                    "pair_id": f"{number}/{condition}",
                    "condition": condition,
                    "correct": correct,
                }
                items.append(spoken(f"{number}/{condition}/{correct}", spelling, extra=label))
    write_shard(Path("benchmarks/shard-0"), items, [], PREPROCESSING)
    Path("study.toml").write_text(STUDY)
    return read_study(Path("study.toml"))


def test_runs_of_each_series_have_their_own_names_sizes_and_budgets(study: StudySpec) -> None:
    runs = {run.run: run for run in ladder_runs(study)}
    params = study.shape(study.ladder.sizes[0]).params
    assert {run.series: run.dim for run in runs.values()} == {
        "speech": 16,
        "pieces": 16,
        "stories": 16,
        "text": 8,
    }
    names = {
        series: sorted(name for name, run in runs.items() if run.series == series)
        for series in study_names(study)
    }
    size = f"{params / 1000:.3g}k"
    assert names["speech"] == [f"{size}-1.28k", f"{size}-2.56k"]
    assert names["stories"] == [f"stories-{size}-1.28k-of-1.02k"] and names["pieces"] == [
        f"pieces-{size}-1.28k"
    ]
    assert len(names["text"]) == 2 and all(name.startswith("text-") for name in names["text"])
    assert [study.vocabulary_of(name) for name in study_names(study)] == [28, 42, 28, 258]
    # Of the whole corpus it is known how large it is, of what is made of it not before it is made.
    assert unique_tokens(study, runs[names["speech"][0]]) == 6_000
    assert unique_tokens(study, runs[names["text"][0]]) is None


def study_names(study: StudySpec) -> list[str]:
    return [series.name for series in study.series]


def test_series_are_trained_scored_and_compared(study: StudySpec) -> None:
    report = run_study(study, Path("out"), backend=LocalBackend(1))
    runs = read_table(Path("out/runs.csv"))
    assert runs["status"].unique().to_list() == ["done"] and runs.height == 6
    assert sorted(runs["series"].unique()) == ["pieces", "speech", "stories", "text"]
    records = {path.parent.name: read_record(path) for path in Path("out/runs").glob("*/record.json")}
    text = next(record for record in records.values() if record.series == "text")
    # What is written has no voices: every item once, under the name of the voices of training.
    assert set(text.scores) == {"order"} and text.scores["order"].items == 12
    of_pieces = next(record for record in records.values() if record.series == "pieces")
    assert set(of_pieces.scores) == {"order", "order_unseen"}
    # One second of audio for all of them: bits are those of the same utterances.
    for record in records.values():
        part = {"text": "series/text/characters/test", "pieces": "series/pieces/unigram/test"}.get(
            record.series
        )
        shards = open_shards(Path("out") / part if part else Path("test"))
        tokens = sum(shard.meta.num_audio_steps for shard in shards)
        seconds = 20 * 8 * 0.5
        assert record.loss and record.bits_per_second == pytest.approx(
            record.loss * tokens / math.log(2) / seconds
        )
    stories = open_shards(Path("out/series/stories/selected/train"))
    assert {row["dataset"] for shard in stories for row in shard.rows()} == {"stories"}
    law = read_law(Path("out/law.json"))
    assert set(law.series) == {"speech", "pieces", "stories", "text"}
    assert "text/speech" in law.efficiency
    page = report.read_text()
    assert "Series against series: loss per second of audio" in page
    made = Path("out/series/text/characters/train/shard-0/meta.json").stat().st_mtime_ns
    run_study(study, Path("out"), backend=LocalBackend(1))
    assert Path("out/series/text/characters/train/shard-0/meta.json").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "pieces"', 'name = "speech"', "two series have the name 'speech'"),
        ('tokens = "characters"', 'tokens = "letters"', "series.3.tokens = 'letters'"),
        ("unigram = { vocabulary = 40 }", "unigram = { vocabulry = 40 }", "did you mean 'vocabulary'"),
        ("{ tokens = 1_280, unique = 1_024 }", "{ epochs = 2 }", "a budget in epochs needs `unique`"),
        (
            "dim = 8, heads = 1, batch = 4",
            "dim = 8, heads = 1, batch = 4, processes = 3",
            "cannot be divided evenly",
        ),
    ],
)
def test_invalid_series_are_refused(study: StudySpec, old: str, new: str, message: str) -> None:
    assert old in STUDY
    Path("study.toml").write_text(STUDY.replace(old, new))
    with pytest.raises(UserError, match=message):
        read_study(Path("study.toml"))


def test_unknown_dataset_is_refused(study: StudySpec) -> None:
    Path("study.toml").write_text(STUDY.replace('dataset = "stories"', 'dataset = "poems"'))
    with pytest.raises(UserError, match="no utterance of 'poems' here; found prose, stories"):
        run_study(read_study(Path("study.toml")), Path("out"), backend=LocalBackend(1))
