"""The lexicon of a story world, read from a TOML file of the package."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from speechscale.errors import UserError

Number = Literal["singular", "plural"]
NUMBERS: tuple[Number, Number] = ("singular", "plural")
WORLDS = Path(__file__).parent / "worlds"


@dataclass(frozen=True)
class Noun:
    """A noun in both numbers."""

    singular: str
    plural: str
    pronoun: str = "it"  # of the singular; the plural's is "they"

    def form(self, number: Number) -> str:
        """The form in a number."""
        return self.singular if number == "singular" else self.plural

    def pronoun_for(self, number: Number) -> str:
        """The personal pronoun in a number."""
        return self.pronoun if number == "singular" else "they"


@dataclass(frozen=True)
class Verb:
    """A verb in its present forms and, where the grammar needs them, past and participle."""

    plural: str
    singular: str
    past: str = ""
    participle: str = ""

    def form(self, number: Number) -> str:
        """The form in a number."""
        return self.singular if number == "singular" else self.plural


@dataclass(frozen=True)
class Topic:
    """A topic of stories: the states that begin them, the things wanted in them, and the verbs of using these."""

    name: str
    states: tuple[str, ...]
    things: tuple[Noun, ...]
    uses: tuple[Verb, ...]


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Words by their role in the grammar. A flat world leaves the lists of deeper worlds empty."""

    depth: int  # how deep phrases may nest
    people: tuple[Noun, ...]
    animals: tuple[Noun, ...]
    places: tuple[Noun, ...]
    prepositions: tuple[str, ...]
    adjectives: tuple[str, ...]
    good_feelings: tuple[str, ...]
    bad_feelings: tuple[str, ...]
    intransitive: tuple[Verb, ...]
    transitive: tuple[Verb, ...]
    irregular: tuple[Verb, ...]  # past and participle differ
    cognition: tuple[Verb, ...]  # take a clause: "know that", "know what"
    wishes: tuple[Verb, ...]  # of the hero of a story: "want"
    gains: tuple[Verb, ...]  # how the hero gets the thing: "find"
    thefts: tuple[Verb, ...]  # how the other participant gets it: "take"; with past and participle
    # Deeper worlds only:
    adverbs: tuple[str, ...] = ()
    conjunctions: tuple[str, ...] = ()
    speaking: tuple[Verb, ...] = ()  # embedded speech
    intentions: tuple[Verb, ...] = ()  # take an infinitive: "want to"
    gifts: tuple[Verb, ...] = ()  # take two objects: "give the boy the cake"
    help: tuple[Verb, ...] = ()  # "help the boy to find the cake"
    mishaps: tuple[Verb, ...] = ()  # how the hero loses the thing: "lose"
    good_reactions: tuple[Verb, ...] = ()
    bad_reactions: tuple[Verb, ...] = ()
    topics: tuple[Topic, ...]

    @property
    def animates(self) -> tuple[Noun, ...]:
        """People and animals."""
        return self.people + self.animals

    @property
    def states(self) -> tuple[str, ...]:
        """All predicative adjectives."""
        return self.adjectives + self.good_feelings + self.bad_feelings

    @property
    def things(self) -> tuple[Noun, ...]:
        """The things of all topics."""
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
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    topics = tuple(
        Topic(name, tuple(topic["states"]), _nouns(topic["things"]), _verbs(topic["uses"]))
        for name, topic in table.pop("topics").items()
    )
    types = get_type_hints(Lexicon)
    words = {name: _PARSERS[types[name]](lines) for name, lines in table.items()}
    return Lexicon(**words, topics=topics)


def _nouns(lines: list[str]) -> tuple[Noun, ...]:
    return tuple(Noun(*_forms(line)) for line in lines)


def _verbs(lines: list[str]) -> tuple[Verb, ...]:
    return tuple(Verb(*_forms(line)) for line in lines)


def _forms(line: str) -> list[str]:
    """The forms of a word. `_` is the space inside a form."""
    return [form.replace("_", " ") for form in line.split()]


_PARSERS: dict[Any, Callable[[Any], Any]] = {
    int: int,
    tuple[str, ...]: tuple,
    tuple[Noun, ...]: _nouns,
    tuple[Verb, ...]: _verbs,
}
