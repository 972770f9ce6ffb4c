"""Descriptions as HTML: paragraphs, lists with `* `, and code spans, all that they use."""

import re
from collections.abc import Iterator

from sidecar.rest.pages.markup import Markup, element, join

_BLANK_LINES = re.compile(r"\n\s*\n")
_ITEM = re.compile(r"^\* ", re.MULTILINE)
_CODE_SPAN = re.compile(r"`([^`]+)`")


def render(text: str) -> Markup:
    """Return the paragraphs and lists in `text`."""
    return join(map(_block, filter(None, _BLANK_LINES.split(text.strip()))))


def inline(text: str) -> Markup:
    """Return `text` with its code spans, which is a part of a paragraph."""
    return join(_spans(text))


def _block(text: str) -> Markup:
    before, *items = _ITEM.split(text)
    paragraph = element("p", inline(before.strip())) if before.strip() else Markup()
    if not items:
        return paragraph
    listed = (element("li", inline(item.strip())) for item in items)
    return join([paragraph, element("ul", *listed)])


def _spans(text: str) -> Iterator[str]:
    for index, part in enumerate(_CODE_SPAN.split(text)):
        yield element("code", part) if index % 2 else part
