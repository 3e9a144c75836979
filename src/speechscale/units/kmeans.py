"""k-means over frames: a k-means++ start, then Lloyd or growing mini-batch iterations until inertia converges."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from speechscale.compute import DEFAULT_OPTIONS, ComputeOptions, available_cores, choose_device
from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.revisions import revisions_of
from speechscale.units.codebook import Codebook

if TYPE_CHECKING:
    import torch

# Frames that the start is drawn from, which are also the first of the growing samples.
_START_FRAMES_PER_CLUSTER = 16
_MIN_START_FRAMES = 8192
_PROJECTED_DIMENSIONS = 64  # in which the start is chosen
_CHUNKS = 32  # of all frames, after each of which centroids move
_BLOCK = 4096  # frames whose distances are computed at once; fixed, so that sums do not depend on the threads
_BLOCK_CUDA = 65_536


class KMeansSpec(BaseModel):
    """Number of units, size of the training sample, and stopping rule.

    `lloyd` assigns all frames in every iteration and then moves the centroids. `minibatch` iterates over a sample of
    the frames that doubles as soon as another iteration gains no more than the sample can resolve, up to all frames;
    centroids move after every chunk of the sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    clusters: int = Field(default=100, ge=2)
    utterances: int = Field(default=500, ge=1)  # maximum size of the seeded sample of training utterances
    frames: int = Field(default=1_000_000, ge=1)  # maximum size of the seeded sample of their frames
    method: Literal["minibatch", "lloyd"] = "minibatch"
    iterations: int = Field(default=50, ge=1)  # maximum number of iterations over all frames
    # Iterations stop when one lowers the inertia by less than this share.
    tolerance: float = Field(default=1e-4, ge=0)
    seed: int = Field(default=0, ge=0)


def train_kmeans(
    frames: np.ndarray, spec: KMeansSpec, encoder: JsonObject, compute: ComputeOptions = DEFAULT_OPTIONS
) -> Codebook:
    """Learn a codebook by k-means from a k-means++ start.

    The result depends on the frames, the spec and the kind of processor, but not on the number of cores.

    Args:
        frames: float32 [frames, dimension].
        spec: number of clusters, method and stopping rule.
        encoder: identity of the encoder that the frames come from.
        compute: the device.

    Raises:
        UserError: fewer distinct frames than clusters, or a frame that is not finite.
    """
    if len(frames) < spec.clusters:
        raise UserError(
            f"k-means: {spec.clusters} clusters need at least as many frames, the sample has {len(frames)}; "
            "take more utterances or fewer clusters."
        )
    rng = np.random.default_rng(spec.seed)
    points = _Points(frames, spec, rng, compute)
    threads = available_cores() if points.on_cpu else 1
    with _single_threaded_blocks(threads, bfloat16=spec.method == "minibatch") as pool:
        state = _KMeansState(_initial_centroids(points, spec.clusters, rng, pool), points, rng, pool)
        for size in points.sample_sizes():
            # Centroids fitted to n frames overfit by K/n of the inertia: a mean by 1/n_k of its cluster's variance.
            # Other frames would not benefit from smaller gains.
            if size < len(frames):
                state.iterate(size, spec.iterations, spec.clusters / size)
        state.iterate(len(frames), spec.iterations, spec.tolerance, two_passes=True)
    centroids = state.centroids.cpu().numpy()
    return Codebook(centroids, points.mean, points.scale, encoder, revisions_of("k-means"))


