"""Quality of a codebook: phone measures, usage and runs computed by hand, and the score of random units."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from speechscale.errors import UserError
from speechscale.records.manifest import Utterance
from speechscale.units.codebook import Codebook
from speechscale.units.quality import CodebookEvaluator, manifest_phones, phone_of_each_frame, phone_quality


def test_phone_measures_equal_those_by_hand() -> None:
    # two phones a, b; units 0 and 1:   a: 3 1   b: 1 3   of 8 frames
    found = phone_quality(Counter({("a", 0): 3, ("a", 1): 1, ("b", 0): 1, ("b", 1): 3}))
    assert (found.phones, found.frames) == (2, 8)
    assert found.phone_purity == pytest.approx(6 / 8)
    assert found.cluster_purity == pytest.approx(6 / 8)
    # I / H = 1 - H(1/4) in bits
    assert found.normalised_mutual_information == pytest.approx(
        1 + 0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)
    )


def test_purities_differ_when_phones_have_several_units() -> None:
    # each unit is of one phone, but a is split over units 0 and 1
    found = phone_quality(Counter({("a", 0): 2, ("a", 1): 2, ("b", 2): 4}))
    assert found.phone_purity == 1.0
    assert found.cluster_purity == pytest.approx(6 / 8)
    assert found.normalised_mutual_information == pytest.approx(1.0)


def test_units_equal_to_phones_score_one_and_random_units_near_zero() -> None:
    rng = np.random.default_rng(0)
    phones = rng.choice(40, 100_000, p=rng.dirichlet(np.ones(40)))
    same = phone_quality(Counter((f"p{p}", int(p) + 3) for p in phones))
    assert same.normalised_mutual_information == pytest.approx(1.0)
    assert [same.phone_purity, same.cluster_purity] == pytest.approx([1.0, 1.0])
    units = rng.integers(0, 50, len(phones))
    none = phone_quality(Counter((f"p{p}", int(u)) for p, u in zip(phones, units, strict=True)))
    assert none.normalised_mutual_information < 0.005
    assert none.phone_purity == pytest.approx(np.bincount(phones).max() / len(phones), abs=0.01)
    shared = mutual_info_score(phones, units)  # scikit-learn's, in nats
    shares = np.bincount(phones)[np.bincount(phones) > 0] / len(phones)
    assert none.normalised_mutual_information == pytest.approx(
        shared / -(shares * np.log(shares)).sum(), rel=1e-6
    )


def test_frames_take_the_phone_at_their_centre() -> None:
    phones = [("a", 0.01, 0.05), ("b", 0.05, 0.12), ("c", 0.16, 0.2)]
    # middles at 0.02, 0.06, 0.10, 0.14 (between), 0.18, 0.22 (after)
    assert phone_of_each_frame(phones, 6, 25.0) == ["a", "b", "b", None, "c", None]
    assert phone_of_each_frame([("a", 0.03, 0.05)], 1, 25.0) == [None]


def test_usage_runs_and_inertia_equal_those_by_hand() -> None:
    book = Codebook(np.array([[0.0], [1.0], [9.0]], np.float32), np.array([5.0], np.float32), 2.0, {})
    evaluator = CodebookEvaluator(book, frame_rate=25.0)
    # standardised: 0, 0, 1, 1.5 (unit 1, off by 0.5), then another utterance: 0
    evaluator.add(
        np.array([[5.0], [5.0], [7.0], [8.0]], np.float32), 0.16, [("x", 0.0, 0.08), ("y", 0.08, 0.16)]
    )
    evaluator.add(np.array([[5.0]], np.float32), 0.04, None)
    quality = evaluator.quality(held_out=True)
    assert (quality.utterances, quality.frames, quality.clusters, quality.units_used) == (2, 5, 3, 2)
    assert quality.inertia == pytest.approx(1.0 / 5)  # one frame, off by 1 in its own units
    assert quality.variance_explained == pytest.approx(1 - 0.2 / np.var([5, 5, 7, 8, 5]))
    assert quality.perplexity == pytest.approx(np.exp(-(0.6 * np.log(0.6) + 0.4 * np.log(0.4))))
    assert quality.run_frames == pytest.approx(5 / 3)
    assert quality.run_milliseconds == pytest.approx(5 / 3 * 40)
    assert quality.units_per_second == pytest.approx(3 / 0.2)
    assert quality.phones and quality.phones.normalised_mutual_information == pytest.approx(1.0)
    assert quality.phones.frames == 4
    assert "2 of 3" in str(quality) and "PNMI 1.000" in str(quality)


def test_evaluation_without_frames_is_refused() -> None:
    book = Codebook(np.zeros((2, 1), np.float32), np.zeros(1, np.float32), 1.0, {})
    with pytest.raises(UserError, match="cannot be measured"):
        CodebookEvaluator(book, 25.0).quality(held_out=True)


def test_invalid_phones_of_a_manifest_are_refused() -> None:
    def utterance(**extra: object) -> Utterance:
        return Utterance(id="u1", dataset="d", split="train", extra=extra)

    assert manifest_phones(utterance()) is None
    assert manifest_phones(utterance(phones=[["AH", 0, 0.1], ["B", 0.1, 0.2]])) == [
        ("AH", 0.0, 0.1),
        ("B", 0.1, 0.2),
    ]
    for broken in (
        7,
        ["AH"],
        [["AH", 0.2, 0.1]],
        [["AH", 0, 0.2], ["B", 0.1, 0.3]],
        [[1, 0, 1]],
        [["A", "x", 1]],
    ):
        with pytest.raises(UserError, match=r"u1: extra\.phones must be a list"):
            manifest_phones(utterance(phones=broken))


def test_runs_do_not_span_utterances() -> None:
    """Two utterances that end and begin with the same unit are two runs."""
    book = Codebook(np.array([[0.0], [1.0]], np.float32), np.zeros(1, np.float32), 1.0, {})
    units = np.random.default_rng(0).integers(0, 2, 200)
    evaluator = CodebookEvaluator(book, 50.0)
    for some in np.split(units, 4):
        evaluator.add(some[:, None].astype(np.float32), 1.0, None)
    runs = sum(1 + sum(a != b for a, b in pairwise(some)) for some in np.split(units, 4))
    assert evaluator.quality(held_out=False).units_per_second == pytest.approx(runs / 4)
