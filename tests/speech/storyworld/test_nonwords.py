"""Non-words of the lexical task: one substituted sound, legal neighbours, no homophones of words."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from synthesis_settings import espeak_settings

from speechscale.errors import UserError
from speechscale.speech.storyworld.items import lexical
from speechscale.speech.storyworld.nonwords import make_nonwords, sound_class, stress_marks

SOUND_CLASSES = {
    "vowel": "0 3 3: @ @2 @L A: A@ E I I# I2 O2 O: O@ OI U U@ V a a# aI aI3 aI@ aU aa e@ eI i i: i@ i@3 o@ oU u:",
    "consonant": "D N S T Z b d dZ f g h j k l m n p r s t t# t2 tS v w z",
    "bound": "; ? n- @-",
}


@pytest.fixture(scope="module")
def items(pronunciations):
    return list(lexical(pronunciations, 500, seed=0))


def test_sound_class_of_every_mnemonic(pronunciations):
    expected = {sound: name for name, sounds in SOUND_CLASSES.items() for sound in sounds.split()}
    for sound in {sound for phones in pronunciations.values() for sound in phones}:
        assert sound_class(sound) == expected[sound.removeprefix(stress_marks(sound))], sound


def test_only_know_and_no_are_homophones(pronunciations):
    spellings = Counter(map(tuple, pronunciations.values()))
    homophones = [word for word, phones in pronunciations.items() if spellings[tuple(phones)] > 1]
    assert homophones == ["know", "no"]


def test_substituted_sound_keeps_class_and_stress(items):
    assert len(items) == 500
    for item in items:
        word, other = item.correct.split("|"), item.wrong.split("|")
        ((old, new),) = [pair for pair in zip(word, other, strict=True) if pair[0] != pair[1]]
        assert sound_class(old) == sound_class(new) != "bound"
        assert stress_marks(old) == stress_marks(new)


def test_nonwords_are_not_words(items, pronunciations):
    words = {"|".join(phones) for phones in pronunciations.values()}
    assert {item.correct for item in items} <= words
    assert not {item.wrong for item in items} & words
    assert len({item.wrong for item in items}) == len(items)


def test_items_are_spread_over_words(items, pronunciations):
    per_word = Counter(item.correct for item in items)
    assert len(per_word) >= 0.9 * min(len(pronunciations), 500)
    assert max(per_word.values()) <= 2 * -(-500 // len(pronunciations)) + 1


def test_sounds_are_exchanged_equally_often_in_both_directions(items):
    rights = defaultdict(Counter)
    for item in items:
        ((old, new),) = [
            pair
            for pair in zip(item.correct.split("|"), item.wrong.split("|"), strict=True)
            if len(set(pair)) > 1
        ]
        assert item.contrast == " | ".join(sorted((old, new)))
        rights[item.contrast][old] += 1
    assert len(rights) >= 30
    for counts in rights.values():
        assert len(counts) == 2 and len(set(counts.values())) == 1


def test_template_is_the_stem_of_the_word(pronunciations):
    items = list(lexical(pronunciations, 500, seed=0))
    templates = {item.note.partition(":")[0]: item.template for item in items}
    assert all(word.startswith(stem[:1]) for word, stem in templates.items())
    for word, stem in (("dogs", "dog"), ("sleeps", "sleep"), ("dog", "dog")):
        assert templates.get(word, stem) == stem


def test_clusters_and_edges_of_nonwords_occur_in_words(items, pronunciations):
    padded = [("#", *phones, "#") for phones in pronunciations.values()]
    seen = {pair for phones in padded for pair in pairwise(phones)}
    for item in items:
        phones = ("#", *item.wrong.split("|"), "#")
        for pair in pairwise(phones):
            assert pair in seen or {sound_class(pair[0]), sound_class(pair[1])} == {"vowel", "consonant"}, (
                item.note
            )


@pytest.mark.parametrize(
    ("words", "homophone"),
    [
        ([("h", "'O@", "s"), ("m", "'o@", "n")], ("h", "'o@", "s")),  # both are the vowel of "more"
        (
            [("w", "'O:", "t#", "3"), ("b", "'I", "t", "3")],
            ("w", "'O:", "t", "3"),
        ),  # a flap and the t that it realises
        ([("s", "'V", "m", "@", "n"), ("V", "n")], ("s", "'V", "m", "V", "n")),  # reduced vowels
    ],
)
def test_homophone_of_a_word_is_not_a_nonword(words, homophone):
    assert all(homophone not in nonwords for nonwords in make_nonwords(words).values())


def test_mnemonics_sound_like_the_spelling(pronunciations, espeak):
    words = sorted(pronunciations)[::3]
    lengths = [
        len(espeak.synthesize("|".join(pronunciations[word]), espeak_settings(phonemes=True)))
        / len(espeak.synthesize(word, espeak_settings()))
        for word in words
    ]
    assert np.mean(np.abs(np.array(lengths) - 1) < 0.01) > 0.95
    assert max(np.abs(np.array(lengths) - 1)) < 0.2


def test_too_few_words_are_refused():
    expected = "this world's words allow 2 legal non-words .* in both directions, 9 items are wanted"
    with pytest.raises(UserError, match=expected):
        list(lexical({"pat": ["p", "'a", "t"], "kit": ["k", "'I", "t"]}, 9, seed=0))
