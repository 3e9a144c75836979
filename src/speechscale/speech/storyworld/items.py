"""Zero-shot benchmark items from the story world: pairs whose correct member is known by construction.

The four tasks, each with its counterpart in the literature:

- `lexical` (sWUGGY): a word of the world against a legal non-word that differs in one sound;
- `minimal_pairs` (sBLIMP): one word decides. Within a phenomenon each word is as often correct as wrong (for NPIs:
  the two words are equally frequent in training), so that word frequency alone gives chance accuracy;
- `sstorycloze`: the wrong ending violates cause or time;
- `tstorycloze`: the wrong ending comes from a story on another topic.

The texts of items must not occur in training: `held_out_texts` lists them, `contains_held_out` detects them, and
`corpus.py` excludes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, zip_longest
from random import Random

from speechscale.errors import UserError
from speechscale.records.items import Item
from speechscale.speech.storyworld.grammar import Participant, Words, demonstrative, to_sentence
from speechscale.speech.storyworld.lexicon import NUMBERS, Noun, Number, Verb
from speechscale.speech.storyworld.nonwords import Phones, make_nonwords
from speechscale.speech.storyworld.stories import Story, StoryWorld

TASKS = ("lexical", "minimal_pairs", "sstorycloze", "tstorycloze")

WordPair = tuple[Words, Words]  # correct member, wrong member
TextPair = tuple[str, str]
_MAX_REPEATS_PER_ITEM = 20  # repeated draws per wanted item before a world counts as exhausted
_SEPARATOR = "|"  # without it espeak-ng reads two mnemonics as one ("aI" and "@" as "aI@")


# --- minimal pairs ---------------------------------------------------------------------------------------------


def agreement(world: StoryWorld, rng: Random) -> list[WordPair]:
    """The dog sleeps / sleep, and the dogs sleep / sleeps."""
    subject = _draw_subject(world, rng, with_attractor=False)
    return _swap_number(subject, _predicate(world, rng))


def agreement_attractor(world: StoryWorld, rng: Random) -> list[WordPair]:
    """The dog near the cats sleeps / sleep: the nearest noun has the other number."""
    subject = _draw_subject(world, rng, with_attractor=True)
    return _swap_number(subject, _predicate(world, rng))


def determiner_noun(world: StoryWorld, rng: Random) -> list[WordPair]:
    """This dog / these dog."""
    noun = world.animate(rng).noun
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    verb = rng.choice(world.lexicon.irregular).past
    rest = [verb, *world.noun_phrase(rng, world.thing(rng), "the")]
    return [
        (
            [demonstrative(number), *adjective, noun.form(number), *rest],
            [demonstrative(_opposite(number)), *adjective, noun.form(number), *rest],
        )
        for number in NUMBERS
    ]


def anaphor_gender(world: StoryWorld, rng: Random) -> list[WordPair]:
    """The girl sees herself / himself."""
    heroes = [Participant(_draw_person(world, rng, pronoun), "singular") for pronoun in ("she", "he")]
    verb = rng.choice(world.lexicon.transitive).singular
    place = world.place_phrase(rng)
    determiner = world.determiner(rng, "singular")
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    stem = [[determiner, *adjective, hero.name, *place, verb] for hero in heroes]
    she, he = (hero.reflexive for hero in heroes)
    return [([*stem[0], she], [*stem[0], he]), ([*stem[1], he], [*stem[1], she])]


def anaphor_number(world: StoryWorld, rng: Random) -> list[WordPair]:
    """The girl sees herself / themselves, and the girls see themselves / herself."""
    noun = world.animate(rng, person=True).noun
    verb = rng.choice(world.lexicon.transitive)
    place = world.place_phrase(rng)
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    pairs = []
    for number in NUMBERS:
        hero, mismatch = Participant(noun, number), Participant(noun, _opposite(number))
        stem = ["the", *adjective, hero.name, *place, verb.form(number)]
        pairs.append(([*stem, hero.reflexive], [*stem, mismatch.reflexive]))
    return pairs


def argument_structure(world: StoryWorld, rng: Random) -> list[WordPair]:
    """The dog finds the ball / sleeps the ball; the dog sleeps near the tree / finds near the tree."""
    who = world.animate(rng)
    stem = world.noun_phrase(rng, who)
    with_object = rng.choice(world.lexicon.transitive).form(who.number)
    without_object = rng.choice(world.lexicon.intransitive).form(who.number)
    thing = world.noun_phrase(rng, world.thing(rng))
    place = world.place_phrase(rng)
    return [
        ([*stem, with_object, *thing], [*stem, without_object, *thing]),
        ([*stem, without_object, *place], [*stem, with_object, *place]),
    ]


def irregular_forms(world: StoryWorld, rng: Random) -> list[WordPair]:
    """The boy took / taken the ball; the boy has taken / took the ball."""
    who = world.animate(rng)
    stem = world.subject(rng, who, world.lexicon.depth)
    verb = rng.choice(world.lexicon.irregular)
    thing = world.noun_phrase(rng, world.thing(rng))
    return [
        ([*stem, verb.past, *thing], [*stem, verb.participle, *thing]),
        ([*stem, who.have, verb.participle, *thing], [*stem, who.have, verb.past, *thing]),
    ]


def npi_licensing(world: StoryWorld, rng: Random) -> list[WordPair]:
    """No dogs ever sleep / some dogs ever sleep."""
    who = world.animate(rng)
    phrase = world.noun_phrase(rng, who, "no", adjective=0.5)
    rest = ["ever", rng.choice(world.lexicon.intransitive).form(who.number), *world.place_phrase(rng)]
    return [([*phrase, *rest], ["some", *phrase[1:], *rest])]


def filler_gap(world: StoryWorld, rng: Random) -> list[WordPair]:
    """Knows what / that the boys like; knows that / what the boys like the cake."""
    who, inner = world.animate(rng), world.animate(rng)
    stem = [*world.noun_phrase(rng, who), rng.choice(world.lexicon.cognition).form(who.number)]
    clause = [*world.noun_phrase(rng, inner), rng.choice(world.lexicon.transitive).form(inner.number)]
    thing = world.noun_phrase(rng, world.thing(rng))
    return [
        ([*stem, "what", *clause], [*stem, "that", *clause]),
        ([*stem, "that", *clause, *thing], [*stem, "what", *clause, *thing]),
    ]


Phenomenon = Callable[[StoryWorld, Random], list[WordPair]]
PHENOMENA: dict[str, Phenomenon] = {
    phenomenon.__name__: phenomenon
    for phenomenon in (
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


def minimal_pairs(world: StoryWorld, per_phenomenon: int, seed: int) -> Iterator[Item]:
    """At least `per_phenomenon` items of each phenomenon."""
    for name, phenomenon in PHENOMENA.items():
        yield from _balanced_items(
            "minimal_pairs", name, partial(_text_pairs, phenomenon, world), per_phenomenon, seed
        )


def _text_pairs(phenomenon: Phenomenon, world: StoryWorld, rng: Random) -> list[TextPair]:
    return [(to_sentence(correct), to_sentence(wrong)) for correct, wrong in phenomenon(world, rng)]


def _balanced_items(
    task: str, group: str, draw_pairs: Callable[[Random], list[TextPair]], count: int, seed: int
) -> Iterator[Item]:
    """At least `count` distinct items of one group.

    Args:
        task: name of the task.
        group: name of the phenomenon or kind of item.
        draw_pairs: draws pairs that balance each other; they are kept or dropped together.
        count: the wanted number of items.
        seed: of the draws, together with task and group.

    Raises:
        UserError: the world has fewer.
    """
    rng = Random(f"{seed}/{task}/{group}")
    seen: set[str] = set()
    index = repeats = 0
    while index < count:
        pairs = draw_pairs(rng)
        texts = {text for pair in pairs for text in pair}
        if texts & seen:
            repeats += 1
            if repeats > _MAX_REPEATS_PER_ITEM * count:
                raise UserError(
                    f"{task}: this world makes {index} items of {group!r}, {count} are wanted; "
                    "ask for fewer items or take a larger world."
                )
            continue
        for correct, wrong in pairs:
            yield Item(task=task, id=f"{group}-{index:04d}", phenomenon=group, correct=correct, wrong=wrong)
            index += 1
        seen |= texts


def _draw_subject(world: StoryWorld, rng: Random, *, with_attractor: bool) -> Callable[[Number], Words]:
    """A subject as a function of its number; its attractor has the opposite number."""
    noun = world.animate(rng).noun
    adjective = [rng.choice(world.lexicon.adjectives)] if rng.random() < 0.3 else []
    near, attractor = rng.choice(world.lexicon.prepositions), rng.choice(world.lexicon.animates)

    def inflect(number: Number) -> Words:
        words = ["the", *adjective, noun.form(number)]
        return words + ([near, "the", attractor.form(_opposite(number))] if with_attractor else [])

    return inflect


def _predicate(world: StoryWorld, rng: Random) -> tuple[Verb, Words]:
    """A verb in both numbers, and the words after it."""
    lexicon = world.lexicon
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(lexicon.intransitive), world.place_phrase(rng)
    if kind == 1:
        return rng.choice(lexicon.transitive), world.noun_phrase(rng, world.animate_or_thing(rng))
    if kind == 2:
        participle = rng.choice(lexicon.irregular).participle
        return Verb("have", "has"), [participle, *world.noun_phrase(rng, world.thing(rng))]
    return Verb("are", "is"), [rng.choice(lexicon.states)]


def _swap_number(subject: Callable[[Number], Words], predicate: tuple[Verb, Words]) -> list[WordPair]:
    verb, rest = predicate
    return [
        (
            [*subject(number), verb.form(number), *rest],
            [*subject(number), verb.form(_opposite(number)), *rest],
        )
        for number in NUMBERS
    ]


def _opposite(number: Number) -> Number:
    return "plural" if number == "singular" else "singular"


def _draw_person(world: StoryWorld, rng: Random, pronoun: str) -> Noun:
    return rng.choice([noun for noun in world.lexicon.people if noun.pronoun == pronoun])


# --- stories ---------------------------------------------------------------------------------------------------


def sstorycloze(world: StoryWorld, count: int, seed: int) -> Iterator[Item]:
    """At least `count` items; half of them violate cause, half time."""
    half = -(-count // 2)
    for name, draw_pairs in (("cause", _cause_violations), ("time", _time_violations)):
        yield from _balanced_items("sstorycloze", name, partial(draw_pairs, world), half, seed)


def _cause_violations(world: StoryWorld, rng: Random) -> list[TextPair]:
    """A hero who gets the thing is glad, else sad. Each feeling is correct in one story and wrong in the other."""
    plot = world.plot(rng)
    won, lost = (world.realize(rng, plot, hero_succeeds=success) for success in (True, False))
    return [
        (_join(*won.sentences), _join(*won.sentences[:-1], lost.sentences[-1])),
        (_join(*lost.sentences), _join(*lost.sentences[:-1], won.sentences[-1])),
    ]


def _time_violations(world: StoryWorld, rng: Random) -> list[TextPair]:
    """A thing is found before it is used: the wrong ending has the same two sentences in the other order."""
    state, wish, find, use, _feeling = world.realize(rng, world.plot(rng), hero_succeeds=True).sentences
    return [(_join(state, wish, find, use), _join(state, wish, use, find))]


def tstorycloze(world: StoryWorld, count: int, seed: int) -> Iterator[Item]:
    """The use of the thing against that of a story on another topic. Each ending is correct once and wrong once."""
    yield from _balanced_items("tstorycloze", "topic", partial(_topic_violations, world), count, seed)


def _topic_violations(world: StoryWorld, rng: Random) -> list[TextPair]:
    one, two = world.story(rng), world.story(rng)
    while two.plot.topic == one.plot.topic:
        two = world.story(rng)
    return [_ending_pair(one, two), _ending_pair(two, one)]


def _ending_pair(story: Story, other: Story) -> TextPair:
    context = story.sentences[:3]
    return _join(*context, story.sentences[3]), _join(*context, other.sentences[3])


def _join(*sentences: str) -> str:
    return " ".join(sentences)


# --- words -----------------------------------------------------------------------------------------------------


def lexical(pronunciations: dict[str, list[str]], count: int, seed: int) -> Iterator[Item]:
    """Words against non-words that differ in one sound, spread evenly over the words.

    Args:
        pronunciations: the phoneme mnemonics of each word; homophones count as one word.
        count: the wanted number of items.
        seed: of the order of words and of their non-words.

    Raises:
        UserError: the words allow too few.
    """
    spelling = {tuple(phones): word for word, phones in sorted(pronunciations.items(), reverse=True)}
    rng = Random(f"{seed}/lexical")
    nonwords = make_nonwords(spelling)
    candidates = {
        word: rng.sample(nonwords[word], len(nonwords[word]))
        for word in rng.sample(list(nonwords), len(nonwords))
    }
    available = len({nonword for of_word in nonwords.values() for nonword in of_word})
    if available < count:
        raise UserError(
            f"lexical task: this world's words allow {available} legal non-words, {count} items are wanted; "
            "ask for fewer items or take a larger world."
        )
    for index, (word, nonword) in enumerate(islice(_round_robin(candidates), count)):
        yield Item(
            task="lexical",
            id=f"word-{index:04d}",
            phenomenon="lexical",
            correct=_SEPARATOR.join(word),
            wrong=_SEPARATOR.join(nonword),
            phonemes=True,
            note=f"{spelling[word]}: {' '.join(word)} > {' '.join(nonword)}",
        )


def _round_robin(candidates: dict[Phones, list[Phones]]) -> Iterator[tuple[Phones, Phones]]:
    """One non-word of each word, then a second of each word that has one, and so on. No non-word occurs twice."""
    used: set[Phones] = set()
    for turn in zip_longest(*candidates.values()):
        for word, nonword in zip(candidates, turn, strict=True):
            if nonword and nonword not in used:
                used.add(nonword)
                yield word, nonword


def held_out_texts(items: Iterable[Item]) -> set[str]:
    """The texts that training must not contain: both members of all items, except those spelled in phonemes."""
    return {text for item in items if not item.phonemes for text in (item.correct, item.wrong)}


def contains_held_out(sentences: Sequence[str], held_out: set[str]) -> bool:
    """Whether some run of consecutive sentences is held out: an item may end before the story it is cut from."""
    count = len(sentences)
    return any(
        _join(*sentences[start:stop]) in held_out
        for start in range(count)
        for stop in range(start + 1, count + 1)
    )
