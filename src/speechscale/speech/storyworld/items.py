"""Zero-shot benchmark items from the story world: pairs whose correct member is known by construction.

The four tasks, each with its counterpart in the literature:

- `lexical` (sWUGGY): a word of the world against a legal non-word that differs in one sound;
- `minimal_pairs` (sBLIMP): a word, or two that depend on each other, decides;
- `sstorycloze`: the wrong ending violates cause or time;
- `tstorycloze`: the wrong ending comes from a story on another topic.

No preference for a word, sound or ending can carry a task: items come in mirrored couples, in which the alternatives of
one contrast exchange their roles. Each word therefore occurs equally often in right and in wrong members (in `lexical`,
each sound that is exchanged). The labels `contrast` and `template` name the two alternatives and what surrounds them,
for intervals that resample items with a common part together.

The texts of items must not occur in training: `held_out_texts` lists them, `contains_held_out` detects them, and
`corpus.py` excludes them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle
from random import Random
from typing import NamedTuple

from speechscale.errors import UserError
from speechscale.records.items import Item
from speechscale.speech.storyworld.grammar import Words, to_sentence
from speechscale.speech.storyworld.nonwords import Phones, make_nonwords
from speechscale.speech.storyworld.phenomena import PHENOMENA, DrawMirrored
from speechscale.speech.storyworld.stories import Plot, StoryWorld

TASKS = ("lexical", "minimal_pairs", "sstorycloze", "tstorycloze")

_MAX_REPEATS_PER_ITEM = 20  # repeated draws per wanted item before a world counts as exhausted
_SEPARATOR = "|"  # without it espeak-ng reads two mnemonics as one ("aI" and "@" as "aI@")
_MAX_SUFFIX = 2  # sounds of an inflection
_GAP = "_"  # in a template, for a word that differs


class _TextPair(NamedTuple):
    correct: str
    wrong: str
    contrast: str
    template: str


DrawPairs = Callable[[Random], list[_TextPair]]


# --- minimal pairs ---------------------------------------------------------------------------------------------


def minimal_pairs(world: StoryWorld, per_phenomenon: int, seed: int) -> Iterator[Item]:
    """At least `per_phenomenon` items of each phenomenon, spread evenly over its contrasts."""
    for name, phenomenon in PHENOMENA.items():
        draws = [partial(_sentence_pairs, draw_mirrored) for draw_mirrored in phenomenon(world)]
        yield from _balanced_items("minimal_pairs", name, draws, per_phenomenon, seed)


def _sentence_pairs(draw_mirrored: DrawMirrored, rng: Random) -> list[_TextPair]:
    return [
        _TextPair(to_sentence(correct), to_sentence(wrong), *_contrast_and_template(correct, wrong))
        for correct, wrong in draw_mirrored(rng)
    ]


def _contrast_and_template(correct: Words, wrong: Words) -> tuple[str, str]:
    """The differing words of both members, and the words around them; the members have equally many words."""
    same = [a == b for a, b in zip(correct, wrong, strict=True)]
    differing = [
        " ".join(word for word, shared in zip(member, same, strict=True) if not shared)
        for member in (correct, wrong)
    ]
    frame = " ".join(word if shared else _GAP for word, shared in zip(correct, same, strict=True))
    return _contrast(*differing), frame


def _contrast(one: str, other: str) -> str:
    return " | ".join(sorted((one, other)))


def _balanced_items(
    task: str, group: str, draws: Sequence[DrawPairs], count: int, seed: int
) -> Iterator[Item]:
    """At least `count` distinct items of one group.

    Args:
        task: name of the task.
        group: name of the phenomenon or kind of item.
        draws: each draws pairs that balance each other; they are kept or dropped together. All are used in turn.
        count: the wanted number of items.
        seed: of the draws, together with task and group.

    Raises:
        UserError: the world has fewer.
    """
    rng = Random(f"{seed}/{task}/{group}")
    seen: set[str] = set()
    index = repeats = 0
    for draw_pairs in cycle(rng.sample(draws, len(draws))):
        if index >= count:
            return
        pairs = draw_pairs(rng)
        texts = {text for pair in pairs for text in (pair.correct, pair.wrong)}
        if texts & seen:
            repeats += 1
            if repeats > _MAX_REPEATS_PER_ITEM * count:
                raise UserError(
                    f"{task}: this world makes {index} items of {group!r}, {count} are wanted; "
                    "ask for fewer items or take a larger world."
                )
            continue
        for pair in pairs:
            yield Item(task=task, id=f"{group}-{index:04d}", phenomenon=group, **pair._asdict())
            index += 1
        seen |= texts


# --- stories ---------------------------------------------------------------------------------------------------


def sstorycloze(world: StoryWorld, count: int, seed: int) -> Iterator[Item]:
    """At least `count` items; half of them violate cause, half time."""
    half = -(-count // 2)
    for name, draw_pairs in (("cause", _cause_violations), ("time", _time_violations)):
        yield from _balanced_items("sstorycloze", name, [partial(draw_pairs, world)], half, seed)


def _cause_violations(world: StoryWorld, rng: Random) -> list[_TextPair]:
    """Who gets the thing uses it, and the hero is glad or sad of it: the wrong ending follows the other event."""
    plot = world.plot(rng)
    stories = [world.realize(rng, plot, hero_succeeds=success).sentences for success in (True, False)]
    contexts, endings = [_join(*each[:3]) for each in stories], [_join(*each[3:]) for each in stories]
    return _mirrored(contexts, endings)


def _time_violations(world: StoryWorld, rng: Random) -> list[_TextPair]:
    """A thing is found before it is used, and once: after the wish it is found, after it was found it is used."""
    plot = world.plot(rng)
    state, wish, found, use, _feeling = world.realize(rng, plot, hero_succeeds=True).sentences
    return _mirrored(
        [_join(state, wish), _join(state, wish, found)], [_other_gain(world, rng, plot, found), use]
    )


def _other_gain(world: StoryWorld, rng: Random, plot: Plot, found: str) -> str:
    """Another sentence in which the hero of a plot gets the thing."""
    while (again := world.realize(rng, plot, hero_succeeds=True).sentences[2]) == found:
        pass
    return again


def tstorycloze(world: StoryWorld, count: int, seed: int) -> Iterator[Item]:
    """The use of the thing against that of a story on another topic. Each ending is correct once and wrong once."""
    yield from _balanced_items("tstorycloze", "topic", [partial(_topic_violations, world)], count, seed)


def _topic_violations(world: StoryWorld, rng: Random) -> list[_TextPair]:
    one, two = world.story(rng), world.story(rng)
    while two.plot.topic == one.plot.topic:
        two = world.story(rng)
    return _mirrored(
        [_join(*story.sentences[:3]) for story in (one, two)], [story.sentences[3] for story in (one, two)]
    )


def _mirrored(contexts: Sequence[str], endings: Sequence[str]) -> list[_TextPair]:
    """Two contexts, each with its own ending against the other's."""
    contrast = _contrast(*endings)
    return [
        _TextPair(
            _join(context, endings[right]), _join(context, endings[1 - right]), contrast, f"{context} {_GAP}"
        )
        for right, context in enumerate(contexts)
    ]


