"""Sentences for values that pydantic refuses."""

from __future__ import annotations

from pydantic import ValidationError

_LONGEST = 80  # characters of a found value


def first_fault(error: ValidationError, whole: str) -> str:
    """Field, reason and found value of the first fault; `whole` names the value where no field is at fault."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    return (
        f"{field}: {first['msg'].removeprefix('Value error, ')}; found {shortened(repr(first.get('input')))}"
    )


def shortened(text: str) -> str:
    """The beginning of a text that would make a sentence too long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}…"
