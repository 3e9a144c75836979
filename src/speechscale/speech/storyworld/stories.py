"""A seeded story world: loosely connected prose, and short coherent stories.

*Prose* takes the part of audiobooks: each sentence is well formed, and is connected to the one before it only loosely
(a participant may return). *Stories* take the part of sTinyStories: a state makes a hero want a thing, the hero gets
or loses the thing, and that causes what follows; a story has one topic. Both use the same grammar, and so do the
benchmark items of `items.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from speechscale.speech.storyworld.grammar import Grammar, Participant, Words, to_sentence
from speechscale.speech.storyworld.lexicon import NUMBERS, Topic


@dataclass(frozen=True)
class Plot:
    """Who wants what, and why."""

    hero: Participant
    other: Participant  # helps the hero, or takes the thing
    topic: Topic
    thing: Participant
    opening: str  # the first sentence: the state that makes the hero want the thing


@dataclass(frozen=True)
class Story:
    """Five sentences: state, wish, event, use, feeling."""

    plot: Plot
    hero_succeeds: bool  # gets the thing
    sentences: tuple[str, str, str, str, str]

    @property
    def text(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences)


class StoryWorld(Grammar):
    """A generator of prose and stories over a lexicon."""

    def prose(self, rng: Random) -> list[str]:
        """One to three sentences; each keeps the participant of the one before with probability one half."""
        who = self.animate(rng)
        sentences = []
        for _ in range(rng.randint(1, 3)):
            sentences.append(to_sentence(self.sentence(rng, who, self.lexicon.depth)))
            who = who if rng.random() < 0.5 else self.animate(rng)
        return sentences

    def story(self, rng: Random) -> Story:
        """A story with a plot of its own, whose hero succeeds with probability one half."""
        return self.realize(rng, self.plot(rng), hero_succeeds=rng.random() < 0.5)

    def plot(self, rng: Random) -> Plot:
        """Two different participants, a topic, and a thing that belongs to it."""
        hero, other = self.animate(rng), self.animate(rng)
        while other.noun == hero.noun:
            other = self.animate(rng)
        topic = rng.choice(self.lexicon.topics)
        thing = Participant(rng.choice(topic.things), rng.choice(NUMBERS))
        opening = [*self.noun_phrase(rng, hero, "the"), hero.be, rng.choice(topic.states)]
        return Plot(hero, other, topic, thing, to_sentence(opening))

    def realize(self, rng: Random, plot: Plot, *, hero_succeeds: bool) -> Story:
        """The story of a plot. The hero gets the thing and uses it, or the other does."""
        hero, thing = plot.hero, plot.thing
        user = hero if hero_succeeds else plot.other
        use = rng.choice(plot.topic.uses).form(user.number)
        wish = rng.choice(self.lexicon.wishes).form(hero.number)
        sentences = (
            plot.opening,
            to_sentence([hero.pronoun, wish, "the", thing.name]),
            to_sentence(self._gain(rng, plot) if hero_succeeds else self._loss(rng, plot)),
            to_sentence(["then", "the", user.name, use, "the", thing.name]),
            to_sentence(["so", "the", hero.name, *self._reaction(rng, hero, glad=hero_succeeds)]),
        )
        return Story(plot, hero_succeeds, sentences)

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
        """The other takes the thing, or the hero loses it."""
        hero, other, lexicon = plot.hero, plot.other, self.lexicon
        thing = ["the", plot.thing.name]
        if lexicon.mishaps and rng.random() < 0.3:
            mishap = rng.choice(lexicon.mishaps).form(hero.number)
            return [hero.pronoun, mishap, *thing, *self.place_phrase(rng)]
        theft = rng.choice(lexicon.thefts)
        verb = [theft.past] if rng.random() < 0.5 else [other.have, theft.participle]
        return ["the", other.name, *verb, *thing]

    def _reaction(self, rng: Random, hero: Participant, *, glad: bool) -> Words:
        """`is happy`, or `smiles` in worlds with such verbs; the lexicon has as many glad words as sad ones."""
        lexicon = self.lexicon
        reactions = lexicon.good_reactions if glad else lexicon.bad_reactions
        if reactions and rng.random() < 0.5:
            return [rng.choice(reactions).form(hero.number)]
        return [hero.be, rng.choice(lexicon.good_feelings if glad else lexicon.bad_feelings)]
