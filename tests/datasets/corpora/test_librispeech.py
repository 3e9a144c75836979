"""LibriSpeech as OpenSLR releases it."""

from __future__ import annotations

from pathlib import Path

from corpus_files import audio, lines, list_corpus

from speechscale.datasets.corpora import detect_corpus_layout


def librispeech(folder: Path) -> Path:
    for subset in ("train-clean-100", "dev-clean", "test-other"):
        for speaker, chapter in (("84", "121"), ("19", "198")):
            place = folder / subset / speaker / chapter
            names = [f"{speaker}-{chapter}-{number:04d}" for number in range(2)]
            for number, name in enumerate(names):
                audio(place / f"{name}.flac", 0.5 + number)
            lines(place / f"{speaker}-{chapter}.trans.txt", [f"{name} WORDS OF {name}" for name in names])
    return folder


def test_librispeech(tmp_path: Path, out: Path) -> None:
    folder = librispeech(tmp_path / "LibriSpeech")
    assert detect_corpus_layout(folder) == detect_corpus_layout(folder / "dev-clean") == "librispeech"
    result = list_corpus(folder, out)
    assert len(result.ids) == 4 and len(result.skips) == 8  # the same names in three subsets, made so above
    (tmp_path / "LibriSpeech" / "dev-clean").rename(tmp_path / "dev")
    subset = list_corpus(folder / "test-other", tmp_path / "sub.jsonl", dataset="librispeech")
    utterance = subset.by_id["librispeech/84-121-0001"]
    assert (utterance.speaker, utterance.split, utterance.duration) == ("84", "test", 1.5)
    assert utterance.transcript == "WORDS OF 84-121-0001"
    assert utterance.extra == {"subset": "test-other", "chapter": "121"}
    assert utterance.audio == "84/121/84-121-0001.flac"
    train = list_corpus(folder / "train-clean-100", tmp_path / "train.jsonl")
    assert (
        train.ids_of_split("train") == set(train.ids) and train.summary.test_draw is None
    )  # its test is another folder
