"""Submission folder of ZeroSpeech 2021 (sLM21): one line `stem score` per recording, higher scores being better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from speechscale.errors import UserError
from speechscale.evals.conventions import compared_nll
from speechscale.records.scores import Convention
from speechscale.records.seal import atomic_directory

_FOLDERS = {"swuggy": "lexical", "sblimp": "syntactic"}
_SPLITS = ("dev", "test")


def write_submission(
    scores: pl.DataFrame, not_scored: Sequence[str], folder: Path, convention: Convention, *, description: str
) -> list[str]:
    """Write `meta.yaml`, `params.yaml` and the score files of the splits that were scored.

    Args:
        scores: a score table (`records/scores.py`).
        not_scored: pairs without a score, task/pair_id of each, including those without a row in `scores`.
        folder: must not exist.
        convention: decides which likelihood is submitted.
        description: of the model. The author and the training set are left to fill in.

    Returns:
        Names of the score files whose splits were not scored.

    Raises:
        UserError: the folder exists, nothing of sWUGGY or sBLIMP was scored, or some of their pairs were not.
    """
    files = {
        f"{_FOLDERS[task]}/{split}.txt": scores.filter(
            (pl.col("task") == task) & (pl.col("condition") == split)
        )
        for task in _FOLDERS
        for split in _SPLITS
    }
    scored = {name: table for name, table in files.items() if table.height}
    if not scored:
        raise UserError(
            f"{folder}: no pair of sWUGGY or sBLIMP (tasks swuggy, sblimp; conditions dev, test) was scored, so there "
            "is nothing to submit."
        )
    if without := [name for name in not_scored if name.split("/")[0] in _FOLDERS]:
        raise UserError(
            f"{folder}: {len(without)} pairs have no score, the first {without[0]}; a submission has all."
        )
    with atomic_directory(folder) as staging:
        for name, table in scored.items():
            path = staging / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(_score_lines(table, convention), encoding="utf-8")
        # JSON is valid YAML.
        (staging / "meta.yaml").write_text(json.dumps(_meta(description), indent=1) + "\n", encoding="utf-8")
        params = {"quiet": False, "syntactic": {"score_files_type": ".txt"}}
        (staging / "params.yaml").write_text(json.dumps(params, indent=1) + "\n", encoding="utf-8")
    return [name for name, table in files.items() if not table.height]


def _score_lines(table: pl.DataFrame, convention: Convention) -> str:
    """One line per recording, sorted by stem. A recording of several pairs has one score."""
    members = pl.concat(
        table.select(stem=f"name_{member}", score=-compared_nll(member, convention))
        for member in ("correct", "wrong")
    )
    return "".join(f"{stem} {score!r}\n" for stem, score in members.unique("stem").sort("stem").iter_rows())


def _meta(description: str) -> dict[str, object]:
    return {
        "username": None,
        "submission_id": None,
        "benchmark_name": "sLM21",
        "model_info": {
            "model_id": None,
            "system_description": description,
            "train_set": "<to fill in>",
            "gpu_budget": None,
        },
        "publication": {
            "author_label": "<to fill in>",
            "authors": "<to fill in>",
            "paper_title": None,
            "paper_url": None,
            "publication_year": 2026,
            "institution": "<to fill in>",
            "team": None,
        },
        "open_source": True,
        "code_url": None,
    }
