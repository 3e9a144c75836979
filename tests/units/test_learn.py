"""Learning of a codebook: uniform sampling of frames, evaluation on held-out utterances, determinism."""

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
from speechscale.units.codebook import load_codebook
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.learn import CodebookTask, FrameReservoir, evaluate_and_save_codebook, fit_codebook
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.quality import PhoneInterval
from speechscale.units.source import SpeechSource

TONES = (200.0, 1000.0, 4000.0)  # Hz; each sounds for 0.4 s


def tones(utterance: Utterance) -> np.ndarray:
    return np.random.default_rng(list(utterance.id.encode())).integers(0, len(TONES), 5)


def synthesize_tones(utterances: Sequence[Utterance], root: Path) -> Iterator[np.ndarray]:
    times = np.arange(6400) / 16_000
    for utterance in utterances:
        yield np.concatenate([np.sin(2 * np.pi * TONES[t] * times) for t in tones(utterance)]).astype(
            np.float32
        )


def align_tones(utterances: Sequence[Utterance]) -> Iterator[list[PhoneInterval]]:
    for utterance in utterances:
        yield [(f"tone{t}", 0.4 * i, 0.4 * (i + 1)) for i, t in enumerate(tones(utterance))]


def task(folder: Path, count: int, name: str = "book.safetensors", **settings: object) -> CodebookTask:
    manifest = folder / "manifest.jsonl"
    write_manifest((Utterance(id=f"u{i}", dataset="d", split="train") for i in range(count)), manifest)
    spec = KMeansSpec(**{"clusters": 12, "utterances": 15, **settings})
    source = SpeechSource(manifest, folder, synthesize_tones)
    return CodebookTask(source, MelEncoder(MelSpec()).identity, spec, folder / name, align_phones=align_tones)


def test_codebook_is_evaluated_on_held_out_utterances_where_there_are_enough(tmp_path: Path) -> None:
    learned = fit_codebook(task(tmp_path, 60))
    assert learned.quality.held_out and learned.quality.utterances == 45
    assert learned.quality.phones and learned.quality.phones.phones == 3
    assert learned.quality.phones.normalised_mutual_information > 0.8
    report = json.loads((tmp_path / "book.quality.json").read_text())
    assert report["units_used"] > 3 and report["phones"]["phone_purity"] > 0.9
    few = fit_codebook(task(tmp_path, 20, "few.safetensors"))
    assert not few.quality.held_out and few.quality.utterances == 20


def test_phones_of_the_manifest_take_precedence_over_aligned_ones(tmp_path: Path) -> None:
    job = task(tmp_path, 30)
    one_phone = {"phones": [["hum", 0.0, 2.0]]}
    write_manifest(
        (Utterance(id=f"u{i}", dataset="d", split="train", extra=one_phone) for i in range(30)),
        job.source.manifest,
    )
    quality = fit_codebook(job).quality
    assert quality.phones and quality.phones.phones == 1


def test_same_task_gives_the_same_bytes_and_respects_the_frame_limit(tmp_path: Path) -> None:
    jobs = [
        task(tmp_path, 40, f"{name}.safetensors", frames=frames)
        for name, frames in (("a", 300), ("b", 300), ("c", 999))
    ]
    assert [fit_codebook(job).frames for job in jobs] == [300, 300, 750]
    a, b, c = (job.path.read_bytes() for job in jobs)
    assert a == b != c


def test_published_codebook_is_evaluated_and_saved(tmp_path: Path) -> None:
    learned = task(tmp_path, 40)
    fit_codebook(learned)
    book = load_codebook(learned.path)
    imported = task(tmp_path, 40, "imported.safetensors")
    quality = evaluate_and_save_codebook(book, imported)
    assert quality.units_used > 3 and (tmp_path / "imported.quality.json").exists()
    assert np.array_equal(load_codebook(imported.path).centroids, book.centroids)
    other = CodebookTask(**{**vars(imported), "encoder": MelEncoder(MelSpec(bands=20)).identity})
    with pytest.raises(UserError, match="learned from another encoder"):
        evaluate_and_save_codebook(book, other)


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 60))
def test_reservoir_contains_offered_frames_at_most_once(lengths: list[int], size: int) -> None:
    sample = FrameReservoir(size, 1, seed=0)
    offered = 0
    for length in lengths:
        sample.add(np.arange(offered, offered + length, dtype=np.float32)[:, None])
        offered += length
    kept = sample.frames[:, 0].tolist()
    assert len(kept) == min(size, offered) == len(set(kept))
    assert all(0 <= frame < offered for frame in kept)


def test_reservoir_is_uniform_for_any_utterance_lengths() -> None:
    """Each of 60 frames, in utterances of 1 to 30, is kept a third of the time."""
    counts = np.zeros(60)
    for seed in range(3000):
        sample = FrameReservoir(20, 1, seed)
        for edges in ((0, 1), (1, 16), (16, 46), (46, 60)):
            sample.add(np.arange(*edges, dtype=np.float32)[:, None])
        counts[sample.frames[:, 0].astype(int)] += 1
    assert counts.sum() == 60_000
    # binomial(3000, 1/3): standard deviation 26
    assert np.abs(counts - 1000).max() < 5 * 26
