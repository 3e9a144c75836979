"""Zero-shot benchmarks made from the story world: every item is a pair whose better member is known by construction.

Four tasks, each with its twin in the field:

- `lexical` (sWUGGY): a word of the world against a legal non-word one sound away;
- `minimal_pairs` (sBLIMP): one word decides; each word is as often right as wrong within a phenomenon (for NPIs: the
  two words are equally frequent in training), so that frequency alone gives chance;
- `sstorycloze`: the wrong ending breaks cause or time;
- `tstorycloze`: the wrong ending comes from a story on another topic.

What an item says must never be said in training: `forbidden` lists it, `leaks` finds it, `corpus.py` refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, zip_longest
from random import Random

from speechscale.errors import UserError
from speechscale.records.items import Item
from speechscale.speech.storyworld.grammar import Participant, Words, demonstrative, say
from speechscale.speech.storyworld.lexicon import NUMBERS, Noun, Number, Verb
from speechscale.speech.storyworld.nonwords import Phones, non_words
from speechscale.speech.storyworld.stories import Story, World

TASKS = ("lexical", "minimal_pairs", "sstorycloze", "tstorycloze")

Pair = tuple[Words, Words]  # better member, worse member
TextPair = tuple[str, str]
_PATIENCE = 20  # draws per wanted item before a world counts as exhausted
_SEPARATOR = "|"  # keeps espeak-ng from reading two mnemonics as one ("aI" and "@" as "aI@")


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
    stem = world.subject(rng, who, world.lexicon.depth)
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


Phenomenon = Callable[[World, Random], list[Pair]]
PHENOMENA: dict[str, Phenomenon] = {
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
    """At least `per_phenomenon` items of each phenomenon."""
    for name, phenomenon in PHENOMENA.items():
        yield from _balanced_items(
            "minimal_pairs", name, partial(_said, phenomenon, world), per_phenomenon, seed
        )


def _said(phenomenon: Phenomenon, world: World, rng: Random) -> list[TextPair]:
    return [(say(correct), say(wrong)) for correct, wrong in phenomenon(world, rng)]


def _balanced_items(
    task: str, group: str, maker: Callable[[Random], list[TextPair]], count: int, seed: int
) -> Iterator[Item]:
    """At least `count` distinct items; the pairs that a maker returns balance each other and stay together.

    Raises:
        UserError: the world has not as many.
    """
    rng = Random(f"{seed}/{task}/{group}")
    seen: set[str] = set()
    made = repeats = 0
    while made < count:
        pairs = maker(rng)
        texts = {text for pair in pairs for text in pair}
        if texts & seen:
            repeats += 1
            if repeats > _PATIENCE * count:
                raise UserError(
                    f"{task}: this world makes {made} items of {group!r}, {count} are wanted; "
                    "ask for fewer items or take a larger world."
                )
            continue
        for correct, wrong in pairs:
            yield Item(task=task, id=f"{group}-{made:04d}", phenomenon=group, correct=correct, wrong=wrong)
            made += 1
        seen |= texts


def _subject_maker(world: World, rng: Random, *, place: bool) -> Callable[[Number], Words]:
    """The same subject in either number; a place, where there is one, has the other number."""
    noun = world.animate(rng).noun
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    near, attractor = rng.choice(world.lexicon.prepositions), rng.choice(world.lexicon.animates)

    def make(number: Number) -> Words:
        words = ["the", *adjective, noun.form(number)]
        return words + ([near, "the", attractor.form(_other(number))] if place else [])

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
    return Verb("are", "is"), [rng.choice(lexicon.states)]


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
    """At least `count` items, half of which break cause, half time."""
    half = -(-count // 2)
    for name, maker in (("cause", _break_cause), ("time", _break_time)):
        yield from _balanced_items("sstorycloze", name, partial(maker, world), half, seed)


def _break_cause(world: World, rng: Random) -> list[TextPair]:
    """Who gets the thing is glad, who loses it is not: each feeling is right in one story and wrong in its mirror."""
    plot = world.plot(rng)
    won, lost = world.tell(rng, plot, won=True), world.tell(rng, plot, won=False)
    return [
        (_text(*won.sentences), _text(*won.sentences[:-1], lost.sentences[-1])),
        (_text(*lost.sentences), _text(*lost.sentences[:-1], won.sentences[-1])),
    ]


def _break_time(world: World, rng: Random) -> list[TextPair]:
    """A thing is found before it is used: the wrong ending has the same two sentences in the other order."""
    state, wish, find, use, _feeling = world.tell(rng, world.plot(rng), won=True).sentences
    return [(_text(state, wish, find, use), _text(state, wish, use, find))]


def tstorycloze(world: World, count: int, seed: int) -> Iterator[Item]:
    """What is done with the thing, against what is done in a story on another topic; each ending is right once."""
    yield from _balanced_items("tstorycloze", "topic", partial(_break_topic, world), count, seed)


def _break_topic(world: World, rng: Random) -> list[TextPair]:
    one, two = world.story(rng), world.story(rng)
    while two.plot.topic == one.plot.topic:
        two = world.story(rng)
    return [_endings(one, two), _endings(two, one)]


def _endings(told: Story, other: Story) -> TextPair:
    context = told.sentences[:3]
    return _text(*context, told.sentences[3]), _text(*context, other.sentences[3])


def _text(*sentences: str) -> str:
    return " ".join(sentences)


# --- words -----------------------------------------------------------------------------------------------------


def lexical(pronunciations: dict[str, list[str]], count: int, seed: int) -> Iterator[Item]:
    """Words against non-words one sound away, spread evenly over the words.

    `pronunciations` maps each word to its phoneme mnemonics; words that sound the same count as one.

    Raises:
        UserError: the words allow too few.
    """
    spelling = {tuple(phones): word for word, phones in sorted(pronunciations.items(), reverse=True)}
    rng = Random(f"{seed}/lexical")
    made = non_words(spelling)
    candidates = {word: rng.sample(made[word], len(made[word])) for word in rng.sample(list(made), len(made))}
    available = len({other for others in made.values() for other in others})
    if available < count:
        raise UserError(
            f"lexical task: this world's words allow {available} legal non-words, {count} items are wanted; "
            "ask for fewer items or take a larger world."
        )
    for index, (word, other) in enumerate(islice(_in_turn(candidates), count)):
        yield Item(
            task="lexical",
            id=f"word-{index:04d}",
            phenomenon="lexical",
            correct=_SEPARATOR.join(word),
            wrong=_SEPARATOR.join(other),
            phonemes=True,
            note=f"{spelling[word]}: {' '.join(word)} > {' '.join(other)}",
        )


def _in_turn(candidates: dict[Phones, list[Phones]]) -> Iterator[tuple[Phones, Phones]]:
    """One non-word of each word, then a second of each that has one, and so on; no non-word twice."""
    used: set[Phones] = set()
    for turn in zip_longest(*candidates.values()):
        for word, other in zip(candidates, turn, strict=True):
            if other and other not in used:
                used.add(other)
                yield word, other


def forbidden(items: Iterable[Item]) -> set[str]:
    """What training must not say: the sentences of minimal pairs and the tellings of stories, right and wrong."""
    return {text for item in items if not item.phonemes for text in (item.correct, item.wrong)}


def leaks(sentences: Sequence[str], forbidden: set[str]) -> bool:
    """Whether some run of consecutive sentences is forbidden: items may end before the stories they are cut from."""
    count = len(sentences)
    return any(
        _text(*sentences[start:stop]) in forbidden
        for start in range(count)
        for stop in range(start + 1, count + 1)
    )
