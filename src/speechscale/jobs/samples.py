"""Export of utterances as wav files with their text and units, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE, Utterance
from speechscale.records.seal import write_json
from speechscale.speech.audio.write import write_wav
from speechscale.units.codebook import load_codebook
from speechscale.units.collapse import collapse
from speechscale.units.encoders import load_encoder
from speechscale.units.source import LoadWaveforms


def write_samples(
    root: Path, codebook: Path, utterances: Sequence[Utterance], load_waveforms: LoadWaveforms
) -> None:
    """Write `samples/*.wav`, and `samples.json` with id, text, voice, seconds, file and units of each.

    Args:
        root: the folder to write to; audio paths of the utterances are relative to it.
        codebook: the k-means file whose encoder and clusters give the units.
        utterances: those to export; utterances with a fault are left out.
        load_waveforms: yields their waveforms, float32 [samples] at 16 kHz.
    """
    book = load_codebook(codebook)
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
