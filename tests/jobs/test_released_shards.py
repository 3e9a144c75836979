"""Labelled shards of the study's released code, scored as they are: against its arithmetic in a plain loop."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from released_shards import EOS, released_sblimp, write_released_shard
from unit_models import export_release

from speechscale.errors import UserError
from speechscale.evals.conventions import PRESETS
from speechscale.jobs.evaluate import evaluate
from speechscale.model.transformer import Transformer


def mean_nlls(model: Transformer, units: list[np.ndarray]) -> list[float]:
    """Mean over the units of each sample after EOS, one sample after the other, without the closing EOS."""
    found = []
    for sample in units:
        tokens = torch.tensor(sample, dtype=torch.int64)
        with torch.no_grad():
            logits = model(torch.cat([torch.tensor([EOS]), tokens[:-1]])[None])[0]
        found.append(torch.nn.functional.cross_entropy(logits, tokens).item())
    return found


def test_accuracies_and_likelihoods_agree_with_the_released_arithmetic(tmp_path: Path) -> None:
    """Comparisons by `group_id`, mean over the comparisons of a `pair_id`, then over phenomena (`evaluate.py`)."""
    rows, units = released_sblimp()
    write_released_shard(tmp_path / "data" / "shard-00000", rows, units)
    model = export_release(tmp_path / "slm")
    nlls = mean_nlls(model, units)
    comparisons: dict[object, dict[bool, float]] = defaultdict(dict)
    pair_of, phenomenon_of = {}, {}
    for row, nll in zip(rows, nlls, strict=True):
        comparisons[row["group_id"]][bool(row["correct"])] = nll
        pair_of[row["group_id"]], phenomenon_of[row["pair_id"]] = row["pair_id"], row["phenomenon"]
    by_pair = defaultdict(list)
    for group, nll in comparisons.items():
        by_pair[pair_of[group]].append(1.0 if nll[True] < nll[False] else 0.5 * (nll[True] == nll[False]))
    by_phenomenon = defaultdict(list)
    for pair, answers in by_pair.items():
        by_phenomenon[phenomenon_of[pair]].append(sum(answers) / len(answers))
    means = {name: sum(values) / len(values) for name, values in by_phenomenon.items()}

    found = evaluate(str(tmp_path / "slm"), [tmp_path / "data"], tmp_path / "out", PRESETS["official"])
    scores = found.headline_scores
    assert scores["sblimp"].accuracy == pytest.approx(sum(means.values()) / len(means), abs=1e-12)
    assert {name: scores[f"sblimp.{name}"].accuracy for name in means} == pytest.approx(means, abs=1e-12)
    assert scores["sblimp"].items == 12 and found.table.height == 24
    for row in found.table.iter_rows(named=True):
        for member, correct in (("correct", True), ("wrong", False)):
            mean = row[f"nll_{member}"] / row[f"units_{member}"]
            assert mean == pytest.approx(comparisons[row["pair_id"]][correct], abs=1.2e-6)


def test_ids_label_where_nothing_else_does(tmp_path: Path) -> None:
    """Without `group_id` the ending of the id tells the members apart; the folder names the task."""
    rng = np.random.default_rng(0)
    rows = [{"id": f"story{n}_{which}"} for n in range(4) for which in ("correct", "incorrect")]
    units = [rng.integers(0, EOS, 6) for _ in rows]
    write_released_shard(tmp_path / "tStoryCloze" / "shard-00000", rows, units)
    export_release(tmp_path / "slm")
    found = evaluate(str(tmp_path / "slm"), [tmp_path / "tStoryCloze"], tmp_path / "out", PRESETS["official"])
    assert found.table["pair_id"].sort().to_list() == ["story0", "story1", "story2", "story3"]
    assert found.headline_scores.keys() == {"tstorycloze"}


def test_row_without_any_label_is_named(tmp_path: Path) -> None:
    write_released_shard(
        tmp_path / "data" / "shard-00000", [{"id": "x", "dataset": "sblimp"}], [np.array([1])]
    )
    export_release(tmp_path / "slm")
    with pytest.raises(UserError, match="x has no benchmark label"):
        evaluate(str(tmp_path / "slm"), [tmp_path / "data"], tmp_path / "out", PRESETS["official"])
