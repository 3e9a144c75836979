"""Variances over clusters against matrices, bootstrap and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from speechscale.evals.accuracy import ItemAnswers, macro_accuracy, micro_accuracy
from speechscale.evals.clusters import clustered_variance, find_clusters

Codes = NDArray[np.int64]


def names(codes: Codes, prefix: str = "c") -> NDArray[np.str_]:
    return np.array([f"{prefix}{code}" for code in codes])


def simulated(rng: np.random.Generator, sizes: list[int], correlation: float) -> ItemAnswers:
    """Answers that are right by 0.5 on average, with a correlation of two items of a contrast."""
    contrasts = np.repeat(np.arange(len(sizes)), sizes)
    shape = 0.5 * (1 - correlation) / correlation if correlation else 1e9
    correct = rng.random(len(contrasts)) < rng.beta(shape, shape, len(sizes))[contrasts]
    return ItemAnswers(correct.astype(float), np.ones(len(contrasts)), names(contrasts))


@pytest.mark.parametrize(
    ("sizes", "correlation"),
    [
        ([5] * 30, 0.0),
        ([5] * 30, 0.4),
        ([20] * 6, 0.2),
        ([40] * 3 + [2] * 50, 0.3),
        ([60, 30, 15, 8, 4, 2] * 2, 0.5),
    ],
)
def test_intervals_of_correlated_items_hold_chance(sizes: list[int], correlation: float) -> None:
    rng = np.random.default_rng(0)
    scores = [micro_accuracy(simulated(rng, sizes, correlation)) for _ in range(600)]
    held = np.mean([score.low <= 0.5 <= score.high for score in scores])
    assert 0.92 <= held <= 0.985, held


def test_intervals_over_items_would_not_hold_chance() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        answers = simulated(rng, [10] * 15, 0.5)
        score = micro_accuracy(ItemAnswers(answers.correct, answers.pairs))
        held += score.low <= 0.5 <= score.high
    assert held / 300 < 0.75


def test_variance_is_that_of_the_cluster_bootstrap() -> None:
    """Clusters of different sizes, whole clusters drawn again."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 9, 150)
    answers = simulated(rng, sizes.tolist(), 0.3)
    codes = np.repeat(np.arange(150), sizes)
    right, count = np.bincount(codes, weights=answers.correct), np.bincount(codes)
    drawn = rng.integers(0, 150, (5000, 150))
    means = right[drawn].sum(1) / count[drawn].sum(1)
    found = clustered_variance(answers.residuals, answers.weights, [codes])
    assert math.sqrt(found.variance) == pytest.approx(means.std(), rel=0.05)
    assert 100 < found.freedom < 149


def test_equal_clusters_have_the_textbook_correction() -> None:
    """Factor G/(G - 1), and G - 1 degrees of freedom."""
    rng = np.random.default_rng(2)
    answers = simulated(rng, [7] * 9, 0.3)
    means = answers.correct.reshape(9, 7).mean(axis=1)
    found = clustered_variance(answers.residuals, answers.weights, [np.repeat(np.arange(9), 7)])
    assert found.variance == pytest.approx(means.var(ddof=1) / 9)
    assert found.freedom == pytest.approx(8)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_unequal_clusters_are_unbiased(correlation: float) -> None:
    """In the mean over simulations the variance is that of the accuracy, whatever the correlation."""
    rng = np.random.default_rng(3)
    sizes = [40, 20, 20, 10, 10, 5, 5, 3, 2, 1]
    codes = np.repeat(np.arange(10), sizes)
    estimates, accuracies = [], []
    for _ in range(4000):
        values = np.sqrt(correlation) * rng.normal(size=10)[codes]
        values += np.sqrt(1 - correlation) * rng.normal(size=len(codes))
        weights = np.full(len(codes), 1 / len(codes))
        residuals = (values - values.mean()) * weights
        estimates.append(clustered_variance(residuals, weights, [codes]).variance)
        accuracies.append(values.mean())
    assert np.mean(estimates) == pytest.approx(np.var(accuracies), rel=0.12)


def crossed(rng: np.random.Generator, contrasts: int, templates: int, items: int) -> ItemAnswers:
    """Answers decided by preferences of both the contrast and the template."""
    contrast, template = rng.integers(0, contrasts, items), rng.integers(0, templates, items)
    lean = rng.normal(size=contrasts)[contrast] + rng.normal(size=templates)[template]
    correct = (lean + rng.normal(size=items) > 0).astype(float)
    return ItemAnswers(correct, np.ones(items), names(contrast), names(template, "t"))


def test_intervals_of_crossed_clusters_hold_chance() -> None:
    rng = np.random.default_rng(4)
    scores = [micro_accuracy(crossed(rng, 40, 25, 300)) for _ in range(500)]
    assert 0.92 <= np.mean([score.low <= 0.5 <= score.high for score in scores]) <= 0.985
    one_way = [
        micro_accuracy(ItemAnswers(answers.correct, answers.pairs, answers.contrasts))
        for answers in (crossed(rng, 40, 25, 300) for _ in range(300))
    ]
    assert np.mean([score.low <= 0.5 <= score.high for score in one_way]) < 0.9


