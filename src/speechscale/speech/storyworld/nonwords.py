"""Non-words one sound away from the words of a world: legal in it, and heard as none of its words.

Sounds are espeak-ng mnemonics, their stress mark included (`'eI`, `t#`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Phones = tuple[str, ...]  # of one word

_EDGE = "#"  # of a word
_STRESS = "',%="  # marks before a vowel
_VOWELS = frozenset("aAeEiIoOuUV03@")  # first letters of the mnemonics of vowels
_BOUND = frozenset(
    {";", "?", "n-", "@-"}
)  # glide, glottal stop, syllabic n, its schwa: called for by their neighbours
# Mnemonics that one hears as the same sound; a flap (`t#`) is both t and d, so these cannot be told apart everywhere.
_HEARD_AS = {"aa": "a", "A:": "0", "O2": "O:", "o@": "O@", "3:": "3", "i:": "i", "i@3": "i@", "aI3": "aI@"}
_HEARD_AS |= {"t#": "t", "t2": "t", "?": "t", "d": "t", "n-": "n"}
_REDUCED = frozenset({"@", "@2", "@-", "a#", "I", "I#", "I2", "V"})  # one weak vowel when without stress


def non_words(words: Iterable[Phones]) -> dict[Phones, list[Phones]]:
    """For each word, what becomes of it when one sound is exchanged for another of its class (vowel or consonant).

    Each two neighbouring sounds of a non-word, word edges included, may stand side by side in the world.
    """
    known = set(words)
    heard = {_heard(word) for word in known}
    legal = _legal_neighbours(known)
    sounds = sorted({sound for word in known for sound in word} - _BOUND)
    return {
        word: [
            changed
            for changed in _exchanges(word, sounds)
            if _heard(changed) not in heard and legal.issuperset(_neighbours(changed))
        ]
        for word in sorted(known)
    }


def kind(sound: str) -> str:
    """Vowel, consonant, edge of a word, or bound to its neighbours."""
    if sound == _EDGE:
        return "edge"
    bare = sound.lstrip(_STRESS)
    if bare in _BOUND:
        return "bound"
    return "vowel" if bare[:1] in _VOWELS else "consonant"


def stress(sound: str) -> str:
    return sound[: len(sound) - len(sound.lstrip(_STRESS))]


def _exchanges(word: Phones, sounds: list[str]) -> Iterator[Phones]:
    for place, sound in enumerate(word):
        for other in sounds:
            if other != sound and kind(other) == kind(sound) and stress(other) == stress(sound):
                yield (*word[:place], other, *word[place + 1 :])


def _heard(word: Phones) -> Phones:
    """The word as one hears it: mnemonics that sound the same become one."""
    return tuple(
        "@"
        if sound in _REDUCED
        else stress(sound) + _HEARD_AS.get(sound.lstrip(_STRESS), sound.lstrip(_STRESS))
        for sound in word
    )


def _legal_neighbours(words: set[Phones]) -> set[tuple[str, str]]:
    """Pairs of sounds that may stand side by side: those that do in some word, and every consonant with every vowel if
    either does so with others of that kind in that order (English restricts clusters and edges, not such pairs)."""
    seen = {pair for word in words for pair in _neighbours(word)}
    firsts = {(a, kind(b)) for a, b in seen}
    seconds = {(kind(a), b) for a, b in seen}
    free = {
        (a, b)
        for a, kind_of_b in firsts
        for kind_of_a, b in seconds
        if kind_of_a == kind(a) and kind_of_b == kind(b) and {kind_of_a, kind_of_b} == {"vowel", "consonant"}
    }
    return seen | free


def _neighbours(word: Phones) -> Iterable[tuple[str, str]]:
    return zip((_EDGE, *word), (*word, _EDGE), strict=True)
