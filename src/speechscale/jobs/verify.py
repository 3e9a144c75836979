"""What is wrong with things on disk: shards, manifests, code books, sealed folders. All of it, a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.manifest import manifest_problems
from speechscale.records.seal import SEAL, seal_problems
from speechscale.records.shards import looks_like_shard, open_shards, shard_problems
from speechscale.units.codebook import load_codebook
from speechscale.workers.progress import progress_bar

Check = Callable[[], Iterable[str]]


def check_all(paths: Sequence[Path]) -> Iterator[list[str]]:
    """The problems of each thing found at or below the paths; reads every byte of it.

    A shard that cannot be opened is a problem of the set it belongs to as well; it is told once.
    """
    checks = [check for path in paths for check in _checks(path)]
    told: set[str] = set()
    with progress_bar() as bar:
        row = bar.add_task("verify", total=len(checks))
        for check in checks:
            problems = [problem for problem in _problems(check) if problem not in told]
            told.update(problems)
            yield problems
            bar.advance(row)


def _problems(check: Check) -> list[str]:
    try:
        return list(check())
    except UserError as error:
        return [str(error)]


def _checks(path: Path) -> list[Check]:
    """What is to be checked at a path."""
    if path.suffix == ".safetensors":
        return [partial(_code_book_problems, path)]
    if not path.is_dir():
        return [partial(manifest_problems, path)]
    found = list(_folder_checks(path))
    return found or [partial(_nothing, path)]


def _folder_checks(folder: Path) -> Iterator[Check]:
    if looks_like_shard(folder):
        yield partial(shard_problems, folder)
        return
    if (folder / SEAL).exists():
        yield partial(seal_problems, folder)
    below = sorted(
        sub
        for sub in folder.iterdir()
        if sub.is_dir() and not sub.is_symlink() and not sub.name.startswith(".")
    )
    if any(looks_like_shard(sub) for sub in below):
        yield partial(_set_problems, folder)
    for sub in below:
        yield from _folder_checks(sub)


def _set_problems(folder: Path) -> list[str]:
    """Whether the shards of a folder are all there and were made alike."""
    open_shards(folder)
    return []


def _code_book_problems(path: Path) -> list[str]:
    load_codebook(path)
    return []


def _nothing(path: Path) -> list[str]:
    return [f"{path}: no shards and no sealed folder here; name a manifest or a code book itself."]
