"""HTML text. Every string that is not `Markup` is escaped when it becomes a part of it."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: str | bool) -> Markup:
    """Return an element with `content`.

    An underscore in the name of an attribute stands for a hyphen, and the last one for nothing
    (`class_`, `aria_label`). An attribute that is True has no value, one that is False is absent.
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{shown}>{join(content)}</{name}>")


def join(parts: Iterable[str], separator: str = "") -> Markup:
    """Return `parts` one after the other, with `separator` between them."""
    return Markup(_escape(separator).join(map(_escape, parts)))


def _attribute(key: str, value: str | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    return f' {name}="{html.escape(value)}"'


def _escape(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(text)
