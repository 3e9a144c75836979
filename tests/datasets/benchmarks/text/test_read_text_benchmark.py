"""Files that are no text benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.datasets.benchmarks.text import read_text_benchmark
from speechscale.errors import UserError


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "open.csv").write_text('pair_id,text,type,correctness\n7,"never closed')
    for name, message in (
        ("nowhere.csv", "cannot be opened"),
        ("nowhere.jsonl", "cannot be read"),
        ("binary.csv", "not UTF-8"),
        ("open.csv", "not CSV"),
    ):
        with pytest.raises(UserError, match=message):
            read_text_benchmark(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.jsonl files here"):
        read_text_benchmark(tmp_path / "empty")
