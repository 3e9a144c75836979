"""JSON objects of any content: their type, and the reading of a file that holds one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from speechscale.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

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


def read_schema_object(path: Path, schema: str, *, kind: str, remedy: str) -> JsonObject:
    """Read a JSON file that holds an object of one schema, and return the object without `schema`.

    Args:
        path: the file.
        schema: the only one to accept.
        kind: what the file should be, such as `law file`.
        remedy: what to do about another file.

    Raises:
        UserError: no such file, no JSON, or another schema.
    """
    try:
        content: object = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror or error}); a {kind} is wanted."
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); {remedy}.") from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: schema is {found!r}, wanted {schema!r}; {remedy}.")
    return {key: value for key, value in content.items() if key != "schema"}


def read_model(path: Path, model: type[Model], schema: str) -> Model:
    """Read a JSON file that a pydantic model describes.

    Args:
        path: the file.
        model: of its content.
        schema: its name, for the sentence about another file.

    Raises:
        UserError: the file is missing, or not of this schema.
    """
    try:
        return model.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a file of schema {schema} ({error}).") from error
