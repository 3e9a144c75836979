"""Grammaticality and coherence in a story world, implemented independently of the generator.

`Oracle.grammatical` is a recogniser over a lexicon with the agreement rules of English. It does not know how
sentences are drawn. `coherent` follows the thing of a story from wish to use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from speechscale.speech.storyworld.lexicon import Lexicon, Verb

BE, HAVE = {"is": "singular", "are": "plural"}, {"has": "singular", "have": "plural"}
DETERMINERS = {"the": ("singular", "plural"), "this": ("singular",), "these": ("plural",)}
REFLEXIVES = {"herself": "she", "himself": "he", "itself": "it", "themselves": "they"}


@dataclass(frozen=True)
class Phrase:
    """A noun phrase that ends before word `end`; only `living` ones can be subjects."""

    end: int
    number: str
    pronoun: str
    living: bool


class Oracle:
    """A recogniser of the sentences of a world."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.nouns = {}
        for noun in (*lexicon.animates, *lexicon.places, *lexicon.things):
            living = noun in lexicon.animates
            self.nouns[noun.singular] = ("singular", noun.pronoun, living)
            self.nouns[noun.plural] = ("plural", "they", living)
        self.words: list[str] = []

    def grammatical(self, text: str) -> bool:
        """Whether the text is one grammatical sentence."""
        self.words = text.removesuffix(".").lower().split()
        return len(self.words) in self.sentence(0)

    # Each rule maps the position where it starts to the positions where it may end.

    def sentence(self, start: int) -> set[int]:
        ends = {end for subject in self.phrases(start) if subject.living for end in self.predicate(subject)}
        ends |= set(self.quantified(start))
        joined = {
            e for end in ends if self.at(end) in self.lexicon.conjunctions for e in self.sentence(end + 1)
        }
        return ends | joined

    def predicate(self, subject: Phrase) -> set[int]:
        lexicon, end, number = self.lexicon, subject.end, subject.number
        word, after = self.at(end), end + 1
        ends: set[int] = set()
        if self.is_form(lexicon.intransitive, end, number):
            ends |= self.after_intransitive(after)
            if self.at(after) == "and" and self.is_form(lexicon.transitive, after + 1, number):
                ends |= self.objects(after + 2)
        if self.is_form(lexicon.transitive, end, number):
            ends |= self.objects(after)
            if REFLEXIVES.get(self.at(after)) == subject.pronoun:
                ends.add(after + 1)
        if self.is_form(lexicon.gifts, end, number):
            ends |= {e for middle in self.objects(after) for e in self.objects(middle)}
        if BE.get(word) == number and self.at(after) in lexicon.states:
            ends.add(after + 1)
        if word in {verb.past for verb in lexicon.irregular}:
            ends |= self.objects(after)
        if HAVE.get(word) == number and self.at(after) in {verb.participle for verb in lexicon.irregular}:
            ends |= self.objects(after + 1)
        if self.is_form(lexicon.cognition, end, number):
            ends |= self.that_clause(after) | self.question(after)
        if self.is_form(lexicon.speaking, end, number):
            ends |= self.that_clause(after)
        infinitives = {verb.plural for verb in lexicon.transitive}
        if (
            self.is_form(lexicon.intentions, end, number)
            and self.at(after) == "to"
            and self.at(after + 1) in infinitives
        ):
            ends |= self.objects(after + 2)
        return ends

    def after_intransitive(self, start: int) -> set[int]:
        ends = {start} | ({start + 1} if self.at(start) in self.lexicon.adverbs else set())
        return ends | {e for end in ends for e in self.place(end)}

    def quantified(self, start: int) -> Iterator[int]:
        licensed = {"no": "ever", "some": "already"}
        for phrase in self.bare(start + 1):
            verb = phrase.end + 1
            is_licensed = phrase.living and licensed.get(self.at(start)) == self.at(phrase.end)
            if is_licensed and self.is_form(self.lexicon.intransitive, verb, phrase.number):
                yield from {verb + 1, *self.place(verb + 1)}

    def that_clause(self, start: int) -> set[int]:
        return self.sentence(start + 1) if self.at(start) == "that" else set()

    def question(self, start: int) -> set[int]:
        return set(self.clause_without_object(start + 1)) if self.at(start) == "what" else set()

    def clause_without_object(self, start: int) -> Iterator[int]:
        for subject in self.phrases(start):
            if subject.living and self.is_form(self.lexicon.transitive, subject.end, subject.number):
                yield subject.end + 1

    def objects(self, start: int) -> set[int]:
        return {phrase.end for phrase in self.phrases(start)}

    def phrases(self, start: int) -> Iterator[Phrase]:
        for phrase in self.bare(start + 1):
            if phrase.number in DETERMINERS.get(self.at(start), ()):
                yield phrase
                yield from (
                    Phrase(e, phrase.number, phrase.pronoun, phrase.living) for e in self.modifier(phrase)
                )
                if phrase.number == "plural" and self.at(phrase.end) == "and":
                    for second in self.phrases(phrase.end + 1):
                        yield Phrase(second.end, "plural", "they", phrase.living and second.living)

    def bare(self, start: int) -> Iterator[Phrase]:
        """An optional adjective and a noun."""
        for place in {start, start + (self.at(start) in self.lexicon.adjectives)}:
            if self.at(place) in self.nouns:
                yield Phrase(place + 1, *self.nouns[self.at(place)])

    def modifier(self, head: Phrase) -> set[int]:
        ends = self.place(head.end)
        if self.at(head.end) == "that":
            ends |= set(self.clause_without_object(head.end + 1))
            if self.is_form(self.lexicon.transitive, head.end + 1, head.number):
                ends |= self.objects(head.end + 2)
        return ends

    def place(self, start: int) -> set[int]:
        found = self.at(start) in self.lexicon.prepositions and self.at(start + 1) == "the"
        return {start + 3} if found and self.at(start + 2) in self.nouns else set()

    def is_form(self, verbs: tuple[Verb, ...], place: int, number: str) -> bool:
        return self.at(place) in {getattr(verb, number) for verb in verbs}

    def at(self, place: int) -> str:
        return self.words[place] if place < len(self.words) else ""


