"""TOML files as models: every fault is a sentence that names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from speechscale.errors import UserError
from speechscale.records.toml import read_toml


class Rung(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    layers: int = Field(ge=1)


class Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    largest: Rung | None = None
    rungs: tuple[Rung, ...] = Field(default=(), strict=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plan.toml"


def test_tables_become_models(path: Path) -> None:
    path.write_text('name = "a"\n[[rungs]]\nlayers = 2\n[[rungs]]\nlayers = 4\n')
    assert read_toml(path, Plan) == Plan(name="a", rungs=(Rung(layers=2), Rung(layers=4)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key 'name' is missing"),
        ('name = "a"\nrung = 1', r"unknown key 'rung' \(did you mean 'rungs'\?\)"),
        (
            'name = "a"\n[largest]\nlayers = 2\nlayer = 3',
            r"unknown key 'largest.layer' \(did you mean 'layers'\?\)",
        ),
        (
            'name = "a"\n[[rungs]]\nlayer = 3\nlayers = 1',
            r"unknown key 'rungs.0.layer' \(did you mean 'layers'\?\)",
        ),
        (
            'name = "a"\n[[rungs]]\nlayers = 0',
            "rungs.0.layers = 0: Input should be greater than or equal to 1",
        ),
        ("name = 3", "name = 3: Input should be a valid string"),
    ],
)
def test_faults_name_file_and_key(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        read_toml(path, Plan)
    assert str(refused.value).startswith(f"{path}: ")
    assert str(refused.value).endswith("; nothing was started.")


def test_all_faults_are_listed(path: Path) -> None:
    path.write_text("other = 1\n")
    with pytest.raises(UserError) as refused:
        read_toml(path, Plan)
    assert len(str(refused.value).splitlines()) == 2


def test_unreadable_files_are_refused(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        read_toml(path, Plan)
    for damaged in (b"name = ", b'name = "\xff"'):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not valid TOML"):
            read_toml(path, Plan)
