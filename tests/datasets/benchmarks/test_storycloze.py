"""sStoryCloze and tStoryCloze as folders of wavs."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import prepare, prepare_refused, short_wav

from speechscale.datasets.benchmarks import detect_benchmark_layout
from speechscale.errors import UserError


def test_stories_whose_file_part_numbers_recordings(tmp_path: Path, out: Path) -> None:
    """The release: 0_<story>_correct.wav and 1_<story>_incorrect.wav, so that only the pair part joins."""
    folder = tmp_path / "tSC"
    for number, story in enumerate(("138d5bfb-05cc", "b929f263-1dcd")):
        short_wav(folder / f"{2 * number}_{story}_correct.wav")
        short_wav(folder / f"{2 * number + 1}_{story}_incorrect.wav")
    (folder / "._0_138d5bfb-05cc_correct.wav").write_bytes(b"left behind by an archive")
    assert detect_benchmark_layout(folder) == "storycloze"
    result = prepare(folder, out)
    assert {name: (a.id, b.id) for name, (a, b) in result.pairs.items()} == {
        "138d5bfb-05cc": ("tstorycloze/0_138d5bfb-05cc_correct", "tstorycloze/1_138d5bfb-05cc_incorrect"),
        "b929f263-1dcd": ("tstorycloze/2_b929f263-1dcd_correct", "tstorycloze/3_b929f263-1dcd_incorrect"),
    }
    assert result.summary.notes == ["tstorycloze: 2 items, officially 1,871 (1,869 fewer)"]


def test_stories_whose_file_part_names_the_story(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "stories"
    for file in ("a_b_c", "a_b", "a"):
        for pair in ("0", "1"):
            for label in ("correct", "incorrect"):
                short_wav(folder / f"{file}_{pair}_{label}.wav")
    with pytest.raises(UserError, match="does not say which task it is; say it with --task"):
        prepare(folder, out)
    result = prepare(folder, out, task="sstorycloze")
    assert set(result.pairs) == {f"{file}_{pair}" for file in ("a_b_c", "a_b", "a") for pair in "01"}
    assert result.labels["sstorycloze/a_b_0_correct"].group_id == "a_b_0"


def test_unpaired_stories_and_bad_names(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "sStoryCloze"
    for name in ("0_x_correct", "1_x_incorrect", "2_y_correct", "readme_correctly", "4_z_incorrect"):
        short_wav(folder / f"{name}.wav")
    message, skips, remaining = prepare_refused(folder, out)
    assert {skip.id: skip.reason for skip in skips} == {
        "readme_correctly.wav": "bad name", "sstorycloze/y": "unpaired", "sstorycloze/z": "unpaired"
    }  # fmt: skip
    assert "2_y_correct.wav, and no wrong one" in message and set(remaining.pairs) == {"x"}
    for name in ("x_mutual", "x_correct", "x_incorrect"):
        short_wav(tmp_path / "cm_sSC" / f"1_{name}.wav")
    with pytest.raises(UserError, match="prompt and endings are in files of their own"):
        prepare(tmp_path / "cm_sSC", out)
