"""Path templates: what each text means, where it goes wrong, and what variables catch."""

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.percent import decode_but_slashes, decode_segment
from sidecar.transcoding.template import Segment, TemplateError, Variable, Wildcard, parse
from tests.properties import any_text, many

ONE, ANY = Wildcard.ONE, Wildcard.ANY
SEGMENTS: Mapping[str, tuple[tuple[Segment, ...], str]] = {
    "/": ((), ""),
    "/v1": (("v1",), ""),
    "/v1/shelves": (("v1", "shelves"), ""),
    "/AZaz09._~!$&'()+,;=@-/b": (("AZaz09._~!$&'()+,;=@-", "b"), ""),
    "/*": ((ONE,), ""),
    "/**": ((ANY,), ""),
    "/a/*/b/**": (("a", ONE, "b", ANY), ""),
    "/a/**/b/c": (("a", ANY, "b", "c"), ""),
    "/{a}": ((ONE,), ""),
    "/{a=*}": ((ONE,), ""),
    "/{a=b}": (("b",), ""),
    "/{a.b=x/*/y/**}": (("x", ONE, "y", ANY), ""),
    "/{a=**}/end": ((ANY, "end"), ""),
    "/v1/{name=shelves/*}:archive": (("v1", "shelves", ONE), "archive"),
    "/a:verb": (("a",), "verb"),
    "/a:verb:subverb": (("a",), "verb:subverb"),
    "/**:verb": ((ANY,), "verb"),
    "/a:%76erb": (("a",), "verb"),
    # Escapes are decoded, so that a literal equals every way to write it.
    "/a%20b%2Fc%25/%3A": (("a b/c%", ":"), ""),
    "/%2A/%7Ba%7D": (("*", "{a}"), ""),
    "/\u00fc/%C3%BC": (("\u00fc", "\u00fc"), ""),
}


@pytest.mark.parametrize("text", SEGMENTS)
def test_segments(text: str) -> None:
    """A template is its segments, literals decoded, and a verb behind the last of them."""
    template = parse(text)
    assert (template.segments, template.verb) == SEGMENTS[text]
    assert template.text == text


def variable(path: str, part: slice, column: int, *, is_multi: bool = False) -> Variable:
    """Return a variable."""
    decode = decode_but_slashes if is_multi else decode_segment
    return Variable(field_path=tuple(path.split(".")), part=part, decode=decode, column=column)


VARIABLES: Mapping[str, tuple[Variable, ...]] = {
    "/a/*": (),
    "/{a}": (variable("a", slice(0, 1), 3),),
    "/v1/{a_1.B.c}/x": (variable("a_1.B.c", slice(1, 2), 6),),
    "/{a=b}": (variable("a", slice(0, 1), 3),),
    "/{a=b/c}": (variable("a", slice(0, 2), 3, is_multi=True),),
    "/{a=**}": (variable("a", slice(0, None), 3, is_multi=True),),
    "/x/{a}/{b=y/**}/z": (
        variable("a", slice(1, 2), 5),
        variable("b", slice(2, -1), 9, is_multi=True),
    ),
    "/**/{a=x}/{b=y/z}": (
        variable("a", slice(-3, -2), 6),
        variable("b", slice(-2, None), 12, is_multi=True),
    ),
    "/{a=**}/x:go": (variable("a", slice(0, -1), 3, is_multi=True),),
}


@pytest.mark.parametrize("text", VARIABLES)
def test_variables(text: str) -> None:
    """A variable is the way to a field, where that is told, and the segments that give it."""
    assert parse(text).variables == VARIABLES[text]


