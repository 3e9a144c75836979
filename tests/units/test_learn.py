"""Learning from a manifest: a uniform sample of frames, a report on other utterances, the same book every time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.records.manifest import Utterance, write_manifest
from speechscale.units.kmeans import KMeansSpec, load_code_book
from speechscale.units.learn import CodeBookTask, FrameSample, adopt_code_book, make_code_book
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.quality import Phone

TONES = (200.0, 1000.0, 4000.0)  # Hz; each sounds for 0.4 s


def tones(utterance: Utterance) -> np.ndarray:
    return np.random.default_rng(list(utterance.id.encode())).integers(0, len(TONES), 5)


def hear_tones(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray]:
    times = np.arange(6400) / 16_000
    for utterance in utterances:
        yield np.concatenate([np.sin(2 * np.pi * TONES[t] * times) for t in tones(utterance)]).astype(
            np.float32
        )


def time_tones(utterances: Sequence[Utterance]) -> Iterator[list[Phone]]:
    for utterance in utterances:
        yield [(f"tone{t}", 0.4 * i, 0.4 * (i + 1)) for i, t in enumerate(tones(utterance))]


def task(folder: Path, count: int, name: str = "book.safetensors", **settings: object) -> CodeBookTask:
    manifest = folder / "manifest.jsonl"
    write_manifest((Utterance(id=f"u{i}", dataset="d", split="train") for i in range(count)), manifest)
    spec = KMeansSpec(**{"clusters": 12, "utterances": 15, **settings})
    return CodeBookTask(
        manifest, folder, MelEncoder(MelSpec()).identity, spec, folder / name, hear_tones, timings=time_tones
    )


def test_a_book_is_measured_on_utterances_not_learnt_from_where_there_are_enough(tmp_path: Path) -> None:
    learnt = make_code_book(task(tmp_path, 60))
    assert learnt.quality.held_out and learnt.quality.utterances == 45
    assert learnt.quality.phones and learnt.quality.phones.phones == 3
    assert learnt.quality.phones.normalised_mutual_information > 0.8
    report = json.loads((tmp_path / "book.quality.json").read_text())
    assert report["units_used"] > 3 and report["phones"]["phone_purity"] > 0.9
    few = make_code_book(task(tmp_path, 20, "few.safetensors"))
    assert not few.quality.held_out and few.quality.utterances == 20


def test_phones_of_the_manifest_come_before_those_of_the_synthesiser(tmp_path: Path) -> None:
    job = task(tmp_path, 30)
    one_phone = {"phones": [["hum", 0.0, 2.0]]}
    write_manifest(
        (Utterance(id=f"u{i}", dataset="d", split="train", extra=one_phone) for i in range(30)), job.manifest
    )
    quality = make_code_book(job).quality
    assert quality.phones and quality.phones.phones == 1


def test_the_same_task_gives_the_same_bytes_and_fewer_frames_where_fewer_are_wanted(tmp_path: Path) -> None:
    jobs = [
        task(tmp_path, 40, f"{name}.safetensors", frames=frames)
        for name, frames in (("a", 300), ("b", 300), ("c", 999))
    ]
    assert [make_code_book(job).frames for job in jobs] == [300, 300, 750]
    a, b, c = (job.path.read_bytes() for job in jobs)
    assert a == b != c


def test_a_published_book_is_measured_and_kept(tmp_path: Path) -> None:
    learnt = task(tmp_path, 40)
    make_code_book(learnt)
    book = load_code_book(learnt.path)
    adopted = task(tmp_path, 40, "adopted.safetensors")
    quality = adopt_code_book(book, adopted)
    assert quality.units_used > 3 and (tmp_path / "adopted.quality.json").exists()
    assert np.array_equal(load_code_book(adopted.path).centroids, book.centroids)
    other = CodeBookTask(**{**vars(adopted), "encoder": MelEncoder(MelSpec(bands=20)).identity})
    with pytest.raises(UserError, match="learnt from another encoder"):
        adopt_code_book(book, other)


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 60))
def test_a_frame_sample_holds_frames_that_passed_each_once(lengths: list[int], size: int) -> None:
    sample = FrameSample(size, 1, seed=0)
    passed = 0
    for length in lengths:
        sample.add(np.arange(passed, passed + length, dtype=np.float32)[:, None])
        passed += length
    kept = sample.frames[:, 0].tolist()
    assert len(kept) == min(size, passed) == len(set(kept))
    assert all(0 <= frame < passed for frame in kept)


def test_a_frame_sample_is_uniform_whatever_the_lengths() -> None:
    """Each of 60 frames, in utterances of 1 to 30, is kept a third of the time."""
    counts = np.zeros(60)
    for seed in range(3000):
        sample = FrameSample(20, 1, seed)
        for edges in ((0, 1), (1, 16), (16, 46), (46, 60)):
            sample.add(np.arange(*edges, dtype=np.float32)[:, None])
        counts[sample.frames[:, 0].astype(int)] += 1
    assert counts.sum() == 60_000
    # binomial(3000, 1/3): standard deviation 26
    assert np.abs(counts - 1000).max() < 5 * 26
