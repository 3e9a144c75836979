"""Verification of artefacts on disk: shards, manifests, codebooks and sealed folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.manifest import manifest_problems
from speechscale.records.seal import SEAL, read_seal, seal_problems
from speechscale.records.shard_verification import looks_like_shard, shard_problems
from speechscale.records.shards import open_shard, open_shards
from speechscale.units.codebook import load_codebook
from speechscale.units.quality import read_code
from speechscale.workers.progress import progress_bar


@dataclass(frozen=True)
class Verified:
    """The result for one artefact.

    Attributes:
        problems: a sentence for each.
        code: the code that made the artefact, where it records that.
    """

    problems: list[str]
    code: CodeIdentity | None


@dataclass(frozen=True)
class _Artefact:
    """What to check, and where the identity of its code is."""

    problems: Callable[[], Iterable[str]]
    code: Callable[[], CodeIdentity | None] = lambda: None

    def verify(self) -> Verified:
        try:
            return Verified(list(self.problems()), self.code())
        except UserError as error:
            return Verified([str(error)], None)


def verify_all(paths: Sequence[Path]) -> Iterator[Verified]:
    """Read every byte of the artefacts at or below the paths, and yield the result for each.

    A shard that cannot be opened is also a problem of the folder of shards that contains it; it is reported once.
    """
    artefacts = [artefact for path in paths for artefact in _artefacts(path)]
    reported: set[str] = set()
    with progress_bar() as bar:
        row = bar.add_task("verify", total=len(artefacts))
        for artefact in artefacts:
            found = artefact.verify()
            new = [problem for problem in found.problems if problem not in reported]
            reported.update(new)
            yield Verified(new, found.code)
            bar.advance(row)


def describe_code(found: Iterable[CodeIdentity | None]) -> list[str]:
    """A sentence for each other code that made some of the artefacts. Other code is no fault of an artefact."""
    here = code_identity()
    others = Counter(code for code in found if code is not None and code.source != here.source)
    return [f"{count} made by other code ({code}); this is {here}." for code, count in others.most_common()]


def _artefacts(path: Path) -> list[_Artefact]:
    if path.suffix == ".safetensors":
        return [_Artefact(partial(_code_book_problems, path), partial(read_code, path))]
    if not path.is_dir():
        return [_Artefact(partial(manifest_problems, path))]
    found = list(_artefacts_below(path))
    return found or [_Artefact(partial(_nothing_found, path))]


def _artefacts_below(folder: Path) -> Iterator[_Artefact]:
    if looks_like_shard(folder):
        yield _Artefact(partial(shard_problems, folder), lambda: open_shard(folder).meta.code)
        return
    if (folder / SEAL).exists():
        yield _Artefact(partial(seal_problems, folder), lambda: read_seal(folder).code)
    below = sorted(
        sub
        for sub in folder.iterdir()
        if sub.is_dir() and not sub.is_symlink() and not sub.name.startswith(".")
    )
    if any(looks_like_shard(sub) for sub in below):
        yield _Artefact(partial(_shard_set_problems, folder))
    for sub in below:
        yield from _artefacts_below(sub)


def _shard_set_problems(folder: Path) -> list[str]:
    """Shards that are missing from a folder, or were encoded differently."""
    open_shards(folder)
    return []


def _code_book_problems(path: Path) -> list[str]:
    load_codebook(path)
    return []


def _nothing_found(path: Path) -> list[str]:
    return [f"{path}: no shards and no sealed folder here; name a manifest or a codebook itself."]