class _Points:
    """Standardized frames in random order, computed on demand on the chosen device."""

    def __init__(
        self, frames: np.ndarray, spec: KMeansSpec, rng: np.random.Generator, compute: ComputeOptions
    ) -> None:
        import torch

        self._frames, self._order = frames, rng.permutation(len(frames))
        lloyd = spec.method == "lloyd"
        self._smallest_sample = len(frames) if lloyd else _start_size(spec.clusters)
        start = frames[np.sort(self._order[: _start_size(spec.clusters)])]
        # Without the mean, float32 suffices. One scale for all dimensions keeps the shape of the spectrum.
        self.mean, self.scale = start.mean(axis=0), float(start.std(axis=0).mean()) or 1.0
        device = choose_device(compute.device)
        self.on_cpu = device.type == "cpu"
        self.block = _BLOCK if self.on_cpu else _BLOCK_CUDA
        self.chunk = len(frames) if lloyd else self.block * max(8, -(-len(frames) // (_CHUNKS * self.block)))
        self._points = torch.empty(frames.shape, dtype=torch.float32, device=device)
        self._computed = 0
        self._sum_of_squares = 0.0  # of the points computed so far

    def __len__(self) -> int:
        return len(self._frames)

    def sample_sizes(self) -> Iterator[int]:
        """Sizes of the growing samples, doubling up to all frames."""
        size = self._smallest_sample
        while size < len(self._frames):
            yield size
            size *= 2
        yield len(self._frames)

    def first(self, size: int, pool: ThreadPoolExecutor) -> tuple[torch.Tensor, float]:
        """The first points, float32 [size, dimension], and the sum of their squares."""
        import torch

        frames, mean = torch.from_numpy(self._frames), torch.from_numpy(self.mean)

        def standardize_block(start: int) -> float:
            chosen = torch.from_numpy(self._order[start : min(start + self.block, size)])
            block = frames[chosen].sub_(mean).div_(self.scale)
            self._points[start : start + len(block)] = block
            return float(block.square_().sum(dtype=torch.float64))

        self._sum_of_squares += sum(pool.map(standardize_block, range(self._computed, size, self.block)))
        self._computed = max(size, self._computed)
        if not np.isfinite(self._sum_of_squares):
            raise UserError("k-means: a frame of the sample is not a finite number.")
        return self._points[:size], self._sum_of_squares


def _start_size(clusters: int) -> int:
    return max(_START_FRAMES_PER_CLUSTER * clusters, _MIN_START_FRAMES)


def _initial_centroids(
    points: _Points, clusters: int, rng: np.random.Generator, pool: ThreadPoolExecutor
) -> torch.Tensor:
    """k-means++ on a few frames per cluster, and on more where too few of these are distinct."""
    import torch

    size = min(_start_size(clusters), len(points))
    while True:
        sample, _ = points.first(size, pool)
        none = torch.empty((0, sample.shape[1]), device=sample.device)
        centroids = _kmeans_plus_plus(sample, none, clusters, rng)
        if len(centroids) == clusters:
            return centroids
        if size == len(points):
            raise UserError(
                f"k-means: the sample has only {len(centroids)} distinct frames, wanted {clusters} clusters."
            )
        size = min(2 * size, len(points))


def _kmeans_plus_plus(
    points: torch.Tensor, centroids: torch.Tensor, clusters: int, rng: np.random.Generator
) -> torch.Tensor:
    """Add points to the centroids by greedy k-means++ until there are `clusters`, or no other point is left.

    Each new centroid is the best of 2 + ln K candidates drawn with probability proportional to the squared distance
    to the nearest centroid (Arthur & Vassilvitskii 2007, section 5). Distances are measured in a random projection to
    64 dimensions, with a standard deviation of sqrt(2 / 64) = 18 %: enough for a start, at a tenth of the cost.

    Args:
        points: float32 [points, dimension].
        centroids: float32 [centroids, dimension] to keep; may be empty.
        clusters: wanted number of centroids.
        rng: draws the projection and the candidates.
    """
    import torch

    projection = _random_projection(points.shape[1], rng)
    projected, chosen_projected = points.cpu() @ projection, centroids.cpu() @ projection
    squares = (projected**2).sum(dim=1)
    chosen: list[int] = []
    if not len(chosen_projected):
        chosen = [int(rng.integers(len(projected)))]
        chosen_projected = projected[chosen]
    distance = torch.full((len(projected),), torch.inf)  # squared, to the nearest centroid
    for centroid in chosen_projected:
        distance = torch.minimum(distance, ((projected - centroid) ** 2).sum(dim=1))
    candidates = 2 + int(np.log(clusters))
    while len(centroids) + len(chosen) < clusters:
        # Points closer than float32 resolves are identical.
        weight = np.cumsum(torch.where(distance > 1e-6 * squares, distance, 0.0).numpy(), dtype=np.float64)
        if not weight[-1]:
            break
        drawn = torch.from_numpy(np.searchsorted(weight, rng.random(candidates) * weight[-1], side="right"))
        closer = torch.addmm(squares + squares[drawn, None], projected[drawn], projected.T, alpha=-2)
        closer = torch.minimum(closer.clamp_(min=0), distance)
        best = int(closer.sum(dim=1, dtype=torch.float64).argmin())
        distance = closer[best]
        chosen.append(int(drawn[best]))
    return torch.cat([centroids, points[chosen]])


def _random_projection(dimension: int, rng: np.random.Generator) -> torch.Tensor:
    """A matrix [dimension, at most 64] that preserves distances on average."""
    import torch

    if dimension <= _PROJECTED_DIMENSIONS:
        return torch.eye(dimension)
    return torch.from_numpy(
        rng.standard_normal((dimension, _PROJECTED_DIMENSIONS), dtype=np.float32)
        / np.float32(_PROJECTED_DIMENSIONS**0.5)
    )


class _KMeansState:
    """Centroids, and for each chunk of the points the count and the sum of the points of each cluster.

    After a chunk is assigned again, its old counts and sums are replaced, and every centroid becomes the mean of its
    points. With one chunk this is Lloyd's algorithm. With several it is the incremental EM of Neal & Hinton (1998):
    every step lowers the same inertia, and fewer passes are needed because each chunk uses the latest centroids.
    """

    def __init__(
        self, centroids: torch.Tensor, points: _Points, rng: np.random.Generator, pool: ThreadPoolExecutor
    ) -> None:
        import torch

        self.centroids = centroids
        self._points, self._rng, self._pool = points, rng, pool
        self._counts = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
        self._sums = torch.zeros_like(centroids, dtype=torch.float64)
        self._inertia_per_point = np.inf  # in the last pass
        self._chunks: dict[
            int, tuple[torch.Tensor, torch.Tensor]
        ] = {}  # counts and sums, by start of the chunk

    def iterate(self, size: int, max_passes: int, tolerance: float, two_passes: bool = False) -> None:
        """Pass over the first `size` points until a pass lowers the inertia by at most `tolerance` of it.

        Empty clusters get new centroids by k-means++, and another pass follows.

        Args:
            size: number of points.
            max_passes: maximum number of passes.
            tolerance: relative decrease of the inertia at which iterations stop.
            two_passes: make at least two passes: do not compare the first with the inertia on fewer points.
        """
        points, sum_of_squares = self._points.first(size, self._pool)
        previous = np.inf if two_passes else self._inertia_per_point * size
        for _ in range(max_passes):
            for start in range(0, size, self._points.chunk):
                self._update_chunk(points[start : min(start + self._points.chunk, size)], start)
            if self._reseed_empty_clusters(points):
                previous = np.inf
                continue
            # sum |x - c|^2 = sum |x|^2 - sum n_k |c_k|^2, exact although assignments may use bfloat16 scores
            inertia = sum_of_squares - float((self._sums.square().sum(dim=1) / self._counts).sum())
            self._inertia_per_point = inertia / size
            if previous - inertia <= tolerance * inertia:
                break
            previous = inertia

    def _update_chunk(self, chunk: torch.Tensor, start: int) -> None:
        counts, sums = _assign(chunk, self.centroids, self._points.block, self._pool)
        if start in self._chunks:
            old_counts, old_sums = self._chunks[start]
            self._counts -= old_counts
            self._sums -= old_sums
        self._chunks[start] = counts, sums
        self._counts += counts
        self._sums += sums
        used = self._counts > 0
        self.centroids = self.centroids.clone()
        self.centroids[used] = (self._sums[used] / self._counts[used, None]).float()

    def _reseed_empty_clusters(self, points: torch.Tensor) -> bool:
        """Whether there were empty clusters. Those for which no distinct point is left keep their centroids."""
        import torch

        used = self._counts > 0
        if used.all():
            return False
        kept = self.centroids[used]
        sample = points[: _start_size(len(used))]
        seeded = _kmeans_plus_plus(sample, kept, len(used), self._rng)[len(kept) :]
        self.centroids = torch.cat([kept, seeded, self.centroids[~used][len(seeded) :]])
        order = torch.cat([used.nonzero(), (~used).nonzero()]).flatten()
        self._counts, self._sums = self._counts[order], self._sums[order]
        self._chunks = {start: (counts[order], sums[order]) for start, (counts, sums) in self._chunks.items()}
        return True


def _assign(
    points: torch.Tensor, centroids: torch.Tensor, block_size: int, pool: ThreadPoolExecutor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each cluster the count (int64 [K]) and the sum (float64 [K, d]) of the points nearest to its centroid."""
    import torch

    half_squares = (centroids**2).sum(dim=1) / 2

    def assign_block(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        block = points[start : start + block_size]
        # argmin |x - c|^2 = argmin |c|^2 / 2 - x c
        labels = torch.addmm(half_squares, block, centroids.T, alpha=-1).min(dim=1).indices
        return torch.bincount(labels, minlength=len(centroids)), _cluster_sums(block, labels, len(centroids))

    counts = torch.zeros(len(centroids), dtype=torch.int64, device=points.device)
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=points.device)
    for block_counts, block_sums in pool.map(assign_block, range(0, len(points), block_size)):
        counts += block_counts
        sums += block_sums
    return counts, sums


def _cluster_sums(points: torch.Tensor, labels: torch.Tensor, clusters: int) -> torch.Tensor:
    """The sum of the points of each cluster, float32 [clusters, dimension]."""
    import torch

    if points.is_cuda:  # index_add_ on CUDA adds in no fixed order
        return torch.nn.functional.one_hot(labels, clusters).T.float() @ points
    return torch.zeros((clusters, points.shape[1])).index_add_(0, labels, points)


@contextmanager
def _single_threaded_blocks(count: int, bfloat16: bool) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that each compute a block alone, so that sums do not depend on the number of threads.

    `bfloat16`: allow matrix products in bfloat16 where the processor has them. They are four times as fast and find
    the nearest centroid of nearly every frame; sums stay float32.
    """
    import torch

    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium" if bfloat16 else "highest")
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
