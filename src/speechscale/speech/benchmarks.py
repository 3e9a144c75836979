"""Zero-shot benchmarks made from the story world: every item is a pair whose better member is known by construction.

Four tasks, each with its twin in the field:

- `lexical` (sWUGGY): a word of the world against a non-word one sound away, whose neighbouring sounds all occur in words;
- `minimal_pairs` (sBLIMP): one word decides; the members of a phenomenon are made of the same words, equally often,
  or of words equally frequent in training, so that frequency alone gives chance;
- `sstorycloze`: the wrong ending breaks cause or time;
- `tstorycloze`: the wrong ending comes from a story on another topic.

What an item says must never be said in training: `forbidden` lists it, and `corpus.py` refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random

from speechscale.errors import UserError
from speechscale.records.items import Item
from speechscale.speech.lexicon import NUMBERS, Noun, Number, Verb
from speechscale.speech.stories import Participant, Story, Words, World, demonstrative, say, want

TASKS = ("lexical", "minimal_pairs", "sstorycloze", "tstorycloze")


Pair = tuple[Words, Words]  # better member, worse member
Phones = tuple[str, ...]  # espeak mnemonics of one word
_EDGE = "#"  # of a word
_STRESS = "',%="  # marks before a vowel
_VOWELS = frozenset("aAeEiIoOuUV03@")  # first letters of the mnemonics of vowels


# --- minimal pairs ---------------------------------------------------------------------------------------------


def agreement(world: World, rng: Random) -> list[Pair]:
    """The dog sleeps / sleep; and the same for dogs."""
    make = _subject_maker(world, rng, place=False)
    return _number_swap(make, _predicate(world, rng))


def agreement_attractor(world: World, rng: Random) -> list[Pair]:
    """The dog near the cats sleeps / sleep: the nearest noun has the other number."""
    make = _subject_maker(world, rng, place=True)
    return _number_swap(make, _predicate(world, rng))


def determiner_noun(world: World, rng: Random) -> list[Pair]:
    """This dog / these dog."""
    noun = world.animate(rng).noun
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    verb = rng.choice(world.lexicon.irregular).past
    rest = [verb, *world.noun_phrase(rng, world.thing(rng), "the")]
    return [
        (
            [demonstrative(number), *adjective, noun.form(number), *rest],
            [demonstrative(_other(number)), *adjective, noun.form(number), *rest],
        )
        for number in NUMBERS
    ]


def anaphor_gender(world: World, rng: Random) -> list[Pair]:
    """The girl sees herself / himself."""
    heroes = [Participant(_person(world, rng, pronoun), "singular") for pronoun in ("she", "he")]
    verb = rng.choice(world.lexicon.transitive).singular
    place = world.place_phrase(rng)
    determiner = world.determiner(rng, "singular")
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    stem = [[determiner, *adjective, hero.name, *place, verb] for hero in heroes]
    she, he = (hero.reflexive for hero in heroes)
    return [([*stem[0], she], [*stem[0], he]), ([*stem[1], he], [*stem[1], she])]


def anaphor_number(world: World, rng: Random) -> list[Pair]:
    """The girl sees herself / themselves; and the same for girls."""
    noun = world.animate(rng, person=True).noun
    verb = rng.choice(world.lexicon.transitive)
    place = world.place_phrase(rng)
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    pairs = []
    for number in NUMBERS:
        hero, other = Participant(noun, number), Participant(noun, _other(number))
        stem = ["the", *adjective, hero.name, *place, verb.form(number)]
        pairs.append(([*stem, hero.reflexive], [*stem, other.reflexive]))
    return pairs


def argument_structure(world: World, rng: Random) -> list[Pair]:
    """The dog finds the ball / sleeps the ball; the dog sleeps near the tree / finds near the tree."""
    who = world.animate(rng)
    stem = world.noun_phrase(rng, who)
    with_object = rng.choice(world.lexicon.transitive).form(who.number)
    without = rng.choice(world.lexicon.intransitive).form(who.number)
    thing = world.noun_phrase(rng, world.thing(rng))
    place = world.place_phrase(rng)
    return [
        ([*stem, with_object, *thing], [*stem, without, *thing]),
        ([*stem, without, *place], [*stem, with_object, *place]),
    ]


def irregular_forms(world: World, rng: Random) -> list[Pair]:
    """The boy took / taken the ball; the boy has taken / took the ball."""
    who = world.animate(rng)
    stem = world.subject(rng, who)
    verb = rng.choice(world.lexicon.irregular)
    thing = world.noun_phrase(rng, world.thing(rng))
    return [
        ([*stem, verb.past, *thing], [*stem, verb.participle, *thing]),
        ([*stem, who.have, verb.participle, *thing], [*stem, who.have, verb.past, *thing]),
    ]


def npi_licensing(world: World, rng: Random) -> list[Pair]:
    """No dogs ever sleep / some dogs ever sleep."""
    who = world.animate(rng)
    phrase = world.noun_phrase(rng, who, "no", adjective=0.5)
    rest = ["ever", rng.choice(world.lexicon.intransitive).form(who.number), *world.place_phrase(rng)]
    return [([*phrase, *rest], ["some", *phrase[1:], *rest])]


def filler_gap(world: World, rng: Random) -> list[Pair]:
    """Knows what / that the boys like; knows that / what the boys like the cake."""
    who, inner = world.animate(rng), world.animate(rng)
    stem = [*world.noun_phrase(rng, who), rng.choice(world.lexicon.cognition).form(who.number)]
    clause = [*world.noun_phrase(rng, inner), rng.choice(world.lexicon.transitive).form(inner.number)]
    thing = world.noun_phrase(rng, world.thing(rng))
    return [
        ([*stem, "what", *clause], [*stem, "that", *clause]),
        ([*stem, "that", *clause, *thing], [*stem, "what", *clause, *thing]),
    ]


PHENOMENA: dict[str, Callable[[World, Random], list[Pair]]] = {
    maker.__name__: maker
    for maker in (
        agreement,
        agreement_attractor,
        determiner_noun,
        anaphor_gender,
        anaphor_number,
        argument_structure,
        irregular_forms,
        npi_licensing,
        filler_gap,
    )
}


def minimal_pairs(world: World, per_phenomenon: int, seed: int) -> Iterator[Item]:
    """At least `per_phenomenon` items of each phenomenon; a balanced set of pairs is never cut in two."""
    for name, maker in PHENOMENA.items():
        rng = Random(f"{seed}/{name}")
        seen: set[str] = set()
        while len(seen) < 2 * per_phenomenon:
            pairs = [(say(correct), say(wrong)) for correct, wrong in maker(world, rng)]
            texts = {text for pair in pairs for text in pair}
            if texts & seen:
                continue
            for correct, wrong in pairs:
                yield Item(
                    task="minimal_pairs",
                    id=f"{name}-{len(seen) // 2:04d}",
                    group=name,
                    correct=correct,
                    wrong=wrong,
                )
                seen |= {correct, wrong}


def _subject_maker(world: World, rng: Random, *, place: bool) -> Callable[[Number], Words]:
    """The same subject in either number; a place, where there is one, has the other number."""
    noun = world.animate(rng).noun
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    attractor = rng.choice(world.lexicon.animates)

    def make(number: Number) -> Words:
        words = ["the", *adjective, noun.form(number)]
        return words + (["near", "the", attractor.form(_other(number))] if place else [])

    return make


def _predicate(world: World, rng: Random) -> tuple[Verb, Words]:
    """A verb in both numbers and what follows it."""
    lexicon = world.lexicon
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(lexicon.intransitive), world.place_phrase(rng)
    if kind == 1:
        return rng.choice(lexicon.transitive), world.noun_phrase(rng, world.anything(rng))
    if kind == 2:
        participle = rng.choice(lexicon.irregular).participle
        return Verb("have", "has"), [participle, *world.noun_phrase(rng, world.thing(rng))]
    states = lexicon.adjectives + lexicon.good_feelings + lexicon.bad_feelings
    return Verb("are", "is"), [rng.choice(states)]


def _number_swap(make: Callable[[Number], Words], predicate: tuple[Verb, Words]) -> list[Pair]:
    verb, rest = predicate
    return [
        ([*make(number), verb.form(number), *rest], [*make(number), verb.form(_other(number)), *rest])
        for number in NUMBERS
    ]


def _other(number: Number) -> Number:
    return "plural" if number == "singular" else "singular"


def _person(world: World, rng: Random, pronoun: str) -> Noun:
    return rng.choice([noun for noun in world.lexicon.people if noun.pronoun == pronoun])


# --- stories ---------------------------------------------------------------------------------------------------


def sstorycloze(world: World, count: int, seed: int) -> Iterator[Item]:
    """Half the items break cause (the feeling does not follow), half break time (what came first comes again)."""
    rng = Random(f"{seed}/sstorycloze")
    seen: set[str] = set()
    while len(seen) < count:
        group, won = ("cause", bool(len(seen) % 4 < 2)) if len(seen) % 2 else ("time", True)
        story = world.story(rng, won=won)
        correct, wrong = (_break_cause if group == "cause" else _break_time)(world, rng, story)
        if correct not in seen:
            yield Item(
                task="sstorycloze", id=f"{group}-{len(seen):04d}", group=group, correct=correct, wrong=wrong
            )
            seen.add(correct)


def _break_cause(world: World, rng: Random, story: Story) -> tuple[str, str]:
    feelings = world.lexicon.bad_feelings if story.won else world.lexicon.good_feelings
    wrong = say(["so", "the", story.hero.name, story.hero.be, rng.choice(feelings)])
    return story.text, " ".join([*story.sentences[:-1], wrong])


def _break_time(world: World, rng: Random, story: Story) -> tuple[str, str]:
    """After finding the thing the hero uses it; wanting it came before."""
    hero = story.hero
    context = list(story.sentences[:3])
    again = say(["then", "the", hero.name, *want(hero, story.thing)[1:]])
    return " ".join([*context, story.sentences[3]]), " ".join([*context, again])


def tstorycloze(world: World, count: int, seed: int) -> Iterator[Item]:
    """The story so far and what is done with the thing, against what is done in a story on another topic."""
    rng = Random(f"{seed}/tstorycloze")
    seen: set[str] = set()
    while len(seen) < count:
        story, other = world.story(rng), world.story(rng)
        if other.topic == story.topic:
            continue
        context = story.sentences[:3]
        correct, wrong = (" ".join([*context, teller.sentences[3]]) for teller in (story, other))
        if correct not in seen:
            yield Item(
                task="tstorycloze", id=f"topic-{len(seen):04d}", group="topic", correct=correct, wrong=wrong
            )
            seen.add(correct)


# --- words -----------------------------------------------------------------------------------------------------


def lexical(pronunciations: dict[str, list[str]], count: int, seed: int) -> Iterator[Item]:
    """Words against non-words one sound away.

    `pronunciations` maps each word to its phoneme mnemonics. A non-word exchanges one sound for another of its class
    (vowel or consonant) such that each two neighbouring sounds, word edges included, occur somewhere in the words.
    """
    rng = Random(f"{seed}/lexical")
    words = {tuple(phones) for phones in pronunciations.values()}
    legal = _legal_neighbours(words)
    candidates = [
        (word, tuple(phones), other)
        for word, phones in sorted(pronunciations.items())
        for other in _one_sound_away(tuple(phones), words, legal)
    ]
    if len(candidates) < count:
        raise UserError(
            f"lexical task: this world's words allow {len(candidates)} legal non-words, {count} items are wanted; "
            "ask for fewer items or take a larger world."
        )
    for index, (word, phones, other) in enumerate(sorted(rng.sample(candidates, count))):
        yield Item(
            task="lexical",
            id=f"word-{index:04d}",
            group="lexical",
            correct="".join(phones),
            wrong="".join(other),
            phonemes=True,
            note=f"{word}: {' '.join(phones)} > {' '.join(other)}",
        )


def _one_sound_away(phones: Phones, words: set[Phones], legal: set[tuple[str, str]]) -> list[Phones]:
    sounds = sorted({sound for word in words for sound in word})
    found = []
    for place, sound in enumerate(phones):
        for other in sounds:
            changed = (*phones[:place], other, *phones[place + 1 :])
            alike = _kind(other) == _kind(sound) and stress(other) == stress(sound)
            if alike and changed not in words and legal.issuperset(_neighbours(changed)):
                found.append(changed)
    return found


def _legal_neighbours(words: set[Phones]) -> set[tuple[str, str]]:
    """Pairs of sounds that may stand side by side: those that do in some word, and every consonant with every vowel if
    either does so with others of that kind in that order (English restricts clusters and edges, not such pairs)."""
    seen = {pair for phones in words for pair in _neighbours(phones)}
    firsts = {(a, _kind(b)) for a, b in seen}
    seconds = {(_kind(a), b) for a, b in seen}
    free = {
        (a, b)
        for a, kind_of_b in firsts
        for kind_of_a, b in seconds
        if kind_of_a == _kind(a)
        and kind_of_b == _kind(b)
        and {kind_of_a, kind_of_b} == {"vowel", "consonant"}
    }
    return seen | free


def _neighbours(phones: Phones) -> Iterable[tuple[str, str]]:
    return zip((_EDGE, *phones), (*phones, _EDGE), strict=True)


def _kind(sound: str) -> str:
    """Vowel, consonant or edge of an espeak mnemonic, stress marks aside."""
    if sound == _EDGE:
        return "edge"
    return "vowel" if sound.lstrip(_STRESS)[:1] in _VOWELS else "consonant"


def stress(sound: str) -> str:
    return sound[: len(sound) - len(sound.lstrip(_STRESS))]


def forbidden(items: Iterable[Item]) -> set[str]:
    """The sentences of minimal pairs and the whole stories that training must not contain."""
    return {text for item in items if not item.phonemes for text in (item.correct, item.wrong)}
