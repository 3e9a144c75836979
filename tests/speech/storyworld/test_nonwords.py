from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from synthesis_settings import how

from speechscale.errors import UserError
from speechscale.speech.storyworld import items as benchmarks
from speechscale.speech.storyworld.nonwords import kind, non_words, stress

KINDS = {
    "vowel": "0 3 3: @ @2 @L A: A@ E I I# I2 O2 O: O@ OI U U@ V a a# aI aI3 aI@ aU aa e@ eI i i: i@ i@3 o@ oU u:",
    "consonant": "D N S T Z b d dZ f g h j k l m n p r s t t# t2 tS v w z",
    "bound": "; ? n- @-",
}


@pytest.fixture(scope="module")
def items(spoken_words):
    return list(benchmarks.lexical(spoken_words, 500, seed=0))


def test_every_mnemonic_of_the_worlds_has_the_right_class(spoken_words):
    expected = {sound: name for name, sounds in KINDS.items() for sound in sounds.split()}
    for sound in {sound for phones in spoken_words.values() for sound in phones}:
        assert kind(sound) == expected[sound.removeprefix(stress(sound))], sound


def test_words_of_a_world_do_not_sound_alike(spoken_words):
    spellings = Counter(map(tuple, spoken_words.values()))
    alike = [word for word, phones in spoken_words.items() if spellings[tuple(phones)] > 1]
    assert alike == ["know", "no"]


def test_one_sound_is_exchanged_for_another_of_its_class_and_stress(items):
    assert len(items) == 500
    for item in items:
        word, other = item.correct.split("|"), item.wrong.split("|")
        ((old, new),) = [pair for pair in zip(word, other, strict=True) if pair[0] != pair[1]]
        assert kind(old) == kind(new) != "bound"
        assert stress(old) == stress(new)


def test_non_words_are_no_words(items, spoken_words):
    words = {"|".join(phones) for phones in spoken_words.values()}
    assert {item.correct for item in items} <= words
    assert not {item.wrong for item in items} & words
    assert len({item.wrong for item in items}) == len(items)


def test_items_are_spread_over_the_words(items, spoken_words):
    per_word = Counter(item.correct for item in items)
    assert len(per_word) >= min(len(spoken_words) - 3, 500)
    assert max(per_word.values()) <= 2 + 500 // (len(spoken_words) - 3)


def test_clusters_and_edges_of_non_words_occur_in_words(items, spoken_words):
    padded = [("#", *phones, "#") for phones in spoken_words.values()]
    seen = {pair for phones in padded for pair in pairwise(phones)}
    for item in items:
        phones = ("#", *item.wrong.split("|"), "#")
        for pair in pairwise(phones):
            assert pair in seen or {kind(pair[0]), kind(pair[1])} == {"vowel", "consonant"}, item.note


@pytest.mark.parametrize(
    ("words", "never"),
    [
        ([("h", "'O@", "s"), ("m", "'o@", "n")], ("h", "'o@", "s")),  # both are the vowel of "more"
        (
            [("w", "'O:", "t#", "3"), ("b", "'I", "t", "3")],
            ("w", "'O:", "t", "3"),
        ),  # a flap, and the t it stands for
        ([("s", "'V", "m", "@", "n"), ("V", "n")], ("s", "'V", "m", "V", "n")),  # reduced vowels
    ],
)
def test_what_sounds_like_a_word_is_no_non_word(words, never):
    assert all(never not in made for made in non_words(words).values())


def test_mnemonics_say_what_the_spelling_says(spoken_words, speaker):
    words = sorted(spoken_words)[::3]
    lengths = [
        len(speaker.synthesize("|".join(spoken_words[word]), how(phonemes=True))) / len(speaker.synthesize(word, how()))
        for word in words
    ]
    assert np.mean(np.abs(np.array(lengths) - 1) < 0.01) > 0.95
    assert max(np.abs(np.array(lengths) - 1)) < 0.2


def test_too_few_words_are_said_to_be_too_few():
    with pytest.raises(UserError, match="this world's words allow 2 legal non-words, 9 items are wanted"):
        list(benchmarks.lexical({"pat": ["p", "'a", "t"], "kit": ["k", "'I", "t"]}, 9, seed=0))
