"""sStoryCloze and tStoryCloze as they are released: one folder of `<file>_<pair>_{correct,incorrect}.wav`.

The file part numbers recordings, so that both members of a pair have their own; the pair part joins them. Where a copy
names stories by the file part, both parts join.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from speechscale.datasets.benchmarks.members import Benchmark, Fault, Member, member, task_of, wavs_in
from speechscale.errors import UserError

NAME = re.compile(r"(?P<file>.+)_(?P<pair>[^_]+)_(?P<label>correct|incorrect)")
_APART = "_mutual"  # the cross-modal copy keeps what both endings share in a file of its own


def looks_like_one(folder: Path) -> bool:
    """Whether its first wav has the name of a member."""
    wavs = wavs_in(folder) if folder.is_dir() else []
    return bool(wavs) and NAME.fullmatch(wavs[0].stem) is not None


def read(benchmark: Benchmark, note: Callable[[str], None]) -> Iterator[Member | Fault]:
    """Every story's members, by name.

    Raises:
        UserError: no wav there, no known task, or the cross-modal copy.
    """
    task = task_of(benchmark)
    wavs = wavs_in(benchmark.path)
    if not wavs:
        raise UserError(
            f"{benchmark.path}: no wavs here, wanted <file>_<pair>_correct.wav and _incorrect.wav."
        )
    apart = next((wav for wav in wavs if wav.stem.endswith(_APART)), None)
    if apart:
        raise UserError(
            f"{apart}: prompt and endings lie in files of their own here, so no file holds a story; take the release "
            "with whole stories."
        )
    matches = [(wav, NAME.fullmatch(wav.stem)) for wav in wavs]
    names = {match.group("file", "pair", "label") for _, match in matches if match}
    named_by_file = any(
        (file, pair, "incorrect") in names for file, pair, label in names if label == "correct"
    )
    for wav, match in matches:
        if match is None:
            wanted = "wanted <file>_<pair>_correct.wav or _incorrect.wav; rename or remove it"
            yield Fault(wav.name, "bad name", wanted)
            continue
        story = f"{match['file']}_{match['pair']}" if named_by_file else match["pair"]
        label = {"task": task, "group_id": story, "pair_id": story, "correct": match["label"] == "correct"}
        yield member(benchmark, wav, wav.name, label)
