"""A corpus to its manifest and the list of what was skipped, in passes over a scratch file: memory stays flat."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from speechscale.datasets.corpora import LAYOUTS, read_corpus
from speechscale.datasets.corpora.entries import Corpus, Entry
from speechscale.datasets.corpora.splits import Census, Splitting, in_splits
from speechscale.errors import UserError
from speechscale.records.manifest import Ids, Utterance, id_hash, seconds_of, write_manifest
from speechscale.records.seal import atomic_write
from speechscale.records.shards import Skip


@dataclass
class Listed:
    """What a corpus held."""

    skips: Path
    utterances: Counter[str] = field(default_factory=Counter)  # by split
    seconds: Counter[str] = field(default_factory=Counter)  # by split
    reasons: Counter[str] = field(default_factory=Counter)  # of skips
    drawn: str | None = None  # how the test set was drawn, where it was

    def count(self, utterance: Utterance) -> None:
        self.utterances[utterance.split] += 1
        self.seconds[utterance.split] += seconds_of(utterance)  # type: ignore[assignment]


def list_corpus(
    corpus: Corpus, splitting: Splitting, out: Path, tick: Callable[[], None] = lambda: None
) -> Listed:
    """Write the manifest of a corpus, and beside it `*.skips.jsonl`: id, reason and detail of what cannot be used.

    Of two utterances with one id the later is skipped.

    Raises:
        UserError: no utterance can be used, or the corpus cannot be read.
    """
    listed = Listed(out.with_suffix(".skips.jsonl"))
    if corpus.path.is_file() and out.resolve() == corpus.path.resolve():
        raise UserError(f"{out}: is the corpus itself; choose another name with --out.")
    with atomic_write(listed.skips) as skips:

        def skip(left_out: Skip) -> None:
            listed.reasons[left_out.reason] += 1
            skips.write(json.dumps(vars(left_out)).encode() + b"\n")

        with tempfile.TemporaryFile(dir=out.parent) as scratch:
            suspects = _spool(corpus, splitting, scratch, skip, tick)
            census = Census(splitting)
            for utterance in _first_of_each(scratch, suspects):
                census.count(utterance)
            split = _first_of_each(scratch, suspects, skip)
            has_test = census.others or LAYOUTS[corpus.layout].has_test
            if not (has_test or splitting.forced or splitting.share == 0):
                listed.drawn, draw = census.draw()
                split = in_splits(split, splitting, draw)
            first = next(split, None)
            if first is not None:
                write_manifest(_counted(first, split, listed), out)
    if not listed.utterances:
        raise UserError(
            f"{corpus.path}: none of {listed.reasons.total()} utterances can be used; {listed.skips} says why."
        )
    return listed


def _spool(
    corpus: Corpus,
    splitting: Splitting,
    scratch: BinaryIO,
    skip: Callable[[Skip], None],
    tick: Callable[[], None],
) -> set[int]:
    """Read the corpus once, utterances into the scratch file; the hashes of ids that seem to repeat."""
    ids = Ids()
    for entry in _reading(corpus):
        tick()
        if isinstance(entry, Skip):
            skip(entry)
        else:
            utterance = splitting.before_the_draw(entry)
            ids.add(utterance.id)
            scratch.write(utterance.model_dump_json(exclude_defaults=True).encode() + b"\n")
    return ids.duplicate_hashes()


def _reading(corpus: Corpus) -> Iterator[Entry]:
    """`read_corpus`, with what the disk refuses told as such and not as a failure to write the manifest."""
    try:
        yield from read_corpus(corpus)
    except OSError as error:
        where = error.filename or corpus.path
        raise UserError(
            f"{where}: cannot be read ({error.strerror or error}); mend that and try again."
        ) from error


def _first_of_each(
    scratch: BinaryIO, suspects: set[int], skip: Callable[[Skip], None] = lambda _: None
) -> Iterator[Utterance]:
    """The utterances in the scratch file, without those whose id came before."""
    seen: set[str] = set()
    scratch.seek(0)
    for line in scratch:
        utterance = Utterance.model_validate_json(line)
        if suspects and id_hash(utterance.id) in suspects:
            if utterance.id in seen:
                skip(
                    Skip(
                        utterance.id,
                        "duplicate id",
                        f"{utterance.id}: came before; give each utterance its own id",
                    )
                )
                continue
            seen.add(utterance.id)
        yield utterance


def _counted(first: Utterance, rest: Iterator[Utterance], listed: Listed) -> Iterator[Utterance]:
    listed.count(first)
    yield first
    for utterance in rest:
        listed.count(utterance)
        yield utterance
