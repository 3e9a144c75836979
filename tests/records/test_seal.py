"""Writes are atomic, and a sealed folder with another spec or other parents is refused with the differing fields."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.seal import (
    atomic_directory,
    differing_fields,
    is_up_to_date,
    read_seal,
    remove_leftovers,
    sealed_folder,
    sha256_json,
    verify,
    write_file,
)

SCHEMA = "test/1"


def write_sealed(folder: Path, spec: dict) -> None:
    with sealed_folder(
        folder, schema=SCHEMA, stage="encode", spec=spec, parents={"parent": "abc"}
    ) as staging:
        (staging / "a.txt").write_text("content")
        assert not folder.exists()


def test_sealed_folder_of_other_spec_or_parents_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert not is_up_to_date(folder, schema=SCHEMA, stage="encode", spec={"k": 1}, parents={"parent": "abc"})
    write_sealed(folder, {"k": 1})
    assert is_up_to_date(folder, schema=SCHEMA, stage="encode", spec={"k": 1}, parents={"parent": "abc"})
    with pytest.raises(UserError, match=r"spec\.k: found 1, wanted 2"):
        is_up_to_date(folder, schema=SCHEMA, stage="encode", spec={"k": 2}, parents={"parent": "abc"})
    with pytest.raises(UserError, match=r"parents\.parent: found 'abc', wanted 'abd'"):
        is_up_to_date(folder, schema=SCHEMA, stage="encode", spec={"k": 1}, parents={"parent": "abd"})


def test_error_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "x") as staging:
        (staging / "half").write_text("written")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="exists already"), atomic_directory(tmp_path / "x"):
        pass


def test_verify_finds_a_changed_byte_and_a_missing_file(tmp_path: Path) -> None:
    write_sealed(tmp_path / "made", {})
    verify(tmp_path / "made", SCHEMA)
    (tmp_path / "made" / "a.txt").write_text("Content")
    with pytest.raises(UserError, match=r"a\.txt: differs"):
        verify(tmp_path / "made", SCHEMA)
    (tmp_path / "made" / "a.txt").unlink()
    with pytest.raises(UserError, match=r"a\.txt: missing"):
        verify(tmp_path / "made", SCHEMA)


def test_other_schema_is_refused(tmp_path: Path) -> None:
    write_sealed(tmp_path / "made", {})
    with pytest.raises(UserError, match="wanted 'other/1'"):
        read_seal(tmp_path / "made", "other/1")


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs /proc to be refused by"
)
def test_path_that_cannot_be_written_is_reported() -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_file(Path("/proc/self/nothing/file"), "x")


def test_only_unfinished_files_and_folders_are_removed(tmp_path: Path) -> None:
    write_sealed(tmp_path / "deep" / "made", {})
    (tmp_path / "deep" / ".staging-x-1").mkdir()
    (tmp_path / ".staging-y-2").write_text("half")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["made"]


def test_hash_does_not_depend_on_key_order() -> None:
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})


def test_differing_fields_names_leaves() -> None:
    assert differing_fields({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c: found 2, wanted 3",
        "d: found None, wanted 4",
    ]
    assert differing_fields({"sizes": [{"rate": 1}, 2]}, {"sizes": [{"rate": 3}, 2]}) == [
        "sizes.0.rate: found 1, wanted 3"
    ]
    assert differing_fields({"sizes": [1, 2]}, {"sizes": [1]}) == ["sizes: found [1, 2], wanted [1]"]
