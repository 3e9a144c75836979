"""Texts of any source spoken by workers, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.seal import exclusive_lock, remove_leftovers, write_error
from speechscale.speech.read_aloud import (
    SKIPS,
    TEXTS,
    Format,
    Reading,
    Spoken,
    is_spoken,
    join_parts,
    leave_unspoken,
    plan_parts,
    speak_part,
    write_texts,
)
from speechscale.speech.synthesis.engines import check_voices
from speechscale.speech.texts import Source
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks
from speechscale.workers.progress import spinner


@dataclass(frozen=True)
class AudioOptions:
    """How audio is kept."""

    format: Format
    part_seconds: float


def synthesize_texts(
    source: Source, reading: Reading, out: Path, keeping: AudioOptions | None, workers: int
) -> Spoken:
    """Bring a folder of speech to its end, keeping what stands there already. `keeping` None: keep no audio.

    Raises:
        UserError: the folder is something else, was made otherwise, or is in use; a voice is unknown; nothing could be
            spoken.
    """
    check_voices([reading.way(voice) for voice in reading.voices], "--voice")
    with _own(out):
        with spinner("texts"):
            write_texts(source, reading, out / TEXTS)
        return leave_unspoken(out) if keeping is None else _speak(out, keeping, workers)


@contextmanager
def _own(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        foreign = [path.name for path in out.glob("[!.]*")]
    except OSError as error:
        raise write_error(out, error) from error
    if foreign and TEXTS not in foreign:
        raise UserError(
            f"{out}: holds other things ({foreign[0]}); choose an empty or a new folder with --out."
        )
    with exclusive_lock(out):
        remove_leftovers(out)
        yield


def _speak(out: Path, keeping: AudioOptions, workers: int) -> Spoken:
    tasks = plan_parts(out, keeping.part_seconds, keeping.format)
    missing = [task for task in tasks if not is_spoken(task)]
    for _ in run_tasks(
        speak_part,
        missing,
        label="speaking",
        backend=LocalBackend(workers),
        weight=lambda task: task.stretch.seconds,
    ):
        pass
    told = join_parts(out, tasks)
    if not told.spoken:
        raise UserError(f"{out}: none of {told.skipped} texts could be spoken; {SKIPS} there says why.")
    return told
