"""The identity of the code that makes an artefact: package version, hash of its source files, and git commit."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from speechscale import __version__
from speechscale.errors import UserError

PACKAGE = Path(__file__).parents[1]
_GIT_TIMEOUT = 10.0  # seconds; a repository on a network file system may be slow


class CodeIdentity(BaseModel):
    """Which code made an artefact.

    Two installations run the same code if and only if `source` is equal; the commit says where to find it again.

    Attributes:
        version: version of the package.
        source: SHA-256 of the names and contents of the package's Python files.
        commit: of the git repository that tracks the package; None for an installed package, or without git.
        clean: whether the package has no uncommitted changes; None without a commit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    source: str
    commit: str | None = None
    clean: bool | None = None

    def __str__(self) -> str:
        if self.commit is None:
            return f"speechscale {self.version}, source {self.source[:12]}"
        if self.clean:
            return f"speechscale {self.version}, commit {self.commit[:12]}"
        return (
            f"speechscale {self.version}, commit {self.commit[:12]} with uncommitted changes "
            f"(source {self.source[:12]})"
        )


_adopted: CodeIdentity | None = None  # in worker processes: the identity that the parent process sent


def code_identity() -> CodeIdentity:
    """The identity of the running code; computed on the first call of a process."""
    return _adopted or _own_identity()


def adopt_code_identity(parent: CodeIdentity) -> None:
    """Check that this process runs the same code as its parent process, and use the parent's identity from now on.

    Artefacts of all workers of a command then carry one identity, also where a worker's machine has no git.

    Raises:
        UserError: this process runs other code.
    """
    global _adopted
    source = source_sha256(PACKAGE)
    if (parent.version, parent.source) != (__version__, source):
        here = CodeIdentity(version=__version__, source=source)
        raise UserError(
            f"a worker runs other code ({here}) than this command ({parent}, source {parent.source[:12]}); install "
            "the same speechscale on every machine, and do not change it while a command runs."
        )
    _adopted = parent


@cache
def _own_identity() -> CodeIdentity:
    commit, clean = _git_state(PACKAGE) or (None, None)
    return CodeIdentity(version=__version__, source=source_sha256(PACKAGE), commit=commit, clean=clean)


def source_sha256(package: Path) -> str:
    """SHA-256 of the names and contents of all Python files below a folder."""
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content}  {path.relative_to(package).as_posix()}\n".encode())
    return total.hexdigest()


def _git_state(package: Path) -> tuple[str, bool] | None:
    """(commit, clean) of the repository that tracks the package; None if there is none, or git cannot say."""
    if not any((folder / ".git").exists() for folder in package.parents):
        return None
    # `HEAD:./` is the package in the commit. It does not exist for a virtual environment inside another repository.
    commit = _git(package, "rev-parse", "HEAD", "HEAD:./")
    changes = _git(package, "status", "--porcelain", "--untracked-files=all", "--", ".")
    return None if commit is None or changes is None else (commit.split()[0], not changes.strip())


def _git(folder: Path, *arguments: str) -> str | None:
    import subprocess

    # Hooks of git set GIT_DIR and others, which would select another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
