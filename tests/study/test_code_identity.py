"""A study continues at another commit; only a new revision of the fit makes its laws again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toy_study import STUDY

from speechscale.errors import UserError
from speechscale.records.code import code_identity
from speechscale.records.law import read_law
from speechscale.records.revisions import STAGE_REVISIONS
from speechscale.study import run
from speechscale.study.folder import StudyFolder
from speechscale.study.run import fit_laws
from speechscale.study.spec import StudySpec

TABLE = "run,params,tokens,loss\n" + "".join(
    f"r{n}-{d},{n}e6,{d}e7,{1.6 + 3 / n**0.3 + 2 / d**0.3}\n" for n in (1, 4, 16) for d in (1, 4, 16)
)


@pytest.fixture
def spec() -> StudySpec:
    return StudySpec.model_validate(tomllib.loads(STUDY))


def at_another_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    other = code_identity().model_copy(update={"source": "0" * 64, "commit": "f" * 40})
    monkeypatch.setattr("speechscale.records.code._adopted", other)


def test_study_of_another_commit_is_continued(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StudyFolder(tmp_path).claim(spec)
    at_another_commit(monkeypatch)
    StudyFolder(tmp_path).claim(spec)
    other = spec.model_copy(update={"question": "Another one?"})
    with pytest.raises(UserError, match=r"these differ: spec\.question: found 'Does it run\?'"):
        StudyFolder(tmp_path).claim(other)


def test_laws_are_fitted_again_for_a_new_revision_only(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    (tmp_path / "curves.csv").write_text(TABLE)
    fits = []

    def count(*tables: Any, **options: Any) -> Any:
        fits.append(options)
        return fit_table(*tables, **options)

    fit_table = run.fit_table
    monkeypatch.setattr(run, "fit_table", count)
    records: Any = [SimpleNamespace(status="done")]
    for expected, change in (
        (1, lambda: None),
        (1, lambda: at_another_commit(monkeypatch)),
        (2, lambda: monkeypatch.setitem(STAGE_REVISIONS, "fit", STAGE_REVISIONS["fit"] + 1)),
    ):
        change()
        fit_laws(spec, StudyFolder(tmp_path), records)
        assert len(fits) == expected


def test_laws_are_fitted_again_when_the_law_file_is_unreadable(spec: StudySpec, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    (tmp_path / "curves.csv").write_text(TABLE)
    law = StudyFolder(tmp_path).law
    law.write_text('{"schema": "speechscale.law/0"}')
    records: Any = [SimpleNamespace(status="done")]
    lines: list[str] = []
    fit_laws(spec, StudyFolder(tmp_path), records, lines.append)
    assert len(lines) == 1 and "schema is 'speechscale.law/0'" in lines[0]
    assert lines[0].endswith("The laws are fitted again.")
    assert read_law(law).provenance
