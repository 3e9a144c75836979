"""The manifest of a corpus and the list of its skips, written in passes over a scratch file with flat memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from speechscale.datasets.corpora import CORPUS_LAYOUTS, read_corpus
from speechscale.datasets.corpora.source import CorpusSource
from speechscale.datasets.corpora.splits import SplitOptions, SplitSampler, move_drawn_to_test
from speechscale.datasets.reading import with_read_errors
from speechscale.datasets.skips import SkipList, open_skip_list
from speechscale.errors import UserError
from speechscale.records.manifest import Ids, Utterance, id_hash, seconds_of, write_manifest
from speechscale.records.shards import Skip


@dataclass
class CorpusSummary:
    """Contents of a corpus as its manifest lists them."""

    manifest: Path
    skips: Path
    utterances: Counter[str] = field(default_factory=Counter)  # by split
    seconds: dict[str, float] = field(default_factory=dict)  # by split
    skip_reasons: Counter[str] = field(default_factory=Counter)
    test_draw: str | None = None  # how the test set was drawn; None: it was not

    def count(self, utterance: Utterance) -> None:
        """Add an utterance."""
        split = utterance.split
        self.utterances[split] += 1
        self.seconds[split] = self.seconds.get(split, 0.0) + seconds_of(utterance)


def write_corpus_manifest(source: CorpusSource, options: SplitOptions, out: Path) -> CorpusSummary:
    """Write the manifest of a corpus, and next to it `*.skips.jsonl` with what cannot be used and why.

    Of two utterances with the same id the later one is skipped.

    Raises:
        UserError: no utterance can be used, the corpus cannot be read, or `out` is the corpus itself.
    """
    summary = CorpusSummary(out, out.with_suffix(".skips.jsonl"))
    if source.path.is_file() and out.resolve() == source.path.resolve():
        raise UserError(f"{out}: is the corpus itself; choose another name with --out.")
    with open_skip_list(summary.skips) as skips, tempfile.TemporaryFile(dir=out.parent) as scratch:
        summary.skip_reasons = skips.reasons
        duplicate_hashes = _spool(source, options, scratch, skips)
        sampler = SplitSampler(options)
        for utterance in _first_of_each_id(scratch, duplicate_hashes):
            sampler.count(utterance)
        utterances = _first_of_each_id(scratch, duplicate_hashes, skips.add)
        has_test = sampler.has_other_splits or CORPUS_LAYOUTS[source.layout].has_test
        if not (has_test or options.split or options.test_share == 0):
            draw = sampler.draw()
            summary.test_draw = draw.description
            utterances = move_drawn_to_test(utterances, options, draw)
        first = next(utterances, None)
        if first is not None:
            write_manifest(_counted(first, utterances, summary), out)
    if not summary.utterances:
        raise UserError(
            f"{source.path}: none of {skips.reasons.total()} utterances can be used; {summary.skips} says why."
        )
    return summary


def _spool(source: CorpusSource, options: SplitOptions, scratch: BinaryIO, skips: SkipList) -> set[int]:
    """Read the corpus once, writing utterances to the scratch file; returns the hashes of ids that seem to repeat."""
    ids = Ids()
    for entry in with_read_errors(read_corpus(source), source.path):
        if isinstance(entry, Skip):
            skips.add(entry)
        else:
            utterance = options.assign_split(entry)
            ids.add(utterance.id)
            scratch.write(utterance.model_dump_json(exclude_defaults=True).encode() + b"\n")
    return ids.duplicate_hashes()


def _first_of_each_id(
    scratch: BinaryIO, duplicate_hashes: set[int], skip: Callable[[Skip], None] = lambda _: None
) -> Iterator[Utterance]:
    """The utterances in the scratch file except those whose id occurred before."""
    seen: set[str] = set()
    scratch.seek(0)
    for line in scratch:
        utterance = Utterance.model_validate_json(line)
        if duplicate_hashes and id_hash(utterance.id) in duplicate_hashes:
            if utterance.id in seen:
                detail = f"{utterance.id}: occurred before; give each utterance its own id"
                skip(Skip(utterance.id, "duplicate id", detail))
                continue
            seen.add(utterance.id)
        yield utterance


def _counted(first: Utterance, others: Iterator[Utterance], summary: CorpusSummary) -> Iterator[Utterance]:
    summary.count(first)
    yield first
    for utterance in others:
        summary.count(utterance)
        yield utterance