START, EMPTY = "a template starts with '/'", "a segment must not be empty"
ALONE = "a segment is exactly one literal, wildcard or variable"
NAME, VERB = "a field name is expected here", "a verb must not be empty"
END = "a variable ends with '}' and cannot contain another one"
BEHIND = "a verb ends the template; within a segment a colon is written as %3A"
ESCAPE = "a literal must be valid percent-encoded UTF-8"
LITERALS = "only literals may follow '**'"
WRONG: Mapping[str, tuple[int, str]] = {
    "": (1, START),
    "v1/a": (1, START),
    "*": (1, START),
    "//": (2, EMPTY),
    "/a/": (4, EMPTY),
    "/a//b": (4, EMPTY),
    "/:verb": (2, EMPTY),
    "/a/:verb": (4, EMPTY),
    "/{a=}": (5, EMPTY),
    "/{a=/x}": (5, EMPTY),
    "/{a=x/}": (7, EMPTY),
    "/a:": (4, VERB),
    "/{a}:": (6, VERB),
    "/a:b/c": (5, BEHIND),
    "/a:b{c}": (5, BEHIND),
    "/a{x}": (3, ALONE),
    "/a*": (3, ALONE),
    "/***": (4, ALONE),
    "/*{a}": (3, ALONE),
    "/{x}a": (5, "'a' is not allowed here"),
    "/*a": (3, "'a' is not allowed here"),
    "/a}": (3, "'}' is not allowed here"),
    "/}": (2, EMPTY),
    "/{a={b}}": (5, ALONE),
    "/{a=*b}": (6, END),
    "/{a=b:c}": (6, END),
    "/{a": (4, END),
    "/{a=b": (6, END),
    "/{a-b}": (4, END),
    "/{}": (3, NAME),
    "/{": (3, NAME),
    "/{a.}": (5, NAME),
    "/{.a}": (3, NAME),
    "/{1a}": (3, NAME),
    "/{*}": (3, NAME),
    "/{a}/{b.c}/{a}": (13, "a field can be set by one variable only"),
    "/**/**": (5, LITERALS),
    "/**/*": (5, LITERALS),
    "/{a=**}/x/{b}": (12, LITERALS),
    "/{a=**/*}": (8, LITERALS),
    "/a?b": (3, "'?' is not allowed here"),
    "/?": (2, "'?' is not allowed here"),
    "/a#b": (3, "'#' is not allowed here"),
    "/a b": (3, "' ' is not allowed here"),
    "/a\n": (3, "'\\n' is not allowed here"),
    "/\x7f": (2, "'\\x7f' is not allowed here"),
    "/a/b%": (4, ESCAPE),
    "/%zz": (2, ESCAPE),
    "/%FF": (2, ESCAPE),
    "/%00": (2, ESCAPE),
    "/a:%4": (4, ESCAPE),
}


@pytest.mark.parametrize("text", WRONG, ids=ascii)
def test_wrong(text: str) -> None:
    """A wrong template is told with the column where it goes wrong."""
    column, explanation = WRONG[text]
    with pytest.raises(TemplateError) as raised:
        parse(text)
    assert str(raised.value) == f"column {column}: {explanation}"


CAPTURED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("/v1/{a}", "v1/x", ("x",)),
    ("/v1/{a}", "v1/a%2Fb%2fc%25%20+", ("a/b/c% +",)),
    ("/{a=x}", "%78", ("x",)),
    ("/{a=x/*}", "x/a%2Fb%2fc%25%20+", ("x/a%2Fb%2fc% +",)),
    ("/{a=**}", "b%2Fc", ("b%2Fc",)),
    ("/{a=**}", "b/c/d", ("b/c/d",)),
    ("/{a=**}", "", ("",)),
    ("/{a=**}", "b//c", ("b//c",)),
    ("/{a=x/**}/end", "x/end", ("x",)),
    ("/{a=x/**}/end", "x/1/2/end", ("x/1/2",)),
    ("/p/{a}/**/{b=c}", "p/1/2/3/c", ("1", "c")),
    ("/p/{a}/**/{b=c}", "p/1/c", ("1", "c")),
    ("/{a}", "%252F", ("%2F",)),
    ("/{a=**}", "%252F%2F", ("%2F%2F",)),
    ("/{a=**}", "%C3%A9/%E2%82%AC", ("\u00e9/\u20ac",)),
    ("/{a}/{b}", "1/2", ("1", "2")),
)


@pytest.mark.parametrize(("text", "path", "captured"), CAPTURED)
def test_capture(text: str, path: str, captured: tuple[str, ...]) -> None:
    """A variable of one segment is decoded, one of several but for slashes; the template tells."""
    raw_segments = path.split("/") if path else []
    assert parse(text).capture(raw_segments) == captured


@many
@given(st.text().filter(lambda text: "\0" not in text))
def test_any_value_comes_back(text: str) -> None:
    """Whatever a client quotes into a segment is what the variable gives."""
    assert parse("/v1/{a}").capture(["v1", quote(text, safe="")]) == (text,)
    pieces = text.split("/")
    expected = "/".join(pieces)
    assert parse("/{a=**}").capture([quote(piece, safe="") for piece in pieces]) == (expected,)


@many
@given(any_text | st.lists(st.sampled_from([*"/*{}:=.%a1", "**", "%41"])).map("".join))
def test_any_text(text: str) -> None:
    """Any text at all is a template or a TemplateError that names a column of it."""
    try:
        template = parse(text)
    except TemplateError as error:
        column = int(str(error).split(":")[0].removeprefix("column "))
        assert 1 <= column <= len(text) + 1
    else:
        assert template.text == text
        assert all(segment != "" for segment in template.segments)
