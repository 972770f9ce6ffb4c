"""Bodies on the wire: how those of requests are read, and which are refused."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding.body import Content, Form, Json, Raw, Shape
from sidecar.transcoding.body_formats import choose_reader, parse_form
from sidecar.transcoding.errors import MalformedRequestError, UnsupportedMediaTypeError, Violation
from sidecar.transcoding.strict_json import JsonObject
from tests.properties import many

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SUPPORTED: Mapping[Shape, str] = {Shape.OBJECT: f"{FORM}, {JSON}", Shape.VALUE: JSON}


def read(body: bytes, content_type: str, shape: Shape = Shape.OBJECT) -> Content:
    """Return what a body of that type holds."""
    return choose_reader(shape, [content_type], [])(body)


def refusal(
    shape: Shape, content_type: Sequence[str], codings: Sequence[str] = ()
) -> tuple[str, Mapping[str, str]]:
    """Return the text and the headers with which a body is refused before it is read."""
    with pytest.raises(UnsupportedMediaTypeError) as raised:
        choose_reader(shape, content_type, codings)
    return raised.value.detail, raised.value.headers


# Media types

JSON_TYPES = (
    "application/json",
    "Application/JSON",
    " application/json ",
    "application/json; charset=utf-8",
    'application/json;charset="UTF-8"',
    "application/json;charset=us-ascii",
    "application/json;version=1",
    "application/json;charset=utf8",
    'application/json; charset="Utf8"; version=1',
    "application/json;charset=utf-8;CHARSET=UTF-8",
    "application/problem+json",
    "application/vnd.library.v1+json;charset=utf-8",
    "Image/SVG+JSON",
)
FORM_TYPES = (
    "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-Urlencoded",
    "application/x-www-form-urlencoded;charset=UTF-8",
    "application/x-www-form-urlencoded; charset=utf-8",
    "application/x-www-form-urlencoded; charset=UTF8",
    'application/x-www-form-urlencoded;charset="utf8"',
    "application/x-www-form-urlencoded;version=1",
)


@pytest.mark.parametrize("shape", [Shape.OBJECT, Shape.VALUE])
@pytest.mark.parametrize("content_type", JSON_TYPES)
def test_json_types(content_type: str, shape: Shape) -> None:
    """JSON is read as such, in any spelling of its type, and in any type with its suffix."""
    wanted = Json(value=JsonObject([("a", "b+%41")]))
    assert read(b'{"a": "b+%41"}', content_type, shape) == wanted


@pytest.mark.parametrize("content_type", FORM_TYPES)
def test_form_types(content_type: str) -> None:
    """A form is read as such, in any spelling of its type."""
    assert read(b"a=b+%41", content_type) == Form(pairs=[("a", "b A")])


REFUSED_TYPES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "empty": ("",),
    "text": ("text/plain",),
    "JSON for people": ("text/json",),
    "a suffix alone": ("application/+json",),
    "a sequence": ("application/json-seq",),
    "any": ("*/*",),
    "any JSON": ("application/*+json",),
    "multipart": ("multipart/form-data; boundary=x",),
    "protobuf": ("application/x-protobuf",),
}


MALFORMED_TYPES: Mapping[str, tuple[str, ...]] = {
    "no type": ("json",),
    "two": (JSON, JSON),
    "two in one": (f"{JSON}, {FORM}",),
    "an empty charset": (f"{JSON}; charset=",),
    "a charset without a value": (f"{FORM}; charset",),
    "a charset that is not closed": (f'{JSON}; charset="utf-8',),
    "single quotes": (f"{JSON}; charset='utf-8 '",),
}


@pytest.mark.parametrize("shape", [Shape.OBJECT, Shape.VALUE])
@pytest.mark.parametrize("content_type", REFUSED_TYPES.values(), ids=REFUSED_TYPES)
def test_refused_type(content_type: Sequence[str], shape: Shape) -> None:
    """A body of another type, or of none, is refused with those that are read."""
    supported = SUPPORTED[shape]
    told = f"Send the body as {supported.replace(', ', ' or ')}."
    assert refusal(shape, content_type) == (told, {"Accept": supported})


@pytest.mark.parametrize("content_type", MALFORMED_TYPES.values(), ids=MALFORMED_TYPES)
def test_malformed_type(content_type: Sequence[str]) -> None:
    """A media type that is malformed, or is not one, is refused as that, with those to send."""
    told = f"The Content-Type is malformed. Send the body as {FORM} or {JSON}."
    assert refusal(Shape.OBJECT, content_type) == (told, {"Accept": SUPPORTED[Shape.OBJECT]})


def test_form_for_a_value() -> None:
    """A form has names, which a value alone has not."""
    told = f"Send the body as {JSON}."
    assert refusal(Shape.VALUE, [FORM]) == (told, {"Accept": JSON})


REFUSED_CHARSETS = (
    *("utf-16", "iso-8859-1", "latin1", "utf-7", '""', "utf8mb4", "windows-1252", "'utf-8'"),
    *("utf-8;charset=utf-16", "utf-16;charset=utf-8"),
)


@pytest.mark.parametrize("charset", REFUSED_CHARSETS)
@pytest.mark.parametrize("content_type", [JSON, FORM, "application/x+json"])
def test_refused_charset(content_type: str, charset: str) -> None:
    """A body in another charset, or in two, is refused with what to send instead."""
    refused = refusal(Shape.OBJECT, [f"{content_type};charset={charset}"])
    told = "Send the body in UTF-8, with charset=utf-8 or without a charset in Content-Type."
    assert refused == (told, {"Accept": SUPPORTED[Shape.OBJECT]})


@pytest.mark.parametrize(
    "codings", [[], [""], ["identity"], ["Identity"], [" identity "], ["", ""]]
)
def test_no_coding(codings: list[str]) -> None:
    """A body that says that it is not coded is read."""
    assert choose_reader(Shape.VALUE, [JSON], codings)(b"1") == Json(value=1)


@pytest.mark.parametrize(
    "codings", [["gzip"], ["GZIP"], ["identity", "br"], ["identity, gzip"], ["x"], ["identity;q=1"]]
)
@pytest.mark.parametrize("shape", Shape)
def test_refused_coding(codings: list[str], shape: Shape) -> None:
    """A coded body is refused before all else: no small one becomes a large one."""
    told = "Send the body without Content-Encoding."
    assert refusal(shape, ["text/plain"], codings) == (told, {"Accept-Encoding": "identity"})


# No body, and content


@pytest.mark.parametrize("content_type", [[], [JSON], ["nonsense"], [JSON, FORM]])
def test_no_body(content_type: list[str]) -> None:
    """Where a rule has no body there is none, whatever type it is said to have."""
    reader = choose_reader(Shape.NOTHING, content_type, [])
    assert reader(b"") is None
    with pytest.raises(MalformedRequestError) as raised:
        reader(b" ")
    assert raised.value.detail == "Send the request without a body."
    assert raised.value.violations == ()


@pytest.mark.parametrize(
    ("fields", "content_type"),
    [([], ""), (["text/x; a=b"], "text/x; a=b"), (["nonsense"], "nonsense"), (["a", "b"], "a, b")],
)
def test_content(fields: list[str], content_type: str) -> None:
    """Content is passed on as it is, with the type that it was sent with; no content too."""
    reader = choose_reader(Shape.RAW, fields, [])
    for data in (b"", b'{"a":', b"\xff\0"):
        assert reader(data) == Raw(content_type=content_type, data=data)


# JSON


@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_an_empty_body_is_none(content_type: str) -> None:
    """Nothing at all is no body, in either type."""
    assert read(b"", content_type) is None


@pytest.mark.parametrize("body", [b"[1]", b'"a"', b"null", b"7", b" true\n"])
@pytest.mark.parametrize("shape", [Shape.OBJECT, Shape.VALUE])
def test_json_of_any_kind_is_read(body: bytes, shape: Shape) -> None:
    """Whether a value is an object is not for the reader to say."""
    assert read(body, JSON, shape) == Json(value=json.loads(body))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"NaN", "The body is not JSON: NaN and Infinity are not JSON."),
        (b'"\xff"', "The body is not JSON: it is not UTF-8."),
        (b"[" * 100_000, "The body is not JSON: it nests too deeply."),
        (b"1" * 5000, "The body is not JSON: a number is too long."),
    ],
)
def test_unreadable_json(body: bytes, detail: str) -> None:
    """A body that is not JSON is a fault of the whole body, and the text says why."""
    with pytest.raises(MalformedRequestError) as raised:
        read(body, JSON)
    assert raised.value.violations == (Violation(detail=detail, pointer=""),)


@pytest.mark.parametrize(
    "body", [b" ", b"canary", b"{", b'{"canary":1,}', b"canary=1", b"\xef\xbb\xbf{}"]
)
def test_no_json(body: bytes) -> None:
    """Anything else that is not JSON is refused alike, and is not quoted."""
    with pytest.raises(MalformedRequestError, match=r"^The body is not JSON: .*\.$") as raised:
        read(body, JSON)
    assert "canary" not in str(raised.value.violations)


# Forms

FORMS: Mapping[str, list[tuple[str, str]]] = {
    "a=b": [("a", "b")],
    "a=b&c=d": [("a", "b"), ("c", "d")],
    "a=b&a=c": [("a", "b"), ("a", "c")],
    "a": [("a", "")],
    "a=": [("a", "")],
    "=b": [("", "b")],
    "=": [("", "")],
    "&": [],
    "a=b=c": [("a", "b=c")],
    "&&a=b&": [("a", "b")],
    "a+b=c+d": [("a b", "c d")],
    "%61=%62%26%3D%2B": [("a", "b&=+")],
    "a=%C3%A9": [("a", "é")],
    "a=é": [("a", "é")],
    "a=b;c=d": [("a", "b;c=d")],
    "a=%00": [("a", "\0")],
    "a= b\r\n": [("a", " b\r\n")],
}


@pytest.mark.parametrize(("text", "pairs"), FORMS.items(), ids=repr)
def test_form(text: str, pairs: list[tuple[str, str]]) -> None:
    """Every pair of a form is read, repeated ones included, as the URL standard has it."""
    assert parse_form(text) == pairs
    assert read(text.encode(), FORM) == Form(pairs=pairs)


ESCAPES = "The body must be valid percent-encoded UTF-8."
WRONG_FORMS = (b"a=%", b"a=%4", b"a=%zz", b"%zz=a", b"a=b&c=%", b"a=%FF", b"a=%C3", b"a=\xff")


@pytest.mark.parametrize("body", [*WRONG_FORMS, b"canary=\xe9", b"%" * 65_536])
def test_unreadable_form(body: bytes) -> None:
    """A form with a malformed escape or without UTF-8 is a fault of the whole body."""
    with pytest.raises(MalformedRequestError) as raised:
        read(body, FORM)
    assert raised.value.violations == (Violation(detail=ESCAPES, pointer=""),)


def test_a_form_with_a_byte_order_mark() -> None:
    """The mark would be part of the first name, whose field would seem to be missing."""
    with pytest.raises(MalformedRequestError) as raised:
        read(b"\xef\xbb\xbfa=b", FORM)
    detail = "The body begins with a byte order mark; send it without."
    assert raised.value.violations == (Violation(detail=detail, pointer=""),)


@pytest.mark.parametrize("body", [b'{"canary":"b"}', b' \n{"a":1,"a":2} ', b'{"a": "100%"}'])
def test_json_that_is_sent_as_a_form(body: bytes) -> None:
    """A JSON object under the type of a form, as curl sends it, is told what it lacks."""
    with pytest.raises(MalformedRequestError) as raised:
        read(body, FORM)
    detail = "The body is JSON; send it with Content-Type: application/json."
    assert raised.value.violations == (Violation(detail=detail, pointer=""),)


@pytest.mark.parametrize("text", ["{}", "{", "{a=b", '{"a"=b', '["a"]', '"a"=b', "null"])
def test_form_that_only_begins_like_json(text: str) -> None:
    """A form may begin with any sign, as long as it is no JSON object with members."""
    name, _, value = text.partition("=")
    assert read(text.encode(), FORM) == Form(pairs=[(name, value)])


@settings(many, max_examples=50)
@given(st.lists(st.tuples(st.text(), st.text())))
def test_encoded_form_round_trips(pairs: list[tuple[str, str]]) -> None:
    """Whatever the standard library encodes is read as the same pairs."""
    assert parse_form(urlencode(pairs, quote_via=quote_plus)) == pairs


@many
@given(st.sampled_from([JSON, FORM]), st.binary())
def test_any_body(content_type: str, body: bytes) -> None:
    """Any bytes at all are read or refused as one fault of the whole body."""
    try:
        content = read(body, content_type)
    except MalformedRequestError as error:
        pointers = [violation.pointer for violation in error.violations]
        assert pointers == [""]
    else:
        assert content is None or isinstance(content, Json if content_type == JSON else Form)
