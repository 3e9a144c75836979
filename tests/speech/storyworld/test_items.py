from collections import Counter, defaultdict
from random import Random

import pytest
from grammar_oracle import Oracle, coherent

from speechscale.errors import UserError
from speechscale.speech.storyworld import items as benchmarks

QUADS = sorted(set(benchmarks.PHENOMENA) - {"npi_licensing"})


def words_of(text):
    return text.lower().replace(".", "").split()


@pytest.fixture(scope="module")
def pairs(world):
    """Minimal pairs by phenomenon."""
    groups = defaultdict(list)
    for item in benchmarks.minimal_pairs(world, 200, seed=0):
        groups[item.phenomenon].append(item)
    return groups


@pytest.fixture(scope="module")
def cloze(world):
    items = [*benchmarks.sstorycloze(world, 500, seed=0), *benchmarks.tstorycloze(world, 500, seed=0)]
    groups = defaultdict(list)
    for item in items:
        groups[item.phenomenon].append(item)
    return groups


def test_items_are_as_many_as_asked_for_with_ids_of_their_own(pairs, cloze):
    assert {group: len(items) for group, items in cloze.items()} == {"cause": 250, "time": 250, "topic": 500}
    assert set(pairs) == set(benchmarks.PHENOMENA)
    for items in (*pairs.values(), *cloze.values()):
        assert len({item.id for item in items}) == len(items) >= 200
        assert len({item.correct for item in items}) == len(items)


def test_items_are_a_function_of_the_seed(world):
    one, same, other = (list(benchmarks.minimal_pairs(world, 10, seed)) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("phenomenon", sorted(benchmarks.PHENOMENA))
def test_better_members_are_grammatical_and_worse_ones_are_not(world, pairs, phenomenon):
    oracle = Oracle(world.lexicon)
    assert [item.correct for item in pairs[phenomenon] if not oracle.grammatical(item.correct)] == []
    assert [item.wrong for item in pairs[phenomenon] if oracle.grammatical(item.wrong)] == []


@pytest.mark.parametrize("phenomenon", QUADS)
def test_every_word_is_as_often_right_as_wrong(pairs, phenomenon):
    right = Counter(word for item in pairs[phenomenon] for word in words_of(item.correct))
    assert right == Counter(word for item in pairs[phenomenon] for word in words_of(item.wrong))


def test_members_differ_in_one_place_alone(pairs):
    for phenomenon, items in pairs.items():
        for item in items:
            correct, wrong = words_of(item.correct), words_of(item.wrong)
            assert len(correct) == len(wrong)
            assert sum(a != b for a, b in zip(correct, wrong, strict=True)) == 1, phenomenon


def test_members_sound_different(world, pairs, speaker):
    said = {}
    for item in (item for items in pairs.values() for item in items[:40]):
        differing = {
            a for pair in zip(words_of(item.correct), words_of(item.wrong), strict=True) for a in pair
        }
        for word in differing:
            said[word] = said.get(word) or tuple(speaker.phonemes(word, "en-us"))
        assert tuple(said[w] for w in words_of(item.correct)) != tuple(said[w] for w in words_of(item.wrong))


def test_prose_says_what_better_members_say(small):
    """In the small world most better members turn up in prose if one only listens long enough."""
    rng = Random("any")
    heard = {sentence for _ in range(60_000) for sentence in small.prose(rng)}
    for phenomenon in benchmarks.PHENOMENA:
        items = [
            item for item in benchmarks.minimal_pairs(small, 60, seed=0) if item.phenomenon == phenomenon
        ]
        assert sum(item.correct in heard for item in items) > 0.1 * len(items), phenomenon
        assert not any(item.wrong in heard for item in items)


@pytest.mark.parametrize("group", ["cause", "time", "topic"])
def test_right_endings_cohere_and_wrong_ones_do_not(world, cloze, group):
    assert [item.correct for item in cloze[group] if not coherent(world.lexicon, item.correct)] == []
    assert [item.wrong for item in cloze[group] if coherent(world.lexicon, item.wrong)] == []


@pytest.mark.parametrize("group", ["cause", "topic"])
def test_every_ending_is_as_often_right_as_wrong(cloze, group):
    def endings(member):
        return Counter(getattr(item, member).split(". ")[-1] for item in cloze[group])

    assert endings("correct") == endings("wrong")


def test_broken_time_says_the_same_in_another_order(cloze):
    for item in cloze["time"]:
        assert sorted(words_of(item.correct)) == sorted(words_of(item.wrong))
        assert item.correct.split(". ")[:2] == item.wrong.split(". ")[:2]


def test_a_world_too_small_for_the_items_is_said_to_be_so(small):
    asked_for = "minimal_pairs: this world makes [0-9]+ items of 'anaphor_gender', 2500 are wanted"
    with pytest.raises(UserError, match=asked_for):
        list(benchmarks.minimal_pairs(small, 2500, seed=0))


def test_a_story_that_begins_like_an_item_leaks(small):
    items = list(benchmarks.tstorycloze(small, 20, seed=0))
    held_out = benchmarks.forbidden(items)
    telling = [f"{sentence.removesuffix('.')}." for sentence in items[0].correct.split(". ")]
    assert benchmarks.leaks([*telling, "So the dog is happy."], held_out)
    assert benchmarks.leaks(["No dog ever waits.", *telling], held_out)
    assert not benchmarks.leaks(telling[:-1], held_out)


def test_every_spoken_item_is_forbidden_and_no_mnemonics_are(small, spoken_words):
    spoken = [*benchmarks.minimal_pairs(small, 4, 0), *benchmarks.sstorycloze(small, 4, 0)]
    lexical = list(benchmarks.lexical(spoken_words, 20, seed=0))
    held_out = benchmarks.forbidden([*spoken, *lexical])
    assert held_out == {text for item in spoken for text in (item.correct, item.wrong)}
