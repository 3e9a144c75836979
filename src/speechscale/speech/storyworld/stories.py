"""A seeded story world: loosely connected prose, and short stories that hold together.

*Prose* stands for audiobooks: each sentence is well formed, and follows the one before it only loosely (a participant
may return). *Stories* stand for sTinyStories: a state makes somebody want a thing, the thing is got or lost, and what
follows is caused by that; a story stays on its topic. The same grammar serves both, and the items of `benchmarks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from speechscale.speech.storyworld.grammar import Grammar, Participant, Words, say
from speechscale.speech.storyworld.lexicon import NUMBERS, Topic


@dataclass(frozen=True)
class Plot:
    """Who wants what, and why; `other` is the one who helps or comes in between."""

    hero: Participant
    other: Participant
    topic: Topic
    thing: Participant
    opening: str  # the first sentence: the state that makes the hero want the thing


@dataclass(frozen=True)
class Story:
    """Five sentences: state, wish, event, use, feeling."""

    plot: Plot
    won: bool  # the hero gets the thing
    sentences: tuple[str, str, str, str, str]

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


class World(Grammar):
    """Texts over a lexicon."""

    def prose(self, rng: Random) -> list[str]:
        """One to three sentences; a participant returns half the time."""
        who = self.animate(rng)
        sentences = []
        for _ in range(rng.randint(1, 3)):
            sentences.append(say(self.sentence(rng, who, self.lexicon.depth)))
            who = who if rng.random() < 0.5 else self.animate(rng)
        return sentences

    def story(self, rng: Random) -> Story:
        return self.tell(rng, self.plot(rng), won=rng.random() < 0.5)

    def plot(self, rng: Random) -> Plot:
        hero, other = self.animate(rng), self.animate(rng)
        while other.noun == hero.noun:
            other = self.animate(rng)
        topic = rng.choice(self.lexicon.topics)
        thing = Participant(rng.choice(topic.things), rng.choice(NUMBERS))
        opening = [*self.noun_phrase(rng, hero, "the"), hero.be, rng.choice(topic.states)]
        return Plot(hero, other, topic, thing, say(opening))

    def tell(self, rng: Random, plot: Plot, *, won: bool) -> Story:
        """The story of a plot: the hero gets the thing and uses it, or the other does."""
        hero, thing = plot.hero, plot.thing
        user = hero if won else plot.other
        use = rng.choice(plot.topic.uses).form(user.number)
        wish = rng.choice(self.lexicon.wishes).form(hero.number)
        sentences = (
            plot.opening,
            say([hero.pronoun, wish, "the", thing.name]),
            say(self._gain(rng, plot) if won else self._loss(rng, plot)),
            say(["then", "the", user.name, use, "the", thing.name]),
            say(["so", "the", hero.name, *self._reaction(rng, hero, glad=won)]),
        )
        return Story(plot, won, sentences)

    def _gain(self, rng: Random, plot: Plot) -> Words:
        """The hero finds the thing, is given it, or is helped to find it."""
        hero, other, lexicon = plot.hero, plot.other, self.lexicon
        thing = ["the", plot.thing.name]
        gain = rng.choice(lexicon.gains)
        draw = rng.random()
        if draw < 0.35 and lexicon.gifts:
            return ["the", other.name, rng.choice(lexicon.gifts).form(other.number), "the", hero.name, *thing]
        if draw < 0.5 and lexicon.help:
            help_ = rng.choice(lexicon.help).form(other.number)
            return ["the", other.name, help_, "the", hero.name, "to", gain.plural, *thing]
        return [hero.pronoun, gain.form(hero.number), *thing, *self.place_phrase(rng)]

    def _loss(self, rng: Random, plot: Plot) -> Words:
        """Somebody else takes the thing, or the hero loses it."""
        hero, other, lexicon = plot.hero, plot.other, self.lexicon
        thing = ["the", plot.thing.name]
        if lexicon.mishaps and rng.random() < 0.3:
            mishap = rng.choice(lexicon.mishaps).form(hero.number)
            return [hero.pronoun, mishap, *thing, *self.place_phrase(rng)]
        theft = rng.choice(lexicon.thefts)
        verb = [theft.past] if rng.random() < 0.5 else [other.have, theft.participle]
        return ["the", other.name, *verb, *thing]

    def _reaction(self, rng: Random, hero: Participant, *, glad: bool) -> Words:
        """`is happy`, or `smiles` where the world has verbs for it; glad and sorry ones are equally many."""
        lexicon = self.lexicon
        reactions = lexicon.good_reactions if glad else lexicon.bad_reactions
        if reactions and rng.random() < 0.5:
            return [rng.choice(reactions).form(hero.number)]
        return [hero.be, rng.choice(lexicon.good_feelings if glad else lexicon.bad_feelings)]
