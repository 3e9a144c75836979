"""The labelled manifest of a benchmark: members joined into pairs in whatever order they come, with flat memory.

Recordings wait in a scratch file. Memory holds 24 bytes for each: hashes of its pair and its id, and its place there.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from speechscale.datasets.benchmarks import read_benchmark
from speechscale.datasets.benchmarks.members import BenchmarkSource, MemberFault, PairKey
from speechscale.datasets.benchmarks.official_counts import ItemCounts, differences_from_official
from speechscale.datasets.corpora.source import CorpusSource
from speechscale.datasets.corpora.utterances import AudioChecker
from speechscale.datasets.reading import with_read_errors
from speechscale.datasets.skips import SkipList, open_skip_list
from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.manifest import Ids, Utterance, id_hash, seconds_of, write_manifest
from speechscale.records.shards import Skip

_SHARED_LABELS = (  # by both members of a pair
    "group_id",
    "voice",
    "phenomenon",
    "condition",
    "contrast",
    "template",
)
TaskAndCondition = tuple[str, str]


@dataclass
class BenchmarkSummary:
    """Contents of a benchmark as its manifest lists them."""

    manifest: Path
    skips: Path
    pairs: Counter[TaskAndCondition] = field(default_factory=Counter)
    groups: Counter[TaskAndCondition] = field(default_factory=Counter)  # items
    voices: dict[TaskAndCondition, set[str]] = field(default_factory=dict)
    seconds: float = 0.0
    skip_reasons: Counter[str] = field(default_factory=Counter)  # of pairs, and of recordings without a pair
    notes: list[str] = field(default_factory=list)  # remarks, such as differences from the official release

    def __str__(self) -> str:
        sets = "; ".join(
            f"{' '.join(part for part in key if part)} {count} pairs of recordings of {self.groups[key]} items"
            for key, count in self.pairs.items()
        )
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skip_reasons.most_common())
        left_out = (
            f"; {self.skip_reasons.total()} left out: {reasons}; {self.skips} says why" if reasons else ""
        )
        return f"{sets}; {self.seconds / 3600:.2f} hours{left_out}"


def write_benchmark_manifest(
    source: BenchmarkSource, out: Path, *, incomplete: bool = False
) -> BenchmarkSummary:
    """Write OUT/manifest.jsonl, the members of a pair in consecutive lines, and OUT/manifest.skips.jsonl.

    Args:
        source: the benchmark.
        out: folder to write to.
        incomplete: leave out pairs that cannot be used. Without it one such pair is an error; the list of skips is
            written all the same.

    Raises:
        UserError: the benchmark cannot be read, a pair cannot be used, or no pair can be used.
    """
    summary = BenchmarkSummary(out / "manifest.jsonl", out / "manifest.skips.jsonl")
    if source.path.is_file() and summary.manifest.resolve() == source.path.resolve():
        raise UserError(f"{summary.manifest}: is the benchmark itself; choose another folder with --out.")
    with tempfile.TemporaryFile() as scratch:
        with open_skip_list(summary.skips) as skips:
            spool = _spool(source, scratch, skips, summary.notes.append)
            usable = spool.check(skips)
        summary.skip_reasons = skips.reasons
        if skips.reasons and not (incomplete and usable.any()):
            raise UserError(_refusal(source, summary.skips, skips, usable))
        if not usable.any():
            raise UserError(f"{source.path}: no recordings here.")
        counter = _PairCounter(summary)
        write_manifest(counter.members(spool.usable_pairs(usable)), summary.manifest, str(source.path))
    counter.finish(source.layout)
    return summary


def _refusal(source: BenchmarkSource, skips_path: Path, skips: SkipList, usable: np.ndarray) -> str:
    found = "; ".join(
        f"{skips.reasons[skip.reason]} {skip.reason} ({skip.detail})" for skip in skips.examples
    )
    lost = skips.reasons.total()
    advice = "repair the download"
    if usable.any():
        advice += ", or say --incomplete to go on without them"
    return (
        f"{source.path}: {lost} of {lost + int(usable.sum())} pairs cannot be used: {found}. "
        f"{skips_path} lists them all; {advice}."
    )


@dataclass(frozen=True)
class _SpooledMember:
    """One recording in the scratch file: its utterance, or the reason and detail of what is wrong with it."""

    where: str
    pair: PairKey
    utterance: Utterance | None = None
    fault: tuple[str, str] | None = None

    def to_json(self) -> bytes:
        utterance = self.utterance and self.utterance.model_dump(mode="json", exclude_defaults=True)
        return json.dumps([self.where, self.pair, utterance, self.fault]).encode()

    @classmethod
    def from_json(cls, line: bytes) -> _SpooledMember:
        where, (task, pair_id), utterance, fault = json.loads(line)
        return cls(
            where,
            (task, pair_id),
            None if utterance is None else Utterance.model_validate(utterance),
            None if fault is None else (fault[0], fault[1]),
        )


@dataclass
class _Spool:
    """The recordings in a scratch file, to be read pair by pair."""

    scratch: BinaryIO
    pair_hashes: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))  # bytes in the scratch file
    ids: Ids = field(default_factory=Ids)

    def add(self, member: _SpooledMember) -> None:
        if member.utterance is not None:
            self.ids.add(member.utterance.id)
        self.pair_hashes.append(id_hash(json.dumps(member.pair)))
        self.offsets.append(self.scratch.tell())
        self.scratch.write(member.to_json() + b"\n")

    def check(self, skips: SkipList) -> np.ndarray:
        """Add the pairs that cannot be used to `skips`.

        Returns:
            bool [pairs]: whether each pair can be used, in the order of `_pairs`.
        """
        duplicate_hashes = self.ids.duplicate_hashes()
        usable = []
        for pair, members in self._pairs():
            problem = _pair_problem(pair, members, duplicate_hashes)
            usable.append(problem is None)
            if problem:
                skips.add(problem)
        return np.array(usable, dtype=bool)

    def usable_pairs(self, usable: np.ndarray) -> Iterator[tuple[Utterance, Utterance]]:
        """The correct and the wrong member of each pair that can be used (bool [pairs], of `check`)."""
        for (_, members), is_usable in zip(self._pairs(), usable, strict=True):
            if is_usable:
                utterances = [member.utterance for member in members if member.utterance is not None]
                correct, wrong = sorted(utterances, key=lambda utterance: not utterance.extra["correct"])
                yield correct, _with_frequency_of(correct, wrong)

    def _pairs(self) -> Iterator[tuple[PairKey, list[_SpooledMember]]]:
        """The recordings of each pair, pairs in the order of their first recordings."""
        _, first, group = np.unique(
            np.array(self.pair_hashes, dtype=np.uint64), return_index=True, return_inverse=True
        )
        order = np.argsort(first[group], kind="stable")
        ends = np.flatnonzero(np.diff(first[group][order], append=-1)) + 1
        for start, end in pairwise([0, *ends]):
            by_pair: dict[PairKey, list[_SpooledMember]] = {}  # several pairs where hashes collide
            for index in order[start:end]:
                self.scratch.seek(self.offsets[index])
                member = _SpooledMember.from_json(self.scratch.readline())
                by_pair.setdefault(member.pair, []).append(member)
            yield from by_pair.items()


def _spool(
    source: BenchmarkSource, scratch: BinaryIO, skips: SkipList, note: Callable[[str], None]
) -> _Spool:
    """Read the benchmark once and check all audio; recordings that belong to no pair are skipped at once."""
    spool = _Spool(scratch)
    corpus = CorpusSource(source.path, source.layout, source.root, source.path.name)

    def add_fault(fault: MemberFault) -> None:
        detail = fault.detail if fault.detail.startswith(fault.where) else f"{fault.where}: {fault.detail}"
        if fault.pair is None:
            skips.add(Skip(fault.where, fault.reason, detail))
        else:
            spool.add(_SpooledMember(fault.where, fault.pair, fault=(fault.reason, detail)))

    with AudioChecker(corpus) as checker:
        for member in with_read_errors(read_benchmark(source, note), source.path):
            if isinstance(member, MemberFault):
                add_fault(member)
                continue
            pair = (member.label.task, member.label.pair_id)
            extra = member.label.model_dump(mode="json", exclude_defaults=True)
            checked = checker.check(member.where, {**member.utterance_fields, "extra": extra})
            if isinstance(checked, Skip):
                add_fault(MemberFault(member.where, checked.reason, checked.detail, pair))
            else:
                spool.add(_SpooledMember(member.where, pair, checked))
    return spool


def _pair_problem(pair: PairKey, members: list[_SpooledMember], duplicate_hashes: set[int]) -> Skip | None:
    """Why a pair cannot be used; None where it can."""
    name = "/".join(pair)
    for member in members:
        if member.fault:
            return Skip(name, *member.fault)
    sound = [(member.where, member.utterance) for member in members if member.utterance is not None]
    for where, utterance in sound:
        if id_hash(utterance.id) in duplicate_hashes:
            detail = f"{where}: the recording {utterance.id} is listed twice; list each once"
            return Skip(name, "listed twice", detail)
    labels = [(where, Label.model_validate(utterance.extra)) for where, utterance in sound]
    correct = [where for where, label in labels if label.correct]
    wrong = [where for where, label in labels if not label.correct]
    if len(labels) == 1:
        side, other_side = ("correct", "wrong") if correct else ("wrong", "correct")
        detail = f"{name}: only its {side} member, {labels[0][0]}, and no {other_side} one"
        return Skip(name, "unpaired", detail)
    if (len(correct), len(wrong)) != (1, 1):
        found = f"correct {', '.join(correct) or 'none'}; wrong {', '.join(wrong) or 'none'}"
        return Skip(name, "not two members", f"{name}: wanted one correct and one wrong, found {found}")
    for key in _SHARED_LABELS:
        one, other = (getattr(label, key) for _, label in labels)
        if one != other:
            return Skip(name, "labels disagree", f"{name}: its members have {key} {one!r} and {other!r}")
    return None


def _with_frequency_of(correct: Utterance, wrong: Utterance) -> Utterance:
    """The wrong member with the frequency of the correct one, because a non-word has none of its own."""
    extra = {key: value for key, value in wrong.extra.items() if key != "frequency"}
    frequency = correct.extra.get("frequency")
    extra |= {} if frequency is None else {"frequency": frequency}
    return wrong.model_copy(update={"extra": extra})


class _PairCounter:
    """Counts the pairs that are written, into a summary."""

    def __init__(self, summary: BenchmarkSummary) -> None:
        self._summary = summary
        self._group_hashes: dict[TaskAndCondition, array[int]] = {}

    def members(self, pairs: Iterator[tuple[Utterance, Utterance]]) -> Iterator[Utterance]:
        """Count each pair and yield its members."""
        for pair in pairs:
            label = Label.model_validate(pair[0].extra)
            key = (label.task, label.condition)
            self._summary.pairs[key] += 1
            self._summary.voices.setdefault(key, set()).add(label.voice)
            self._group_hashes.setdefault(key, array("Q")).append(id_hash(label.group_id))
            self._summary.seconds += sum(seconds_of(utterance) for utterance in pair)
            yield from pair

    def finish(self, layout: str) -> None:
        """Count the groups, and compare all counts with the official release."""
        summary = self._summary
        for key, hashes in self._group_hashes.items():
            summary.groups[key] = len(np.unique(np.array(hashes, dtype=np.uint64)))
            found = ItemCounts(summary.groups[key], summary.pairs[key], len(summary.voices[key]))
            summary.notes += differences_from_official(layout, *key, found)
