"""Manifests: round trip, and every broken line named by number and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.manifest import Synthesis, Utterance, read_manifest, write_manifest

SPOKEN = Utterance(
    id="a",
    dataset="d",
    split="train",
    transcript="Hello.",
    speaker="en-us",
    synthesis=Synthesis(engine="espeak-ng", voice="en-us", words_per_minute=200, seed=0),
    extra={"task": "t"},
)


def test_round_trip(tmp_path: Path) -> None:
    other = Utterance(id="b", dataset="d", split="train", audio="x y/ö.wav", offset=1.5, duration=2.0)
    write_manifest([SPOKEN, other], tmp_path / "m.jsonl")
    assert list(read_manifest(tmp_path / "m.jsonl")) == [SPOKEN, other]


def test_ids_are_unique(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a' occurs twice"):
        write_manifest([SPOKEN, SPOKEN], tmp_path / "m.jsonl")
    line = SPOKEN.model_dump_json(exclude_defaults=True)
    (tmp_path / "m.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(UserError, match=r"m\.jsonl:2: the id 'a' occurs a second time"):
        list(read_manifest(tmp_path / "m.jsonl"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a JSON object"),
        ('{"id": "a", "dataset": "d"}', "split"),
        ('{"id": "", "dataset": "d", "split": "s"}', "id"),
        ('{"id": "a", "dataset": "d", "split": "s", "offset": -1}', "offset"),
        ('{"id": "a", "dataset": "d", "split": "s", "duration": 0}', "duration"),
        ('{"id": "a", "dataset": "d", "split": "s", "colour": 1}', "colour"),
        ("[1]", "the line"),
    ],
)
def test_broken_lines(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "m.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=r"m\.jsonl:2: ") as error:
        list(read_manifest(tmp_path / "m.jsonl"))
    assert said in str(error.value)