def _join(*sentences: str) -> str:
    return " ".join(sentences)


# --- words -----------------------------------------------------------------------------------------------------


class _Substitution(NamedTuple):
    """A word, and a non-word that has another sound in one place."""

    word: Phones
    nonword: Phones

    @property
    def sounds(self) -> tuple[str, str]:
        """The sound of the word, and that of the non-word."""
        return next(pair for pair in zip(self.word, self.nonword, strict=True) if pair[0] != pair[1])


def lexical(pronunciations: dict[str, list[str]], count: int, seed: int) -> Iterator[Item]:
    """Words against non-words that differ in one sound, spread evenly over the words.

    Where one item replaces a sound by another, a second item does the reverse.

    Args:
        pronunciations: the phoneme mnemonics of each word; homophones count as one word.
        count: the wanted number of items; odd numbers are rounded up.
        seed: of the order of words and of their non-words.

    Raises:
        UserError: the words allow too few.
    """
    spelling = {tuple(phones): word for word, phones in sorted(pronunciations.items(), reverse=True)}
    couples = _mirrored_substitutions(make_nonwords(spelling), -(-count // 2), Random(f"{seed}/lexical"))
    if 2 * len(couples) < count:
        raise UserError(
            f"lexical task: this world's words allow {2 * len(couples)} legal non-words whose sounds are exchanged in "
            f"both directions, {count} items are wanted; ask for fewer items or take a larger world."
        )
    stems = _stems(spelling)
    for index, (word, nonword) in enumerate(each for couple in couples for each in couple):
        sounds = _Substitution(word, nonword).sounds
        yield Item(
            task="lexical",
            id=f"word-{index:04d}",
            phenomenon="lexical",
            correct=_SEPARATOR.join(word),
            wrong=_SEPARATOR.join(nonword),
            contrast=_contrast(*sounds),
            template=spelling[stems[word]],
            phonemes=True,
            note=f"{spelling[word]}: {' '.join(word)} > {' '.join(nonword)}",
        )


def _stems(words: Iterable[Phones]) -> dict[Phones, Phones]:
    """For each word the shortest word that it is an inflection of, as far as its sounds tell.

    That is one of two sounds or more to which at most two are added. Forms of one word share most of their sounds, so
    answers to them are not independent.
    """
    known = set(words)
    return {
        word: next(
            (word[:end] for end in range(max(2, len(word) - _MAX_SUFFIX), len(word)) if word[:end] in known),
            word,
        )
        for word in known
    }


def _mirrored_substitutions(
    nonwords: dict[Phones, list[Phones]], count: int, rng: Random
) -> list[tuple[_Substitution, _Substitution]]:
    """Up to `count` couples of substitutions, of two words, that exchange the same two sounds in both directions.

    No non-word occurs twice. Each couple begins with a word that is used least and has one left; its partner is used
    least among the words that have one.
    """
    uses = Counter(dict.fromkeys(rng.sample(list(nonwords), len(nonwords)), 0))
    left = {word: rng.sample(nonwords[word], len(nonwords[word])) for word in uses}
    by_sounds: dict[tuple[str, str], list[_Substitution]] = defaultdict(list)
    for word, of_word in left.items():
        for nonword in of_word:
            substitution = _Substitution(word, nonword)
            by_sounds[substitution.sounds].append(substitution)
    used: set[Phones] = set()
    couples: list[tuple[_Substitution, _Substitution]] = []

    def partner(first: _Substitution) -> _Substitution | None:
        free = (
            other
            for other in by_sounds[first.sounds[::-1]]
            if other.word != first.word and other.nonword not in used and other.nonword != first.nonword
        )
        return min(free, key=lambda other: uses[other.word], default=None)

    while len(couples) < count and left:
        word = min(left, key=lambda each: uses[each])
        while left[word]:
            first = _Substitution(word, left[word].pop())
            if first.nonword not in used and (second := partner(first)):
                couples.append((first, second))
                used |= {first.nonword, second.nonword}
                uses.update((first.word, second.word))
                break
        else:
            del left[word]
    return couples


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
