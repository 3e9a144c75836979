"""HTML elements with automatic escaping: text is escaped unless it is `Markup`."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_VOID = {"meta", "br"}  # elements without content


class Markup(str):
    """Text that is HTML already, made by `element` or written in this package; never data."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """One HTML element. A trailing underscore in an attribute's name is dropped; `None` leaves it out."""
    named = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    opening = f"<{name}{''.join(named)}>"
    return Markup(opening if name in _VOID else f"{opening}{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """Siblings, each escaped unless it is markup."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def safe_json(value: Any) -> Markup:
    """JSON for a script element: no `<` is left in it, so that nothing in the data can close the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
