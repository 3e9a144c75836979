"""sStoryCloze and tStoryCloze as released: one folder of `<file>_<pair>_{correct,incorrect}.wav`.

In the release the file part numbers recordings, so that it differs between the members of a pair, and the pair part
joins them. In copies where the file part names stories, both parts together join them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from speechscale.datasets.benchmarks.members import (
    BenchmarkSource,
    Member,
    MemberFault,
    list_wavs,
    make_member,
    require_task,
)
from speechscale.errors import UserError

MEMBER_NAME = re.compile(r"(?P<file>.+)_(?P<pair>[^_]+)_(?P<label>correct|incorrect)")
_PROMPT_SUFFIX = "_mutual"  # of the prompt's own file in the cross-modal copy


def matches(folder: Path) -> bool:
    """Whether the first wav is named as a member of a pair."""
    wavs = list_wavs(folder) if folder.is_dir() else []
    return bool(wavs) and MEMBER_NAME.fullmatch(wavs[0].stem) is not None


def read(source: BenchmarkSource, note: Callable[[str], None]) -> Iterator[Member | MemberFault]:
    """Read the members of every story.

    Raises:
        UserError: no wavs, no known task, or the cross-modal copy, whose files hold prompts and endings apart.
    """
    task = require_task(source)
    wavs = list_wavs(source.path)
    if not wavs:
        raise UserError(f"{source.path}: no wavs here, wanted <file>_<pair>_correct.wav and _incorrect.wav.")
    prompt = next((wav for wav in wavs if wav.stem.endswith(_PROMPT_SUFFIX)), None)
    if prompt:
        raise UserError(
            f"{prompt}: prompt and endings are in files of their own here, so no file holds a story; take the release "
            "with whole stories."
        )
    named = [(wav, MEMBER_NAME.fullmatch(wav.stem)) for wav in wavs]
    parts = {match.group("file", "pair", "label") for _, match in named if match}
    file_names_story = any(
        (file, pair, "incorrect") in parts for file, pair, label in parts if label == "correct"
    )
    for wav, match in named:
        if match is None:
            wanted = "wanted <file>_<pair>_correct.wav or _incorrect.wav; rename or remove it"
            yield MemberFault(wav.name, "bad name", wanted)
            continue
        story = f"{match['file']}_{match['pair']}" if file_names_story else match["pair"]
        label = {"task": task, "group_id": story, "pair_id": story, "correct": match["label"] == "correct"}
        yield make_member(source, wav, wav.name, label)
