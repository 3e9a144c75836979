"""Both story worlds, and an espeak-ng engine for a whole file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import StoryWorld
from speechscale.speech.synthesis.espeak import EspeakEngine

SIZES = ("small", "large")


@pytest.fixture(scope="session", params=SIZES)
def world(request: pytest.FixtureRequest) -> StoryWorld:
    return StoryWorld(load_lexicon(request.param))


@pytest.fixture(scope="session")
def small() -> StoryWorld:
    return StoryWorld(load_lexicon("small"))


@pytest.fixture(scope="session")
def large() -> StoryWorld:
    return StoryWorld(load_lexicon("large"))


@pytest.fixture(scope="module")
def espeak() -> Iterator[EspeakEngine]:
    with EspeakEngine() as engine:
        yield engine


@pytest.fixture(scope="session")
def pronunciations(world: StoryWorld) -> dict[str, list[str]]:
    """The phoneme mnemonics of the words in a world's texts."""
    rng = Random(0)
    words: set[str] = set()
    for _ in range(200 if world.lexicon.depth == 1 else 6000):
        for sentence in (*world.prose(rng), *world.story(rng).sentences):
            words.update(sentence.lower().removesuffix(".").split())
    with EspeakEngine() as engine:
        return {word: engine.phonemize(word, "en-us") for word in sorted(words)}
