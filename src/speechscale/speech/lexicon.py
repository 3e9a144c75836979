"""The words of a story world, read from a TOML file beside this module."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from speechscale.errors import UserError

Number = Literal["singular", "plural"]
NUMBERS: tuple[Number, Number] = ("singular", "plural")
WORLDS = Path(__file__).parent / "worlds"


@dataclass(frozen=True)
class Noun:
    singular: str
    plural: str
    pronoun: str = "it"  # of the singular; the plural's is "they"

    def form(self, number: Number) -> str:
        return self.singular if number == "singular" else self.plural

    def pronoun_for(self, number: Number) -> str:
        return self.pronoun if number == "singular" else "they"


@dataclass(frozen=True)
class Verb:
    plural: str
    singular: str
    past: str = ""
    participle: str = ""

    def form(self, number: Number) -> str:
        return self.singular if number == "singular" else self.plural


@dataclass(frozen=True)
class Topic:
    """What a story is about: the state that starts it, the things wanted in it, what one does with them."""

    name: str
    state: str
    things: tuple[Noun, ...]
    use: Verb


@dataclass(frozen=True)
class Lexicon:
    depth: int  # how deep phrases may nest
    people: tuple[Noun, ...]
    animals: tuple[Noun, ...]
    places: tuple[Noun, ...]
    adjectives: tuple[str, ...]
    good_feelings: tuple[str, ...]
    bad_feelings: tuple[str, ...]
    intransitive: tuple[Verb, ...]
    transitive: tuple[Verb, ...]
    irregular: tuple[Verb, ...]  # past and participle differ
    cognition: tuple[Verb, ...]  # take a clause: "know that", "know what"
    speaking: tuple[Verb, ...]  # embedded speech
    adverbs: tuple[str, ...]
    conjunctions: tuple[str, ...]
    topics: tuple[Topic, ...]

    @property
    def animates(self) -> tuple[Noun, ...]:
        return self.people + self.animals

    @property
    def things(self) -> tuple[Noun, ...]:
        return tuple(thing for topic in self.topics for thing in topic.things)


@cache
def load_lexicon(size: str) -> Lexicon:
    """The lexicon of a world size.

    Raises:
        UserError: there is no such world.
    """
    path = WORLDS / f"{size}.toml"
    known = sorted(file.stem for file in WORLDS.glob("*.toml"))
    if size not in known:
        raise UserError(f"story world {size!r} is not known; choose one of {', '.join(known)}.")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return Lexicon(
        depth=table["depth"],
        people=_nouns(table["people"]),
        animals=_nouns(table["animals"]),
        places=_nouns(table["places"]),
        adjectives=tuple(table["adjectives"]),
        good_feelings=tuple(table["good_feelings"]),
        bad_feelings=tuple(table["bad_feelings"]),
        intransitive=_verbs(table["intransitive"]),
        transitive=_verbs(table["transitive"]),
        irregular=_verbs(table["irregular"]),
        cognition=_verbs(table["cognition"]),
        speaking=_verbs(table["speaking"]),
        adverbs=tuple(table["adverbs"]),
        conjunctions=tuple(table["conjunctions"]),
        topics=tuple(
            Topic(name, topic["state"], _nouns(topic["things"]), Verb(*topic["use"]))
            for name, topic in table["topics"].items()
        ),
    )


def _nouns(lines: list[str]) -> tuple[Noun, ...]:
    return tuple(Noun(*line.split()) for line in lines)


def _verbs(lines: list[str]) -> tuple[Verb, ...]:
    return tuple(Verb(*line.split()) for line in lines)
