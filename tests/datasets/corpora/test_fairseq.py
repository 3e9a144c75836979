"""fairseq manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_files import audio, list_corpus

from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.errors import UserError

NO_DRAW = SplitOptions(test_share=0)


def test_fairseq(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "audio"
    names = {"a b/c d.wav": 8000, "tab\there.flac": 4000, "ünï.wav": 16_000}
    for name, samples in names.items():
        audio(root / name, samples / 16_000)
    text = "".join([f"{root}\n", *(f"{name}\t{samples}\n" for name, samples in names.items())])
    for split in ("train", "valid"):
        (tmp_path / f"{split}.tsv").write_text(text)
    result = list_corpus(tmp_path / "train.tsv", out, NO_DRAW, dataset="d")
    assert [(u.audio, u.duration) for u in result.utterances] == [(n, s / 16_000) for n, s in names.items()]
    assert result.root == root.resolve() and not result.skips
    both = list_corpus(tmp_path, out, NO_DRAW, dataset="d", layout="fairseq")
    assert len(both.ids) == 3 and set(both.reasons.values()) == {"duplicate id"}
    (tmp_path / "valid.tsv").write_text(f"{tmp_path}\naudio/ünï.wav\t16000\n")
    with pytest.raises(UserError, match="one root is wanted"):
        list_corpus(tmp_path, out, layout="fairseq")
