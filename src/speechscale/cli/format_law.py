"""The content of a law file in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def tell(law: Mapping[str, Any]) -> str:
    """A summary: every law with its intervals, what is missing and why, and what the checks say."""
    lines: list[str] = []
    for name, content in law["series"].items():
        lines += ["", name, "=" * len(name), *_series(content)]
    for pair, scores in law["efficiency"].items():
        if pair != "missing":
            lines += [
                f"  {pair}, {score}: {found.get('says') or found['missing']}"
                for score, found in scores.items()
            ]
    return "\n".join(lines).lstrip("\n")


def _series(content: Mapping[str, Any]) -> Iterator[str]:
    rows = content["rows"]
    yield f"{rows['used']} runs used, {len(rows['dropped'])} left out by rule (named in the file)"
    yield from _part("single epoch, L = E + A/N^alpha + B/D^beta", content["single_epoch"])
    if "allocation" in content["single_epoch"]:
        yield from _part("best split, N = G (C/6)^a", _as_part(content["single_epoch"]["allocation"]))
    if "repeated" in content:
        yield from _part("repeated data (two stages)", content["repeated"])
        if "joint" in content["repeated"]:
            yield from _part("repeated data (all seven jointly)", content["repeated"]["joint"])
    if "envelope" in content:
        yield from _part("envelope, L = k C^gamma", content["envelope"])
    if "isoflop" in content:
        yield from _part("IsoFLOP minima", content["isoflop"])
    for score, part in _scores(content):
        yield from _part(f"{score}, Q ~ C^gamma", part)
        if "emergence" in part:
            yield f"    {part['emergence']['says']}"
    if "rollout" in content:
        yield f"  rollout: {content['rollout'].get('says') or content['rollout']['missing']}"
    for check in content["checks"]:
        yield f"  {'!' if check['level'] == 'warning' else '-'} {check['check']}: {check['says']}"


def _scores(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = content.get("downstream", {})
    if "missing" in found:
        return [("scores", found)]
    return [
        (score, part if "missing" in part else {**part, **_exponent(part)}) for score, part in found.items()
    ]


def _exponent(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": {"gamma": part["gamma"]}, "interval95": {"gamma": part["interval95"]}}


def _as_part(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": {k: v for k, v in flat.items() if k != "interval95"}, "interval95": flat["interval95"]}


def _part(title: str, part: Mapping[str, Any]) -> Iterator[str]:
    if "missing" in part:
        yield f"  {title}: missing: {part['missing']}"
        return
    yield f"  {title}"
    for name, value in part["params"].items():
        told = "none" if value is None else f"{value:.4g}"
        yield f"    {name:<12}{told:>12}  {_interval(part.get('interval95', {}).get(name))}"


def _interval(bounds: list[float | None] | None) -> str:
    if bounds is None:
        return ""
    low, high = ("open" if bound is None else f"{bound:.4g}" for bound in bounds)
    return f"[{low}, {high}]" + ("  not identified" if None in bounds else "")
