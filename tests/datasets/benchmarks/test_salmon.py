"""SALMon as folders of wavs."""

from __future__ import annotations

from pathlib import Path

from benchmark_files import prepare, prepare_refused, short_wav
from corpus_files import lines

from speechscale.datasets.benchmarks import detect_benchmark_layout


def test_salmon_as_wavs(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "salmon_benchmark"
    for part in ("bg_alignment", "rir_consistency"):
        for index in (0, 2, 10):
            for option in (0, 1):
                short_wav(root / part / f"sample_{index}_{option}.wav")
    lines(root / "rir_consistency" / "metadata.json", ["[]"])
    assert detect_benchmark_layout(root) == detect_benchmark_layout(root / "bg_alignment") == "salmon"
    result = prepare(root, out)
    assert set(result.pairs) == {f"{p}/{i}" for p in ("bg_alignment", "rir_consistency") for i in (0, 2, 10)}
    correct, wrong = result.pairs["rir_consistency/10"]
    assert (correct.audio, wrong.audio) == (
        "rir_consistency/sample_10_0.wav",
        "rir_consistency/sample_10_1.wav",
    )
    label = result.labels[correct.id]
    assert (label.task, label.condition, label.phenomenon) == ("salmon", "rir_consistency", "rir_consistency")
    assert result.summary.notes[0].startswith("SALMon has 8 parts, here are 2: no bg_all_consistency, ")
    assert "salmon bg_alignment: 3 items, officially 200 (197 fewer)" in result.summary.notes
    # In the order of names the wrong member would now be first, and so be taken for the correct one.
    (root / "bg_alignment" / "sample_2_0.wav").unlink()
    short_wav(root / "bg_alignment" / "sample_10_2.wav")
    short_wav(root / "bg_alignment" / "sample.wav")
    message, skips, remaining = prepare_refused(root, tmp_path / "again")
    assert {skip.id: skip.reason for skip in skips} == {
        "salmon/bg_alignment/2": "unpaired",
        "salmon/bg_alignment/10": "not two members",
        "bg_alignment/sample.wav": "bad name",
    }
    assert "only its wrong member, bg_alignment/sample_2_1.wav" in message and len(remaining.pairs) == 4
