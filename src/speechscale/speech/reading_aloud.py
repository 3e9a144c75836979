"""Text read aloud into files: a folder of wavs with its manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import SAMPLE_RATE, Synthesis, Utterance, write_manifest
from speechscale.records.seal import published_folder
from speechscale.speech.decode import write_wav
from speechscale.speech.hearing import hear
from speechscale.speech.lexicon import load_lexicon
from speechscale.speech.stories import World
from speechscale.speech.synthesis import ESPEAK


def utterances_of(
    lines: Sequence[str], dataset: str, voices: Sequence[str], words_per_minute: int, seed: int
) -> list[Utterance]:
    """One utterance a line; the voice is drawn by seed and line number."""
    return [
        Utterance(
            id=f"{dataset}/{number:06d}",
            dataset=dataset,
            split="train",
            transcript=line.strip(),
            speaker=(voice := Random(f"{seed}/{number}").choice(list(voices))),
            synthesis=Synthesis(engine=ESPEAK, voice=voice, words_per_minute=words_per_minute, seed=seed),
        )
        for number, line in enumerate(lines)
    ]


def story_texts(size: str, count: int, seed: int) -> list[str]:
    """Stories of a world, as text."""
    world, rng = World(load_lexicon(size)), Random(f"{seed}/stories")
    return [world.story(rng).text for _ in range(count)]


def read_aloud(
    utterances: Sequence[Utterance], folder: Path, tick: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Write `audio/*.wav`, `manifest.jsonl` and `skips.jsonl`; returns how many were spoken and how many skipped.

    Raises:
        UserError: nothing could be spoken; then no folder is left behind.
    """
    spoken: list[Utterance] = []
    skips: list[dict[str, str]] = []
    with published_folder(folder) as aside:
        (aside / "audio").mkdir()
        for utterance, waveform in zip(utterances, hear(utterances, aside), strict=True):
            tick()
            if isinstance(waveform, SampleFault):
                skips.append({"id": utterance.id, "reason": waveform.reason, "detail": waveform.detail})
                continue
            file = f"audio/{utterance.id.replace('/', '-')}.wav"
            write_wav(waveform, aside / file)
            told = {"audio": file, "sample_rate": SAMPLE_RATE, "duration": len(waveform) / SAMPLE_RATE}
            spoken.append(utterance.model_copy(update=told))
        if not spoken:
            first = skips[0]["detail"] if skips else "there was no text"
            raise UserError(f"{folder}: none of {len(utterances)} utterances could be spoken ({first}).")
        write_manifest(spoken, aside / "manifest.jsonl")
        (aside / "skips.jsonl").write_text(
            "".join(json.dumps(skip) + "\n" for skip in skips), encoding="utf-8"
        )
    return len(spoken), len(skips)
