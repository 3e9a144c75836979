"""k-means over frames: the code book that gives units their names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from speechscale.errors import UserError
from speechscale.records.seal import differing_fields, sha256_file, write_file
from speechscale.units.encoders import Encoder


class KMeansSpec(BaseModel):
    """How many units, and how much speech they are learnt from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clusters: int = Field(default=100, ge=2)
    utterances: int = Field(default=500, ge=1)  # a seeded sample of the training utterances
    iterations: int = Field(default=50, ge=1)  # at most; stops when no frame changes its cluster
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class CodeBook:
    """Centroids, float32 [clusters, dimension], of frames standardised by `mean` and one `scale` for all dimensions."""

    centroids: np.ndarray
    mean: np.ndarray
    scale: float
    encoder: dict[str, Any]  # the identity of the encoder whose frames these are

    def assign(self, frames: np.ndarray) -> np.ndarray:
        """The unit of each frame, int16 [frames]."""
        return _nearest((frames - self.mean) / np.float32(self.scale), self.centroids).astype(np.int16)

    def check_frames_of(self, encoder: Encoder) -> None:
        """Whether this book was learnt from the frames of this encoder.

        Raises:
            UserError: naming what differs.
        """
        differing = differing_fields(encoder.identity, self.encoder)
        if encoder.dimension != self.centroids.shape[1]:
            differing.append(f"dimension: found {encoder.dimension}, wanted {self.centroids.shape[1]}")
        if differing:
            raise UserError(
                f"the code book was learnt from another encoder; these differ: {'; '.join(differing)}."
            )


def train_kmeans(frames: np.ndarray, spec: KMeansSpec, encoder: dict[str, Any]) -> CodeBook:
    """Lloyd's algorithm from a k-means++ start (Arthur & Vassilvitskii 2007).

    One scale for all dimensions keeps the shape of the spectrum; the mean is taken off so that float32 suffices.

    Raises:
        UserError: fewer distinct frames than clusters.
    """
    if len(frames) < spec.clusters:
        raise UserError(
            f"k-means: {spec.clusters} clusters need at least as many frames, the sample has {len(frames)}; "
            "take more utterances or fewer clusters."
        )
    mean, scale = frames.mean(axis=0), float(frames.std(axis=0).mean()) or 1.0
    points = (frames - mean) / np.float32(scale)
    rng = np.random.default_rng(spec.seed)
    centroids = _spread_start(points, spec.clusters, rng)
    labels = np.full(len(points), -1)
    for _ in range(spec.iterations):
        previous, labels = labels, _nearest(points, centroids)
        if np.array_equal(previous, labels):
            break
        centroids = _means(points, labels, centroids, rng)
    return CodeBook(centroids, mean, scale, encoder)


def _nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """argmin |x - c|^2; |x|^2 is the same for all centroids and left out."""
    return np.argmin((centroids**2).sum(axis=1) / 2 - points @ centroids.T, axis=1)


def _spread_start(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    chosen = [points[rng.integers(len(points))]]
    distance = np.full(len(points), np.inf)
    for _ in range(clusters - 1):
        distance = np.minimum(distance, ((points - chosen[-1]) ** 2).sum(axis=1, dtype=np.float64))
        if not distance.any():
            raise UserError(
                f"k-means: the sample has only {len(chosen)} distinct frames, wanted {clusters} clusters."
            )
        chosen.append(points[rng.choice(len(points), p=distance / distance.sum())])
    return np.array(chosen)


def _means(
    points: np.ndarray, labels: np.ndarray, centroids: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The mean of each cluster; an empty one is seeded again with a random point."""
    counts = np.bincount(labels, minlength=len(centroids))
    membership = np.zeros_like(centroids, dtype=np.float64)
    np.add.at(membership, labels, points)
    means = (membership / np.maximum(counts, 1)[:, None]).astype(np.float32)
    for empty in np.flatnonzero(counts == 0):
        means[empty] = points[rng.integers(len(points))]
    return means


def save_code_book(book: CodeBook, path: Path) -> None:
    """Write a code book as safetensors, its encoder's identity inside."""
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {
        "centroids": np.ascontiguousarray(book.centroids, dtype=np.float32),
        "mean": np.ascontiguousarray(book.mean, dtype=np.float32),
        "scale": np.array([book.scale], dtype=np.float64),
    }
    write_file(path, save(tensors, metadata={"encoder": json.dumps(book.encoder, sort_keys=True)}))


def load_code_book(path: Path) -> CodeBook:
    """Read a code book.

    Raises:
        UserError: missing, not safetensors, or not a code book.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            encoder = json.loads((file.metadata() or {})["encoder"])
            centroids, mean, scale = (file.get_tensor(name) for name in ("centroids", "mean", "scale"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a code book of speechscale kmeans ({error}).") from error
    return CodeBook(centroids, mean, float(scale[0]), encoder)


def code_book_identity(path: Path) -> dict[str, str]:
    """Name and hash, as the shards' meta records them."""
    return {"name": Path(path).name, "sha256": sha256_file(Path(path))}
