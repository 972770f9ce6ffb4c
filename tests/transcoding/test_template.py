"""Path templates: which are read, and where the others are wrong."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.template import Template, TemplateError, parse
from tests.properties import any_text, many

LITERALS = "AZaz09._~!$&'()+,;=@-"
READ: Mapping[str, tuple[str, ...]] = {
    "/v1": ("v1",),
    "/v1/shelves": ("v1", "shelves"),
    "/a/a/a": ("a", "a", "a"),
    f"/{LITERALS}/b": (LITERALS, "b"),
}
EMPTY = "a segment must not be empty"
VARIABLE = "variables are not supported yet"
WILDCARD = "wildcards are not supported yet"
VERB = "verbs are not supported yet"
START = "column 1: a template starts with '/'"
WRONG: Mapping[str, str] = {
    "": START,
    "v1/shelves": START,
    " /v1": START,
    "{name=**}": START,
    "/": f"column 2: {EMPTY}",
    "//": f"column 2: {EMPTY}",
    "//v1": f"column 2: {EMPTY}",
    "/v1/": f"column 5: {EMPTY}",
    "/v1//shelves": f"column 5: {EMPTY}",
    "/{shelf}": f"column 2: {VARIABLE}",
    "/v1/{shelf=shelves/*}": f"column 5: {VARIABLE}",
    "/v1/a{shelf}": f"column 6: {VARIABLE}",
    "/v1/*": f"column 5: {WILDCARD}",
    "/v1/**": f"column 5: {WILDCARD}",
    "/v1/a*": f"column 6: {WILDCARD}",
    "/v1/shelves:merge": f"column 12: {VERB}",
    "/v1/:merge": f"column 5: {VERB}",
    "/v1/}": "column 5: '}' cannot stand in a segment",
    "/v1?a=b": "column 4: '?' cannot stand in a segment",
    "/v1#a": "column 4: '#' cannot stand in a segment",
    "/v1 ": "column 4: ' ' cannot stand in a segment",
    "/v1\n": "column 4: '\\n' cannot stand in a segment",
    "/v1/%41": "column 5: '%' cannot stand in a segment",
    "/v1/é": "column 5: 'é' cannot stand in a segment",
    "/v1/a\\b": "column 6: '\\\\' cannot stand in a segment",
    '/v1/"': "column 5: '\"' cannot stand in a segment",
    "/v1/<": "column 5: '<' cannot stand in a segment",
}


@pytest.mark.parametrize(("text", "segments"), READ.items(), ids=ascii)
def test_parse(text: str, segments: tuple[str, ...]) -> None:
    """A template of literals is the sequence of its segments."""
    assert parse(text) == Template(text=text, segments=segments)


@pytest.mark.parametrize(("text", "fault"), WRONG.items(), ids=ascii)
def test_wrong(text: str, fault: str) -> None:
    """Of any other template the first fault is told, with its column."""
    with pytest.raises(TemplateError) as raised:
        parse(text)
    assert str(raised.value) == fault


@many
@given(any_text.map("/".__add__) | st.text("/a*{}:%é").map("/".__add__))
def test_any_text(text: str) -> None:
    """Any text at all is a template that says the same, or a fault within the text."""
    try:
        template = parse(text)
    except TemplateError as error:
        column = int(str(error).partition(":")[0].removeprefix("column "))
        parse(text[: column - 1].rstrip("/") or "/a")
    else:
        assert "/" + "/".join(template.segments) == text
