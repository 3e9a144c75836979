"""A seeded story world: loosely connected prose, and short stories that hold together.

*Prose* stands for audiobooks: each sentence is well formed, and follows the one before it only loosely (a participant may
return). *Stories* stand for sTinyStories: a state makes somebody want a thing, the thing is got or lost, and what
follows is caused by that; a story stays on its topic. The same grammar serves both, and the benchmarks of `benchmarks.py`.

A sentence is a list of words; `say` turns it into text. All choices come from the `random.Random` handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from speechscale.speech.lexicon import NUMBERS, Lexicon, Noun, Number, Topic

Words = list[str]


def say(words: Words) -> str:
    """The sentence as written: capital, full stop."""
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."


@dataclass(frozen=True)
class Participant:
    """A noun in a number: whom a sentence is about."""

    noun: Noun
    number: Number

    @property
    def name(self) -> str:
        return self.noun.form(self.number)

    @property
    def pronoun(self) -> str:
        return self.noun.pronoun_for(self.number)

    @property
    def be(self) -> str:
        return "is" if self.number == "singular" else "are"

    @property
    def have(self) -> str:
        return "has" if self.number == "singular" else "have"

    @property
    def want(self) -> str:
        return "wants" if self.number == "singular" else "want"

    @property
    def reflexive(self) -> str:
        return {"she": "herself", "he": "himself", "it": "itself", "they": "themselves"}[self.pronoun]


@dataclass(frozen=True)
class Story:
    """Five sentences: state, want, event, use, feeling."""

    hero: Participant
    topic: Topic
    thing: Participant
    won: bool  # the hero gets the thing
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


class World:
    """Grammar and plots over a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon

    # --- phrases -------------------------------------------------------------------------------------------

    def animate(self, rng: Random, number: Number | None = None, *, person: bool = False) -> Participant:
        nouns = self.lexicon.people if person else self.lexicon.animates
        return Participant(rng.choice(nouns), number or rng.choice(NUMBERS))

    def thing(self, rng: Random, number: Number | None = None) -> Participant:
        return Participant(rng.choice(self.lexicon.things), number or rng.choice(NUMBERS))

    def noun_phrase(
        self, rng: Random, who: Participant, determiner: str | None = None, *, adjective: float = 0.3
    ) -> Words:
        """Determiner, perhaps an adjective, noun."""
        words = [determiner or self.determiner(rng, who.number)]
        if rng.random() < adjective:
            words.append(rng.choice(self.lexicon.adjectives))
        return [*words, who.name]

    def determiner(self, rng: Random, number: Number) -> str:
        """The, this, these; `some` and `no` come with their own sentences, equally often (see `negative`)."""
        return "the" if rng.random() < 0.5 else demonstrative(number)

    def place_phrase(self, rng: Random, number: Number | None = None) -> Words:
        """`near the house`: modifies a noun, and can stand between subject and verb."""
        nouns = self.lexicon.places + self.lexicon.animates
        return ["near", "the", Participant(rng.choice(nouns), number or rng.choice(NUMBERS)).name]

    def relative_clause(self, rng: Random, who: Participant, depth: int) -> Words:
        """`that sees the dog` or `that the dog sees`."""
        verb = rng.choice(self.lexicon.transitive)
        other = self.animate(rng)
        if rng.random() < 0.5:
            return ["that", verb.form(who.number), *self.noun_phrase(rng, other, "the")]
        return ["that", *self.subject(rng, other, depth - 1), verb.form(other.number)]

    def subject(self, rng: Random, who: Participant, depth: int | None = None) -> Words:
        """A noun phrase, at times with something between the noun and the verb to come."""
        depth = self.lexicon.depth if depth is None else depth
        words = self.noun_phrase(rng, who)
        draw = rng.random()
        if draw < 0.25:
            words += self.place_phrase(rng)
        elif draw < 0.4 and depth > 1:
            words += self.relative_clause(rng, who, depth)
        return words

    # --- sentences -----------------------------------------------------------------------------------------

    def sentence(self, rng: Random, who: Participant, depth: int | None = None) -> Words:
        """One sentence of prose about a participant."""
        depth = self.lexicon.depth if depth is None else depth
        kinds = [self.intransitive, self.transitive, self.copula, self.reflexive, self.past]
        kinds += [self.perfect, self.negative, self.question_clause, self.that_clause]
        words = rng.choice(kinds)(rng, who)
        if self.lexicon.conjunctions and depth > 1 and rng.random() < 0.15:
            words += [
                rng.choice(self.lexicon.conjunctions),
                *self.sentence(rng, self.animate(rng), depth - 1),
            ]
        elif self.lexicon.speaking and depth > 1 and rng.random() < 0.15:
            speaker = self.animate(rng, person=True)
            verb = rng.choice(self.lexicon.speaking).form(speaker.number)
            words = [*self.noun_phrase(rng, speaker), verb, "that", *words]
        return words

    def intransitive(self, rng: Random, who: Participant) -> Words:
        verb = rng.choice(self.lexicon.intransitive).form(who.number)
        words = [*self.subject(rng, who), verb]
        if self.lexicon.adverbs and rng.random() < 0.3:
            words.append(rng.choice(self.lexicon.adverbs))
        return words + (self.place_phrase(rng) if rng.random() < 0.5 else [])

    def transitive(self, rng: Random, who: Participant) -> Words:
        verb = rng.choice(self.lexicon.transitive).form(who.number)
        return [*self.subject(rng, who), verb, *self.noun_phrase(rng, self.anything(rng))]

    def copula(self, rng: Random, who: Participant) -> Words:
        lexicon = self.lexicon
        states = lexicon.adjectives + lexicon.good_feelings + lexicon.bad_feelings
        return [*self.subject(rng, who), who.be, rng.choice(states)]

    def reflexive(self, rng: Random, who: Participant) -> Words:
        verb = rng.choice(self.lexicon.transitive).form(who.number)
        return [*self.subject(rng, who), verb, who.reflexive]

    def past(self, rng: Random, who: Participant) -> Words:
        verb = rng.choice(self.lexicon.irregular).past
        return [*self.subject(rng, who), verb, *self.noun_phrase(rng, self.thing(rng))]

    def perfect(self, rng: Random, who: Participant) -> Words:
        verb = rng.choice(self.lexicon.irregular).participle
        return [*self.subject(rng, who), who.have, verb, *self.noun_phrase(rng, self.thing(rng))]

    def negative(self, rng: Random, who: Participant) -> Words:
        """`no dogs ever sleep` or `some dogs often sleep`: `ever` needs its licence; both quantifiers occur equally often."""
        verb = rng.choice(self.lexicon.intransitive).form(who.number)
        quantifier, adverb = rng.choice([("no", "ever"), ("some", "often")])
        return [*self.noun_phrase(rng, who, quantifier), adverb, verb]

    def question_clause(self, rng: Random, who: Participant) -> Words:
        """`knows what the dog likes`: the object is the gap."""
        return self.embedding(rng, who, "what", gap=True)

    def that_clause(self, rng: Random, who: Participant) -> Words:
        """`knows that the dog likes the cake`: no gap."""
        return self.embedding(rng, who, "that", gap=False)

    def embedding(self, rng: Random, who: Participant, complementizer: str, *, gap: bool) -> Words:
        inner = self.animate(rng)
        verb = rng.choice(self.lexicon.transitive).form(inner.number)
        words = self.noun_phrase(rng, who) + [rng.choice(self.lexicon.cognition).form(who.number)]
        words += [complementizer, *self.noun_phrase(rng, inner), verb]
        return words if gap else words + self.noun_phrase(rng, self.thing(rng))

    def anything(self, rng: Random) -> Participant:
        return self.animate(rng) if rng.random() < 0.5 else self.thing(rng)

    # --- texts ---------------------------------------------------------------------------------------------

    def prose(self, rng: Random) -> list[str]:
        """One to three sentences; a participant returns half the time."""
        who = self.animate(rng)
        sentences = []
        for _ in range(rng.randint(1, 3)):
            sentences.append(say(self.sentence(rng, who)))
            who = who if rng.random() < 0.5 else self.animate(rng)
        return sentences

    def story(self, rng: Random, *, won: bool | None = None) -> Story:
        """A story; `won` fixes how it goes."""
        won = rng.random() < 0.5 if won is None else won
        hero, rival = self.animate(rng), self.animate(rng)
        while rival.noun == hero.noun:
            rival = self.animate(rng)
        topic = rng.choice(self.lexicon.topics)
        thing = Participant(rng.choice(topic.things), rng.choice(NUMBERS))
        user = hero if won else rival
        feeling = rng.choice(self.lexicon.good_feelings if won else self.lexicon.bad_feelings)
        return Story(
            hero,
            topic,
            thing,
            won,
            (
                say([*self.noun_phrase(rng, hero, "the"), hero.be, topic.state]),
                say(want(hero, thing)),
                say(self.event(rng, hero, rival, thing, won=won)),
                say(["then", "the", user.name, topic.use.form(user.number), "the", thing.name]),
                say(["so", "the", hero.name, hero.be, feeling]),
            ),
        )

    def event(
        self, rng: Random, hero: Participant, rival: Participant, thing: Participant, *, won: bool
    ) -> Words:
        """The hero finds the thing, or somebody else has taken it."""
        if won:
            find = "finds" if hero.number == "singular" else "find"
            return [hero.pronoun, find, "the", thing.name, *self.place_phrase(rng)]
        verb = ["took"] if rng.random() < 0.5 else [rival.have, "taken"]
        return ["the", rival.name, *verb, "the", thing.name]


def demonstrative(number: Number) -> str:
    return "this" if number == "singular" else "these"


def want(who: Participant, thing: Participant) -> Words:
    return [who.pronoun, who.want, "the", thing.name]
