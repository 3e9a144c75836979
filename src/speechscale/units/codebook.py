"""The codebook of an encoder: k-means centroids that map frames to units, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.seal import differing_fields, sha256_file, write_file
from speechscale.units.encoders import Encoder


@dataclass(frozen=True)
class Codebook:
    """Centroids of standardized frames. One scale for all dimensions keeps the shape of the spectrum.

    Attributes:
        centroids: float32 [clusters, dimension], of standardized frames.
        mean: float32 [dimension], subtracted from frames.
        scale: divides frames after the mean is subtracted.
        encoder: identity of the encoder that the frames come from.
        revisions: of the stage that learned it; empty for codebooks of other tools.
    """

    centroids: np.ndarray
    mean: np.ndarray
    scale: float
    encoder: JsonObject
    revisions: Mapping[str, int] = field(default_factory=dict)

    def assign(self, frames: np.ndarray) -> np.ndarray:
        """The unit of each frame: the index of its nearest centroid, int16 [frames]."""
        # argmin |x - c|^2 = argmin |c|^2 / 2 - x c
        scores = (self.centroids**2).sum(axis=1) / 2 - self.standardize(frames) @ self.centroids.T
        units: np.ndarray = np.argmin(scores, axis=1).astype(np.int16)
        return units

    def standardize(self, frames: np.ndarray) -> np.ndarray:
        """Frames on the scale of the centroids, float32 [frames, dimension]."""
        standardized: np.ndarray = (frames - self.mean) / np.float32(self.scale)
        return standardized

    def require_encoder(self, encoder: Encoder) -> None:
        """Check that this codebook was learned from frames of the encoder.

        Raises:
            UserError: it was not; the fields that differ are named.
        """
        differing = differing_fields(encoder.identity, self.encoder)
        if encoder.dimension != self.centroids.shape[1]:
            differing.append(f"dimension: found {encoder.dimension}, wanted {self.centroids.shape[1]}")
        if differing:
            raise UserError(
                f"the codebook was learned from another encoder; these differ: {'; '.join(differing)}."
            )


def save_codebook(codebook: Codebook, path: Path) -> None:
    """Write a codebook as safetensors, with the identity of its encoder as metadata."""
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {
        "centroids": np.ascontiguousarray(codebook.centroids, dtype=np.float32),
        "mean": np.ascontiguousarray(codebook.mean, dtype=np.float32),
        "scale": np.array([codebook.scale], dtype=np.float64),
    }
    # The code identity is in the quality report: it must not change the hash of this file, which names its units.
    content: JsonObject = {"encoder": codebook.encoder}
    if codebook.revisions:
        content["revisions"] = dict(codebook.revisions)
    # One key: safetensors writes several in no fixed order, and equal codebooks are equal files.
    write_file(path, save(tensors, metadata={"codebook": json.dumps(content, sort_keys=True)}))


def load_codebook(path: Path) -> Codebook:
    """Read a codebook.

    Raises:
        UserError: the file is missing, not safetensors, or not a codebook.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            content = json.loads((file.metadata() or {})["codebook"])
            encoder, revisions = content["encoder"], content.get("revisions", {})
            centroids, mean, scale = (file.get_tensor(name) for name in ("centroids", "mean", "scale"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a codebook of speechscale kmeans ({error}).") from error
    return Codebook(centroids, mean, float(scale[0]), encoder, revisions)


def codebook_identity(path: Path) -> dict[str, str]:
    """File name and SHA-256, as `meta.json` of a shard records them."""
    return {"name": Path(path).name, "sha256": sha256_file(Path(path))}
