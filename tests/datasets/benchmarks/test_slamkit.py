"""slamkit's trees of numbered wavs."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import prepare, prepare_refused, short_wav

from speechscale.datasets.benchmarks import detect_benchmark_layout
from speechscale.errors import UserError


def test_trees_of_phenomena_and_of_voices(tmp_path: Path, out: Path) -> None:
    tree = tmp_path / "reference" / "sblimp"
    for folder in ("adjunct_island", "npi"):
        for number in (0, 1, 2, 3, 10, 11):
            short_wav(tree / folder / f"{number}+some_words+A.wav")
    assert detect_benchmark_layout(tree) == "slamkit"
    result = prepare(tree, out)
    assert set(result.pairs) == {
        f"{folder}/{number}" for folder in ("adjunct_island", "npi") for number in (0, 1, 5)
    }
    correct, wrong = result.pairs["npi/5"]  # as text, 10 comes before 2
    assert (correct.audio, wrong.audio) == ("npi/10+some_words+A.wav", "npi/11+some_words+A.wav")
    assert result.labels[correct.id].phenomenon == "npi" and not correct.speaker
    voices = prepare(tree, tmp_path / "voices", subfolders="voice")
    assert voices.summary.groups == {("sblimp", ""): 3} and voices.summary.pairs == {("sblimp", ""): 6}
    assert voices.labels["sblimp/npi/10+some_words+A"].voice == "npi"
    with pytest.raises(UserError, match="--subfolders speaker: no such kind; known: voice"):
        prepare(tree, out, subfolders="speaker")


def test_a_missing_file_does_not_shift_the_other_pairs(tmp_path: Path, out: Path) -> None:
    tree = tmp_path / "swuggy_inter"
    for number in (0, 1, 3, 4, 5, 6, 7):
        short_wav(tree / "a" / f"{number}_w.wav")
    _, skips, remaining = prepare_refused(tree, out)
    assert [(skip.id, skip.reason) for skip in skips] == [("swuggy/a/1", "unpaired")]
    assert {name: (a.audio, b.audio) for name, (a, b) in remaining.pairs.items()} == {
        f"a/{k}": (f"a/{2 * k}_w.wav", f"a/{2 * k + 1}_w.wav") for k in (0, 2, 3)
    }


def test_names_that_contradict_numbers(tmp_path: Path, out: Path) -> None:
    tree = tmp_path / "ms_sSC"
    for name in ("0_x_correct", "1_x_incorrect", "8_s_correct", "9_t_incorrect", "2_y_incorrect",
                 "3_y_correct", "4_z_correct", "4_u_correct",
                 "5_z_incorrect", "6_v_correct", "7_v_incorrect", "notes"):  # fmt: skip
        short_wav(tree / "voice-a" / f"{name}.wav")
    _, skips, remaining = prepare_refused(tree, out, layout="slamkit")
    assert {skip.id: skip.reason for skip in skips} == {
        "sstorycloze/1/voice-a": "labels disagree",
        "sstorycloze/2/voice-a": "same number",
        "sstorycloze/4/voice-a": "labels disagree",  # their names are of two stories
        "voice-a/notes.wav": "bad name",
    }
    assert set(remaining.pairs) == {"0/voice-a", "3/voice-a"} and remaining.utterances[0].speaker == "voice-a"
    assert remaining.labels[remaining.utterances[2].id].group_id == "v"  # by its story, not by its number
    for number in range(1, 5):
        short_wav(tmp_path / "sblimp" / "a" / f"{number}+w.wav")
    with pytest.raises(UserError, match="numbered from 1 to 4, wanted from an even number"):
        prepare(tmp_path / "sblimp", out)
