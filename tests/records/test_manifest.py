"""Manifests: round trip, and every broken line named by number and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.manifest import (
    Synthesis,
    Utterance,
    cut_manifest,
    read_manifest,
    sample_manifest,
    seconds_of,
    write_manifest,
)

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


def test_repeated_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a' occurs twice"):
        write_manifest([SPOKEN, SPOKEN], tmp_path / "m.jsonl")
    line = SPOKEN.model_dump_json(exclude_defaults=True)
    (tmp_path / "m.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(UserError, match=r"m\.jsonl:2: the id 'a' occurs a second time"):
        list(read_manifest(tmp_path / "m.jsonl"))


@pytest.mark.parametrize(
    ("line", "expected"),
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
def test_faulty_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "m.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=r"m\.jsonl:2: ") as error:
        list(read_manifest(tmp_path / "m.jsonl"))
    assert expected in str(error.value)


def listed(path: Path, count: int) -> Path:
    write_manifest(
        (Utterance(id=f"ü{i}", dataset="d", split="ab"[i % 2], duration=1 + i % 3) for i in range(count)),
        path,
    )
    return path


def test_slices_partition_the_manifest(tmp_path: Path) -> None:
    path = listed(tmp_path / "m.jsonl", 20)
    slices = cut_manifest(path, seconds=5)
    assert [u for part in slices for u in part.utterances()] == list(read_manifest(path))
    assert [part.count for part in slices] == [len(list(part.utterances())) for part in slices]
    assert all(5 <= part.seconds < 8 for part in slices[:-1])


def test_slices_of_synthetic_speech_are_marked(tmp_path: Path) -> None:
    recorded = Utterance(id="b", dataset="d", split="train", audio="b.wav", duration=5)
    stored = SPOKEN.model_copy(update={"id": "c", "audio": "c.wav", "duration": 5.0})
    write_manifest([SPOKEN.model_copy(update={"duration": 5.0}), recorded, stored], tmp_path / "m.jsonl")
    assert [part.synthetic for part in cut_manifest(tmp_path / "m.jsonl", seconds=5)] == [True, False, False]


def test_slices_of_one_split(tmp_path: Path) -> None:
    path = listed(tmp_path / "m.jsonl", 20)
    slices = cut_manifest(path, seconds=5, split="b")
    found = [u for part in slices for u in part.utterances()]
    assert found == [u for u in read_manifest(path) if u.split == "b"]
    assert sum(part.count for part in slices) == 10


def test_duration_of_unsynthesised_speech_is_estimated_from_words() -> None:
    assert seconds_of(SPOKEN.model_copy(update={"transcript": "one two three four"})) == 60 * 4 / 200


def test_sample_depends_on_ids_and_seed_alone(tmp_path: Path) -> None:
    path = listed(tmp_path / "m.jsonl", 50)
    backwards = tmp_path / "backwards.jsonl"
    write_manifest(reversed(list(read_manifest(path))), backwards)
    drawn = sample_manifest(path, 10, seed=1)
    assert drawn == sample_manifest(backwards, 10, seed=1) != sample_manifest(path, 10, seed=2)
    assert len({u.id for u in drawn}) == 10
    assert {u.split for u in sample_manifest(path, 10, seed=1, split="a")} == {"a"}
