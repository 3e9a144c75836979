"""Non-words that differ from a word of the story world in one sound, legal and not homophones of words.

Sounds are espeak-ng mnemonics, including their stress mark (`'eI`, `t#`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

Phones = tuple[str, ...]  # of one word
SoundClass = Literal["vowel", "consonant", "edge", "bound"]

_EDGE = "#"  # of a word
_STRESS_MARKS = "',%="  # before a vowel
_VOWELS = frozenset("aAeEiIoOuUV03@")  # first letters of the mnemonics of vowels
# Glide, glottal stop, syllabic n and its schwa: they occur only next to certain sounds.
_BOUND = frozenset({";", "?", "n-", "@-"})
# Mnemonics that sound alike. A flap (`t#`) can be t or d, so that these are not distinguished anywhere.
_HOMOPHONES = {
    "aa": "a",
    "A:": "0",
    "O2": "O:",
    "o@": "O@",
    "3:": "3",
    "i:": "i",
    "i@3": "i@",
    "aI3": "aI@",
    "t#": "t",
    "t2": "t",
    "?": "t",
    "d": "t",
    "n-": "n",
}
_REDUCED_VOWELS = frozenset({"@", "@2", "@-", "a#", "I", "I#", "I2", "V"})  # sound alike when unstressed


def make_nonwords(words: Iterable[Phones]) -> dict[Phones, list[Phones]]:
    """For each word, the non-words that result from substituting one sound by another of its class and stress.

    Every pair of neighbouring sounds in a non-word, including word edges, is legal according to the words.
    """
    known = set(words)
    audible_words = {_normalize(word) for word in known}
    legal = _legal_bigrams(known)
    sounds = sorted({sound for word in known for sound in word} - _BOUND)
    return {
        word: [
            candidate
            for candidate in _substitutions(word, sounds)
            if _normalize(candidate) not in audible_words and legal.issuperset(_bigrams(candidate))
        ]
        for word in sorted(known)
    }


def sound_class(sound: str) -> SoundClass:
    """Vowel, consonant, word edge, or a sound bound to its neighbours."""
    if sound == _EDGE:
        return "edge"
    unstressed = sound.lstrip(_STRESS_MARKS)
    if unstressed in _BOUND:
        return "bound"
    return "vowel" if unstressed[:1] in _VOWELS else "consonant"


def stress_marks(sound: str) -> str:
    """The stress marks of a mnemonic; empty where it has none."""
    return sound[: len(sound) - len(sound.lstrip(_STRESS_MARKS))]


def _substitutions(word: Phones, sounds: list[str]) -> Iterator[Phones]:
    for position, sound in enumerate(word):
        for other in sounds:
            if (
                other != sound
                and sound_class(other) == sound_class(sound)
                and stress_marks(other) == stress_marks(sound)
            ):
                yield (*word[:position], other, *word[position + 1 :])


def _normalize(word: Phones) -> Phones:
    """The word with one mnemonic for all that sound alike."""
    return tuple(
        "@"
        if sound in _REDUCED_VOWELS
        else stress_marks(sound) + _HOMOPHONES.get(sound.lstrip(_STRESS_MARKS), sound.lstrip(_STRESS_MARKS))
        for sound in word
    )


def _legal_bigrams(words: set[Phones]) -> set[tuple[str, str]]:
    """The pairs of sounds that may be neighbours.

    These are the pairs that occur in some word, and each consonant-vowel or vowel-consonant pair whose members both
    occur in pairs of that kind: English restricts clusters and word edges, not such pairs.
    """
    seen = {pair for word in words for pair in _bigrams(word)}
    firsts = {(a, sound_class(b)) for a, b in seen}
    seconds = {(sound_class(a), b) for a, b in seen}
    unrestricted = {
        (a, b)
        for a, class_of_b in firsts
        for class_of_a, b in seconds
        if class_of_a == sound_class(a)
        and class_of_b == sound_class(b)
        and {class_of_a, class_of_b} == {"vowel", "consonant"}
    }
    return seen | unrestricted


def _bigrams(word: Phones) -> Iterable[tuple[str, str]]:
    return zip((_EDGE, *word), (*word, _EDGE), strict=True)
