"""Benchmark items: their correct members are grammatical or coherent, their wrong ones are not."""

from collections import Counter, defaultdict
from random import Random

import pytest
from grammar_oracle import Oracle, coherent

from speechscale.errors import UserError
from speechscale.speech.storyworld import items as story_items
from speechscale.speech.storyworld.phenomena import MIN_CONTRASTS

PHENOMENA = sorted(story_items.PHENOMENA)


def words_of(text):
    return text.lower().replace(".", "").split()


def differing(text, other):
    """The words of a text that differ from those of another in the same places."""
    return " ".join(a for a, b in zip(words_of(text), words_of(other), strict=True) if a != b)


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


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_correct_members_are_grammatical_and_wrong_ones_are_not(world, pairs, phenomenon):
    oracle = Oracle(world.lexicon)
    assert [item.correct for item in pairs[phenomenon] if not oracle.grammatical(item.correct)] == []
    assert [item.wrong for item in pairs[phenomenon] if oracle.grammatical(item.wrong)] == []


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_words_are_balanced_between_members(pairs, phenomenon):
    correct = Counter(word for item in pairs[phenomenon] for word in words_of(item.correct))
    assert correct == Counter(word for item in pairs[phenomenon] for word in words_of(item.wrong))


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_every_phenomenon_has_thirty_contrasts_and_none_prevails(pairs, phenomenon):
    contrasts = Counter(item.contrast for item in pairs[phenomenon])
    assert len(contrasts) >= MIN_CONTRASTS == 30
    assert max(contrasts.values()) <= 0.05 * len(pairs[phenomenon])


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_both_members_of_a_contrast_are_equally_often_right(pairs, phenomenon):
    rights = defaultdict(Counter)
    for item in pairs[phenomenon]:
        rights[item.contrast][differing(item.correct, item.wrong)] += 1
    for contrast, counts in rights.items():
        assert sorted(counts) == contrast.split(" | ")
        assert len(set(counts.values())) == 1


def test_labels_are_what_differs_and_what_is_shared(pairs):
    for item in (item for items in pairs.values() for item in items):
        members = differing(item.correct, item.wrong), differing(item.wrong, item.correct)
        assert item.contrast == " | ".join(sorted(members))
        for text, words in zip((item.correct, item.wrong), members, strict=True):
            gaps = iter(words.split())
            filled = [next(gaps) if word == "_" else word for word in item.template.split()]
            assert filled == words_of(text)


def test_at_most_two_words_differ(pairs):
    for items in pairs.values():
        assert {len(differing(item.correct, item.wrong).split()) for item in items} <= {1, 2}


def test_forms_of_one_word_are_preferred_where_there_are_enough(large):
    lemmas = {
        form: lemma.plural
        for lemma in (*large.lexicon.intransitive, *large.lexicon.transitive, *large.lexicon.cognition)
        for form in (lemma.singular, lemma.plural)
    }
    for item in story_items.minimal_pairs(large, 100, seed=0):
        if item.phenomenon in ("agreement", "agreement_attractor"):
            one, other = item.contrast.split(" | ")
            assert lemmas.get(one) == lemmas.get(other)


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
            item for item in story_items.minimal_pairs(small, 200, seed=0) if item.phenomenon == phenomenon
        ]
        assert sum(item.correct in sentences for item in items) > 0.01 * len(items), phenomenon
        assert not any(item.wrong in sentences for item in items)


@pytest.mark.parametrize("group", ["cause", "time", "topic"])
def test_correct_endings_are_coherent_and_wrong_ones_are_not(world, cloze, group):
    assert [item.correct for item in cloze[group] if not coherent(world.lexicon, item.correct)] == []
    assert [item.wrong for item in cloze[group] if coherent(world.lexicon, item.wrong)] == []


@pytest.mark.parametrize("group", ["cause", "time", "topic"])
def test_endings_are_as_often_right_as_wrong(cloze, group):
    items = cloze[group]
    endings = {"correct": Counter(), "wrong": Counter()}
    for item in items:
        prompt = item.template.removesuffix("_")
        assert item.correct.startswith(prompt) and item.wrong.startswith(prompt)
        right, wrong = item.correct.removeprefix(prompt), item.wrong.removeprefix(prompt)
        assert item.contrast == " | ".join(sorted((right, wrong)))
        endings["correct"][right] += 1
        endings["wrong"][wrong] += 1
    assert endings["correct"] == endings["wrong"]
    assert len({item.contrast for item in items}) >= MIN_CONTRASTS


def test_time_items_ask_for_the_event_before_the_use_and_for_the_use_after_it(cloze):
    for event, use in zip(cloze["time"][::2], cloze["time"][1::2], strict=True):
        assert event.contrast == use.contrast
        assert event.correct.count(".") == 3 and use.correct.count(".") == 4
        assert "Then the" in event.wrong.split(". ")[2] and "Then the" in use.correct.split(". ")[3]


def test_too_small_a_world_is_refused(small):
    expected = "minimal_pairs: this world makes [0-9]+ items of 'determiner_noun', 100000 are wanted"
    with pytest.raises(UserError, match=expected):
        list(story_items.minimal_pairs(small, 100_000, seed=0))


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
