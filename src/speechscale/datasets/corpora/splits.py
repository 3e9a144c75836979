"""Test sets: official splits by their names, else a seeded share of the hours, by whole speakers and books."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from speechscale.datasets.corpora.source import TRAIN
from speechscale.records.manifest import Utterance, id_hash, seconds_of

TEST = "test"
SYNTHETIC_TEST = "test-synthetic"  # official test set of synthetic speech, apart from that of natural speech
_SPLIT_OF_WORD = {
    TRAIN: TRAIN,
    "training": TRAIN,
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    TEST: TEST,
    "testing": TEST,
    "eval": TEST,
}
_BOOK_KEYS = ("book", "book_id")  # in `extra`


def split_from_name(name: str) -> str | None:
    """The split in the name of a file or folder (`train-clean-100`, `test-00000-of-00002`); None where it has none."""
    for word in re.split(r"[-_. ]", name.lower()):
        if word in _SPLIT_OF_WORD:
            return _SPLIT_OF_WORD[word]
    return None


@dataclass(frozen=True)
class SplitOptions:
    """How the utterances of a corpus are split."""

    seed: int = 0  # of the draw
    test_share: float = 0.01  # of the hours, drawn where the corpus has no official split
    split: str | None = None  # put every utterance into this split
    synthetic: bool = False  # all of it is synthetic speech

    def assign_split(self, utterance: Utterance) -> Utterance:
        """The utterance in its split before any draw; synthetic speech is marked and never in `test`."""
        split = self.split or utterance.split
        if not self.synthetic and not utterance.synthesis:
            return utterance.model_copy(update={"split": split})
        extra = {**utterance.extra, "synthetic": True} if self.synthetic else utterance.extra
        return utterance.model_copy(
            update={"split": SYNTHETIC_TEST if split_from_name(split) == TEST else split, "extra": extra}
        )

    def may_be_drawn(self, utterance: Utterance) -> bool:
        """Whether a draw may move the utterance into the test set: natural speech in `train`."""
        return utterance.split == TRAIN and not self.synthetic and not utterance.synthesis


@dataclass(frozen=True)
class SplitDraw:
    """A drawn test set."""

    description: str
    contains: Callable[[Utterance], bool]


@dataclass
class SplitSampler:
    """Draws a test set in two passes: `count` every utterance, then `draw`.

    Memory grows with the number of speakers and books only.
    """

    options: SplitOptions
    has_other_splits: bool = False  # than `train`
    _parents: dict[str, str] = field(default_factory=dict)  # union-find over speakers and books
    _seconds: dict[str, float] = field(default_factory=dict)  # by speaker or book
    _smallest_hashes: dict[str, list[int]] = field(default_factory=dict)  # two each of files and utterances

    def count(self, utterance: Utterance) -> None:
        """Take account of an utterance of the corpus."""
        self.has_other_splits |= utterance.split != TRAIN
        if not self.options.may_be_drawn(utterance):
            return
        for kind, key in (("file", _file_key(utterance)), ("utterance", utterance.id)):
            smallest = self._smallest_hashes.setdefault(kind, [])
            self._smallest_hashes[kind] = sorted({*smallest, self._hash(key)})[:2]
        names = _speaker_and_books(utterance)
        for name in names:
            self._union(names[0], name)
        if names:
            self._seconds[names[0]] = self._seconds.get(names[0], 0.0) + seconds_of(utterance)

    def draw(self) -> SplitDraw:
        """Draw the test set.

        Speakers and books that share an utterance form one group, so that none of either is on both sides. Groups
        are taken in the order of a seeded hash, each if it still fits into the share; at least the smallest is taken.
        With fewer than two groups files are drawn instead, with fewer than two files utterances.
        """
        groups: dict[str, float] = {}
        for name, seconds in self._seconds.items():
            group = self._find(name)
            groups[group] = groups.get(group, 0.0) + seconds
        if len(groups) > 1:
            chosen = self._choose_groups(groups)
            return SplitDraw(
                f"{len(chosen)} of {len(groups)} groups of speakers and books",
                lambda u: bool(_speaker_and_books(u)) and self._find(_speaker_and_books(u)[0]) in chosen,
            )
        for kind, key in (("file", _file_key), ("utterance", lambda u: u.id)):
            hashes = self._smallest_hashes.get(kind, [])
            if len(hashes) > 1:
                bound = max(int(self.options.test_share * 2**64), hashes[0] + 1)
                return SplitDraw(f"{kind} by {kind}, no two speakers being known", self._below(bound, key))
        return SplitDraw("nothing, there being fewer than two utterances of natural speech", lambda _: False)

    def _below(self, bound: int, key: Callable[[Utterance], str]) -> Callable[[Utterance], bool]:
        return lambda utterance: self._hash(key(utterance)) < bound

    def _choose_groups(self, groups: dict[str, float]) -> set[str]:
        left = self.options.test_share * sum(groups.values())
        chosen = set()
        for name in sorted(groups, key=self._hash):
            if groups[name] <= left:
                chosen.add(name)
                left -= groups[name]
        return chosen or {min(groups, key=lambda name: (groups[name], self._hash(name)))}

    def _union(self, one: str, other: str) -> None:
        one, other = self._find(one), self._find(other)
        self._parents[max(one, other)] = min(one, other)

    def _find(self, name: str) -> str:
        """The smallest name of a group, which does not depend on the order of the corpus."""
        path = []
        while (parent := self._parents.setdefault(name, name)) != name:
            path.append(name)
            name = parent
        self._parents.update(dict.fromkeys(path, name))
        return name

    def _hash(self, key: str) -> int:
        return id_hash(f"{self.options.seed}/{key}")


def move_drawn_to_test(
    utterances: Iterator[Utterance], options: SplitOptions, draw: SplitDraw
) -> Iterator[Utterance]:
    """Yield the utterances, with the split `test` where they are drawn."""
    for utterance in utterances:
        is_drawn = options.may_be_drawn(utterance) and draw.contains(utterance)
        yield utterance.model_copy(update={"split": TEST}) if is_drawn else utterance


def _speaker_and_books(utterance: Utterance) -> list[str]:
    """Names of the speaker and the book, where known."""
    books = (utterance.extra[key] for key in _BOOK_KEYS if utterance.extra.get(key) is not None)
    speakers = [f"speaker/{utterance.speaker}"] if utterance.speaker else []
    return speakers + [f"book/{book}" for book in books]


def _file_key(utterance: Utterance) -> str:
    return utterance.id if utterance.audio is None or utterance.row is not None else utterance.audio
