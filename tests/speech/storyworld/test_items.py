"""Benchmark items: their correct members are grammatical or coherent, their wrong ones are not."""

from collections import Counter, defaultdict
from random import Random

import pytest
from grammar_oracle import Oracle, coherent

from speechscale.errors import UserError
from speechscale.speech.storyworld import items as story_items

BALANCED_PHENOMENA = sorted(set(story_items.PHENOMENA) - {"npi_licensing"})


def words_of(text):
    return text.lower().replace(".", "").split()


@pytest.fixture(scope="module")
def pairs(world):
    """Minimal pairs by phenomenon."""
    groups = defaultdict(list)
    for item in story_items.minimal_pairs(world, 200, seed=0):
        groups[item.phenomenon].append(item)
    return groups


@pytest.fixture(scope="module")
def cloze(world):
    items = [*story_items.sstorycloze(world, 500, seed=0), *story_items.tstorycloze(world, 500, seed=0)]
    groups = defaultdict(list)
    for item in items:
        groups[item.phenomenon].append(item)
    return groups


def test_number_of_items_and_unique_ids(pairs, cloze):
    assert {group: len(items) for group, items in cloze.items()} == {"cause": 250, "time": 250, "topic": 500}
    assert set(pairs) == set(story_items.PHENOMENA)
    for items in (*pairs.values(), *cloze.values()):
        assert len({item.id for item in items}) == len(items) >= 200
        assert len({item.correct for item in items}) == len(items)


def test_items_depend_on_the_seed_only(world):
    one, same, other = (list(story_items.minimal_pairs(world, 10, seed)) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("phenomenon", sorted(story_items.PHENOMENA))
def test_correct_members_are_grammatical_and_wrong_ones_are_not(world, pairs, phenomenon):
    oracle = Oracle(world.lexicon)
    assert [item.correct for item in pairs[phenomenon] if not oracle.grammatical(item.correct)] == []
    assert [item.wrong for item in pairs[phenomenon] if oracle.grammatical(item.wrong)] == []


@pytest.mark.parametrize("phenomenon", BALANCED_PHENOMENA)
def test_words_are_balanced_between_members(pairs, phenomenon):
    correct = Counter(word for item in pairs[phenomenon] for word in words_of(item.correct))
    assert correct == Counter(word for item in pairs[phenomenon] for word in words_of(item.wrong))


def test_members_differ_in_one_word(pairs):
    for phenomenon, items in pairs.items():
        for item in items:
            correct, wrong = words_of(item.correct), words_of(item.wrong)
            assert len(correct) == len(wrong)
            assert sum(a != b for a, b in zip(correct, wrong, strict=True)) == 1, phenomenon


def test_members_sound_different(world, pairs, espeak):
    phonemes = {}
    for item in (item for items in pairs.values() for item in items[:40]):
        differing = {
            a for pair in zip(words_of(item.correct), words_of(item.wrong), strict=True) for a in pair
        }
        for word in differing:
            phonemes[word] = phonemes.get(word) or tuple(espeak.phonemize(word, "en-us"))
        assert tuple(phonemes[w] for w in words_of(item.correct)) != tuple(
            phonemes[w] for w in words_of(item.wrong)
        )


def test_prose_contains_correct_members_only(small):
    """Correct members of the small world also occur in prose, wrong ones never do."""
    rng = Random("any")
    sentences = {sentence for _ in range(60_000) for sentence in small.prose(rng)}
    for phenomenon in story_items.PHENOMENA:
        items = [
            item for item in story_items.minimal_pairs(small, 60, seed=0) if item.phenomenon == phenomenon
        ]
        assert sum(item.correct in sentences for item in items) > 0.1 * len(items), phenomenon
        assert not any(item.wrong in sentences for item in items)


@pytest.mark.parametrize("group", ["cause", "time", "topic"])
def test_correct_endings_are_coherent_and_wrong_ones_are_not(world, cloze, group):
    assert [item.correct for item in cloze[group] if not coherent(world.lexicon, item.correct)] == []
    assert [item.wrong for item in cloze[group] if coherent(world.lexicon, item.wrong)] == []


@pytest.mark.parametrize("group", ["cause", "topic"])
def test_endings_are_balanced_between_members(cloze, group):
    def endings(member):
        return Counter(getattr(item, member).split(". ")[-1] for item in cloze[group])

    assert endings("correct") == endings("wrong")


def test_time_violations_reorder_the_same_sentences(cloze):
    for item in cloze["time"]:
        assert sorted(words_of(item.correct)) == sorted(words_of(item.wrong))
        assert item.correct.split(". ")[:2] == item.wrong.split(". ")[:2]


def test_too_small_a_world_is_refused(small):
    expected = "minimal_pairs: this world makes [0-9]+ items of 'anaphor_gender', 2500 are wanted"
    with pytest.raises(UserError, match=expected):
        list(story_items.minimal_pairs(small, 2500, seed=0))


def test_story_that_begins_like_an_item_is_detected(small):
    items = list(story_items.tstorycloze(small, 20, seed=0))
    held_out = story_items.held_out_texts(items)
    sentences = [f"{sentence.removesuffix('.')}." for sentence in items[0].correct.split(". ")]
    assert story_items.contains_held_out([*sentences, "So the dog is happy."], held_out)
    assert story_items.contains_held_out(["No dog ever waits.", *sentences], held_out)
    assert not story_items.contains_held_out(sentences[:-1], held_out)


def test_items_are_held_out_except_phoneme_strings(small, pronunciations):
    sentence_items = [*story_items.minimal_pairs(small, 4, 0), *story_items.sstorycloze(small, 4, 0)]
    lexical = list(story_items.lexical(pronunciations, 20, seed=0))
    held_out = story_items.held_out_texts([*sentence_items, *lexical])
    assert held_out == {text for item in sentence_items for text in (item.correct, item.wrong)}
