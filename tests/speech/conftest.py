"""Both story worlds, and a synthesiser for a whole file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import StoryWorld
from speechscale.speech.synthesis.espeak import EspeakEngine

SIZES = ("small", "large")


@pytest.fixture(scope="session", params=SIZES)
def world(request) -> StoryWorld:
    return StoryWorld(load_lexicon(request.param))


@pytest.fixture(scope="session")
def small() -> StoryWorld:
    return StoryWorld(load_lexicon("small"))


@pytest.fixture(scope="session")
def large() -> StoryWorld:
    return StoryWorld(load_lexicon("large"))


@pytest.fixture(scope="module")
def speaker() -> Iterator[EspeakEngine]:
    with EspeakEngine() as running:
        yield running


@pytest.fixture(scope="session")
def spoken_words(world) -> dict[str, list[str]]:
    """The words of a world's texts with their mnemonics."""
    rng = Random(0)
    words: set[str] = set()
    for _ in range(200 if world.lexicon.depth == 1 else 6000):
        for sentence in (*world.prose(rng), *world.story(rng).sentences):
            words.update(sentence.lower().removesuffix(".").split())
    with EspeakEngine() as running:
        return {word: running.phonemes(word, "en-us") for word in sorted(words)}
