"""The submission folder of ZeroSpeech 2021 (sLM21): one line a recording, `stem score`, the higher the better."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from speechscale.errors import UserError
from speechscale.evals.conventions import Convention, value_of
from speechscale.records.seal import atomic_directory

_FOLDERS = {"swuggy": "lexical", "sblimp": "syntactic"}
_SPLITS = ("dev", "test")


def write_submission(
    scores: pl.DataFrame, missing: Sequence[str], folder: Path, by: Convention, about: Mapping[str, str]
) -> list[str]:
    """Write `meta.yaml`, `params.yaml` and the score files of the splits that were scored; returns what is missing.

    Args:
        missing: pairs without a score, task/pair_id of each, also those that lack a member and so are not in `scores`.
        about: `description` and `train_set` of the model; who publishes it is left to fill in.

    Raises:
        UserError: the folder exists, nothing of sWUGGY or sBLIMP was scored, or not every pair of it was.
    """
    files = {
        f"{_FOLDERS[task]}/{split}.txt": scores.filter(
            (pl.col("task") == task) & (pl.col("condition") == split)
        )
        for task in _FOLDERS
        for split in _SPLITS
    }
    found = {name: table for name, table in files.items() if table.height}
    if not found:
        raise UserError(
            f"{folder}: no pair of sWUGGY or sBLIMP (tasks swuggy, sblimp; conditions dev, test) was scored, so there "
            "is nothing to submit."
        )
    if without := [name for name in missing if name.split("/")[0] in _FOLDERS]:
        raise UserError(
            f"{folder}: {len(without)} pairs have no score, the first {without[0]}; a submission has all."
        )
    with atomic_directory(folder) as aside:
        for name, table in found.items():
            path = aside / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(_lines(table, by), encoding="utf-8")
        # JSON is YAML, too.
        (aside / "meta.yaml").write_text(json.dumps(_meta(about), indent=1) + "\n", encoding="utf-8")
        params = {"quiet": False, "syntactic": {"score_files_type": ".txt"}}
        (aside / "params.yaml").write_text(json.dumps(params, indent=1) + "\n", encoding="utf-8")
    return [name for name, table in files.items() if not table.height]


def _lines(table: pl.DataFrame, by: Convention) -> str:
    """In the order of the stems. A recording of several pairs has one score."""
    members = pl.concat(
        table.select(stem=f"name_{member}", score=-value_of(member, by)) for member in ("correct", "wrong")
    )
    return "".join(f"{stem} {score!r}\n" for stem, score in members.unique("stem").sort("stem").iter_rows())


def _meta(about: Mapping[str, str]) -> dict[str, object]:
    return {
        "username": None,
        "submission_id": None,
        "benchmark_name": "sLM21",
        "model_info": {
            "model_id": None,
            "system_description": about["description"],
            "train_set": about["train_set"],
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
