"""Audio samples embedded in the page, with their transcripts and the units that the models read."""

from __future__ import annotations

import base64
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.study import AudioSample
from speechscale.report.markup import Markup, element, joined

MAX_AUDIO_BYTES = 400_000  # bytes of one file; 12 s at 16 kHz and 16 bits
_GOLDEN_ANGLE = 137.508  # degrees; neighbouring unit numbers get colours far apart


def players(samples: list[AudioSample], folder: Path) -> Markup:
    """One player per sample.

    Raises:
        UserError: a sample is outside the study folder or is not a WAV file.
    """
    if not samples:
        return element(
            "p", "This study folder has no samples.json, so there is nothing to listen to.", class_="gap"
        )
    return joined(*(_player(sample, folder) for sample in samples))


def _player(sample: AudioSample, folder: Path) -> Markup:
    units = sample.units
    about = [part for part in (sample.id, sample.voice) if part]
    about.append(f"{sample.seconds:.1f} s")
    if units:
        about.append(f"{len(units)} units, {len(set(units))} of them different")
    return element(
        "article",
        element("p", sample.text or "(no text)", class_="spoken"),
        _audio(sample, folder),
        unit_strip(units) if units else "",
        element("p", " · ".join(about), class_="quiet"),
        class_="player",
    )


def _audio(sample: AudioSample, folder: Path) -> Markup:
    path = _path_inside(sample.file, folder)
    sound = path.read_bytes()
    if sound[:4] != b"RIFF" or sound[8:12] != b"WAVE":
        raise UserError(f"{path}: not a WAV file, though samples.json names it; make this stage again.")
    if len(sound) > MAX_AUDIO_BYTES:
        return element("p", f"Too long to embed in this page: listen to {sample.file}.", class_="gap")
    source = f"data:audio/wav;base64,{base64.b64encode(sound).decode()}"
    return element("audio", controls="", preload="metadata", src=source)


def _path_inside(name: str, folder: Path) -> Path:
    """The path of a sample, which must be a file of the study: a page must not embed other files."""
    path = (folder / name).resolve()
    if not name or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise UserError(f"{folder / 'samples.json'}: {name!r} is not a file inside the study folder.")
    return path


def unit_strip(units: list[int]) -> Markup:
    """The unit sequence as a strip of cells, one colour per unit."""
    cells = (
        element(
            "rect",
            element("title", f"unit {unit}"),
            x=position,
            y=0,
            width=1,
            height=1,
            fill=f"hsl({unit * _GOLDEN_ANGLE % 360:.0f} 58% {46 + 6 * (unit % 4)}%)",
        )
        for position, unit in enumerate(units)
    )
    label = f"The unit sequence: {' '.join(map(str, units))}"
    return element(
        "svg",
        *cells,
        class_="units",
        viewBox=f"0 0 {len(units)} 1",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
