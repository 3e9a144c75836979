"""The law file: what a fit found, in JSON that a person can open and a program can trust."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speechscale.errors import UserError
from speechscale.records.seal import sha256_json, write_file

SCHEMA = "speechscale.law/1"


def write_law(law: dict[str, Any], path: Path) -> None:
    """Write a law, sealed with the hash of its content. Arrays of numbers take one line each."""
    content = {key: value for key, value in law.items() if key != "sha256"}
    text = json.dumps(
        {**content, "sha256": sha256_json(content)}, indent=1, ensure_ascii=False, allow_nan=False
    )
    write_file(
        Path(path), re.sub(r"\[[\s\d.eE+,-]+\]", lambda array: re.sub(r"\s+", " ", array[0]), text) + "\n"
    )


def read_law(path: Path) -> dict[str, Any]:
    """Read a law file.

    Raises:
        UserError: not a law file, of another schema, or changed since it was written.
    """
    path = Path(path)
    again = "make it again with `speechscale fit`"
    try:
        law = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror or error}); a law file is wanted."
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); {again}.") from error
    if not isinstance(law, dict) or law.get("schema") != SCHEMA:
        found = law.get("schema") if isinstance(law, dict) else type(law).__name__
        raise UserError(f"{path}: schema is {found!r}, wanted {SCHEMA!r}; {again}.")
    content = {key: value for key, value in law.items() if key != "sha256"}
    if law.get("sha256") != sha256_json(content):
        raise UserError(
            f"{path}: the content differs from its hash: it was changed after the fit, so its intervals no longer "
            f"belong to its numbers; {again}, or take the constants to `speechscale plan --published`."
        )
    return law


def rounded(values: Iterable[float]) -> list[float]:
    """Numbers for the file, to five significant digits: far finer than any interval, and short."""
    return [float(f"{value:.5g}") for value in values]
