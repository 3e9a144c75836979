"""The report on a listed corpus."""

from __future__ import annotations

from pathlib import Path

from corpus_files import audio, lines

from speechscale.jobs.list_corpus import SplitOptions, list_corpus


def test_report_states_splits_draw_skips_and_root(tmp_path: Path) -> None:
    audio(tmp_path / "wavs" / "a.wav", 1.0)
    rows = [
        {"id": f"u{number}", "audio": "wavs/a.wav", "offset": number / 4, "duration": 0.25}
        for number in range(4)
    ]
    rows.append({"id": "lost", "audio": "wavs/b.wav"})
    corpus = lines(tmp_path / "lists" / "corpus.jsonl", rows)
    out = tmp_path / "out" / "manifest.jsonl"
    report = list_corpus(corpus, out, SplitOptions(seed=3), root=tmp_path)
    assert str(report).splitlines() == [
        f"{out}: 4 utterances, 0.00 hours (jsonl layout).",
        "  test: 1 utterances, 0.00 hours",
        "  train: 3 utterances, 0.00 hours",
        "The test set was drawn with seed 3: utterance by utterance, no two speakers being known.",
        f"1 skipped: 1 missing; {out.with_suffix('.skips.jsonl')} says why.",
        f"Its paths are relative to {tmp_path}: give --root {tmp_path} to kmeans and encode.",
    ]


def test_manifest_is_written_next_to_the_list_by_default(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    report = list_corpus(lines(tmp_path / "corpus.jsonl", [{"audio": "a.wav"}]), None, SplitOptions())
    assert report.summary.manifest == tmp_path / "manifest.jsonl" and report.summary.manifest.is_file()
