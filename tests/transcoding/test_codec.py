"""Bodies: how a request's is read, and how a response is written."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote_plus, urlencode

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.codec import choose_reader, parse_form, to_json
from sidecar.transcoding.errors import (
    Fault,
    MalformedRequestError,
    UnsupportedMediaTypeError,
)
from sidecar.transcoding.strict_json import JsonObject, JsonValue
from tests.properties import many
from tests.transcoding.library import make

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SUPPORTED = f"{FORM}, {JSON}"


def read(body: bytes, content_type: str, *codings: str) -> JsonValue:
    """Return what a body of that type holds."""
    return choose_reader([content_type], list(codings))(body)


# Media types

JSON_TYPES = (
    "application/json",
    "Application/JSON",
    " application/json ",
    "application/json; charset=utf-8",
    'application/json;charset="UTF-8"',
    "application/json;charset=us-ascii",
    "application/json;version=1",
)
FORM_TYPES = (
    "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-Urlencoded",
    "application/x-www-form-urlencoded;charset=UTF-8",
    "application/x-www-form-urlencoded; charset=utf-8",
)


@pytest.mark.parametrize("content_type", JSON_TYPES)
def test_json_types(content_type: str) -> None:
    """JSON is read as such, in any spelling of its type."""
    assert read(b'{"a": "b+%41"}', content_type) == JsonObject([("a", "b+%41")])


@pytest.mark.parametrize("content_type", FORM_TYPES)
def test_form_types(content_type: str) -> None:
    """A form is read as such, in any spelling of its type."""
    assert read(b"a=b+%41", content_type) == JsonObject([("a", "b A")])


REFUSED_TYPES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "empty": ("",),
    "malformed": ("json",),
    "text": ("text/plain",),
    "JSON for people": ("text/json",),
    "of the family": ("application/problem+json",),
    "any": ("*/*",),
    "multipart": ("multipart/form-data; boundary=x",),
    "protobuf": ("application/x-protobuf",),
    "two": (JSON, JSON),
    "two in one": (f"{JSON}, {FORM}",),
}


@pytest.mark.parametrize("content_type", REFUSED_TYPES.values(), ids=REFUSED_TYPES)
def test_refused_type(content_type: Sequence[str]) -> None:
    """A body of another type, or of none, is refused with those that are read."""
    with pytest.raises(UnsupportedMediaTypeError) as raised:
        choose_reader([*content_type], [])
    assert raised.value.detail == f"Send the body as one of {SUPPORTED}."
    assert raised.value.headers == {"Accept": SUPPORTED}


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "latin1", "utf-7", '""', "utf8"])
@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_refused_charset(content_type: str, charset: str) -> None:
    """A body in another charset is refused."""
    with pytest.raises(UnsupportedMediaTypeError) as raised:
        choose_reader([f"{content_type};charset={charset}"], [])
    assert raised.value.detail == "Send the body in UTF-8."
    assert raised.value.headers == {"Accept": SUPPORTED}


@pytest.mark.parametrize(
    "codings", [[], [""], ["identity"], ["Identity"], [" identity "], ["", ""]]
)
def test_no_coding(codings: list[str]) -> None:
    """A body that says that it is not coded is read."""
    assert choose_reader([JSON], codings)(b"1") == 1


@pytest.mark.parametrize(
    "codings", [["gzip"], ["GZIP"], ["identity", "br"], ["identity, gzip"], ["x"], ["identity;q=1"]]
)
@pytest.mark.parametrize("content_type", [JSON, "text/plain"])
def test_refused_coding(codings: list[str], content_type: str) -> None:
    """A coded body is refused before its type is looked at: no small one becomes a large one."""
    with pytest.raises(UnsupportedMediaTypeError) as raised:
        choose_reader([content_type], codings)
    assert raised.value.detail == "Send the body without Content-Encoding."
    assert raised.value.headers == {"Accept-Encoding": "identity"}


# JSON


def test_an_empty_body_has_no_members() -> None:
    """Nothing at all stands for the empty message, in either type."""
    assert read(b"", JSON) == read(b"", FORM) == JsonObject()


@pytest.mark.parametrize("body", [b"[1]", b'"a"', b"null", b"7"])
def test_json_of_any_kind_is_read(body: bytes) -> None:
    """Whether a value is an object is not for the reader to say."""
    assert read(body, JSON) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"NaN", "The body is not JSON: NaN and Infinity are not JSON."),
        (b'"\xff"', "The body is not JSON: it is not UTF-8."),
        (b"[" * 100_000, "The body is not JSON: it nests too deeply."),
        (b"1" * 5000, "The body is not JSON: a number is too long."),
        (b"1e999", "The body is not JSON: a number is too large."),
    ],
)
def test_unreadable_json(body: bytes, detail: str) -> None:
    """A body that is not JSON is a fault of the whole body, and the text says why."""
    with pytest.raises(MalformedRequestError) as raised:
        read(body, JSON)
    assert raised.value.faults == (Fault(detail=detail, pointer=""),)


@pytest.mark.parametrize(
    "body", [b" ", b"canary", b"{", b'{"canary":1,}', b"canary=1", b"\xef\xbb\xbf{}"]
)
def test_no_json(body: bytes) -> None:
    """Anything else that is not JSON is refused alike, and is not quoted."""
    with pytest.raises(MalformedRequestError, match=r"^The body is not JSON: .*\.$") as raised:
        read(body, JSON)
    assert "canary" not in str(raised.value.faults)


# Forms

FORMS: Mapping[str, list[tuple[str, str]]] = {
    "": [],
    "a=b": [("a", "b")],
    "a=b&c=d": [("a", "b"), ("c", "d")],
    "a=b&a=c": [("a", "b"), ("a", "c")],
    "a": [("a", "")],
    "a=": [("a", "")],
    "=b": [("", "b")],
    "=": [("", "")],
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
    assert read(text.encode(), FORM) == JsonObject(pairs)


@pytest.mark.parametrize(
    "body",
    [
        b"a=%",
        b"a=%4",
        b"a=%zz",
        b"%zz=a",
        b"a=b&c=%",
        b"a=%FF",
        b"a=%C3",
        b"a=\xff",
        b"canary=\xe9",
    ],
)
def test_unreadable_form(body: bytes) -> None:
    """A form with a malformed escape or without UTF-8 is a fault of the whole body."""
    with pytest.raises(MalformedRequestError) as raised:
        read(body, FORM)
    assert raised.value.faults == (
        Fault(detail="The body must hold well-formed percent escapes of UTF-8 only.", pointer=""),
    )


@pytest.mark.parametrize("body", [b'{"canary":"b"}', b' \n{"a":1,"a":2} ', b'{"a": "100%"}'])
def test_json_that_is_sent_as_a_form(body: bytes) -> None:
    """A JSON object under the type of a form, as curl sends it, is told what it lacks."""
    with pytest.raises(MalformedRequestError) as raised:
        read(body, FORM)
    detail = "The body is JSON; send it with Content-Type: application/json."
    assert raised.value.faults == (Fault(detail=detail, pointer=""),)


@pytest.mark.parametrize("text", ["{}", "{", "{a=b", '{"a"=b', '["a"]', '"a"=b', "null"])
def test_form_that_only_begins_like_json(text: str) -> None:
    """A form may begin with any sign, as long as it is no JSON object with members."""
    assert read(text.encode(), FORM) == JsonObject([text.partition("=")[::2]])


pairs_of_text = st.lists(st.tuples(st.text(), st.text()))


@many
@given(pairs_of_text)
def test_encoded_form_round_trips(pairs: list[tuple[str, str]]) -> None:
    """Whatever the standard library encodes is read as the same pairs."""
    assert parse_form(urlencode(pairs, quote_via=quote_plus)) == pairs


@many
@given(st.sampled_from([JSON, FORM]), st.binary())
def test_any_body(content_type: str, body: bytes) -> None:
    """Any bytes at all are read or refused as one fault of the whole body."""
    try:
        value = read(body, content_type)
    except MalformedRequestError as error:
        pointers = [fault.pointer for fault in error.faults]
        assert pointers == [""]
    else:
        assert content_type == JSON or isinstance(value, JsonObject)


# Responses

WRITTEN: Mapping[str, tuple[Message, object]] = {
    "defaults": (
        make("Receipt"),
        {
            "name": "",
            "shelfCode": "",
            "copies": "0",
            "pages": 0,
            "lent": False,
            "tags": [],
            "mood": "MOOD_UNSPECIFIED",
            "cover": "",
        },
    ),
    "values": (
        make(
            "Receipt",
            name='é"\n\u2028',
            shelf_code="c",
            copies=2**53 + 1,
            pages=3600,
            lent=True,
            tags=["a", ""],
            mood=1,
            cover=b"\xff\xfe",
            shelf={"name": "a"},
        ),
        {
            "name": 'é"\n\u2028',
            "shelfCode": "c",
            "copies": "9007199254740993",
            "pages": 3600,
            "lent": True,
            "tags": ["a", ""],
            "mood": "MOOD_MERRY",
            "cover": "//4=",
            "shelf": {"name": "a", "theme": "", "shelfCode": ""},
        },
    ),
    "unknown enum value": (make("Moody", mood=7), {"mood": 7}),
    "absent optional": (make("Note"), {}),
    "empty optional": (make("Note", text=""), {"text": ""}),
    "no fields": (make("Nothing"), {}),
}


@pytest.mark.parametrize(("message", "written"), WRITTEN.values(), ids=WRITTEN)
def test_to_json(message: Message, written: object) -> None:
    """A response is canonical JSON on one line, with every field that has a default."""
    data = to_json(message)
    assert json.loads(data) == written
    assert b"\n" not in data


def test_to_json_is_utf8() -> None:
    """Letters outside of ASCII are written as they are, and not escaped."""
    assert "é".encode() in to_json(make("Shelf", name="é"))
