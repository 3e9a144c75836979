"""Publishing artefacts: write aside, flush to disk, hash, rename; and opening them again.

Nothing half-written ever stands under a final name, because records get theirs only by the rename at the end of
`atomic_write`, `atomic_directory` or `sealed_folder`. A sealed folder holds `seal.json`: what it is (schema), what it was
made from (spec, parents' identities), which code made it, and the SHA-256 of every file in it.
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

from speechscale import __version__
from speechscale.errors import CannotWrite, UserError

SEAL = "seal.json"
_ASIDE = ".aside-"  # prefix of folders and files in the making; readers skip dotted names
_LOCK = ".lock"


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value that does not depend on key order or spacing."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` in one step when the block ends without an error."""
    path = Path(path)
    aside = path.with_name(f"{_ASIDE}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def write_file(path: Path, data: bytes | str) -> None:
    """Replace `path` in one step: a reader sees the old content or the new, never a part."""
    with atomic_write(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    write_file(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """A folder to fill, which takes its final name only when the block ends without an error."""
    final = Path(final)
    if final.exists():
        raise UserError(f"{final}: exists already; remove it or choose another name.")
    aside = final.with_name(f"{_ASIDE}{final.name}-{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in sorted(aside.rglob("*")):
            if file.is_file():
                _flush(file)
        _flush(aside)
        aside.rename(final)
        _flush(final.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise write_error(final, error) from error
        raise


@contextmanager
def sealed_folder(
    final: Path, *, schema: str, spec: Mapping[str, Any], parents: Mapping[str, str]
) -> Iterator[Path]:
    """`atomic_directory` with a `seal.json` that records what made it and the hash of every file."""
    with atomic_directory(final) as aside:
        yield aside
        files = {str(f.relative_to(aside)): sha256_file(f) for f in sorted(aside.rglob("*")) if f.is_file()}
        seal = {
            "schema": schema,
            "code_version": __version__,
            "spec": dict(spec),
            "parents": dict(parents),
            "files": files,
        }
        write_json(aside / SEAL, seal)


def read_seal(folder: Path, schema: str | None = None) -> dict[str, Any]:
    """The seal of a folder; without `schema`, of whatever it is.

    Raises:
        UserError: no seal, unreadable, or of another schema.
    """
    path, wanted = Path(folder) / SEAL, schema or "sealed"
    try:
        seal = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder}: no {SEAL} here, so this is not a finished {wanted} folder.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make this stage again.") from error
    if not isinstance(seal, dict) or not isinstance(seal.get("files"), dict):
        raise UserError(f"{path}: lists no files, so it is no seal; make this stage again.")
    if schema is not None and seal.get("schema") != schema:
        raise UserError(f"{path}: schema is {seal.get('schema')!r}, wanted {schema!r}.")
    return seal


def identity(folder: Path) -> str:
    """What a child artefact writes down of this one: the hash of its seal, which holds the hash of every file."""
    return sha256_file(Path(folder) / SEAL)


def verify(folder: Path, schema: str) -> None:
    """Re-read every byte and compare it with the seal.

    Raises:
        UserError: naming the first file that is missing or differs.
    """
    read_seal(folder, schema)
    for problem in seal_problems(folder):
        raise UserError(problem)


def seal_problems(folder: Path) -> Iterator[str]:
    """A sentence for every file that is missing or differs from the seal.

    Raises:
        UserError: there is no seal, or it is not one.
    """
    for name, wanted in read_seal(folder)["files"].items():
        path = Path(folder) / name
        if not path.resolve().is_relative_to(Path(folder).resolve()):
            yield f"{Path(folder) / SEAL}: lists {name}, which lies outside; make this stage again."
        elif not path.is_file():
            yield f"{path}: missing, though the seal lists it; make this stage again."
        elif sha256_file(path) != wanted:
            yield f"{path}: differs from its seal; the file was changed or damaged after it was made."


def is_up_to_date(folder: Path, *, schema: str, spec: Mapping[str, Any], parents: Mapping[str, str]) -> bool:
    """Whether the folder stands there, sealed, from exactly this spec and these parents.

    Raises:
        UserError: it stands there but was made from something else; the sentence names the differing fields.
    """
    if not Path(folder).exists():
        return False
    seal = read_seal(folder, schema)
    wanted = {"code_version": __version__, "spec": dict(spec), "parents": dict(parents)}
    differing = differing_fields({key: seal[key] for key in wanted}, json.loads(json.dumps(wanted)))
    if differing:
        raise UserError(
            f"{folder}: was made by another spec; these differ: {'; '.join(differing)}. "
            "Choose another output folder, or remove this one to make it again."
        )
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete what a kill left in the making anywhere below a folder. Only its owner may call this."""
    for path in list(Path(folder).rglob(f"{_ASIDE}*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold a folder: what works in it may take what lies in the making for a leftover.

    Raises:
        UserError: another process holds it.
    """
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another command is at work here; wait for it, or end it.") from None
        except OSError:  # a file system without locks: a second command would do work twice, and harm nothing
            pass
        yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a file that commands read and write again: each waits for the one before, so that none undoes another."""
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
    """Whether a process holds the folder by `exclusive_lock`."""
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
        places = enumerate(zip(found, wanted, strict=True))
        return [line for place, pair in places for line in differing_fields(*pair, f"{name}.{place}")]
    return [] if found == wanted else [f"{name}: found {found!r}, wanted {wanted!r}"]


def write_error(path: Path, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{path}: cannot be written ({error.strerror or error}); nothing was left under that name."
    )


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
