"""Utterances to listen to, with the units that the models read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE, Utterance
from speechscale.records.seal import write_json
from speechscale.speech.decode import write_wav
from speechscale.units.collapse import collapse
from speechscale.units.encode import Hear, encoder_for
from speechscale.units.kmeans import load_code_book


def write_samples(root: Path, code_book: Path, utterances: Sequence[Utterance], hear: Hear) -> None:
    """`samples/*.wav` and `samples.json`: id, text, voice, seconds, file, units."""
    book = load_code_book(code_book)
    encoder = encoder_for(book)
    entries = []
    for number, (utterance, waveform) in enumerate(zip(utterances, hear(utterances, root), strict=True)):
        if isinstance(waveform, SampleFault):
            continue
        file = f"samples/{number}.wav"
        write_wav(waveform, root / file)
        units = collapse(book.assign(encoder.encode(np.asarray(waveform))))
        entries.append(
            {
                "id": utterance.id,
                "text": utterance.transcript,
                "voice": utterance.speaker,
                "seconds": len(waveform) / SAMPLE_RATE,
                "file": file,
                "units": units.tolist(),
            }
        )
    write_json(root / "samples.json", entries)
