"""Who is tested on: official splits by their names, else a seeded share of the hours, by speaker or book."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from speechscale.datasets.corpora.entries import TRAIN
from speechscale.records.manifest import Utterance, id_hash, seconds_of

TEST = "test"
SYNTHETIC_TEST = "test-synthetic"  # a test set that is not the natural one
_NAMES = {
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
_BOOK = ("book", "book_id")  # in `extra`

Draw = Callable[[Utterance], bool]


def split_of(name: str) -> str | None:
    """The split that a name stands for (`train-clean-100`, `validation`, `test-00000-of-00002`); None: for none."""
    for word in re.split(r"[-_. ]", name.lower()):
        if word in _NAMES:
            return _NAMES[word]
    return None


@dataclass(frozen=True)
class Splitting:
    """How the utterances of a corpus are split."""

    seed: int = 0
    share: float = 0.01  # of the hours, drawn for the test where the corpus has no split of its own
    forced: str | None = None  # every utterance is in this split
    synthetic: bool = False  # all of it is synthetic speech

    def before_the_draw(self, utterance: Utterance) -> Utterance:
        """The utterance in its split, before any draw. Synthetic speech is marked, and never in the test."""
        split = self.forced or utterance.split
        if not self.synthetic and not utterance.synthesis:
            return utterance.model_copy(update={"split": split})
        extra = {**utterance.extra, "synthetic": True} if self.synthetic else utterance.extra
        return utterance.model_copy(
            update={"split": SYNTHETIC_TEST if split_of(split) == TEST else split, "extra": extra}
        )

    def may_be_drawn(self, utterance: Utterance) -> bool:
        return utterance.split == TRAIN and not self.synthetic and not utterance.synthesis


@dataclass
class Census:
    """The speakers and books of the utterances that may be drawn, and their hours: small, whatever the corpus."""

    splitting: Splitting
    others: bool = False  # the corpus has a split besides the one for training
    _parents: dict[str, str] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _least: dict[str, list[int]] = field(
        default_factory=dict
    )  # the two least hashes: of files, of utterances

    def count(self, utterance: Utterance) -> None:
        self.others |= utterance.split != TRAIN
        if not self.splitting.may_be_drawn(utterance):
            return
        for kind, key in (("file", _file(utterance)), ("utterance", utterance.id)):
            least = self._least.setdefault(kind, [])
            self._least[kind] = sorted({*least, self._hash(key)})[:2]
        names = _names(utterance)
        for name in names:
            self._join(names[0], name)
        if names:
            self._seconds[names[0]] = self._seconds.get(names[0], 0.0) + seconds_of(utterance)

    def draw(self) -> tuple[str, Draw]:
        """How the test set was drawn, in words, and whether an utterance is in it.

        Speakers and books that share an utterance are drawn or left together, so that none of either is on both sides;
        groups come in the order of a seeded hash, each taken if it still fits into the share, and at least the
        smallest. Where there are no two groups, files are drawn; where there are no two files, utterances.
        """
        groups: dict[str, float] = {}
        for name, seconds in self._seconds.items():
            groups[self._group(name)] = groups.get(self._group(name), 0.0) + seconds
        if len(groups) > 1:
            chosen = self._chosen(groups)
            told = f"{len(chosen)} of {len(groups)} groups of speakers and books"
            return told, lambda u: bool(_names(u)) and self._group(_names(u)[0]) in chosen
        for kind, key in (("file", _file), ("utterance", lambda u: u.id)):
            if len(self._least.get(kind, ())) > 1:
                bound = max(int(self.splitting.share * 2**64), self._least[kind][0] + 1)
                return f"{kind} by {kind}, no two speakers being known", self._under(bound, key)
        return "nothing, there being fewer than two utterances of natural speech", lambda _: False

    def _under(self, bound: int, key: Callable[[Utterance], str]) -> Draw:
        return lambda utterance: self._hash(key(utterance)) < bound

    def _chosen(self, groups: dict[str, float]) -> set[str]:
        left = self.splitting.share * sum(groups.values())
        chosen = set()
        for name in sorted(groups, key=self._hash):
            if groups[name] <= left:
                chosen.add(name)
                left -= groups[name]
        return chosen or {min(groups, key=lambda name: (groups[name], self._hash(name)))}

    def _join(self, one: str, other: str) -> None:
        one, other = self._group(one), self._group(other)
        self._parents[max(one, other)] = min(one, other)

    def _group(self, name: str) -> str:
        """The least name of a group, which does not depend on the order of the corpus."""
        path = []
        while (parent := self._parents.setdefault(name, name)) != name:
            path.append(name)
            name = parent
        self._parents.update(dict.fromkeys(path, name))
        return name

    def _hash(self, key: str) -> int:
        return id_hash(f"{self.splitting.seed}/{key}")


def in_splits(utterances: Iterator[Utterance], splitting: Splitting, draw: Draw) -> Iterator[Utterance]:
    """The utterances, those that are drawn moved to the test."""
    for utterance in utterances:
        drawn = splitting.may_be_drawn(utterance) and draw(utterance)
        yield utterance.model_copy(update={"split": TEST}) if drawn else utterance


def _names(utterance: Utterance) -> list[str]:
    """Its speaker and its book, where known."""
    books = (utterance.extra[key] for key in _BOOK if utterance.extra.get(key) is not None)
    speakers = [f"speaker/{utterance.speaker}"] if utterance.speaker else []
    return speakers + [f"book/{book}" for book in books]


def _file(utterance: Utterance) -> str:
    return utterance.id if utterance.audio is None or utterance.row is not None else utterance.audio
