"""Utterances to listen to, with the units that the models read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE, Utterance
from speechscale.records.seal import write_json
from speechscale.speech.audio.decode import write_wav
from speechscale.units.codebook import load_codebook
from speechscale.units.collapse import collapse
from speechscale.units.encoders import load_encoder
from speechscale.units.source import LoadWaveforms


def write_samples(
    root: Path, code_book: Path, utterances: Sequence[Utterance], load_waveforms: LoadWaveforms
) -> None:
    """`samples/*.wav` and `samples.json`: id, text, voice, seconds, file, units."""
    book = load_codebook(code_book)
    encoder = load_encoder(book.encoder)
    entries = []
    for number, (utterance, waveform) in enumerate(
        zip(utterances, load_waveforms(utterances, root), strict=True)
    ):
        if isinstance(waveform, SampleFault):
            continue
        file = f"samples/{number}.wav"
        write_wav(waveform, root / file)
        (frames,) = encoder.encode([waveform])
        units, _ = collapse(book.assign(frames))
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
