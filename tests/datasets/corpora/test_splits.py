"""Test sets share no speaker and no book with the training data, and hold no synthetic speech."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from corpus_files import audio, lines, list_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.datasets.corpora.splits import (
    SplitOptions,
    SplitSampler,
    move_drawn_to_test,
    split_from_name,
)
from speechscale.records.manifest import Utterance


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-clean-100", "train"), ("train.other.500", "train"), ("dev_other", "dev"), ("validation", "dev"),
        ("test-00000-of-00002", "test"), ("librispeech_cuts_test-clean.jsonl.gz", "test"), ("valid", "dev"),
        ("contest", None), ("trainer", None), ("0000", None), ("", None),
    ],
)  # fmt: skip
def test_splits_from_names(name: str, split: str | None) -> None:
    assert split_from_name(name) == split


def draw(utterances: list[Utterance], **options) -> tuple[str, dict[str, str]]:
    """The description of the draw, and the split of every utterance."""
    split_options = SplitOptions(**options)
    sampler = SplitSampler(split_options)
    assigned = [split_options.assign_split(utterance) for utterance in utterances]
    for utterance in assigned:
        sampler.count(utterance)
    sample = sampler.draw()
    in_splits = move_drawn_to_test(iter(assigned), split_options, sample)
    return sample.description, {u.id: u.split for u in in_splits}


def utterance(name: str, speaker: str | None = None, book: str | None = None, seconds: float = 1.0, **more):
    return Utterance(
        id=name, dataset="d", split="train", audio=more.pop("audio", f"{name}.wav"), duration=seconds,
        speaker=speaker, extra={"book": book} if book else {}, **more,
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.floats(0.1, 20)), min_size=2, max_size=60
    ),
    seed=st.integers(0, 5),
    test_share=st.sampled_from([0.01, 0.1, 0.3]),
)
def test_no_speaker_and_no_book_is_on_both_sides(pairs, seed, test_share) -> None:
    utterances = [utterance(str(k), f"s{s}", f"b{b}", t) for k, (s, b, t) in enumerate(pairs)]
    message, splits = draw(utterances, seed=seed, test_share=test_share)
    if "groups of speakers" not in message:
        return  # all form one group, so files are drawn
    sides = {
        name: {(u.speaker, u.extra["book"]) for u in utterances if splits[u.id] == name}
        for name in ("train", "test")
    }
    for place in (0, 1):
        assert not {pair[place] for pair in sides["train"]} & {pair[place] for pair in sides["test"]}
    assert sides["test"] and sides["train"]
    shuffled = Random(seed).sample(utterances, len(utterances))
    assert draw(shuffled, seed=seed, test_share=test_share)[1] == splits  # whatever the order of the corpus


def test_the_share_is_a_share_of_the_hours() -> None:
    rng = Random(0)
    utterances = [
        utterance(f"{s}-{k}", f"s{s}", None, rng.uniform(1, 20)) for s in range(400) for k in range(20)
    ]
    whole = sum(u.duration or 0 for u in utterances)
    for seed in range(3):
        _, splits = draw(utterances, seed=seed)
        test_share = sum(u.duration or 0 for u in utterances if splits[u.id] == "test") / whole
        assert 0.007 < test_share <= 0.01
    assert draw(utterances, seed=0)[1] != draw(utterances, seed=1)[1]


def test_at_least_one_speaker_is_drawn_and_never_all() -> None:
    utterances = [utterance(f"{s}-{k}", f"s{s}", None, 1 + s) for s in range(3) for k in range(5)]
    message, splits = draw(utterances)
    assert message.startswith("1 of 3 groups")
    assert {name for name, split in splits.items() if split == "test"} == {f"0-{k}" for k in range(5)}


def test_segments_of_a_file_stay_together_where_speakers_are_unknown() -> None:
    utterances = [utterance(f"{f}-{k}", audio=f"{f}.wav", offset=k) for f in range(200) for k in range(5)]
    message, splits = draw(utterances, test_share=0.05)
    assert message.startswith("file by file")
    test = {name.split("-")[0] for name, split in splits.items() if split == "test"}
    assert 2 <= len(test) <= 25
    assert all((splits[f"{f}-{k}"] == "test") == (str(f) in test) for f in range(200) for k in range(5))


def test_a_single_speaker_is_split_by_file_and_a_single_file_by_utterance() -> None:
    message, splits = draw([utterance(str(k), "LJ") for k in range(300)])
    assert message.startswith("file by file") and 1 <= list(splits.values()).count("test") <= 12
    message, splits = draw([utterance(str(k), audio="a.wav", offset=k) for k in range(300)])
    assert message.startswith("utterance by utterance") and 1 <= list(splits.values()).count("test") <= 12
    message, splits = draw([utterance("a")])
    assert message.startswith("nothing") and splits == {"a": "train"}


def test_unknown_speakers_are_not_drawn_where_others_are_known() -> None:
    utterances = [utterance(f"{s}-{k}", f"s{s}") for s in range(20) for k in range(5)]
    utterances += [utterance(f"unknown-{k}") for k in range(500)]
    _, splits = draw(utterances, test_share=0.2)
    assert not any(split == "test" for name, split in splits.items() if name.startswith("unknown"))


def test_synthetic_speech_never_enters_the_test_set(tmp_path: Path) -> None:
    for name in ("train/a.wav", "train/b.wav", "test/c.wav"):
        audio(tmp_path / "c" / name)
    result = list_corpus(tmp_path / "c", tmp_path / "m.jsonl", SplitOptions(synthetic=True))
    assert not result.ids_of_split("test") and result.ids_of_split("test-synthetic") == {"c/test/c.wav"}
    assert all(u.extra["synthetic"] for u in result.utterances)
    result = list_corpus(
        tmp_path / "c" / "train", tmp_path / "m.jsonl", SplitOptions(synthetic=True, test_share=0.5)
    )
    assert result.ids_of_split("train") == set(result.ids)

    synthesis = {"engine": "espeak-ng", "voice": "en-us", "words_per_minute": 175, "seed": 0}
    rows = [
        {"id": f"s{k}", "transcript": "x", "synthesis": synthesis, "split": "test" if k else "train"}
        for k in range(3)
    ]
    rows += [{"id": f"n{k}", "audio": "train/a.wav"} for k in range(2)]
    result = list_corpus(lines(tmp_path / "c" / "l.jsonl", rows), tmp_path / "m.jsonl")
    assert not {name for name in result.ids_of_split("test") if name.startswith("s")}


def test_a_forced_split_is_not_drawn_from(tmp_path: Path) -> None:
    for name in ("train/a.wav", "test/b.wav"):
        audio(tmp_path / "c" / name)
    assert (
        len(list_corpus(tmp_path / "c", tmp_path / "m", SplitOptions(split="extra")).ids_of_split("extra"))
        == 2
    )
    result = list_corpus(tmp_path / "c" / "train", tmp_path / "m", SplitOptions(test_share=0.5))
    assert result.ids_of_split("train") == set(result.ids)  # one utterance is not drawn from


@pytest.mark.slow
def test_memory_is_flat_in_the_length_of_the_corpus(tmp_path: Path) -> None:
    """Peak memory of listing 300,000 lines against 30,000: the difference is 16 bytes a line and the hash of its id."""
    audio(tmp_path / "c" / "a.wav", 100.0, 8000)
    code = (
        "import resource, sys; from pathlib import Path;"
        "from speechscale.datasets.corpora import open_corpus;"
        "from speechscale.datasets.corpora.corpus_manifest import write_corpus_manifest;"
        "from speechscale.datasets.corpora.splits import SplitOptions;"
        "summary = write_corpus_manifest(open_corpus(Path(sys.argv[1])), SplitOptions(), Path(sys.argv[2]));"
        "print(summary.utterances.total(), summary.skip_reasons.total(),"
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    peaks = {}
    for count in (30_000, 300_000):
        path = tmp_path / "c" / f"{count}.jsonl"
        with path.open("w") as stream:
            for k in range(count):
                bad = k % 1000 == 999  # an id that came before
                stream.write(
                    f'{{"id": "u{k - bad}", "audio": "a.wav", "offset": {k % 99}, "duration": 1.0, '
                    f'"speaker": "s{k % 500}", "text": "some words of utterance {k}"}}\n'
                )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(tmp_path / f"{count}.out")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        utterances, skips, peak = done.stdout.split()
        assert (int(utterances), int(skips)) == (count - count // 1000, count // 1000)
        peaks[count] = float(peak)
    assert peaks[300_000] - peaks[30_000] < 40  # MiB, of which 300,000 lines of manifest alone would take 60
