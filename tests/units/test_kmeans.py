"""k-means: clusters that are there are found, and a code book is what it was saved as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from speechscale.errors import UserError
from speechscale.units.kmeans import (
    KMeansSpec,
    load_code_book,
    save_code_book,
    train_kmeans,
)
from speechscale.units.mel import MelEncoder, MelSpec

IDENTITY = MelEncoder(MelSpec()).identity


def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    centres = 10 * rng.standard_normal((5, 3)).astype(np.float32)
    labels = rng.integers(0, 5, 500)
    return centres[labels] + 0.1 * rng.standard_normal((500, 3)).astype(np.float32), labels


def test_separate_clusters_are_found() -> None:
    frames, labels = blobs(np.random.default_rng(0))
    units = train_kmeans(frames, KMeansSpec(clusters=5), IDENTITY).assign(frames)
    pairs = set(zip(units.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 5  # a one-to-one renaming


def test_lloyd_ends_where_scipy_ends_from_the_same_place() -> None:
    frames = np.random.default_rng(1).standard_normal((400, 4)).astype(np.float32)
    book = train_kmeans(frames, KMeansSpec(clusters=8, iterations=200), IDENTITY)
    points = (frames - book.mean) / book.scale
    theirs, _ = kmeans2(points, book.centroids.astype(np.float64), minit="matrix", iter=5)
    assert np.allclose(theirs, book.centroids, atol=1e-4)  # already a fixed point


def test_same_seed_same_book_other_seed_other_start() -> None:
    frames = np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
    once, again, other = (
        train_kmeans(frames, KMeansSpec(clusters=20, iterations=1, seed=seed), IDENTITY).centroids
        for seed in (0, 0, 1)
    )
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_too_few_frames_or_too_few_distinct_ones() -> None:
    with pytest.raises(UserError, match="at least as many frames"):
        train_kmeans(np.zeros((3, 2), dtype=np.float32), KMeansSpec(clusters=5), IDENTITY)
    with pytest.raises(UserError, match="only 1 distinct frames"):
        train_kmeans(np.zeros((9, 2), dtype=np.float32), KMeansSpec(clusters=5), IDENTITY)


def test_frames_of_another_encoder_are_refused() -> None:
    frames = np.random.default_rng(2).standard_normal((300, 40)).astype(np.float32)
    book = train_kmeans(frames, KMeansSpec(clusters=5), IDENTITY)
    book.check_frames_of(MelEncoder(MelSpec()))
    with pytest.raises(UserError, match=r"lowest: found 80\.0, wanted 60\.0"):
        book.check_frames_of(MelEncoder(MelSpec(lowest=80.0)))
    narrow = train_kmeans(frames[:, :8], KMeansSpec(clusters=5), IDENTITY)
    with pytest.raises(UserError, match="dimension: found 40, wanted 8"):
        narrow.check_frames_of(MelEncoder(MelSpec()))


def test_round_trip_and_refusal(tmp_path: Path) -> None:
    frames, _ = blobs(np.random.default_rng(0))
    book = train_kmeans(frames, KMeansSpec(clusters=5), IDENTITY)
    save_code_book(book, tmp_path / "book.safetensors")
    read = load_code_book(tmp_path / "book.safetensors")
    assert np.array_equal(read.centroids, book.centroids) and read.encoder == IDENTITY
    assert np.array_equal(read.assign(frames), book.assign(frames))
    (tmp_path / "pickle.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(UserError, match="not a code book"):
        load_code_book(tmp_path / "pickle.bin")
