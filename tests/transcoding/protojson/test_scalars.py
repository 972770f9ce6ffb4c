"""Scalars: the limits of every type, in every form that JSON and a text have for a value."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from sidecar.transcoding.errors import InvalidValueError
from sidecar.transcoding.protojson.scalars import Scalar, scalar_of
from tests.transcoding.library import descriptor, service

LIBRARY = service()
SCALARS, KNOWN = descriptor("Scalars", LIBRARY), descriptor("Known", LIBRARY)
MAX_FLOAT = 3.4028234663852886e38
INTEGERS: Mapping[str, tuple[int, int]] = {
    "an_int32": (-(2**31), 2**31 - 1),
    "a_sint32": (-(2**31), 2**31 - 1),
    "a_sfixed32": (-(2**31), 2**31 - 1),
    "a_uint32": (0, 2**32 - 1),
    "a_fixed32": (0, 2**32 - 1),
    "an_int64": (-(2**63), 2**63 - 1),
    "a_sint64": (-(2**63), 2**63 - 1),
    "a_sfixed64": (-(2**63), 2**63 - 1),
    "a_uint64": (0, 2**64 - 1),
    "a_fixed64": (0, 2**64 - 1),
}


def scalar(name: str) -> Scalar:
    """Return the type of a field of Scalars, or of Known for one with a null."""
    fields = SCALARS.fields_by_name if name in SCALARS.fields_by_name else KNOWN.fields_by_name
    return scalar_of(fields[name])


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, where NaN is, and -0 is not 0."""
    return type(one) is type(other) and (repr(one) == repr(other))


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str) -> None:
    """An integer is read between its limits, as a number or a string; 64 bits are written so."""
    lowest, highest = INTEGERS[name]
    made = scalar(name)
    for value in (lowest, 0, 7, highest):
        assert made.read(value) == made.read(str(value)) == made.read_text(str(value)) == value
        written = made.write(value) if made.write else value
        assert same(written, str(value) if "64" in name else value)
    for wrong in (lowest - 1, highest + 1):
        told = f"^must be an integer from {lowest} to {highest}$"
        with pytest.raises(InvalidValueError, match=told):
            made.read(wrong)
        with pytest.raises(InvalidValueError, match=told):
            made.read(str(wrong))
        with pytest.raises(InvalidValueError, match=told):
            made.read_text(str(wrong))


# From a field and a JSON value to what it is; the same of a text where that is a string.
READ: Mapping[str, tuple[tuple[Any, Any], ...]] = {
    "an_int32": ((1.0, 1), (-0.0, 0), ("1.0", 1), ("1e2", 100), ("-1E+1", -10), ("007", 7)),
    "an_int64": (
        ("9223372036854775807.0", 2**63 - 1),
        ("9.223372036854775807e18", 2**63 - 1),
        ("100000000000000000000e-2", 10**18),
        ("0e9999", 0),
    ),
    "a_double": (
        (1, 1.0),
        (-0.0, -0.0),
        ("-0", -0.0),
        ("1.5e3", 1500.0),
        ("1e-9999", 0.0),
        ("NaN", math.nan),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        (10**308, 1e308),
        (5e-324, 5e-324),
    ),
    "a_float": (
        (1, 1.0),
        ("NaN", math.nan),
        ("Infinity", math.inf),
        (MAX_FLOAT, MAX_FLOAT),
        # What rounds to the largest float: less than half a step more.
        (3.4028235677973e38, 3.4028235677973e38),
        ("3.4028235e38", 3.4028235e38),
    ),
    "a_bool": ((True, True), (False, False)),
    "a_string": (("", ""), ("\0é\U0001f600", "\0é\U0001f600"), ("null", "null")),
    "a_bytes": (
        ("", b""),
        ("AQ==", b"\1"),
        ("AQ", b"\1"),
        ("AQI=", b"\1\2"),
        ("AQI", b"\1\2"),
        ("AQID", b"\1\2\3"),
        ("-_-_", b"\xfb\xff\xbf"),
        ("+/+/", b"\xfb\xff\xbf"),
    ),
    "a_mood": (("MOOD_MERRY", 1), (1, 1), (1.0, 1), (99, 99), (-1, -1), (2**31 - 1, 2**31 - 1)),
    "maybe_null": ((None, 0), ("NULL_VALUE", 0), (0, 0)),
}


@pytest.mark.parametrize(
    ("name", "value", "made"), [(name, *pair) for name, some in READ.items() for pair in some]
)
def test_read(name: str, value: Any, made: object) -> None:
    """A JSON value is read exactly, in each form that the mapping accepts."""
    assert same(scalar(name).read(value), made)


@pytest.mark.parametrize(
    ("name", "text", "made"),
    [
        *((name, *pair) for name, some in READ.items() for pair in some if type(pair[0]) is str),
        ("a_bool", "true", True),
        ("a_bool", "false", False),
        ("a_mood", "1", 1),
        ("a_mood", "99", 99),
        ("a_mood", "-1", -1),
        ("maybe_null", "null", 0),
        ("maybe_null", "0", 0),
    ],
)
def test_read_text(name: str, text: str, made: object) -> None:
    """A text is read as the JSON string of it is, or as the JSON where no string stands for it."""
    assert same(scalar(name).read_text(text), made)


