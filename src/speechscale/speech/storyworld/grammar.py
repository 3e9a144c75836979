"""The grammar of a story world: phrases and sentences as lists of words, drawn at random.

A world of depth 1 has flat sentences. A deeper one adds relative clauses, coordination, infinitives and embedded
speech; each embedded clause uses one level of depth. All choices are drawn from the `random.Random` argument.
`to_sentence` turns words into text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from speechscale.speech.storyworld.lexicon import NUMBERS, Lexicon, Noun, Number

Words = list[str]
SentenceRule = Callable[[Random, "Participant", int], Words]  # of a participant and the depth that is left


def to_sentence(words: Words) -> str:
    """The sentence as text, with a capital and a full stop."""
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def demonstrative(number: Number) -> str:
    """The demonstrative determiner in a number."""
    return "this" if number == "singular" else "these"


@dataclass(frozen=True)
class Participant:
    """A noun in a number, as the subject or object of a sentence."""

    noun: Noun
    number: Number

    @property
    def name(self) -> str:
        """The form of the noun."""
        return self.noun.form(self.number)

    @property
    def pronoun(self) -> str:
        """The personal pronoun that refers to it."""
        return self.noun.pronoun_for(self.number)

    @property
    def be(self) -> str:
        """The present of *be* that agrees with it."""
        return "is" if self.number == "singular" else "are"

    @property
    def have(self) -> str:
        """The present of *have* that agrees with it."""
        return "has" if self.number == "singular" else "have"

    @property
    def reflexive(self) -> str:
        """The reflexive pronoun that refers to it."""
        return {"she": "herself", "he": "himself", "it": "itself", "they": "themselves"}[self.pronoun]


class Grammar:
    """Phrases and sentences over a lexicon. `depth`: the levels of embedding that a phrase may still use."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon

    # --- phrases -------------------------------------------------------------------------------------------

    def animate(self, rng: Random, number: Number | None = None, *, person: bool = False) -> Participant:
        """A person or an animal, or a person only, in the given number or a drawn one."""
        nouns = self.lexicon.people if person else self.lexicon.animates
        return Participant(rng.choice(nouns), number if number else rng.choice(NUMBERS))

    def thing(self, rng: Random, number: Number | None = None) -> Participant:
        """A thing, in the given number or a drawn one."""
        return Participant(rng.choice(self.lexicon.things), number if number else rng.choice(NUMBERS))

    def animate_or_thing(self, rng: Random) -> Participant:
        """Either, with equal probability."""
        return self.animate(rng) if rng.random() < 0.5 else self.thing(rng)

    def noun_phrase(
        self, rng: Random, who: Participant, determiner: str | None = None, *, adjective: float = 0.3
    ) -> Words:
        """Determiner, optional adjective, noun.

        Args:
            rng: source of all draws.
            who: the noun and its number.
            determiner: a fixed one; None: a drawn one.
            adjective: probability of an adjective.
        """
        words = [determiner or self.determiner(rng, who.number)]
        if rng.random() < adjective:
            words.append(rng.choice(self.lexicon.adjectives))
        return [*words, who.name]

    def determiner(self, rng: Random, number: Number) -> str:
        """`the`, `this` or `these`. `some` and `no` occur only in `quantified`, equally often."""
        return "the" if rng.random() < 0.5 else demonstrative(number)

    def place_phrase(self, rng: Random) -> Words:
        """`near the house`: modifies a noun, and may separate subject and verb."""
        nouns = self.lexicon.places + self.lexicon.animates
        place = Participant(rng.choice(nouns), rng.choice(NUMBERS))
        return [rng.choice(self.lexicon.prepositions), "the", place.name]

    def subject(self, rng: Random, who: Participant, depth: int) -> Words:
        """A noun phrase, at times with a modifier between the noun and the following verb."""
        words = self.noun_phrase(rng, who)
        draw = rng.random()
        if draw < 0.25:
            return words + self.place_phrase(rng)
        if draw < 0.4 and depth > 1:
            return words + self.relative_clause(rng, who, depth - 1)
        if draw < 0.5 and depth > 1 and who.number == "plural":
            return [
                *words,
                "and",
                *self.noun_phrase(rng, self.animate(rng)),
            ]  # plural whatever the second noun is
        return words

    def relative_clause(self, rng: Random, who: Participant, depth: int) -> Words:
        """`that likes the dog` or `that the dog likes`."""
        verb = rng.choice(self.lexicon.transitive)
        other = self.animate(rng)
        phrase = self.subject(rng, other, depth)
        if rng.random() < 0.5:
            return ["that", verb.form(who.number), *phrase]
        return ["that", *phrase, verb.form(other.number)]

    # --- sentences -----------------------------------------------------------------------------------------

    def sentence(self, rng: Random, who: Participant, depth: int) -> Words:
        """One sentence of prose about a participant."""
        words = rng.choice(self._rules(depth))(rng, who, depth)
        if depth == 1 or rng.random() < 0.85:
            return words
        conjunction = rng.choice(self.lexicon.conjunctions)
        return [*words, conjunction, *self.sentence(rng, self.animate(rng), depth - 1)]

    def _rules(self, depth: int) -> list[SentenceRule]:
        rules: list[SentenceRule] = [
            self.intransitive,
            self.transitive,
            self.copula,
            self.reflexive,
            self.past,
        ]
        rules += [self.perfect, self.quantified, self.question_clause, self.that_clause]
        if depth > 1:
            rules += [self.ditransitive, self.infinitive, self.verb_coordination, self.speech]
        return rules

    def intransitive(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the dog sleeps quietly near the tree`."""
        verb = rng.choice(self.lexicon.intransitive).form(who.number)
        words = [*self.subject(rng, who, depth), verb]
        if self.lexicon.adverbs and rng.random() < 0.3:
            words.append(rng.choice(self.lexicon.adverbs))
        return words + self._optional_place(rng)

    def transitive(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the dog likes this cat`."""
        verb = rng.choice(self.lexicon.transitive).form(who.number)
        return [*self.subject(rng, who, depth), verb, *self.noun_phrase(rng, self.animate_or_thing(rng))]

    def copula(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the dog is happy`."""
        return [*self.subject(rng, who, depth), who.be, rng.choice(self.lexicon.states)]

    def reflexive(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the girl likes herself`."""
        verb = rng.choice(self.lexicon.transitive).form(who.number)
        return [*self.subject(rng, who, depth), verb, who.reflexive]

    def past(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the boy took the ball`."""
        verb = rng.choice(self.lexicon.irregular).past
        return [*self.subject(rng, who, depth), verb, *self.noun_phrase(rng, self.thing(rng))]

    def perfect(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the boy has taken the ball`."""
        verb = rng.choice(self.lexicon.irregular).participle
        return [*self.subject(rng, who, depth), who.have, verb, *self.noun_phrase(rng, self.thing(rng))]

    def quantified(self, rng: Random, who: Participant, depth: int) -> Words:
        """`no dogs ever sleep` or `some dogs already sleep`, equally often; only `no` licenses `ever`."""
        verb = rng.choice(self.lexicon.intransitive).form(who.number)
        quantifier, adverb = rng.choice([("no", "ever"), ("some", "already")])
        return [*self.noun_phrase(rng, who, quantifier), adverb, verb, *self._optional_place(rng)]

    def question_clause(self, rng: Random, who: Participant, depth: int) -> Words:
        """`knows what the dog likes`: the object is a gap."""
        return [*self._subject_and_cognition(rng, who), "what", *self.clause_without_object(rng)]

    def that_clause(self, rng: Random, who: Participant, depth: int) -> Words:
        """`knows that the dog likes the cake`: no gap."""
        clause = self.clause_without_object(rng)
        return [
            *self._subject_and_cognition(rng, who),
            "that",
            *clause,
            *self.noun_phrase(rng, self.thing(rng)),
        ]

    def _subject_and_cognition(self, rng: Random, who: Participant) -> Words:
        return [*self.noun_phrase(rng, who), rng.choice(self.lexicon.cognition).form(who.number)]

    def clause_without_object(self, rng: Random) -> Words:
        """`the dog likes`: what follows `what`, and `that` where an object follows it."""
        who = self.animate(rng)
        return [*self.noun_phrase(rng, who), rng.choice(self.lexicon.transitive).form(who.number)]

    def _optional_place(self, rng: Random) -> Words:
        return self.place_phrase(rng) if rng.random() < 0.5 else []

    # --- sentences of deeper worlds ------------------------------------------------------------------------

    def ditransitive(self, rng: Random, who: Participant, depth: int) -> Words:
        """`gives the boy the cake`."""
        verb = rng.choice(self.lexicon.gifts).form(who.number)
        receiver, gift = self.noun_phrase(rng, self.animate(rng)), self.noun_phrase(rng, self.thing(rng))
        return [*self.subject(rng, who, depth), verb, *receiver, *gift]

    def infinitive(self, rng: Random, who: Participant, depth: int) -> Words:
        """`wants to find the cake`; the plural present is the infinitive of every verb of a world."""
        wish, verb = rng.choice(self.lexicon.intentions), rng.choice(self.lexicon.transitive)
        words = [*self.subject(rng, who, depth), wish.form(who.number), "to", verb.plural]
        return words + self.noun_phrase(rng, self.animate_or_thing(rng))

    def verb_coordination(self, rng: Random, who: Participant, depth: int) -> Words:
        """`sleeps and likes the cat`."""
        first, second = rng.choice(self.lexicon.intransitive), rng.choice(self.lexicon.transitive)
        words = [*self.subject(rng, who, depth), first.form(who.number), "and", second.form(who.number)]
        return words + self.noun_phrase(rng, self.animate_or_thing(rng))

    def speech(self, rng: Random, who: Participant, depth: int) -> Words:
        """`the king says that the dog sleeps`; the subject is a person."""
        speaker = self.animate(rng, person=True)
        verb = rng.choice(self.lexicon.speaking).form(speaker.number)
        return [*self.subject(rng, speaker, depth - 1), verb, "that", *self.sentence(rng, who, depth - 1)]
