"""k-means: known clusters, comparison with scipy and scikit-learn, determinism, and codebook files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2
from sklearn.cluster import KMeans

from speechscale.compute import ComputeOptions
from speechscale.errors import UserError
from speechscale.units.codebook import Codebook, load_codebook, save_codebook
from speechscale.units.kmeans import KMeansSpec, _KMeansState, _Points, train_kmeans
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


def test_lloyd_converges_to_a_fixed_point_of_scipy() -> None:
    frames = np.random.default_rng(1).standard_normal((400, 4)).astype(np.float32)
    book = train_kmeans(
        frames, KMeansSpec(clusters=8, method="lloyd", iterations=200, tolerance=0.0), IDENTITY
    )
    points = (frames - book.mean) / book.scale
    theirs, _ = kmeans2(points, book.centroids.astype(np.float64), minit="matrix", iter=5)
    assert np.allclose(theirs, book.centroids, atol=1e-4)  # already a fixed point


def test_seed_determines_the_codebook() -> None:
    frames = np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
    once, again, other = (
        train_kmeans(frames, KMeansSpec(clusters=20, iterations=1, seed=seed), IDENTITY).centroids
        for seed in (0, 0, 1)
    )
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_too_few_distinct_frames_are_refused() -> None:
    with pytest.raises(UserError, match="at least as many frames"):
        train_kmeans(np.zeros((3, 2), dtype=np.float32), KMeansSpec(clusters=5), IDENTITY)
    with pytest.raises(UserError, match="only 1 distinct frames"):
        train_kmeans(np.zeros((9, 2), dtype=np.float32), KMeansSpec(clusters=5), IDENTITY)


def mixture(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Overlapping clusters of unequal sizes."""
    centres = rng.standard_normal((60, dimension))
    labels = rng.choice(60, count, p=rng.dirichlet(np.full(60, 0.3)))
    return (centres[labels] + 0.7 * rng.standard_normal((count, dimension))).astype(np.float32)


def inertia(frames: np.ndarray, book: Codebook) -> float:
    points = book.standardize(frames)
    return float(((points - book.centroids[book.assign(frames)]) ** 2).sum(axis=1).mean() * book.scale**2)


@pytest.mark.parametrize("dimension", [20, 100])  # spread in the whole space, and in a projection
def test_both_methods_are_as_good_as_scikit_learn(dimension: int) -> None:
    frames = mixture(np.random.default_rng(3), 20_000, dimension)
    theirs = [KMeans(30, n_init=1, random_state=seed).fit(frames).inertia_ / len(frames) for seed in range(3)]
    for method in ("minibatch", "lloyd"):
        specs = [KMeansSpec(clusters=30, method=method, seed=seed) for seed in range(3)]
        ours = [inertia(frames, train_kmeans(frames, spec, {})) for spec in specs]
        assert np.mean(ours) < 1.03 * np.mean(theirs)


@pytest.mark.parametrize("method", ["minibatch", "lloyd"])
def test_number_of_threads_changes_no_bit(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = mixture(np.random.default_rng(4), 20_000, 80)
    books = []
    for cores in (1, 2, 5):
        monkeypatch.setattr("speechscale.units.kmeans.available_cores", lambda cores=cores: cores)
        books.append(train_kmeans(frames, KMeansSpec(clusters=30, method=method), {}).centroids)
    assert np.array_equal(books[0], books[1]) and np.array_equal(books[0], books[2])


def test_empty_clusters_are_reseeded() -> None:
    rng = np.random.default_rng(5)
    frames, _ = blobs(rng)
    points = torch.from_numpy(frames)
    spec = KMeansSpec(clusters=5, method="lloyd")
    sample = _Points(frames, spec, rng, ComputeOptions(device="cpu"))
    # All but one centroid are too far away to be the nearest of any frame.
    start = torch.cat([torch.zeros((1, 3)), torch.full((4, 3), 1e3)])
    with ThreadPoolExecutor(1) as pool:
        state = _KMeansState(start, sample, rng, pool)
        state.iterate(len(frames), 50, 0.0)
    book = Codebook(state.centroids.numpy(), sample.mean, sample.scale, {})
    assert set(book.assign(points.numpy()).tolist()) == set(range(5))
    assert inertia(frames, book) < 0.05


def test_start_finds_rare_distinct_frames() -> None:
    """Mostly silence: distinct frames are rare, so the start needs a larger sample."""
    frames = np.zeros((5000, 4), dtype=np.float32)
    frames[::250] = np.random.default_rng(6).standard_normal((20, 4))
    book = train_kmeans(frames, KMeansSpec(clusters=15), {})
    assert len(np.unique(book.centroids, axis=0)) == 15
    assert len(set(book.assign(frames).tolist())) == 15


def test_frame_that_is_not_finite_is_refused() -> None:
    frames = mixture(np.random.default_rng(7), 5000, 4)
    frames[4321, 2] = np.nan
    with pytest.raises(UserError, match="not a finite number"):
        train_kmeans(frames, KMeansSpec(clusters=5), {})


@pytest.mark.parametrize("key", ["model", "revision", "layer", "normalize"])
def test_codebook_of_another_layer_or_revision_is_refused(key: str) -> None:
    identity = {"name": "hubert", "model": "m", "revision": "a" * 40, "layer": 11, "normalize": False}
    book = Codebook(np.zeros((2, 40), np.float32), np.zeros(40, np.float32), 1.0, {**identity, key: "other"})
    encoder = SimpleNamespace(identity=identity, dimension=40)
    with pytest.raises(UserError, match=f"learned from another encoder; these differ: {key}"):
        book.require_encoder(encoder)


def test_codebook_of_another_encoder_is_refused() -> None:
    frames = np.random.default_rng(2).standard_normal((300, 40)).astype(np.float32)
    book = train_kmeans(frames, KMeansSpec(clusters=5), IDENTITY)
    book.require_encoder(MelEncoder(MelSpec()))
    with pytest.raises(UserError, match=r"lowest: found 80\.0, wanted 60\.0"):
        book.require_encoder(MelEncoder(MelSpec(lowest=80.0)))
    narrow = train_kmeans(frames[:, :8], KMeansSpec(clusters=5), IDENTITY)
    with pytest.raises(UserError, match="dimension: found 40, wanted 8"):
        narrow.require_encoder(MelEncoder(MelSpec()))


def test_codebook_file_round_trip_and_refusal_of_a_pickle(tmp_path: Path) -> None:
    frames, _ = blobs(np.random.default_rng(0))
    book = train_kmeans(frames, KMeansSpec(clusters=5), IDENTITY)
    save_codebook(book, tmp_path / "book.safetensors")
    read = load_codebook(tmp_path / "book.safetensors")
    assert np.array_equal(read.centroids, book.centroids) and read.encoder == IDENTITY
    assert np.array_equal(read.assign(frames), book.assign(frames))
    (tmp_path / "pickle.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(UserError, match="not a codebook"):
        load_codebook(tmp_path / "pickle.bin")
