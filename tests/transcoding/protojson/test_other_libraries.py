"""JSON as the libraries of Go and Java write it. Python's own library is in test_reader.

The texts are of google.golang.org/protobuf 1.36 and protobuf-java-util 3.25, with their options in
turn; of long ones they are a part.
"""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import Violations
from sidecar.transcoding.protojson.location import Location
from sidecar.transcoding.protojson.reader import JsonReader
from tests.transcoding.library import descriptor, service

LIBRARY = service()
READER = JsonReader()
URL = "type.googleapis.com/"


def made(name: str, /, **members: Any) -> Message:
    """Return a message of a type by its full name."""
    type_ = LIBRARY.file.pool.FindMessageTypeByName(name)
    message: Message = GetMessageClass(type_)(**members)
    return message


def packed(name: str, /, **members: Any) -> dict[str, Any]:
    """Return the members of an Any that holds such a message."""
    return {"type_url": URL + name, "value": made(name, **members).SerializeToString()}


def known(**members: Any) -> Message:
    """Return a message of well-known types."""
    return made("library.v1.Known", **members)


DURATION, ANY, SHELF = (
    "google.protobuf.Duration",
    "google.protobuf.Any",
    "library.v1.Shelf",
)
WRITTEN: Mapping[str, tuple[Message, tuple[str, ...]]] = {
    "Any of Empty": (
        known(an_any=packed("google.protobuf.Empty")),
        (
            '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Empty"}}',
            # Older versions of Go.
            '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Empty", "value":{}}}',
            '{"an_any":{"@type":"type.googleapis.com/google.protobuf.Empty"}}',
        ),
    ),
    "Any of a text": (
        known(an_any=packed(DURATION, seconds=-1, nanos=-5)),
        (
            (
                '{"aNull":null, "anAny":{"@type":"type.googleapis.com/google.protobuf.Duration",'
                ' "value":"-1.000000005s"}}'
            ),
        ),
    ),
    "Any of null": (
        known(an_any=packed("google.protobuf.Value", null_value=0)),
        ('{"anAny":{"@type":"type.googleapis.com/google.protobuf.Value", "value":null}}',),
    ),
    "Any of Any": (
        known(an_any=packed(ANY, **packed(SHELF, name="a"))),
        (
            (
                '{"an_any":{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":'
                '"type.googleapis.com/library.v1.Shelf","name":"a"}}}'
            ),
            (
                '{"anAny":{"@type":"type.googleapis.com/google.protobuf.Any", "value":{"@type":'
                '"type.googleapis.com/library.v1.Shelf", "name":"a", "theme":"", "shelfCode":""}}}'
            ),
        ),
    ),
    "Any of nothing": (known(an_any={}), ('{"anAny":{}}',)),
    "mask": (
        known(a_mask={"paths": ["*", "labels.env-name", "labels.`a b`", "x.y_z"]}),
        ('{"a_mask":"*,labels.env-name,labels.`a b`,x.yZ"}',),
    ),
    "mask of nothing": (known(a_mask={}), ('{"aMask":"", "aNull":null}',)),
    "duration": (
        known(a_duration={"seconds": 315_576_000_000, "nanos": 999_999_999}),
        ('{"aDuration":"315576000000.999999999s"}',),
    ),
    "negative duration": (
        known(a_duration={"nanos": -1}),
        ('{   "aDuration": "-0.000000001s" }',),
    ),
    "first timestamp": (
        known(a_timestamp={"seconds": -62_135_596_800}),
        ('{"aTimestamp":"0001-01-01T00:00:00Z"}',),
    ),
    "last timestamp": (
        known(a_timestamp={"seconds": 253_402_300_799, "nanos": 10}),
        ('{"a_timestamp":"9999-12-31T23:59:59.000000010Z"}',),
    ),
    "wrappers": (
        known(
            a_double={"value": -0.0},
            a_float={"value": 1e20},
            an_int64={"value": -(2**63)},
            a_uint64={"value": 2**64 - 1},
            a_bool={"value": False},
            a_string={"value": "<&>'\u2028"},
            some_bytes={"value": b"\xfb\xff"},
        ),
        (
            (
                '{"aDouble":-0, "aFloat":100000000000000000000, "anInt64":"-9223372036854775808",'
                ' "aUint64":"18446744073709551615", "aBool":false, "aString":"<&>\'\u2028",'
                ' "someBytes":"+/8="}'
            ),
            (
                '{"a_double":-0.0,"a_float":1.0E20,"an_int64":"-9223372036854775808",'
                '"a_uint64":"18446744073709551615","a_bool":false,'
                '"a_string":"\\u003c\\u0026\\u003e\\u0027\\u2028","some_bytes":"+/8="}'
            ),
        ),
    ),
    "null": (
        known(a_value={"null_value": 0}, maybe_null=0),
        ('{"aValue":null, "aNull":null, "maybeNull":null}', '{"a_value":null,"maybe_null":null}'),
    ),
    "dynamic number": (
        known(a_value={"number_value": 1e300}),
        ('{"aValue":1e+300}', '{"a_value":1.0E300}'),
    ),
    "scalars": (
        made("library.v1.Optionals", a_double=1e21, an_int64=0, a_string="\U0001f600\0", a_mood=9),
        (
            '{"aDouble":1e+21, "anInt64":"0", "aString":"\U0001f600\\u0000", "aMood":9}',
            '{"a_double":1.0E21,"an_int64":"0","a_string":"\\ud83d\\ude00\\u0000","a_mood":9}',
        ),
    ),
    "lists": (
        made(
            "library.v1.Lists",
            doubles=[math.inf, -math.inf, 1e-5],
            nulls=[0, 0],
            moods=[0, 1, -5],
            empties=[{}],
        ),
        (
            (
                '{"doubles":["Infinity", "-Infinity", 0.00001], "floats":[], "moods":[0, 1, -5],'
                ' "nulls":[null, null], "empties":[{}]}'
            ),
            (
                '{"doubles":["Infinity","-Infinity",1.0E-5],"moods":["MOOD_UNSPECIFIED","MOOD_MERRY",'
                '-5],"nulls":[null,null],"empties":[{   }]}'
            ),
        ),
    ),
    "maps": (
        made(
            "library.v1.Maps",
            bools={True: 1},
            uint64s={2**64 - 1: b"\xff"},
            nulls={"a": 0},
            int64s={-5: -0.0},
        ),
        (
            (
                '{"strings":{}, "int64s":{"-5":-0}, "uint64s":{"18446744073709551615":"/w=="},'
                ' "bools":{"true":1}, "nulls":{"a":null}}'
            ),
        ),
    ),
}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(message, text, id=f"{name}: {text[:20]}")
        for name, (message, texts) in WRITTEN.items()
        for text in texts
    ],
)
def test_read(message: Message, text: str) -> None:
    """What another library writes of a message is read as that message, bit for bit."""
    type_, found = descriptor(message.DESCRIPTOR.name, LIBRARY), Violations()
    read = READER.message(type_)(strict_json.parse(text.encode()), Location(), found)
    assert found == []
    # Not by equality, to which -0 is 0.
    assert GetMessageClass(type_)(**read).SerializeToString(
        deterministic=True
    ) == message.SerializeToString(deterministic=True)
