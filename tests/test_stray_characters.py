"""Tests of the descriptions of stray characters: each is named, and nothing is quoted."""

from collections.abc import Mapping

import pytest
from hypothesis import given

from sidecar.stray_characters import describe
from tests.properties import any_text, many

DESCRIBED: Mapping[str, str | None] = {
    "": "is empty",
    " ": "is blank",
    "\r\n": "is blank",
    "\N{ZERO WIDTH SPACE}": "is blank",
    "a": None,
    "a b": None,
    "é": None,
    "it's": None,
    "a ": "ends with a space",
    " a": "begins with a space",
    "a\t": "ends with a tab",
    "a\r": "ends with a line end",
    "a\n": "ends with a line end",
    "a\r\n": "ends with a line end",
    "\na": "begins with a line end",
    "a\N{NO-BREAK SPACE}": "ends with a no-break space",
    "\N{ZERO WIDTH NO-BREAK SPACE}a": "begins with a byte order mark",
    "a\N{ZERO WIDTH SPACE}": "ends with a zero width space",
    "a\N{IDEOGRAPHIC SPACE}": "ends with white space",
    "a\0": "ends with a character that cannot be seen",
    "a\N{SOFT HYPHEN}": "ends with a character that cannot be seen",
    "\ud800a": "begins with a character that cannot be seen",
    " a\n": "begins with a space and ends with a line end",
    "'a'": "is in quotes",
    '"a"': "is in quotes",
    "`a`": "is in quotes",
    "\N{LEFT DOUBLE QUOTATION MARK}a\N{RIGHT DOUBLE QUOTATION MARK}": "is in quotes",
    "\N{LEFT SINGLE QUOTATION MARK}a\N{RIGHT SINGLE QUOTATION MARK}": "is in quotes",
    "''": "is in quotes",
    "'": None,
    "'a": None,
    "'a\"": None,
}


@pytest.mark.parametrize(("text", "description"), DESCRIBED.items(), ids=ascii)
def test_described(text: str, description: str | None) -> None:
    """What a reader cannot see around a text is named; a text without it has no description."""
    assert describe(text) == description


@many
@given(any_text)
def test_nothing_is_quoted(text: str) -> None:
    """A description has only words of ours, whatever the text is: it may be a secret."""
    words = {word for each in DESCRIBED.values() if each for word in each.split()}
    assert set((describe(text) or "").split()) <= words
