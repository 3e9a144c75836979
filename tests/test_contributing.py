"""The worked examples of CONTRIBUTING.md run as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from speechscale.datasets.benchmarks import BENCHMARK_LAYOUTS
from speechscale.datasets.corpora import CORPUS_LAYOUTS

ROOT = Path(__file__).parents[1]


def test_examples_of_contributing_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    names: dict[str, object] = {}
    try:
        for number, example in enumerate(examples, 1):
            exec(compile(example, f"CONTRIBUTING.md, example {number}", "exec"), names)
    finally:
        CORPUS_LAYOUTS.pop("by-speaker", None)
        BENCHMARK_LAYOUTS.pop("yes-no", None)


def test_paths_in_contributing_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)(?::\w+)?`", page)
    places = (ROOT, ROOT / "src" / "speechscale")
    assert len(paths) > 10
    assert not [path for path in paths if not any((place / path).exists() for place in places)]
