"""Utterances to listen to, inside the page: the sound, the words, and the units that the models read."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from speechscale.errors import UserError
from speechscale.report.markup import Markup, element, joined

MAX_AUDIO_BYTES = 400_000  # bytes of one file; 12 s at 16 kHz and 16 bits
_GOLDEN_ANGLE = 137.508  # degrees; neighbouring unit numbers get colours far apart


def players(samples: list[dict[str, Any]], folder: Path) -> Markup:
    """One player a sample.

    Raises:
        UserError: a sample lies outside the study folder or is no WAV file.
    """
    if not samples:
        return element(
            "p", "This study folder has no samples.json, so there is nothing to listen to.", class_="gap"
        )
    return joined(*(_player(sample, folder) for sample in samples))


def _player(sample: dict[str, Any], folder: Path) -> Markup:
    units = [int(unit) for unit in sample.get("units") or []]
    about = [str(sample[key]) for key in ("id", "voice") if sample.get(key)]
    if sample.get("seconds"):
        about.append(f"{float(sample['seconds']):.1f} s")
    if units:
        about.append(f"{len(units)} units, {len(set(units))} of them different")
    return element(
        "article",
        element("p", str(sample.get("text") or "(no text)"), class_="spoken"),
        _audio(sample, folder),
        unit_strip(units) if units else "",
        element("p", " · ".join(about), class_="quiet"),
        class_="player",
    )


def _audio(sample: dict[str, Any], folder: Path) -> Markup:
    path = _path_inside(str(sample.get("file") or ""), folder)
    sound = path.read_bytes()
    if sound[:4] != b"RIFF" or sound[8:12] != b"WAVE":
        raise UserError(f"{path}: not a WAV file, though samples.json names it; make this stage again.")
    if len(sound) > MAX_AUDIO_BYTES:
        return element("p", f"Too long to be carried in this page: listen to {sample['file']}.", class_="gap")
    source = f"data:audio/wav;base64,{base64.b64encode(sound).decode()}"
    return element("audio", controls="", preload="metadata", src=source)


def _path_inside(name: str, folder: Path) -> Path:
    """The path of a sample, which must be a file of the study: a page must not carry other files away."""
    path = (folder / name).resolve()
    if not name or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise UserError(f"{folder / 'samples.json'}: {name!r} is not a file inside the study folder.")
    return path


def unit_strip(units: list[int]) -> Markup:
    """The unit sequence as a strip of cells, one colour a unit: what sounds alike looks alike."""
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
