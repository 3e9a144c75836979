"""TOML files as pydantic models, with errors that name file, key and remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from speechscale.errors import UserError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, model: type[Model]) -> Model:
    """Parse and validate a TOML file.

    Raises:
        UserError: unreadable, not TOML, an unknown key (with the nearest valid one) or a value of the wrong kind.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); a TOML file is wanted.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML ({error}).") from error
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise UserError("\n".join(_message(path, model, detail) for detail in error.errors())) from error


def _message(path: Path, model: type[BaseModel], detail: ErrorDetails) -> str:
    """One validation error as a sentence."""
    location = detail["loc"]
    key = ".".join(map(str, location))
    if detail["type"] == "extra_forbidden":
        known = _valid_keys(model, location[:-1])
        return f"{path}: unknown key '{key}'{nearest(str(location[-1]), known)}; nothing was started."
    if detail["type"] == "missing":
        return f"{path}: the key '{key}' is missing; nothing was started."
    found = "" if key == "" else f"{key} = {detail['input']!r}: "
    reason = detail["msg"].removeprefix("Value error, ")
    return f"{path}: {found}{reason}; nothing was started."


def _valid_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The keys that the table at `location` may have."""
    for part in location:
        if isinstance(part, str):
            model = _table_model(model.model_fields[part].annotation)
    return set(model.model_fields)


def _table_model(annotation: Any) -> type[BaseModel]:
    """The model `T` of a field annotated as `T`, `tuple[T, ...]` or `T | None`."""
    inner = get_args(annotation)[0] if get_origin(annotation) in (tuple, UnionType) else annotation
    return cast(type[BaseModel], inner)