NO_INTEGER = ("", " 1", "1 ", "+1", "0x1", "1.5", "1_000", "one", "1e", ".5", "5.", "\u0661", "--1")
WRONG: Mapping[str, tuple[Any, ...]] = {
    "an_int32": (None, True, 1.5, math.inf, [], {}, *NO_INTEGER, "1e99999", "1" * 21, "NaN"),
    "an_int64": (True, 2.0**63, "1e19", "9223372036854775808.0", *NO_INTEGER),
    "a_double": (
        None,
        True,
        [],
        {},
        "",
        " 1",
        "+1",
        "1e",
        ".5",
        "5.",
        "nan",
        "inf",
        "+Infinity",
        "0x1p3",
        "1_0",
        "1e400",
        10**400,
        "1" * 1001,
        "\u0661",
    ),
    "a_float": (True, 3.5e38, -3.5e38, 3.4028236e38, "1e39", "infinity", 10**39),
    "a_bool": (None, 0, 1, "true", "", [], {}),
    "a_string": (None, 0, True, [], {}, "\ud800"),
    "a_bytes": (
        None,
        0,
        True,
        [],
        "A",
        "AQI==",
        "AQ=",
        "AQ===",
        "A Q=",
        "AQ==\n",
        "é",
        "=",
        "AQ=A",
    ),
    "a_mood": (None, True, "mood_merry", "MOOD", "", "1", 1.5, 2**31, [], {}),
    "maybe_null": (False, 1, "null", "", [], {}, 0.0),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, some in WRONG.items() for value in some]
)
def test_wrong(name: str, value: Any) -> None:
    """Anything else is refused in a sentence of ours, in which the value is not."""
    with pytest.raises(InvalidValueError, match=r"^must be ") as raised:
        scalar(name).read(value)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("a_bool", text) for text in ("", "1", "0", "True", "TRUE", " true", '"true"', "yes")),
        *(("a_mood", text) for text in ("", "mood_merry", "1.5", " 1", "2147483648", '"1"')),
        *(("maybe_null", text) for text in ("", "NULL", "1", " null")),
        *(("an_int32", text) for text in NO_INTEGER),
    ],
)
def test_wrong_text(name: str, text: str) -> None:
    """A text that is nothing of the kind is refused."""
    with pytest.raises(InvalidValueError, match=r"^must be "):
        scalar(name).read_text(text)


def enum_of(syntax: str) -> Scalar:
    """Return an enum of that syntax, in which two names have one number."""
    file = FileDescriptorProto(name=f"{syntax}.proto", package="e.v1", syntax=syntax)
    made = file.enum_type.add(name="Mood")
    made.options.allow_alias = True
    for name, number in (("OPEN", 0), ("GOOD", 1), ("FINE", 1)):
        made.value.add(name=name, number=number)
    file.message_type.add(name="Holder").field.add(
        name="mood", number=1, type=14, type_name=".e.v1.Mood", label=1
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return scalar_of(pool.FindMessageTypeByName("e.v1.Holder").fields_by_name["mood"])


def test_closed_enum() -> None:
    """An enum of proto2 takes no number that none of its values has; one of proto3 does."""
    assert enum_of("proto3").read(2) == enum_of("proto3").read_text("2") == 2
    told = r"^must be one of OPEN, GOOD, FINE$"
    with pytest.raises(InvalidValueError, match=told):
        enum_of("proto2").read(2)
    with pytest.raises(InvalidValueError, match=told):
        enum_of("proto2").read_text("2")


def test_two_names_of_one_number() -> None:
    """An alias is read as the number that it is, and written by the first name of that."""
    mood = enum_of("proto3")
    assert mood.read("FINE") == mood.read("GOOD") == 1
    assert mood.write
    assert mood.write(1) == "GOOD"


def test_many_names() -> None:
    """Of an enum with many values the first are told."""
    kind = FieldDescriptorProto.DESCRIPTOR.fields_by_name["type"]
    with pytest.raises(
        InvalidValueError, match=r"^must be one of TYPE_DOUBLE, (TYPE_\w+, ){9}\.\.\.$"
    ):
        scalar_of(kind).read("x")


WRITTEN: Mapping[str, tuple[tuple[Any, Any], ...]] = {
    "a_double": (
        (1.0, 1.0),
        (-0.0, -0.0),
        (0.1, 0.1),
        (5e-324, 5e-324),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ),
    # The fewest digits, from 6 on, that read back as the same float.
    "a_float": (
        (0.10000000149011612, 0.1),
        (16777216.0, 16777216.0),
        (1.00000011920929, 1.0000001),
        (1.3644169484905433e-05, 1.36441695e-05),
        (MAX_FLOAT, 3.4028235e38),
        (-MAX_FLOAT, -3.4028235e38),
        (1.401298464324817e-45, 1.4013e-45),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
    ),
    "a_bytes": ((b"", ""), (b"\xfb\xff", "+/8="), (b"\1", "AQ==")),
    "a_mood": ((1, "MOOD_MERRY"), (0, "MOOD_UNSPECIFIED"), (99, 99), (-1, -1)),
    "maybe_null": ((0, None),),
}


@pytest.mark.parametrize(
    ("name", "value", "told"), [(name, *pair) for name, some in WRITTEN.items() for pair in some]
)
def test_write(name: str, value: Any, told: Any) -> None:
    """A value is written in its one canonical form."""
    write = scalar(name).write
    assert write
    assert same(write(value), told)
    assert same(scalar(name).read(told), value) or name == "a_float"
