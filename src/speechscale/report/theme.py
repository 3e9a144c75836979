"""The theme of all figures: colours ordered by model size, axes with round ticks, one Vega-Lite configuration.

The ink is `currentColor` on the page, so that style sheet, dark mode and printer decide about it, and a fixed
dark grey in exported files, which know no style sheet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import altair as alt

from speechscale.report import formatting

VegaSpec = dict[str, Any]  # a Vega-Lite specification or a part of one

PAGE_TEXT_COLOUR = "currentColor"
FILE_TEXT_COLOUR = "#22272e"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
FIT_COLOUR = "#c2410c"  # fitted laws: the only warm colour, which separates fits from measurements
NEUTRAL_COLOUR = "#3a74c0"  # marks without a model size
REFERENCE_COLOUR = "#8b949e"  # chance lines and other references

# Viridis without its ends: lightness rises with size, and every colour stands out on white and on black.
_SIZES = ("#5b4bc4", "#3a74c0", "#1f93a4", "#2fa56f", "#7bab2c", "#b8950f")

_SERIES = ("#3a74c0", "#2fa56f", "#b8950f", "#8b5cc4")  # far apart, and none of them the colour of a fit

_STEPS = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)
_MIN_TICKS = 4
_MAX_TICKS = 8


def configuration(ink: str) -> VegaSpec:
    """The Vega-Lite configuration shared by all figures."""
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "title": {"color": ink, "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 10},
        "axis": {
            "labelColor": ink,
            "labelOpacity": 0.8,
            "labelFontSize": 11,
            "titleColor": ink,
            "titleOpacity": 0.9,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "titlePadding": 8,
            "domainColor": ink,
            "domainOpacity": 0.35,
            "tickColor": ink,
            "tickOpacity": 0.35,
            "gridColor": ink,
            "gridOpacity": 0.09,
        },
        "legend": {
            "labelColor": ink,
            "labelFontSize": 11,
            "titleColor": ink,
            "titleFontSize": 11,
            "titleFontWeight": 500,
            "orient": "top",
            "direction": "horizontal",
            "columns": 6,
            "symbolSize": 70,
            "symbolOpacity": 1,
            "symbolFillColor": REFERENCE_COLOUR,
            "symbolStrokeColor": REFERENCE_COLOUR,
            "layout": {"top": {"margin": 24}},
        },
        "text": {"color": ink},
    }


def size_colours(params: Iterable[float]) -> dict[str, str]:
    """The label of every model size and its colour, in order of size."""
    sizes = list(dict.fromkeys(formatting.quantity(size) for size in sorted(set(params))))
    last = max(len(sizes) - 1, 1)
    return {size: _colour(index / last) for index, size in enumerate(sizes)}


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour of its own for every series, in their order."""
    return {name: _SERIES[number % len(_SERIES)] for number, name in enumerate(names)}


def size_scale(params: Iterable[float]) -> alt.Scale:
    """The colour scale of model sizes."""
    colours = size_colours(params)
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def log_ticks(low: float, high: float) -> list[float]:
    """Round values between two bounds: powers of ten, or finer steps if these are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in _STEPS:
        candidates = (float(f"{step}e{decade}") for decade in decades for step in steps)
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) >= _MIN_TICKS:
            break
    return ticks[:: math.ceil(max(len(ticks), 1) / _MAX_TICKS)]


def log_axis(values: Sequence[float], title: str, label: Callable[[float], str]) -> VegaSpec:
    """Title, scale and axis of a log-scaled quantity, a little wider than its values."""
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.04, 1.02)
    domain = [low / margin, high * margin]
    ticks = log_ticks(*domain)
    labels = json.dumps([label(tick) for tick in ticks], ensure_ascii=False)
    return {
        "title": title,
        "scale": alt.Scale(type="log", domain=domain, nice=False),
        # A look-up of labels: Python formats all numbers, in the text and in the figures.
        "axis": alt.Axis(values=ticks, labelExpr=f"{labels}[indexof({json.dumps(ticks)}, datum.value)]"),
    }


def share_axis(values: Sequence[float], title: str) -> VegaSpec:
    """Title, scale and axis of an accuracy, in steps of five points around its values."""
    low, high = math.floor(20 * min(values)) / 20, math.ceil(20 * max(values)) / 20
    return {
        "title": title,
        "scale": alt.Scale(domain=[low, max(high, low + 0.05)], nice=False),
        "axis": alt.Axis(format=".0%", tickCount=6),
    }


def _colour(position: float) -> str:
    """The palette at a position in [0, 1], mixed from its two nearest anchors."""
    place = position * (len(_SIZES) - 1)
    left = min(int(place), len(_SIZES) - 2)
    weight = place - left
    low, high = (bytes.fromhex(anchor[1:]) for anchor in _SIZES[left : left + 2])
    return "#" + bytes(round((1 - weight) * a + weight * b) for a, b in zip(low, high, strict=True)).hex()
