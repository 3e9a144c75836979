"""Quality of a codebook: inertia, usage, run lengths, and agreement with phones where these are known.

Phone measures as in the HuBERT paper (Hsu et al. 2021), over the frames whose centre is within a phone, from the
joint distribution of phone y and unit z:

- phone purity: accuracy of predicting the most frequent phone of each unit;
- cluster purity: accuracy of predicting the most frequent unit of each phone;
- phone-normalised mutual information (PNMI): I(y; z) / H(y), the share of the phone's entropy that the unit removes.

All three rise with the number of units and are biased upwards on few frames: with n frames, P phones and K units,
units that are independent of phones have about (P - 1)(K - 1) / 2n nats of mutual information (Miller 1955).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.manifest import Utterance
from speechscale.records.seal import write_json
from speechscale.units.codebook import Codebook
from speechscale.units.collapse import collapse

PhoneInterval = tuple[str, float, float]  # phone, start and end in seconds from the start of the utterance


@dataclass(frozen=True)
class PhoneQuality:
    """Agreement of units and phones."""

    phones: int
    frames: int  # with a phone
    phone_purity: float
    cluster_purity: float
    normalised_mutual_information: float


@dataclass(frozen=True)
class CodebookQuality:
    """Quality of a codebook on a sample of speech; the content of `.quality.json`."""

    utterances: int
    held_out: bool  # the codebook was learned from none of these utterances
    frames: int
    seconds: float
    inertia: float  # mean squared distance of a frame to its centroid
    variance_explained: float  # 1 - inertia / variance of the frames
    clusters: int
    units_used: int
    perplexity: float  # of the distribution of frames over units
    run_frames: float  # mean length of a run of one unit
    run_milliseconds: float
    units_per_second: float  # after collapsing
    phones: PhoneQuality | None

    def __str__(self) -> str:
        utterances = "held-out utterances" if self.held_out else "training utterances"
        lines = [
            f"measured on {self.utterances} {utterances}, {self.seconds / 60:.1f} minutes:",
            f"  inertia        {self.inertia:.4g} a frame ({self.variance_explained:.1%} of the variance explained)",
            f"  units used     {self.units_used} of {self.clusters}, perplexity {self.perplexity:.1f}",
            f"  run length     {self.run_frames:.2f} frames, {self.run_milliseconds:.0f} ms; "
            f"{self.units_per_second:.1f} units per second",
        ]
        if phones := self.phones:
            lines.append(
                f"  of {phones.phones} phones   PNMI {phones.normalised_mutual_information:.3f}, "
                f"phone purity {phones.phone_purity:.3f}, cluster purity {phones.cluster_purity:.3f}"
            )
        return "\n".join(lines)


class CodebookEvaluator:
    """Sums over utterances from which the quality of a codebook follows."""

    def __init__(self, codebook: Codebook, frame_rate: float) -> None:
        self._codebook, self._frame_rate = codebook, frame_rate
        dimension = codebook.centroids.shape[1]
        self._utterances, self._seconds, self._runs = 0, 0.0, 0
        self._usage = np.zeros(len(codebook.centroids), dtype=np.int64)  # frames of each unit
        self._squared_distance = 0.0  # of standardized frames to their centroids
        self._sum, self._sum_of_squares = np.zeros(dimension), 0.0  # of standardized frames
        self._phone_units: Counter[tuple[str, int]] = Counter()  # (phone, unit) of frames

    def add(self, frames: np.ndarray, seconds: float, phones: Sequence[PhoneInterval] | None) -> None:
        """Add one utterance: its frames, float32 [frames, dimension], its duration, and its phones where known."""
        points = self._codebook.standardize(frames)
        units = self._codebook.assign(frames)
        self._utterances += 1
        self._seconds += seconds
        self._runs += len(collapse(units)[0])
        self._usage += np.bincount(units, minlength=len(self._usage))
        distances = points - self._codebook.centroids[units]
        self._squared_distance += float(np.square(distances).sum(dtype=np.float64))
        self._sum += points.sum(axis=0, dtype=np.float64)
        self._sum_of_squares += float(np.square(points).sum(dtype=np.float64))
        if phones:
            names = phone_of_each_frame(phones, len(frames), self._frame_rate)
            pairs = zip(names, units.tolist(), strict=True)
            self._phone_units.update((name, unit) for name, unit in pairs if name is not None)

    def quality(self, held_out: bool) -> CodebookQuality:
        """The quality on the utterances added so far.

        Raises:
            UserError: no frame was added.
        """
        frames = int(self._usage.sum())
        if not frames:
            raise UserError("the codebook cannot be measured: no utterance of the sample could be read.")
        inertia = self._squared_distance / frames
        variance = self._sum_of_squares / frames - float(np.square(self._sum / frames).sum())
        return CodebookQuality(
            utterances=self._utterances,
            held_out=held_out,
            frames=frames,
            seconds=self._seconds,
            inertia=inertia * self._codebook.scale**2,
            variance_explained=1 - inertia / variance if variance > 0 else 1.0,
            clusters=len(self._usage),
            units_used=int((self._usage > 0).sum()),
            perplexity=float(np.exp(_entropy(self._usage / frames))),
            run_frames=frames / self._runs,
            run_milliseconds=1000 * frames / self._runs / self._frame_rate,
            units_per_second=self._runs / self._seconds,
            phones=phone_quality(self._phone_units) if self._phone_units else None,
        )


def phone_of_each_frame(phones: Sequence[PhoneInterval], frames: int, frame_rate: float) -> list[str | None]:
    """The phone at the centre of each frame; None where there is none."""
    names = [name for name, _, _ in phones]
    starts, ends = (np.array([phone[edge] for phone in phones]) for edge in (1, 2))
    centres = (np.arange(frames) + 0.5) / frame_rate
    last = np.searchsorted(starts, centres, side="right") - 1
    inside = (last >= 0) & (centres < ends[last])
    return [names[index] if within else None for index, within in zip(last, inside, strict=True)]


def phone_quality(counts: Counter[tuple[str, int]]) -> PhoneQuality:
    """The phone measures, from the number of frames of each (phone, unit)."""
    phones, units = (
        {key: index for index, key in enumerate(sorted(set(keys)))} for keys in zip(*counts, strict=True)
    )
    joint = np.zeros((len(phones), len(units)))
    for (phone, unit), count in counts.items():
        joint[phones[phone], units[unit]] = count
    joint /= joint.sum()
    phone_entropy = _entropy(joint.sum(axis=1))
    mutual_information = phone_entropy + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())
    return PhoneQuality(
        phones=len(phones),
        frames=counts.total(),
        phone_purity=float(joint.max(axis=0).sum()),
        cluster_purity=float(joint.max(axis=1).sum()),
        normalised_mutual_information=mutual_information / phone_entropy if phone_entropy > 0 else 0.0,
    )


def _entropy(shares: np.ndarray) -> float:
    """In nats."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def manifest_phones(utterance: Utterance) -> list[PhoneInterval] | None:
    """The phones in `extra.phones` of a manifest row, [[phone, start, end], …] in seconds; None without.

    Raises:
        UserError: `extra.phones` is not such a list, or not in order.
    """
    found: Any = utterance.extra.get("phones")
    if found is None:
        return None
    try:
        phones = [(name, float(start), float(end)) for name, start, end in found]
    except (TypeError, ValueError):
        phones = [("", 0.0, 0.0)]
    edges = np.array([edge for _, *both in phones for edge in both])
    if not all(isinstance(name, str) and name for name, _, _ in phones) or not (np.diff(edges) >= 0).all():
        raise UserError(
            f"{utterance.id}: extra.phones must be a list of [phone, start, end], in seconds and in order; "
            f"found {str(found)[:80]}."
        )
    return phones


def quality_path(codebook: Path) -> Path:
    """The file of a codebook's quality, next to the codebook."""
    return codebook.with_suffix(".quality.json")


def write_quality(quality: CodebookQuality, codebook: Path) -> None:
    """Write the quality next to its codebook file, with the identity of the code that made both."""
    write_json(quality_path(codebook), {**asdict(quality), "code": code_identity().model_dump()})


def read_code(codebook: Path) -> CodeIdentity | None:
    """The code that made a codebook; None where its report does not exist or does not say."""
    try:
        report = json.loads(quality_path(codebook).read_text(encoding="utf-8"))
        return CodeIdentity.model_validate(report["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
