"""Formats of JSON: what other transcoders document of theirs, and that each one is read back."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import Violations
from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.protojson.location import Location
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.writer import JsonWriter, encode
from tests.properties import many
from tests.transcoding.library import descriptor, service
from tests.transcoding.openapi.sources import services_of
from tests.transcoding.samples import arguments

LIBRARY = service()
TYPES = ("Book", "Scalars", "Optionals", "Lists", "Maps", "Known", "Choice", "Tree", "Document")
FORMATS = tuple(
    JsonFormat(enum_numbers=numbers, proto_names=names, omit_defaults=omits, int64_numbers=large)
    for numbers, names, omits, large in itertools.product((False, True), repeat=4)
)
WRITERS = {json_format: JsonWriter(json_format) for json_format in FORMATS}
READER = JsonReader()


def type_of(name: str) -> Descriptor:
    """Return a type of the library."""
    return descriptor(name, LIBRARY)


def written(json_format: JsonFormat, name: str, /, **members: object) -> Any:
    """Return a message of the library in a format."""
    message = GetMessageClass(type_of(name))(**members)
    return json.loads(encode(WRITERS[json_format].message(type_of(name))(message)))


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=50)
@given(data=st.data(), json_format=st.sampled_from(FORMATS))
def test_round_trip(name: str, data: st.DataObject, json_format: JsonFormat) -> None:
    """A message that is written in any format is read back as the same message."""
    make = GetMessageClass(type_of(name))
    message = make(**data.draw(arguments(type_of(name))))
    text = encode(WRITERS[json_format].message(type_of(name))(message))
    violations = Violations()
    members = READER.message(type_of(name))(strict_json.parse(text), Location(), violations)
    assert violations == []
    # Not by equality, which NaN has not.
    assert make(**members).SerializeToString(deterministic=True) == message.SerializeToString(
        deterministic=True
    )


SHELF: Mapping[str, object] = {"name": "a", "shelf_code": "b"}
LARGE = 2**63 - 1
# From the option of another transcoder to our format, a type, and the members of a message and
# of its JSON there, by the pages:
# https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/grpc_json_transcoder/v3/transcoder.proto
# https://pkg.go.dev/google.golang.org/protobuf/encoding/protojson#MarshalOptions
# https://learn.microsoft.com/aspnet/core/grpc/json-transcoding-binding
DOCUMENTED: Mapping[str, tuple[JsonFormat, str, dict[str, object], dict[str, object]]] = {
    "Envoy: primitive fields with default values are omitted": (
        JsonFormat(omit_defaults=True),
        "Receipt",
        {"name": "a", "copies": 0, "pages": 0, "lent": False, "mood": 0, "tags": []},
        {"name": "a"},
    ),
    "Envoy: always_print_primitive_fields": (
        JsonFormat(),
        "Receipt",
        {"name": "a"},
        {
            "name": "a",
            "shelfCode": "",
            "copies": "0",
            "pages": 0,
            "lent": False,
            "tags": [],
            "mood": "MOOD_UNSPECIFIED",
            "cover": "",
        },
    ),
    "Envoy: always_print_enums_as_ints": (
        JsonFormat(enum_numbers=True, omit_defaults=True),
        "Lists",
        {"moods": [0, 1, 2]},
        {"moods": [0, 1, 2]},
    ),
    "Envoy: preserve_proto_field_names": (
        JsonFormat(proto_names=True, omit_defaults=True),
        "Receipt",
        {"shelf_code": "c", "shelf": SHELF},
        {"shelf_code": "c", "shelf": {"name": "a", "shelf_code": "b"}},
    ),
    "protojson: UseProtoNames": (
        JsonFormat(proto_names=True, omit_defaults=True),
        "Shelf",
        dict(SHELF),
        {"name": "a", "shelf_code": "b"},
    ),
    "protojson: UseEnumNumbers": (
        JsonFormat(enum_numbers=True, omit_defaults=True),
        "Scalars",
        {"a_mood": 1},
        {"aMood": 1},
    ),
    # Without presence: written. With presence and unset (optional, messages, oneofs): not.
    "protojson: EmitDefaultValues": (
        JsonFormat(),
        "Book",
        {"optionals": {}, "choice": {}},
        {
            "name": "",
            "title": "",
            "optionals": {},
            "choice": {"hint": ""},
            "tags": [],
            "shelves": [],
            "byName": {},
            "copies": "0",
            "mood": "MOOD_UNSPECIFIED",
        },
    ),
    "ASP.NET: IgnoreDefaultValues": (
        JsonFormat(omit_defaults=True),
        "Receipt",
        {"name": "", "pages": 5, "tags": []},
        {"pages": 5},
    ),
    "ASP.NET: WriteEnumsAsIntegers": (
        JsonFormat(enum_numbers=True, omit_defaults=True),
        "Maps",
        {"bools": {True: 2}},
        {"bools": {"true": 2}},
    ),
    "ASP.NET: WriteInt64sAsStrings is off": (
        JsonFormat(int64_numbers=True, omit_defaults=True),
        "Book",
        {"copies": LARGE, "lists": {"uint64s": [2**64 - 1]}, "maps": {"int32s": {1: -5}}},
        {"copies": LARGE, "lists": {"uint64s": [2**64 - 1]}, "maps": {"int32s": {"1": -5}}},
    ),
    "ASP.NET: WriteInt64sAsStrings": (
        JsonFormat(omit_defaults=True),
        "Book",
        {"copies": LARGE},
        {"copies": str(LARGE)},
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_as_another_transcoder_documents_it(name: str) -> None:
    """Each option of another transcoder has a format that writes what that option does."""
    json_format, type_, members, tree = DOCUMENTED[name]
    assert written(json_format, type_, **members) == tree


def test_names_that_two_fields_have() -> None:
    """A name that is the JSON name of another field is not used, so that it is read back right."""
    (only,) = services_of(
        """
        package t;
        message Odd {
          string a = 1 [json_name = "b"];
          string b = 2 [json_name = "c"];
          string c = 3 [json_name = "d"];
          string plain_one = 4;
        }
        service S {
          rpc Do(Odd) returns (Odd) { option (google.api.http) = { post: "/a" body: "*" }; }
        }
        """
    )
    type_ = only.methods_by_name["Do"].output_type
    message: Any = GetMessageClass(type_)(a="1", b="2", c="3", plain_one="4")
    text = encode(JsonWriter(JsonFormat(proto_names=True)).message(type_)(message))
    assert json.loads(text) == {"a": "1", "c": "2", "d": "3", "plain_one": "4"}
    members = READER.message(type_)(strict_json.parse(text), Location(), Violations())
    assert GetMessageClass(type_)(**members) == message


def test_what_no_format_changes() -> None:
    """A whole body is always written; keys of maps and field masks stay as they are."""
    every = JsonFormat(enum_numbers=True, proto_names=True, omit_defaults=True, int64_numbers=True)
    book = type_of("Book")
    alone = WRITERS[every].field(book.fields_by_name["copies"])
    assert alone(GetMessageClass(book)()) == 0
    assert written(every, "Maps", int64s={LARGE: 1.5}) == {"int64s": {str(LARGE): 1.5}}
    mask = {"paths": ["shelf.shelf_code"]}
    assert written(every, "Known", a_mask=mask) == {"a_mask": "shelf.shelfCode"}
