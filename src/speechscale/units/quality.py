"""How good a code book is: inertia, usage, run lengths, and how much units tell of phones, where these are known.

Phone measures as in the HuBERT paper (Hsu et al. 2021), over frames whose middle lies in a phone, from the joint
distribution of phone y and unit z:

- phone purity: the share of frames that are right when each unit stands for its commonest phone;
- cluster purity: the share of frames that are right when each phone stands for its commonest unit;
- phone-normalised mutual information: I(y; z) / H(y), the share of what there is to know of the phone.

All three rise with the number of units, and on few frames they flatter: with n frames, P phones and K units, units
without meaning have about (P - 1)(K - 1) / 2n nats of mutual information (Miller 1955).
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
from speechscale.units.collapse import collapse
from speechscale.units.kmeans import CodeBook

Phone = tuple[str, float, float]  # name, start and end in seconds from the start of the utterance


@dataclass(frozen=True)
class PhoneQuality:
    """How well units and phones agree."""

    phones: int
    frames: int  # with a phone
    phone_purity: float
    cluster_purity: float
    normalised_mutual_information: float


@dataclass(frozen=True)
class Quality:
    """A code book, measured on some speech."""

    utterances: int
    held_out: bool  # none of these utterances was learnt from
    frames: int
    seconds: float
    inertia: float  # mean squared distance of a frame to its centroid
    variance_explained: float  # 1 - inertia / variance of the frames
    clusters: int
    units_used: int
    perplexity: float  # of the distribution of frames over units: as if so many were used equally
    run_frames: float  # mean length of a run of one unit
    run_milliseconds: float
    units_per_second: float  # runs, which is what remains after collapse
    phones: PhoneQuality | None

    def __str__(self) -> str:
        heard = (
            "utterances that were not learnt from" if self.held_out else "utterances that were learnt from"
        )
        lines = [
            f"measured on {self.utterances} {heard}, {self.seconds / 60:.1f} minutes:",
            f"  inertia        {self.inertia:.4g} a frame ({self.variance_explained:.1%} of the variance explained)",
            f"  units used     {self.units_used} of {self.clusters}, perplexity {self.perplexity:.1f}",
            f"  run length     {self.run_frames:.2f} frames, {self.run_milliseconds:.0f} ms; "
            f"{self.units_per_second:.1f} units per second",
        ]
        if self.phones:
            of = self.phones
            lines.append(
                f"  of {of.phones} phones   PNMI {of.normalised_mutual_information:.3f}, "
                f"phone purity {of.phone_purity:.3f}, cluster purity {of.cluster_purity:.3f}"
            )
        return "\n".join(lines)


class Measurement:
    """What is added up over the utterances that a code book is measured on."""

    def __init__(self, book: CodeBook, rate: float) -> None:
        """`rate`: frames a second."""
        self._book, self._rate = book, rate
        dimension = book.centroids.shape[1]
        self._utterances, self._seconds, self._runs = 0, 0.0, 0
        self._usage = np.zeros(len(book.centroids), dtype=np.int64)
        self._distance = 0.0  # summed squares, standardised
        self._sum, self._squares = np.zeros(dimension), 0.0
        self._pairs: Counter[tuple[str, int]] = Counter()  # phone and unit of a frame

    def add(self, frames: np.ndarray, seconds: float, phones: Sequence[Phone] | None) -> None:
        """One utterance: its frames, float32 [frames, dimension], how long it is, and its phones where known."""
        points = self._book.standardised(frames)
        units = self._book.assign(frames)
        self._utterances += 1
        self._seconds += seconds
        self._runs += len(collapse(units)[0])
        self._usage += np.bincount(units, minlength=len(self._usage))
        self._distance += float(np.square(points - self._book.centroids[units]).sum(dtype=np.float64))
        self._sum += points.sum(axis=0, dtype=np.float64)
        self._squares += float(np.square(points).sum(dtype=np.float64))
        if phones:
            names = phones_of_frames(phones, len(frames), self._rate)
            pairs = zip(names, units.tolist(), strict=True)
            self._pairs.update((name, unit) for name, unit in pairs if name is not None)

    def quality(self, held_out: bool) -> Quality:
        """The measures of what was added.

        Raises:
            UserError: no frame was added.
        """
        frames = int(self._usage.sum())
        if not frames:
            raise UserError("the code book cannot be measured: no utterance of the sample could be heard.")
        inertia = self._distance / frames
        variance = self._squares / frames - float(np.square(self._sum / frames).sum())
        return Quality(
            utterances=self._utterances,
            held_out=held_out,
            frames=frames,
            seconds=self._seconds,
            inertia=inertia * self._book.scale**2,
            variance_explained=1 - inertia / variance if variance > 0 else 1.0,
            clusters=len(self._usage),
            units_used=int((self._usage > 0).sum()),
            perplexity=float(np.exp(_entropy(self._usage / frames))),
            run_frames=frames / self._runs,
            run_milliseconds=1000 * frames / self._runs / self._rate,
            units_per_second=self._runs / self._seconds,
            phones=phone_quality(self._pairs) if self._pairs else None,
        )


def phones_of_frames(phones: Sequence[Phone], frames: int, rate: float) -> list[str | None]:
    """The phone at the middle of each frame; None where there is none."""
    names = [name for name, _, _ in phones]
    starts, ends = (np.array([phone[edge] for phone in phones]) for edge in (1, 2))
    middles = (np.arange(frames) + 0.5) / rate
    last = np.searchsorted(starts, middles, side="right") - 1
    inside = (last >= 0) & (middles < ends[last])
    return [names[place] if within else None for place, within in zip(last, inside, strict=True)]


def phone_quality(pairs: Counter[tuple[str, int]]) -> PhoneQuality:
    """The phone measures of how often each phone and unit met in a frame."""
    phones, units = (
        {key: place for place, key in enumerate(sorted(set(keys)))} for keys in zip(*pairs, strict=True)
    )
    joint = np.zeros((len(phones), len(units)))
    for (phone, unit), count in pairs.items():
        joint[phones[phone], units[unit]] = count
    joint /= joint.sum()
    of_phone = _entropy(joint.sum(axis=1))
    shared = of_phone + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())
    return PhoneQuality(
        phones=len(phones),
        frames=pairs.total(),
        phone_purity=float(joint.max(axis=0).sum()),
        cluster_purity=float(joint.max(axis=1).sum()),
        normalised_mutual_information=shared / of_phone if of_phone > 0 else 0.0,
    )


def _entropy(shares: np.ndarray) -> float:
    """In nats."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def phones_in(utterance: Utterance) -> list[Phone] | None:
    """The phones that a manifest gives in `extra.phones`, [[phone, start, end], …], in seconds; None without.

    Raises:
        UserError: they are not such a list, or not in order.
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


def quality_path(code_book: Path) -> Path:
    """Where the report of a code book lies."""
    return code_book.with_suffix(".quality.json")


def write_quality(quality: Quality, code_book: Path) -> None:
    """Write the report next to its code book, with the identity of the code that made both."""
    write_json(quality_path(code_book), {**asdict(quality), "code": code_identity().model_dump()})


def read_code(code_book: Path) -> CodeIdentity | None:
    """The code that made a code book; None where its report does not exist or does not say."""
    try:
        report = json.loads(quality_path(code_book).read_text(encoding="utf-8"))
        return CodeIdentity.model_validate(report["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
