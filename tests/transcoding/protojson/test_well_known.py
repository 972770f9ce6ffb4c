"""Well-known types: the JSON that each has instead of its fields, at its limits, both ways."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import InvalidValueError
from sidecar.transcoding.protojson.well_known import WELL_KNOWN, assemble, has_own_json
from sidecar.transcoding.strict_json import JsonValue
from tests.transcoding.library import descriptor, service

KNOWN = descriptor("Known", service())
KINDS = {
    field.message_type.name: field.message_type
    for field in KNOWN.fields
    if field.message_type is not None
}


def json_of(text: str) -> JsonValue:
    """Return JSON as a reader has it."""
    return strict_json.parse(text.encode())


def filled(kind: str, value: JsonValue) -> Any:
    """Return a message of such a kind that was read from JSON."""
    read = WELL_KNOWN[f"google.protobuf.{kind}"].read
    return assemble(GetMessageClass(KINDS[kind]), read(value, 1))


def made(kind: str, members: Mapping[str, Any]) -> Any:
    """Return a message of such a kind by its fields."""
    return GetMessageClass(KINDS[kind])(**members)


# From a kind and JSON to the fields, and to what is written again if that is another JSON.
READ: Mapping[tuple[str, str], tuple[dict[str, Any], str | None]] = {
    ("Timestamp", '"1970-01-01T00:00:00Z"'): ({}, None),
    ("Timestamp", '"0001-01-01T00:00:00Z"'): ({"seconds": -62_135_596_800}, None),
    ("Timestamp", '"9999-12-31T23:59:59.999999999Z"'): (
        {"seconds": 253_402_300_799, "nanos": 999_999_999},
        None,
    ),
    ("Timestamp", '"1969-12-31T23:59:59.5Z"'): (
        {"seconds": -1, "nanos": 500_000_000},
        '"1969-12-31T23:59:59.500Z"',
    ),
    ("Timestamp", '"1970-01-01T00:00:00.000000001Z"'): ({"nanos": 1}, None),
    ("Timestamp", '"1970-01-01T01:30:00+01:30"'): ({}, '"1970-01-01T00:00:00Z"'),
    ("Timestamp", '"1969-12-31T12:00:00-12:00"'): ({}, '"1970-01-01T00:00:00Z"'),
    ("Timestamp", '"2024-02-29T00:00:00Z"'): ({"seconds": 1_709_164_800}, None),
    ("Duration", '"0s"'): ({}, None),
    ("Duration", '"-0.5s"'): ({"nanos": -500_000_000}, '"-0.500s"'),
    ("Duration", '"1.000001s"'): ({"seconds": 1, "nanos": 1000}, None),
    ("Duration", '"315576000000s"'): ({"seconds": 315_576_000_000}, None),
    ("Duration", '"-315576000000.999999999s"'): (
        {"seconds": -315_576_000_000, "nanos": -999_999_999},
        None,
    ),
    ("FieldMask", '""'): ({}, None),
    ("FieldMask", '"a,shelfCode.bC"'): ({"paths": ["a", "shelf_code.b_c"]}, None),
    ("FieldMask", '"*"'): ({"paths": ["*"]}, None),
    ("FieldMask", '"labels.env-name,*.a/b"'): ({"paths": ["labels.env-name", "*.a/b"]}, None),
    ("FieldMask", '"labels.`a  b c`,d"'): ({"paths": ["labels.`a  b c`", "d"]}, None),
    ("Struct", "{}"): ({}, None),
    ("Struct", '{"":[],"b":null}'): (
        {"fields": {"": {"list_value": {}}, "b": {"null_value": 0}}},
        None,
    ),
    ("ListValue", "[]"): ({}, None),
    ("ListValue", "[[],{},null]"): (
        {"values": [{"list_value": {}}, {"struct_value": {}}, {"null_value": 0}]},
        None,
    ),
    ("Value", "null"): ({"null_value": 0}, None),
    ("Value", "true"): ({"bool_value": True}, None),
    ("Value", '""'): ({"string_value": ""}, None),
    ("Value", "1"): ({"number_value": 1}, None),
    ("Value", "-0.0"): ({"number_value": -0.0}, None),
    ("Value", "-0"): ({"number_value": -0.0}, "-0.0"),
    ("Value", "1.0"): ({"number_value": 1}, "1"),
    ("Value", "9007199254740993"): ({"number_value": 2.0**53}, "9007199254740992.0"),
    ("Value", "1e300"): ({"number_value": 1e300}, "1e+300"),
    ("Value", '"NaN"'): ({"string_value": "NaN"}, None),
}


@pytest.mark.parametrize("of", READ, ids=repr)
def test_read(of: tuple[str, str]) -> None:
    """The JSON of a type is read as its message, and is what the message is written as."""
    (kind, text), (members, again) = of, READ[of]
    message, wanted = filled(kind, json_of(text)), made(kind, members)
    # Not by equality, to which -0 is 0.
    bytes_of = [one.SerializeToString(deterministic=True) for one in (message, wanted)]
    assert bytes_of[0] == bytes_of[1]
    written = WELL_KNOWN[f"google.protobuf.{kind}"].write(message)
    assert json.dumps(written, sort_keys=True, separators=(",", ":")) == (again or text)


A_TIME = "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z"
A_DURATION = "must be a duration in seconds, such as 1.5s"
PATHS = (
    "must be field paths in camel case without spaces between them, such as name,shelf.shelfCode,"
    " or *"
)
WRONG: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Timestamp", A_TIME): (
        "null",
        "0",
        '""',
        '"2020-01-01"',
        '"2020-01-01T00:00:00"',
        '"2020-01-01 00:00:00Z"',
        '"2020-01-01t00:00:00Z"',
        '"2020-01-01T00:00:00z"',
        '"2020-01-01T00:00Z"',
        '"2020-1-1T00:00:00Z"',
        '"2020-01-01T00:00:00.Z"',
        '"2020-01-01T00:00:00,5Z"',
        '"2020-01-01T00:00:00.0000000001Z"',
        '"2020-01-01T00:00:00+0100"',
        '"2020-01-01T00:00:00+24:00"',
        '"2020-01-01T00:00:00+00:60"',
        '"2020-01-01T00:00:00-00:99"',
        '"2020-02-30T00:00:00Z"',
        '"2023-02-29T00:00:00Z"',
        '"2020-13-01T00:00:00Z"',
        '"2020-01-01T24:00:00Z"',
        '"2020-01-01T00:00:60Z"',
        '"0000-01-01T00:00:00Z"',
        '"10000-01-01T00:00:00Z"',
        '"0001-01-01T00:00:00+00:01"',
        '"9999-12-31T23:59:59-00:01"',
        '" 2020-01-01T00:00:00Z"',
        '"2020-01-01T00:00:00Z\\n"',
        '"\u0662020-01-01T00:00:00Z"',
    ),
    ("Duration", A_DURATION): (
        "null",
        "1",
        '""',
        '"s"',
        '"1"',
        '"1m"',
        '"+1s"',
        '"1.s"',
        '".5s"',
        '"1,5s"',
        '"1.0000000001s"',
        '"315576000001s"',
        '"-315576000001s"',
        '"9999999999999s"',
        '"1 s"',
        '"1S"',
        '"--1s"',
        '"1s\\n"',
    ),
    ("FieldMask", PATHS): (
        "null",
        "[]",
        '"a_b"',
        '"a,,b"',
        '","',
        '"a, b"',
        '"a ,b"',
        '" a"',
        '"a\\tb"',
        '"a,"',
        '"a\\u0000"',
        '" "',
    ),
    ("Struct", "must be an object"): ("null", "[]", '"{}"', "1"),
    ("Struct", "must not have a name twice in an object"): ('{"a":1,"a":1}', '{"b":{"a":1,"a":2}}'),
    ("Struct", "must be a string that UTF-8 can encode"): ('{"\\ud800":1}', '{"a":"\\ud800"}'),
    ("ListValue", "must be a list"): ("null", "{}", '"[]"', "1"),
}


@pytest.mark.parametrize(
    ("of", "text"), [(of, text) for of, texts in WRONG.items() for text in texts], ids=repr
)
def test_wrong(of: tuple[str, str], text: str) -> None:
    """Anything else is refused, with what it must be."""
    kind, told = of
    with pytest.raises(InvalidValueError) as raised:
        filled(kind, json_of(text))
    assert str(raised.value) == told


def test_a_number_that_no_double_can_hold() -> None:
    """An integer of a thousand digits is no number of a Value."""
    with pytest.raises(InvalidValueError, match=r"^must be a number that a double can hold$"):
        filled("Value", json_of("1" * 999))


@pytest.mark.parametrize(
    ("kind", "text"), [("Timestamp", "2020-01-01T00:00:00Z"), ("Duration", "1s")]
)
def test_text(kind: str, text: str) -> None:
    """What is a string in JSON is given as a text with its quotes or without."""
    type_ = WELL_KNOWN[f"google.protobuf.{kind}"]
    bare, quoted = type_.read_text(text, 1), type_.read_text(f'"{text}"', 1)
    assert bare == quoted == type_.read(text, 1)


@pytest.mark.parametrize("text", ["", "a", '"a', "{'a':1}", "NaN", "{"])
@pytest.mark.parametrize("kind", ["Value", "Struct", "ListValue"])
def test_text_that_is_no_json(kind: str, text: str) -> None:
    """What has any JSON is given as JSON, and not guessed."""
    with pytest.raises(InvalidValueError, match=r"^must be JSON$"):
        WELL_KNOWN[f"google.protobuf.{kind}"].read_text(text, 1)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_has_no_json(number: float) -> None:
    """A Value with a number that JSON does not have cannot be written."""
    with pytest.raises(ValueError, match="a number that JSON does not have"):
        WELL_KNOWN["google.protobuf.Value"].write(made("Value", {"number_value": number}))


# Each beside a limit. The limits themselves are written: see READ.
OUTSIDE: Mapping[str, tuple[dict[str, int], ...]] = {
    "Timestamp": (
        {"seconds": -62_135_596_801},
        {"seconds": 253_402_300_800},
        {"nanos": -1},
        {"nanos": 1_000_000_000},
    ),
    "Duration": (
        {"seconds": 315_576_000_001},
        {"seconds": -315_576_000_001},
        {"nanos": 1_000_000_000},
        {"nanos": -1_000_000_000},
        {"seconds": 1, "nanos": -1},
        {"seconds": -1, "nanos": 1},
    ),
}


@pytest.mark.parametrize(
    ("kind", "members"), [(kind, members) for kind, some in OUTSIDE.items() for members in some]
)
def test_a_time_that_json_cannot_express(kind: str, members: dict[str, int]) -> None:
    """A time outside of the limits of its type, or of two signs, is not written."""
    message = made(kind, members)
    told = rf"^a google\.protobuf\.{kind} holds a value that JSON cannot express$"
    with pytest.raises(ValueError, match=told):
        WELL_KNOWN[f"google.protobuf.{kind}"].write(message)
    with pytest.raises(ValueError, match=r"."):
        message.ToJsonString()  # nor by protobuf's own library


def test_a_value_without_a_kind_is_null() -> None:
    """A Value that was never set is written as null."""
    assert WELL_KNOWN["google.protobuf.Value"].write(made("Value", {})) is None


def test_what_has_a_json_of_its_own() -> None:
    """Every type of google.protobuf but Empty, and none of others'."""
    assert {name for name, kind in KINDS.items() if not has_own_json(kind)} == {"Empty"}
    assert not has_own_json(KNOWN)
