"""Chance in a small form: random preferences over words on the benchmark items of the story world."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from speechscale.evals.accuracy import ItemAnswers, macro_accuracy, micro_accuracy
from speechscale.records.items import Item
from speechscale.records.runs import Score
from speechscale.speech.storyworld.items import minimal_pairs
from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import StoryWorld

MODELS = 200


@pytest.fixture(scope="module")
def items() -> dict[str, list[Item]]:
    """Sixty items or more of each phenomenon."""
    by_phenomenon: dict[str, list[Item]] = defaultdict(list)
    for item in minimal_pairs(StoryWorld(load_lexicon("small")), 60, seed=1):
        by_phenomenon[item.phenomenon].append(item)
    return by_phenomenon


def random_answers(items: dict[str, list[Item]], longest: int) -> dict[str, np.ndarray]:
    """Answers of random models (models, items): each word, or also each two words in a row, has a random weight."""
    rng = np.random.default_rng(0)
    preferences: dict[tuple[str, ...], np.ndarray] = defaultdict(lambda: rng.standard_normal(MODELS))

    def log_probability(text: str) -> np.ndarray:
        words = text.split()
        grams = [tuple(words[at : at + n]) for n in range(1, longest + 1) for at in range(len(words) + 1 - n)]
        return np.mean([preferences[gram] for gram in grams], axis=0)

    return {
        phenomenon: np.stack(
            [log_probability(item.correct) > log_probability(item.wrong) for item in own], axis=1
        ).astype(float)
        for phenomenon, own in items.items()
    }


def item_answers(items: list[Item], correct: np.ndarray) -> ItemAnswers:
    labels = [np.array([getattr(item, name) for item in items]) for name in ("contrast", "template")]
    return ItemAnswers(correct, np.ones(len(items)), *labels)


def share_that_holds_half(scores: list[Score]) -> float:
    return float(np.mean([score.low <= 0.5 <= score.high for score in scores]))


def test_preferences_for_words_score_exactly_a_half(items):
    """Each word is right as often as it is wrong, so that a model of single words knows nothing of any phenomenon."""
    for phenomenon, correct in random_answers(items, longest=1).items():
        assert (correct.mean(axis=1) == 0.5).all(), phenomenon


def test_intervals_hold_chance_for_models_that_learned_nothing(items):
    """Preferences for two words in a row, too, which several contrasts share: the hardest case (docs/LOG.md)."""
    answers = random_answers(items, longest=2)
    held = {
        phenomenon: share_that_holds_half(
            [micro_accuracy(item_answers(own, correct)) for correct in answers[phenomenon]]
        )
        for phenomenon, own in items.items()
    }
    assert min(held.values()) >= 0.85, held
    assert 0.90 <= np.mean(list(held.values())) <= 0.99, held
    macro = [
        macro_accuracy([item_answers(own, answers[phenomenon][k]) for phenomenon, own in items.items()])
        for k in range(MODELS)
    ]
    assert 0.90 <= share_that_holds_half(macro) <= 0.99
