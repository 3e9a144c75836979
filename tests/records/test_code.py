"""The identity of the code: equal sources are equal code, and git names the commit where it can."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records import code
from speechscale.records.code import CodeIdentity, adopt_code_identity, code_identity, source_sha256


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two files, committed to a git repository, in place of speechscale."""
    folder = tmp_path / "repository" / "src" / "package"
    (folder / "room").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "room" / "file.py").write_text("x = 1\n")
    git(tmp_path / "repository", "init", "--quiet")
    commit(tmp_path / "repository")
    monkeypatch.setattr(code, "PACKAGE", folder)
    code._own_identity.cache_clear()
    yield folder
    code._own_identity.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(
        ["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "change")


def identity() -> CodeIdentity:
    code._own_identity.cache_clear()
    return code_identity()


def test_sources_are_hashed_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = source_sha256(tmp_path)
    (tmp_path / "notes.txt").write_text("no source")
    assert source_sha256(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = source_sha256(tmp_path)
    (tmp_path / "b.py").write_text("x = 2\n")
    assert len({first, second, source_sha256(tmp_path)}) == 3


def test_commit_and_uncommitted_changes_of_the_package(package: Path) -> None:
    repository = package.parents[1]
    first = identity()
    assert (first.commit, first.clean) == (git(repository, "rev-parse", "HEAD"), True)
    (repository / "notes.txt").write_text("outside the package")
    assert identity() == first
    (package / "new.py").write_text("")
    changed = identity()
    assert (changed.commit, changed.clean) == (first.commit, False) and changed.source != first.source
    assert "with uncommitted changes" in str(changed)
    commit(repository)
    second = identity()
    assert second.clean and second.commit != first.commit and second.source == changed.source


def test_commit_of_another_repository_is_not_taken(package: Path) -> None:
    """An installed package in a virtual environment inside a repository that ignores it."""
    repository = package.parents[1]
    git(repository, "rm", "-r", "--cached", "--quiet", "src")
    (repository / ".gitignore").write_text("src\n")
    commit(repository)
    assert (identity().commit, identity().clean) == (None, None)


@pytest.mark.parametrize("reason", ["no git", "no repository"])
def test_sources_identify_the_code_without_git(
    reason: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = identity().source
    if reason == "no git":
        monkeypatch.setenv("PATH", "")
    else:
        shutil.rmtree(package.parents[1] / ".git")
    assert identity() == CodeIdentity(version=code.__version__, source=source)
    assert str(identity()).endswith(f"source {source[:12]}")


def test_variables_of_a_git_hook_select_no_other_repository(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = identity()
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert identity() == wanted and wanted.commit is not None


def test_worker_adopts_the_identity_of_its_parent(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_adopted", None)
    parent = identity().model_copy(update={"commit": "f" * 40, "clean": True})
    adopt_code_identity(parent)
    assert code_identity() == parent


@pytest.mark.parametrize("field", ["version", "source"])
def test_worker_with_other_code_is_refused(
    field: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_adopted", None)
    own = identity()
    with pytest.raises(UserError, match=r"a worker runs other code .* install the same speechscale"):
        adopt_code_identity(own.model_copy(update={field: "other"}))
    assert code_identity() == own
