"""k-means over frames: the code book that gives units their names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions, available_cores, choose_device
from speechscale.errors import UserError
from speechscale.records.revisions import revisions_of
from speechscale.records.seal import differing_fields, sha256_file, write_file
from speechscale.units.encoders import Encoder

if TYPE_CHECKING:
    import torch

# frames a cluster, and at least: what starts are drawn from, and the first of the growing samples
_FIRST = (16, 8192)
_PLANE = 64  # dimensions in which the start is spread
_PARTS = 32  # of all frames, after each of which centroids move
_BLOCK = 4096  # frames whose distances are computed at once; fixed, so that sums never depend on the threads
_BLOCK_CUDA = 65_536


class KMeansSpec(BaseModel):
    """How many units, how much speech they are learnt from, and when learning ends.

    `lloyd` looks at all frames in every iteration, and then moves the centroids. `minibatch` looks at a sample of the
    frames that doubles as soon as another iteration gains no more than the sample can tell, and ends with all of them;
    centroids move after every part of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clusters: int = Field(default=100, ge=2)
    utterances: int = Field(default=500, ge=1)  # a seeded sample of the training utterances, at most
    frames: int = Field(default=1_000_000, ge=1)  # a seeded sample of the frames of these, at most
    method: Literal["minibatch", "lloyd"] = "minibatch"
    iterations: int = Field(default=50, ge=1)  # over all frames, at most
    tolerance: float = Field(
        default=1e-4, ge=0
    )  # the end: an iteration gains less than this share of the inertia
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class CodeBook:
    """Centroids, float32 [clusters, dimension], of frames standardised by `mean` and one `scale` for all dimensions."""

    centroids: np.ndarray
    mean: np.ndarray
    scale: float
    encoder: dict[str, Any]  # the identity of the encoder whose frames these are
    revisions: Mapping[str, int] = field(default_factory=dict)  # of its stage; empty for books of other tools

    def assign(self, frames: np.ndarray) -> np.ndarray:
        """The unit of each frame, int16 [frames]."""
        scores = (self.centroids**2).sum(axis=1) / 2 - self.standardised(frames) @ self.centroids.T
        return np.argmin(scores, axis=1).astype(np.int16)

    def standardised(self, frames: np.ndarray) -> np.ndarray:
        """Frames as the centroids are to be compared with, float32 [frames, dimension]."""
        return (frames - self.mean) / np.float32(self.scale)

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


def train_kmeans(
    frames: np.ndarray, spec: KMeansSpec, encoder: dict[str, Any], computing: ComputeOptions = DEFAULT_OPTIONS
) -> CodeBook:
    """A code book of frames, float32 [frames, dimension], by k-means from a k-means++ start.

    It depends on the frames, the spec and the kind of processor, but not on how many cores there are. One scale for all
    dimensions keeps the shape of the spectrum; the mean is taken off so that float32 suffices.

    Raises:
        UserError: fewer distinct frames than clusters, or a frame that is not finite.
    """
    if len(frames) < spec.clusters:
        raise UserError(
            f"k-means: {spec.clusters} clusters need at least as many frames, the sample has {len(frames)}; "
            "take more utterances or fewer clusters."
        )
    rng = np.random.default_rng(spec.seed)
    points = _Points(frames, spec, rng, computing)
    with _threads(available_cores() if points.on_cpu else 1, rounded=spec.method == "minibatch") as pool:
        clusters = _Clusters(_start(points, spec.clusters, rng, pool), points, rng, pool)
        for size in points.sizes():
            # Fitted to n frames, K centroids are off by K/n of the inertia: a mean by 1/n_k of its cluster's variance.
            # What an iteration gains below that, other frames would not notice.
            if size < len(frames):
                clusters.settle(size, spec.iterations, spec.clusters / size)
        clusters.settle(len(frames), spec.iterations, spec.tolerance, afresh=True)
    centroids = clusters.centroids.cpu().numpy()
    return CodeBook(centroids, points.mean, points.scale, encoder, revisions_of("k-means"))


