"""Atomic writes, locks, and sealed folders, whose `seal.json` records provenance and the hash of every file.

A file or folder gets its final name only by the rename at the end of `atomic_write`, `atomic_directory` or
`sealed_folder`, so a partial result never has a final name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speechscale.errors import CannotWrite, UserError
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.json_objects import JsonObject
from speechscale.records.revisions import Stage, require_revisions, revisions_of
from speechscale.records.validation import first_fault

SEAL = "seal.json"
_STAGING = ".staging-"  # prefix of unfinished folders and files; readers skip names that begin with a dot
_LOCK = ".lock"


class Seal(BaseModel):
    """The content of `seal.json`.

    Attributes:
        schema_name: kind and version of the folder, for example `speechscale.corpus/1`; `schema` in the file.
        code: the code that made the folder; it does not decide whether the folder is reused.
        revisions: of the stages that made it.
        spec: the settings that it was made with.
        parents: identities of the artefacts that it was made from.
        files: SHA-256 of every file, by path relative to the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_name: str = Field(alias="schema")
    code: CodeIdentity
    revisions: dict[str, int]
    spec: JsonObject
    parents: dict[str, str]
    files: dict[str, str]


def sha256_file(path: Path) -> str:
    """Hash of the content of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value that does not depend on key order or spacing."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write, which replaces `path` in one step when the block ends without an error.

    Raises:
        CannotWrite: the operating system refuses.
    """
    path = Path(path)
    staging = path.with_name(f"{_STAGING}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staging.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(path)
    except BaseException as error:
        with suppress(OSError):
            staging.unlink()
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def write_file(path: Path, data: bytes | str) -> None:
    """Replace `path` in one step: a reader sees the old content or the new, never a part.

    Raises:
        CannotWrite: the operating system refuses.
    """
    with atomic_write(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value with `write_file`.

    Raises:
        CannotWrite: the operating system refuses.
    """
    write_file(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """Yield a folder to fill, which gets its final name only when the block ends without an error.

    Raises:
        UserError: the folder exists already.
        CannotWrite: the operating system refuses.
    """
    final = Path(final)
    if final.exists():
        raise UserError(f"{final}: exists already; remove it or choose another name.")
    staging = final.with_name(f"{_STAGING}{final.name}-{uuid.uuid4().hex[:8]}")
    try:
        staging.mkdir(parents=True)
        yield staging
        for file in sorted(staging.rglob("*")):
            if file.is_file():
                _flush(file)
        _flush(staging)
        staging.rename(final)
        _flush(final.parent)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise write_error(final, error) from error
        raise


@contextmanager
def sealed_folder(
    final: Path, *, schema: str, stage: Stage, spec: Mapping[str, Any], parents: Mapping[str, str]
) -> Iterator[Path]:
    """`atomic_directory` with a `seal.json` (see `Seal`).

    Args:
        final: the folder.
        schema: kind and version of the folder.
        stage: the stage that makes it; the seal records its revision.
        spec: JSON-able settings that it is made with.
        parents: identities of the artefacts that it is made from.

    Raises:
        UserError: the folder exists already.
        CannotWrite: the operating system refuses.
    """
    with atomic_directory(final) as staging:
        yield staging
        files = {
            str(file.relative_to(staging)): sha256_file(file)
            for file in sorted(staging.rglob("*"))
            if file.is_file()
        }
        seal = Seal(
            schema=schema,
            code=code_identity(),
            revisions=revisions_of(stage),
            spec=dict(spec),
            parents=dict(parents),
            files=files,
        )
        write_json(staging / SEAL, seal.model_dump(by_alias=True))


def read_seal(folder: Path, schema: str | None = None) -> Seal:
    """The seal of a folder; `schema`: the only one to accept.

    Raises:
        UserError: no seal, one that cannot be read or lacks a field, or of another schema.
    """
    path = Path(folder) / SEAL
    try:
        seal = Seal.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(
            f"{folder}: no {SEAL} here, so this is not a finished {schema or 'sealed'} folder."
        ) from None
    except ValidationError as error:
        raise UserError(
            f"{path}: not a seal ({first_fault(error, 'the whole')}); make this stage again."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make this stage again.") from error
    if schema not in (None, seal.schema_name):
        raise UserError(f"{path}: schema is {seal.schema_name!r}, wanted {schema!r}.")
    return seal


def seal_identity(folder: Path) -> str:
    """Hash of a sealed folder, which its child artefacts record: of everything in the seal except the code identity.

    Raises:
        UserError: no seal, or one that cannot be read.
    """
    return sha256_json(read_seal(folder).model_dump(by_alias=True, exclude={"code"}))


def verify(folder: Path, schema: str) -> None:
    """Read every byte of a sealed folder and compare it with the seal.

    Raises:
        UserError: naming the first file that is missing or differs.
    """
    read_seal(folder, schema)
    for problem in seal_problems(folder):
        raise UserError(problem)


def seal_problems(folder: Path) -> Iterator[str]:
    """A sentence for every file that is missing or differs from the seal.

    Raises:
        UserError: no seal, or one that cannot be read.
    """
    for name, wanted in read_seal(folder).files.items():
        path = Path(folder) / name
        if not path.resolve().is_relative_to(Path(folder).resolve()):
            yield f"{Path(folder) / SEAL}: lists {name}, which is outside the folder; make this stage again."
        elif not path.is_file():
            yield f"{path}: missing, though the seal lists it; make this stage again."
        elif sha256_file(path) != wanted:
            yield f"{path}: differs from its seal; the file was changed or damaged after it was made."


def is_up_to_date(
    folder: Path, *, schema: str, stage: Stage, spec: Mapping[str, Any], parents: Mapping[str, str]
) -> bool:
    """Whether the folder exists, made from this spec and these parents by this revision of the stage.

    Args:
        folder: the sealed folder.
        schema: kind and version of the folder.
        stage: the stage that makes it.
        spec: JSON-able settings that it is made with.
        parents: identities of the artefacts that it is made from.

    Raises:
        UserError: the folder exists, but was made from something else (the differing fields are named), or by another
            revision of the stage.
    """
    if not Path(folder).exists():
        return False
    seal = read_seal(folder, schema)
    require_revisions(folder, seal.revisions, revisions_of(stage), seal.code)
    wanted = json.loads(json.dumps({"spec": dict(spec), "parents": dict(parents)}))
    differing = differing_fields({"spec": seal.spec, "parents": seal.parents}, wanted)
    if differing:
        raise UserError(
            f"{folder}: was made by another spec; these differ: {'; '.join(differing)}. "
            "Choose another output folder, or remove this one to make it again."
        )
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete unfinished files and folders of killed processes, anywhere below a folder that this process has locked."""
    for path in list(Path(folder).rglob(f"{_STAGING}*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other commands. The process that holds the lock may call `remove_leftovers`.

    Raises:
        UserError: another process holds the lock.
    """
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another command is at work here; wait for it, or end it.") from None
        except OSError:  # a file system without locks: a second command would only repeat work
            pass
        yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Lock a file that commands read and rewrite; waits for the lock, so that no command overwrites another's change.

    Raises:
        CannotWrite: the lock file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}{_LOCK}").open("w")
    except OSError as error:
        raise write_error(path, error) from error
    with lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the `exclusive_lock` of a folder."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def differing_fields(found: Any, wanted: Any, name: str = "") -> list[str]:
    """`field: found …, wanted …` for every leaf in which two JSON values differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [
            line
            for key in keys
            for line in differing_fields(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for index, pair in pairs for line in differing_fields(*pair, f"{name}.{index}")]
    return [] if found == wanted else [f"{name}: found {found!r}, wanted {wanted!r}"]


def write_error(path: Path, error: OSError) -> CannotWrite:
    """The sentence for a path that the operating system refuses to write."""
    return CannotWrite(
        f"{path}: cannot be written ({error.strerror or error}); nothing was left under that name."
    )


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
