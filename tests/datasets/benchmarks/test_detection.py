"""Detection of layouts and tasks by the names of files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import prepare, short_wav

from speechscale.datasets.benchmarks import BENCHMARK_LAYOUTS, open_benchmark
from speechscale.errors import UserError
from speechscale.records.items import task_from_names


def test_a_path_that_matches_no_layout_or_two_layouts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        open_benchmark(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="looks like no benchmark; say --layout, one of zerospeech, "):
        open_benchmark(tmp_path / "empty")
    with pytest.raises(UserError, match=r"no such layout \(did you mean 'storycloze'\?\)"):
        open_benchmark(tmp_path / "empty", "storyclose")
    short_wav(tmp_path / "two" / "0_x_correct.wav")
    short_wav(tmp_path / "two" / "voice" / "0_x_correct.wav")
    with pytest.raises(UserError, match="could be storycloze or slamkit; say --layout"):
        open_benchmark(tmp_path / "two")


@pytest.mark.parametrize("layout", sorted(set(BENCHMARK_LAYOUTS) - {"jsonl", "slm"}))
def test_an_empty_folder_is_an_error_in_every_layout(tmp_path: Path, out: Path, layout: str) -> None:
    (tmp_path / "tSC").mkdir()
    with pytest.raises(UserError, match=r"wanted|no \.parquet files|no lexical or syntactic folder"):
        prepare(tmp_path / "tSC", out, layout=layout)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("tStoryCloze", "tstorycloze"), ("sStoryCloze", "sstorycloze"), ("ms_sSC", "sstorycloze"),
        ("tSC", "tstorycloze"),
        ("Topic-Story-Cloze", "tstorycloze"), ("spoken_story_cloze", "sstorycloze"), ("swuggy_inter", "swuggy"),
        ("sBLIMP", "sblimp"), ("salmon_benchmark", "salmon"), ("multispeaker-storycloze", None), ("data", None),
    ],
)  # fmt: skip
def test_task_from_names_of_folders(name: str, task: str | None) -> None:
    assert task_from_names(name) == task