class _Points:
    """The frames in random order, standardised; made as far as they are asked for, on the device that computes."""

    def __init__(
        self, frames: np.ndarray, spec: KMeansSpec, rng: np.random.Generator, computing: ComputeOptions
    ) -> None:
        import torch

        self._frames, self._order = frames, rng.permutation(len(frames))
        lloyd = spec.method == "lloyd"
        self._smallest = len(frames) if lloyd else _first(spec.clusters)
        first = frames[np.sort(self._order[: _first(spec.clusters)])]
        self.mean, self.scale = first.mean(axis=0), float(first.std(axis=0).mean()) or 1.0
        device = choose_device(computing.device)
        self.on_cpu = device.type == "cpu"
        self.block = _BLOCK if self.on_cpu else _BLOCK_CUDA
        self.part = len(frames) if lloyd else self.block * max(8, -(-len(frames) // (_PARTS * self.block)))
        self._points = torch.empty(frames.shape, dtype=torch.float32, device=device)
        self._made = 0
        self._squares = 0.0  # sum of |x|^2 of those made

    def __len__(self) -> int:
        return len(self._frames)

    def sizes(self) -> Iterator[int]:
        """How many frames are looked at, doubling until it is all of them."""
        size = self._smallest
        while size < len(self._frames):
            yield size
            size *= 2
        yield len(self._frames)

    def first(self, size: int, pool: ThreadPoolExecutor) -> tuple[torch.Tensor, float]:
        """So many points and the sum of their squares."""
        import torch

        frames, mean = torch.from_numpy(self._frames), torch.from_numpy(self.mean)

        def block(start: int) -> float:
            chosen = torch.from_numpy(self._order[start : min(start + self.block, size)])
            some = frames[chosen].sub_(mean).div_(self.scale)
            self._points[start : start + len(some)] = some
            return float(some.square_().sum(dtype=torch.float64))

        self._squares += sum(pool.map(block, range(self._made, size, self.block)))
        self._made = max(size, self._made)
        if not np.isfinite(self._squares):
            raise UserError("k-means: a frame of the sample is not a finite number.")
        return self._points[:size], self._squares


def _first(clusters: int) -> int:
    a_cluster, at_least = _FIRST
    return max(a_cluster * clusters, at_least)


def _start(
    points: _Points, clusters: int, rng: np.random.Generator, pool: ThreadPoolExecutor
) -> torch.Tensor:
    """k-means++ on a few frames a cluster; on more, where too few of these are distinct."""
    import torch

    size = min(_first(clusters), len(points))
    while True:
        some, _ = points.first(size, pool)
        centroids = _spread(some, torch.empty((0, some.shape[1]), device=some.device), clusters, rng)
        if len(centroids) == clusters:
            return centroids
        if size == len(points):
            raise UserError(
                f"k-means: the sample has only {len(centroids)} distinct frames, wanted {clusters} clusters."
            )
        size = min(2 * size, len(points))


def _spread(
    points: torch.Tensor, centroids: torch.Tensor, wanted: int, rng: np.random.Generator
) -> torch.Tensor:
    """Add points to the centroids by greedy k-means++ until there are `wanted`, or no other point is left.

    Each is the best of 2 + ln K drawn with probability proportional to the squared distance to the nearest (Arthur &
    Vassilvitskii 2007, section 5). Distances are taken in a random projection to 64 dimensions, where they are right
    within about 18 % (standard deviation sqrt(2 / 64)): enough to spread, and an order of magnitude less work.
    """
    import torch

    plane = _plane(points.shape[1], rng)
    seen, known = points.cpu() @ plane, centroids.cpu() @ plane
    squares = (seen**2).sum(dim=1)
    chosen: list[int] = []
    if not len(known):
        chosen = [int(rng.integers(len(seen)))]
        known = seen[chosen]
    distance = torch.full((len(seen),), torch.inf)
    for one in known:
        distance = torch.minimum(distance, ((seen - one) ** 2).sum(dim=1))
    trials = 2 + int(np.log(wanted))
    while len(centroids) + len(chosen) < wanted:
        # what lies nearer than float32 can tell is the same point
        weight = np.cumsum(torch.where(distance > 1e-6 * squares, distance, 0.0).numpy(), dtype=np.float64)
        if not weight[-1]:
            break
        drawn = torch.from_numpy(np.searchsorted(weight, rng.random(trials) * weight[-1], side="right"))
        closer = torch.addmm(squares + squares[drawn, None], seen[drawn], seen.T, alpha=-2).clamp_(min=0)
        closer = torch.minimum(closer, distance)
        best = int(closer.sum(dim=1, dtype=torch.float64).argmin())
        distance = closer[best]
        chosen.append(int(drawn[best]))
    return torch.cat([centroids, points[chosen]])


def _plane(dimension: int, rng: np.random.Generator) -> torch.Tensor:
    """A random projection [dimension, at most 64] that keeps distances on average."""
    import torch

    if dimension <= _PLANE:
        return torch.eye(dimension)
    return torch.from_numpy(
        rng.standard_normal((dimension, _PLANE), dtype=np.float32) / np.float32(_PLANE**0.5)
    )


class _Clusters:
    """Centroids, and what they are means of: the count and the sum of the points of each cluster, part by part.

    A part is looked at again and its old sums are replaced by the new ones; then every centroid is the mean of its
    points once more. With one part that is Lloyd's algorithm; with more, what one part teaches serves the next, as in
    the incremental EM of Neal & Hinton (1998): every step lowers the same inertia, and fewer passes are needed.
    """

    def __init__(
        self, centroids: torch.Tensor, points: _Points, rng: np.random.Generator, pool: ThreadPoolExecutor
    ) -> None:
        import torch

        self.centroids = centroids
        self._points, self._rng, self._pool = points, rng, pool
        self._counts = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
        self._sums = torch.zeros_like(centroids, dtype=torch.float64)
        self._each = np.inf  # inertia a point, of the last pass
        self._parts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by where they start

    def settle(self, size: int, passes: int, tolerance: float, afresh: bool = False) -> None:
        """Pass over the first `size` points until a pass lowers the inertia by at most `tolerance` of it.

        The first pass is held against the inertia a point had among fewer points; `afresh`: against nothing, so that
        there are two at least. An empty cluster starts again as k-means++ would go on from the others, and then there
        is another pass.
        """
        some, squares = self._points.first(size, self._pool)
        before = np.inf if afresh else self._each * size
        for _ in range(passes):
            for start in range(0, size, self._points.part):
                self._look_again(some[start : min(start + self._points.part, size)], start)
            if self._fill_empty(some):
                before = np.inf
                continue
            # sum |x - c|^2 from the sums alone, exact although the scores were not
            inertia = squares - float((self._sums.square().sum(dim=1) / self._counts).sum())
            self._each = inertia / size
            if before - inertia <= tolerance * inertia:
                break
            before = inertia

    def _look_again(self, part: torch.Tensor, start: int) -> None:
        counts, sums = _assign(part, self.centroids, self._points.block, self._pool)
        if start in self._parts:
            old_counts, old_sums = self._parts[start]
            self._counts -= old_counts
            self._sums -= old_sums
        self._parts[start] = counts, sums
        self._counts += counts
        self._sums += sums
        used = self._counts > 0
        self.centroids = self.centroids.clone()
        self.centroids[used] = (self._sums[used] / self._counts[used, None]).float()

    def _fill_empty(self, some: torch.Tensor) -> bool:
        """Whether there were empty clusters. Where too few points are distinct, one stays empty where it was."""
        import torch

        used = self._counts > 0
        if used.all():
            return False
        full = self.centroids[used]
        seeded = _spread(some[: _first(len(used))], full, len(used), self._rng)[len(full) :]
        self.centroids = torch.cat([full, seeded, self.centroids[~used][len(seeded) :]])
        order = torch.cat([used.nonzero(), (~used).nonzero()]).flatten()
        self._counts, self._sums = self._counts[order], self._sums[order]
        self._parts = {start: (counts[order], sums[order]) for start, (counts, sums) in self._parts.items()}
        return True


def _assign(
    part: torch.Tensor, centroids: torch.Tensor, size: int, pool: ThreadPoolExecutor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each cluster the count [K] and the sum [K, d], float64, of the points nearest to its centroid."""
    import torch

    half = (centroids**2).sum(dim=1) / 2

    def block(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        those = part[start : start + size]
        # argmin |x - c|^2; |x|^2 is the same for all centroids and left out
        labels = torch.addmm(half, those, centroids.T, alpha=-1).min(dim=1).indices
        return torch.bincount(labels, minlength=len(centroids)), _sums(those, labels, len(centroids))

    counts = torch.zeros(len(centroids), dtype=torch.int64, device=part.device)
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=part.device)
    for found, partial in pool.map(block, range(0, len(part), size)):
        counts += found
        sums += partial
    return counts, sums


def _sums(points: torch.Tensor, labels: torch.Tensor, clusters: int) -> torch.Tensor:
    """The sum of the points of each cluster, float32 [clusters, dimension]."""
    import torch

    if points.is_cuda:  # where adding by index is in no fixed order
        return torch.nn.functional.one_hot(labels, clusters).T.float() @ points
    return torch.zeros((clusters, points.shape[1])).index_add_(0, labels, points)


@contextmanager
def _threads(count: int, rounded: bool) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute a block each, alone, so that no sum depends on how many there are.

    `rounded`: products of numbers rounded to bfloat16 where the processor has them, four times as fast and good enough
    to find the nearest centroid of nearly every frame; sums stay float32.
    """
    import torch

    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium" if rounded else "highest")
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def save_code_book(book: CodeBook, path: Path) -> None:
    """Write a code book as safetensors, its encoder's identity inside."""
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {
        "centroids": np.ascontiguousarray(book.centroids, dtype=np.float32),
        "mean": np.ascontiguousarray(book.mean, dtype=np.float32),
        "scale": np.array([book.scale], dtype=np.float64),
    }
    # The code identity is in the quality report: it must not change the hash of this file, which names its units.
    metadata = {"encoder": json.dumps(book.encoder, sort_keys=True)}
    if book.revisions:
        metadata["revisions"] = json.dumps(dict(book.revisions), sort_keys=True)
    write_file(path, save(tensors, metadata=metadata))


def load_code_book(path: Path) -> CodeBook:
    """Read a code book.

    Raises:
        UserError: missing, not safetensors, or not a code book.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            encoder = json.loads(metadata["encoder"])
            revisions = json.loads(metadata.get("revisions", "{}"))
            centroids, mean, scale = (file.get_tensor(name) for name in ("centroids", "mean", "scale"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a code book of speechscale kmeans ({error}).") from error
    return CodeBook(centroids, mean, float(scale[0]), encoder, revisions)


def code_book_identity(path: Path) -> dict[str, str]:
    """Name and hash, as the shards' meta records them."""
    return {"name": Path(path).name, "sha256": sha256_file(Path(path))}