def coherent(lexicon: Lexicon, text: str) -> bool:
    """Whether the thing fits the topic, is used after the event, and the feeling fits whether the hero gets it."""
    state, wish, event, *later = text.lower().removesuffix(".").split(". ")
    topic = next(
        topic for topic in lexicon.topics if any(state.endswith(f" {word}") for word in topic.states)
    )
    thing = wish.split()[-1]
    on_topic = thing in {form for noun in topic.things for form in (noun.singular, noun.plural)}
    verbs = {form for verb in topic.uses for form in (verb.singular, verb.plural)}
    is_event = f" {thing}" in event and not event.startswith("then the ")
    is_used_last = not later or (
        later[0].startswith("then the ") and any(later[0].endswith(f" {verb} the {thing}") for verb in verbs)
    )
    if len(later) < 2:
        return on_topic and is_event and is_used_last
    user = later[0].removeprefix("then the ").split()[0]
    hero_gets = _gets(lexicon, event)
    feeling_fits = later[1].split()[-1] in _reactions(lexicon, glad=hero_gets)
    hero_uses = later[1].startswith(f"so the {user} ") == hero_gets
    return on_topic and is_event and is_used_last and feeling_fits and hero_uses


def _gets(lexicon: Lexicon, event: str) -> bool:
    verbs = {form for verb in (*lexicon.gains, *lexicon.gifts) for form in (verb.singular, verb.plural)}
    return bool(verbs & set(event.split()))


def _reactions(lexicon: Lexicon, *, glad: bool) -> set[str]:
    verbs = lexicon.good_reactions if glad else lexicon.bad_reactions
    feelings = lexicon.good_feelings if glad else lexicon.bad_feelings
    return {*feelings, *(form for verb in verbs for form in (verb.singular, verb.plural))}