def test_two_ways_by_hand() -> None:
    """Contrast + template - both, each with its own factor; at least the smaller one that is not zero."""
    contrast, template = np.array([0, 0, 1, 1, 1, 2, 2, 2]), np.array([0, 1, 0, 1, 1, 0, 1, 0])
    weights = np.full(8, 1 / 8)
    for correct in ([1, 1, 0, 1, 1, 0, 1, 0], [0, 1, 1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1, 0, 0]):
        values = np.array(correct, float)
        residuals = (values - values.mean()) / 8
        one, two, both = (
            clustered_variance(residuals, weights, [codes]).variance
            for codes in (contrast, template, np.array([0, 1, 2, 3, 3, 4, 5, 4]))
        )
        found = clustered_variance(residuals, weights, [contrast, template])
        assert found.variance == pytest.approx(
            max(one + two - both, min(each for each in (one, two) if each))
        )
    assert one + two < both  # the last case would have a negative variance


def test_nested_templates_are_the_only_clusters() -> None:
    contrast = names(np.array([0, 0, 1, 1, 2, 2, 3, 3]))
    template = names(np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    (way,) = find_clusters(contrast, template).ways
    assert way.tolist() == [0] * 4 + [1] * 4
    assert find_clusters(contrast, names(np.zeros(8, int))).ways[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert find_clusters(names(np.arange(8)), None).ways == () == find_clusters(None, None).ways


def test_items_with_contrasts_of_their_own_have_the_interval_of_items() -> None:
    rng = np.random.default_rng(5)
    pairs = rng.integers(1, 4, 60).astype(float)
    groups = [rng.permutation(60)[:40], rng.permutation(60)[:20]]
    plain = [ItemAnswers(rng.binomial(pairs[g].astype(int), 0.6).astype(float), pairs[g]) for g in groups]
    labelled = [
        ItemAnswers(
            one.correct,
            one.pairs,
            names(np.arange(len(one.pairs)), f"{n}-"),
            names(np.arange(len(one.pairs))),
        )
        for n, one in enumerate(plain)
    ]
    for one, other in zip(plain, labelled, strict=True):
        assert micro_accuracy(one) == micro_accuracy(other)
    plain_macro, macro = (
        macro_accuracy(plain),
        macro_accuracy([ItemAnswers(a.correct, a.pairs, a.contrasts) for a in labelled]),
    )
    assert plain_macro == macro


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_few_clusters_that_agree_are_as_many_answers(clusters: int, value: float) -> None:
    codes = np.repeat(np.arange(clusters), 50)
    score = micro_accuracy(ItemAnswers(np.full(len(codes), value), np.ones(len(codes)), names(codes)))
    assert score.effective_items == pytest.approx(clusters) and score.items == 50 * clusters
    assert score.low <= 0.5 <= score.high and score.high - score.low > 0.4


def test_items_of_one_contrast_are_one_answer() -> None:
    correct = np.array([1.0] * 140 + [0.0] * 10)
    score = micro_accuracy(ItemAnswers(correct, np.ones(150), names(np.zeros(150, int))))
    assert (score.low, score.high, score.effective_items) == (0.0, 1.0, 1.0)


def test_mirrored_contrasts_narrow_the_interval() -> None:
    """A contrast in both directions: a preference for one member is right as often as wrong, so it moves no score."""
    rng = np.random.default_rng(6)
    codes = np.repeat(np.arange(60), 2)
    held, narrower = 0, 0
    for _ in range(400):
        lean = np.repeat(1.5 * rng.normal(size=60), 2) * np.tile([1, -1], 60)
        correct = (lean + rng.normal(size=120) > 0).astype(float)
        score = micro_accuracy(ItemAnswers(correct, np.ones(120), names(codes)))
        held += score.low <= 0.5 <= score.high
        narrower += (score.effective_items or 0) > 120
    assert 0.92 <= held / 400 <= 0.985 and narrower > 350


def test_macro_average_counts_contrasts_across_phenomena_once() -> None:
    """Phenomena that share all contrasts vary together; with contrasts of their own they do not."""
    rng = np.random.default_rng(7)
    held = {"shared": 0, "own": 0}
    widths = {"shared": 0.0, "own": 0.0}
    codes = np.repeat(np.arange(40), 3)
    for _ in range(400):
        p = rng.beta(0.5, 0.5, 40)
        for kind in held:
            phenomena = []
            for number in range(4):
                q = p if kind == "shared" else rng.beta(0.5, 0.5, 40)
                correct = (rng.random(120) < q[codes]).astype(float)
                prefix = "" if kind == "shared" else str(number)
                phenomena.append(ItemAnswers(correct, np.ones(120), names(codes, prefix)))
            score = macro_accuracy(phenomena)
            held[kind] += score.low <= 0.5 <= score.high
            widths[kind] += score.high - score.low
    assert all(0.92 <= count / 400 <= 0.985 for count in held.values()), held
    assert widths["shared"] > 1.5 * widths["own"]
