"""A submission folder, read by the published ZeroSpeech toolkit.

zerospeech-benchmarks 0.9.4 requires pydantic 1, so it needs an environment of its own, given to this test by:

    python -m venv zr && zr/bin/pip install zerospeech-benchmarks==0.9.4
    ZEROSPEECH_PYTHON=zr/bin/python pytest tests/evals/test_zerospeech_reader.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

from speechscale.evals.conventions import PRESETS
from speechscale.evals.submission import write_submission
from speechscale.records.scores import COLUMNS

PYTHON = os.environ.get("ZEROSPEECH_PYTHON", "")
FOLDERS = {"swuggy": "lexical", "sblimp": "syntactic"}
SPLITS = ("dev", "test")
READER = """
import sys
from pathlib import Path
from zerospeech.submissions.sLM21 import SLM21Submission
submission = SLM21Submission.load(Path(sys.argv[1]), tasks=("lexical", "syntactic"), sets=("dev", "test"))
print("meta", submission.meta.benchmark_name, "params", submission.params.syntactic.score_files_type)
print("valid", submission.valid)
for answer in ~submission.validation_output:
    print(answer)
print("meta valid", submission.meta.is_valid())
for answer in ~submission.meta.validation_context:
    print(answer)
"""


def stem(task: str, split: str, number: int, member: str) -> str:
    return f"{task}{split}{number}{member}"


def toolkit_home(folder: Path) -> Path:
    """The toolkit's data folder, with three pairs per split. An old index is not downloaded again."""
    dataset = folder / "datasets" / "sLM21-dataset"
    subsets = {}
    for task, kind in FOLDERS.items():
        for split in SPLITS:
            wavs = [f"{kind}/{split}/{stem(task, split, n, member)}.wav" for n in range(3) for member in "cw"]
            listed = {
                "item_type": "filelist_item",
                "file_type": "wav",
                "relative_path": True,
                "files_list": wavs,
            }
            subsets[f"{kind}_{split}"] = {"items": {"wav_list": listed}}
    dataset.mkdir(parents=True)
    (dataset / "index.json").write_text(json.dumps({"subsets": subsets}))
    item = {
        "name": "sLM21-dataset",
        "zip_url": "https://localhost/slm21.zip",
        "md5sum": "0",
        "total_size": 1,
    }
    index = {"last_modified": "2020-01-01T00:00:00", "datasets": [item], "checkpoints": [], "samples": []}
    (folder / "repo.json").write_text(json.dumps(index))
    os.utime(folder / "repo.json", (1.6e9, 1.6e9))
    return folder


def read_submission(folder: Path, at: Path) -> str:
    known = os.environ | {"APP_DIR": str(at)}
    known.pop("PYTHONPATH", None)
    done = subprocess.run([PYTHON, "-c", READER, folder], env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not PYTHON, reason="ZEROSPEECH_PYTHON names no environment with zerospeech-benchmarks")
def test_toolkit_accepts_a_submission(tmp_path: Path) -> None:
    rows = [
        dict.fromkeys(COLUMNS)
        | {"task": task, "condition": split, "group_id": str(n), "pair_id": f"{split}{n}"}
        | {f"name_{member}": stem(task, split, n, member[0]) for member in ("correct", "wrong")}
        | {"nll_correct": 1.5 + n, "nll_wrong": 1e-5 * n, "units_correct": 3, "units_wrong": 3}
        for task in FOLDERS
        for split in SPLITS
        for n in range(3)
    ]
    scores = pl.DataFrame(rows, schema=COLUMNS)
    folder, at = tmp_path / "submission", toolkit_home(tmp_path / "zr-data")
    assert not write_submission(scores, [], folder, PRESETS["zerospeech"], description="d")
    output = read_submission(folder, at)
    assert "meta sLM21 params .txt\nvalid True" in output
    assert sum("expected files found" in line for line in output.splitlines()) == 4
    wanted = [
        line.rpartition(">> ")[2].split(":")[0] for line in output.splitlines() if "ValidationError" in line
    ]
    blanks = ("author_label", "authors", "institution")
    assert wanted == ["Username is required", *(f"publication.{name}" for name in blanks)]  # left to fill in
    path = folder / "syntactic" / "dev.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert "\nvalid False" in read_submission(folder, at)
