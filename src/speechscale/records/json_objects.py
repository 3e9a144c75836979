"""JSON objects of any content: their type, and the reading of a file that holds one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechscale.errors import UserError

JsonObject = dict[str, Any]
"""A JSON object whose fields depend on who wrote it: an encoder, another program, another version."""


def read_json_object(path: Path) -> JsonObject:
    """Read a JSON file that holds an object.

    Raises:
        UserError: no such file, no JSON, or another JSON value.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: a JSON object is wanted.")
    return value
