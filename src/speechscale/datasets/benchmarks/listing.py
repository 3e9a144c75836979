"""A benchmark to its labelled manifest: members joined into pairs, whatever their order; memory stays flat.

Members wait in a scratch file. What is kept of one is 24 bytes: hashes of its pair and its id, and its place there.
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
from typing import Any, BinaryIO

import numpy as np

from speechscale.datasets.benchmarks import read_benchmark
from speechscale.datasets.benchmarks.counts import Count, differences
from speechscale.datasets.benchmarks.members import Benchmark, Fault, Member, PairKey
from speechscale.datasets.corpora.entries import AudioChecker, Corpus
from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.manifest import Ids, Utterance, id_hash, seconds_of, write_manifest
from speechscale.records.seal import atomic_write
from speechscale.records.shards import Skip

_ALIKE = ("group_id", "voice", "phenomenon", "condition")  # of both members of a pair


@dataclass
class Prepared:
    """What a benchmark held."""

    manifest: Path
    skips: Path
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)  # by task and condition
    groups: Counter[tuple[str, str]] = field(default_factory=Counter)
    voices: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)  # of pairs and lone recordings left out
    notes: list[str] = field(default_factory=list)  # what differs from the official release, a sentence each

    def __str__(self) -> str:
        sets = "; ".join(
            f"{' '.join(part for part in key if part)} {count} pairs of recordings of {self.groups[key]} items"
            for key, count in self.pairs.items()
        )
        left = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        skipped = f"; {self.reasons.total()} left out: {left}; {self.skips} says why" if left else ""
        return f"{sets}; {self.seconds / 3600:.2f} hours{skipped}"


def prepare_benchmark(benchmark: Benchmark, out: Path, *, incomplete: bool = False) -> Prepared:
    """Write OUT/manifest.jsonl, both members of a pair in neighbouring lines, and OUT/manifest.skips.jsonl.

    `incomplete`: pairs that cannot be used are left out; otherwise one of them is an error. Skips are written anyway.

    Raises:
        UserError: the benchmark cannot be read, a pair cannot be used, or none can.
    """
    prepared = Prepared(out / "manifest.jsonl", out / "manifest.skips.jsonl")
    if benchmark.path.is_file() and prepared.manifest.resolve() == benchmark.path.resolve():
        raise UserError(f"{prepared.manifest}: is the benchmark itself; choose another folder with --out.")
    with tempfile.TemporaryFile() as scratch:
        with atomic_write(prepared.skips) as skips:
            first: list[Skip] = []  # of each reason

            def skip(left_out: Skip) -> None:
                if not prepared.reasons[left_out.reason]:
                    first.append(left_out)
                prepared.reasons[left_out.reason] += 1
                skips.write(json.dumps(vars(left_out)).encode() + b"\n")

            waiting = _spool(benchmark, scratch, skip, prepared.notes.append)
            usable = waiting.check(scratch, skip)
        if prepared.reasons and not (incomplete and usable.any()):
            raise UserError(_refusal(benchmark, prepared, first, usable))
        if not usable.any():
            raise UserError(f"{benchmark.path}: no recordings here.")
        census = _Census(prepared)
        write_manifest(census.counted(waiting.pairs(scratch, usable)), prepared.manifest, str(benchmark.path))
    census.close(benchmark.layout)
    return prepared


def _refusal(benchmark: Benchmark, prepared: Prepared, first: list[Skip], usable: np.ndarray) -> str:
    told = "; ".join(f"{prepared.reasons[skip.reason]} {skip.reason} ({skip.detail})" for skip in first)
    advice = (
        "mend the download, or say --incomplete to go on without them"
        if usable.any()
        else "mend the download"
    )
    lost = prepared.reasons.total()
    return (
        f"{benchmark.path}: {lost} of {lost + int(usable.sum())} pairs cannot be used: {told}. "
        f"{prepared.skips} lists them all; {advice}."
    )


@dataclass
class _Waiting:
    """The recordings in a scratch file, by pair."""

    keys: array[int] = field(default_factory=lambda: array("Q"))  # hashes of pairs
    places: array[int] = field(default_factory=lambda: array("Q"))  # bytes
    ids: Ids = field(default_factory=Ids)

    def add(self, scratch: BinaryIO, pair: PairKey, line: dict[str, Any]) -> None:
        self.keys.append(id_hash(json.dumps(pair)))
        self.places.append(scratch.tell())
        scratch.write(json.dumps({"pair": pair, **line}).encode() + b"\n")

    def check(self, scratch: BinaryIO, skip: Callable[[Skip], None]) -> np.ndarray:
        """Whether each pair can be used, in the order of `_lines`; those that cannot be are told to `skip`."""
        repeated = self.ids.duplicate_hashes()
        usable = []
        for pair, lines in self._lines(scratch):
            problem = _problem(pair, lines, repeated)
            usable.append(problem is None)
            if problem:
                skip(problem)
        return np.array(usable, dtype=bool)

    def pairs(self, scratch: BinaryIO, usable: np.ndarray) -> Iterator[tuple[Utterance, Utterance]]:
        """The correct and the wrong member of each pair that can be used."""
        for (_, lines), good in zip(self._lines(scratch), usable, strict=True):
            if good:
                correct, wrong = sorted(lines, key=lambda line: not line["utterance"]["extra"]["correct"])
                yield _labelled(correct), _labelled(wrong, frequency_of=correct)

    def _lines(self, scratch: BinaryIO) -> Iterator[tuple[PairKey, list[dict[str, Any]]]]:
        """The recordings of each pair, pairs in the order in which they began."""
        _, first, group = np.unique(
            np.array(self.keys, dtype=np.uint64), return_index=True, return_inverse=True
        )
        order = np.argsort(first[group], kind="stable")
        ends = np.flatnonzero(np.diff(first[group][order], append=-1)) + 1
        for start, end in pairwise([0, *ends]):
            by_pair: dict[PairKey, list[dict[str, Any]]] = {}  # more than one where hashes meet by chance
            for index in order[start:end]:
                scratch.seek(self.places[index])
                line = json.loads(scratch.readline())
                by_pair.setdefault(tuple(line["pair"]), []).append(line)
            yield from by_pair.items()


def _spool(
    benchmark: Benchmark,
    scratch: BinaryIO,
    skip: Callable[[Skip], None],
    note: Callable[[str], None],
) -> _Waiting:
    """Read the benchmark once, looking at all audio; what belongs to no pair is skipped at once."""
    waiting = _Waiting()
    with AudioChecker(
        Corpus(benchmark.path, benchmark.layout, benchmark.root, benchmark.path.name)
    ) as looker:
        for told in _reading(benchmark, note):
            if isinstance(told, Fault):
                _spool_fault(waiting, scratch, told, skip)
                continue
            pair = (told.label.task, told.label.pair_id)
            extra = told.label.model_dump(mode="json", exclude_defaults=True)
            entry = looker.entry(told.where, {**told.told, "extra": extra})
            if isinstance(entry, Skip):
                _spool_fault(waiting, scratch, Fault(told.where, entry.reason, entry.detail, pair), skip)
            else:
                waiting.ids.add(entry.id)
                fields = entry.model_dump(mode="json", exclude_defaults=True)
                waiting.add(scratch, pair, {"where": told.where, "utterance": fields})
    return waiting


def _spool_fault(waiting: _Waiting, scratch: BinaryIO, fault: Fault, skip: Callable[[Skip], None]) -> None:
    detail = fault.detail if fault.detail.startswith(fault.where) else f"{fault.where}: {fault.detail}"
    if fault.pair is None:
        skip(Skip(fault.where, fault.reason, detail))
    else:
        waiting.add(scratch, fault.pair, {"where": fault.where, "fault": [fault.reason, detail]})


def _reading(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """`read_benchmark`, with what the disk refuses told as such and not as a failure to write the skips."""
    try:
        yield from read_benchmark(benchmark, note)
    except OSError as error:
        where = error.filename or benchmark.path
        raise UserError(
            f"{where}: cannot be read ({error.strerror or error}); mend that and try again."
        ) from error


def _problem(pair: PairKey, lines: list[dict[str, Any]], repeated: set[int]) -> Skip | None:
    """Why a pair cannot be used, if so."""
    name = "/".join(pair)
    for line in lines:
        if "fault" in line:
            return Skip(name, *line["fault"])
    for line in lines:
        if id_hash(line["utterance"]["id"]) in repeated:
            detail = (
                f"{line['where']}: the recording {line['utterance']['id']} is listed twice; list each once"
            )
            return Skip(name, "listed twice", detail)
    labels = [line["utterance"]["extra"] for line in lines]
    sides = {side: [line["where"] for line, label in zip(lines, labels, strict=True) if label["correct"] is side]
             for side in (True, False)}  # fmt: skip
    if len(lines) == 1:
        side, twin = ("correct", "wrong") if sides[True] else ("wrong", "correct")
        return Skip(
            name, "without twin", f"{name}: only its {side} member, {lines[0]['where']}, and no {twin} one"
        )
    if [len(side) for side in sides.values()] != [1, 1]:
        told = f"correct {', '.join(sides[True]) or 'none'}; wrong {', '.join(sides[False]) or 'none'}"
        return Skip(name, "not two members", f"{name}: wanted one correct and one wrong, found {told}")
    for key in _ALIKE:
        values = [label.get(key, "") for label in labels]
        if values[0] != values[1]:
            return Skip(
                name, "labels disagree", f"{name}: its members have {key} {values[0]!r} and {values[1]!r}"
            )
    return None


def _labelled(line: dict[str, Any], frequency_of: dict[str, Any] | None = None) -> Utterance:
    """The utterance of a line. Both members say the frequency of the word: the non-word has none of its own."""
    utterance = Utterance.model_validate(line["utterance"])
    if frequency_of is not None:
        extra = {key: value for key, value in utterance.extra.items() if key != "frequency"}
        frequency = frequency_of["utterance"]["extra"].get("frequency")
        extra |= {} if frequency is None else {"frequency": frequency}
        utterance = utterance.model_copy(update={"extra": extra})
    return utterance


class _Census:
    """Counts what is written."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._groups: dict[tuple[str, str], array[int]] = {}  # hashes

    def counted(self, pairs: Iterator[tuple[Utterance, Utterance]]) -> Iterator[Utterance]:
        """The members of each pair."""
        for pair in pairs:
            label = Label.model_validate(pair[0].extra)
            key = (label.task, label.condition)
            self._prepared.pairs[key] += 1
            self._prepared.voices.setdefault(key, set()).add(label.voice)
            self._groups.setdefault(key, array("Q")).append(id_hash(label.group_id))
            self._prepared.seconds += sum(seconds_of(utterance) for utterance in pair)
            yield from pair

    def close(self, layout: str) -> None:
        """Count groups, and compare all with the official release."""
        for key, hashes in self._groups.items():
            prepared = self._prepared
            prepared.groups[key] = len(np.unique(np.array(hashes, dtype=np.uint64)))
            found = Count(prepared.groups[key], prepared.pairs[key], len(prepared.voices[key]))
            prepared.notes += differences(layout, *key, found)
