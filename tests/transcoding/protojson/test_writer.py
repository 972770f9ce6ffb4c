"""From messages to JSON: what protobuf's own library writes, compiled once for each type."""

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2, json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.protojson.writer import JsonWriter, encode
from sidecar.transcoding.strict_json import JsonTree
from tests.properties import many
from tests.transcoding.library import descriptor, service
from tests.transcoding.samples import arguments

LIBRARY = service()
WRITER, FULL = JsonWriter(), JsonFormat()
TYPES = ("Book", "Scalars", "Optionals", "Lists", "Maps", "Known", "Choice", "Tree", "Document")


def type_of(name: str) -> Descriptor:
    """Return a type of the library."""
    return descriptor(name, LIBRARY)


def make(name: str, /, **members: object) -> Any:
    """Return a message of the library."""
    return GetMessageClass(type_of(name))(**members)


def written(message: Any, writer: JsonWriter = WRITER) -> str:
    """Return a message as JSON."""
    return encode(writer.message(message.DESCRIPTOR)(message)).decode()


def by_library(message: Any, format_: JsonFormat = FULL) -> str:
    """Return what protobuf's own library makes of a message, in the same form."""
    tree = json_format.MessageToDict(
        message,
        preserving_proto_field_name=format_.proto_names,
        use_integers_for_enums=format_.enum_numbers,
        always_print_fields_with_no_presence=not format_.omit_defaults,
        descriptor_pool=message.DESCRIPTOR.file.pool,
    )
    return json.dumps(tree)


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=30)
@given(data=st.data())
def test_agrees_with_the_library(name: str, data: st.DataObject) -> None:
    """Any message is the JSON that protobuf's own library makes of it."""
    message = make(name, **data.draw(arguments(type_of(name))))
    assert comparable(written(message)) == comparable(by_library(message))


FORMATS = tuple(
    JsonFormat(enum_numbers=numbers, proto_names=names, omit_defaults=omits)
    for numbers, names, omits in itertools.product((False, True), repeat=3)
)
WRITERS = {format_: JsonWriter(format_) for format_ in FORMATS}


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=30)
@given(data=st.data(), format_=st.sampled_from(FORMATS))
def test_each_format_agrees_with_the_library(
    name: str, data: st.DataObject, format_: JsonFormat
) -> None:
    """In each format, any message is the JSON that the library makes with the same options."""
    message = make(name, **data.draw(arguments(type_of(name))))
    texts = [written(message, WRITERS[format_]), by_library(message, format_)]
    if format_.enum_numbers:  # the library makes a NullValue 0, but its only JSON is null
        texts = [text.replace("null", "0") for text in texts]
    assert comparable(texts[0]) == comparable(texts[1])


def test_null_is_no_number() -> None:
    """A NullValue is null, also where enums are numbers (the JSON mapping of protobuf)."""
    writer = JsonWriter(JsonFormat(enum_numbers=True, omit_defaults=True))
    assert written(make("Choice", by_nothing=0), writer) == '{"byNothing":null}'


def test_an_extension_in_each_format() -> None:
    """An extension keeps its full name; of proto2 only what is set is written anyway."""
    for format_, writer in WRITERS.items():
        assert json.loads(written(extended(), writer)) == json.loads(
            by_library(extended(), format_)
        )


def test_numbers_of_64_bits() -> None:
    """64-bit integers can be numbers: in a field, a list, a map, a wrapper and an extension."""
    writer = JsonWriter(JsonFormat(int64_numbers=True, omit_defaults=True))
    large = 2**63 - 1
    assert written(make("Scalars", an_int64=large, a_fixed64=1), writer) == (
        f'{{"anInt64":{large},"aFixed64":1}}'
    )
    assert json.loads(written(extended(), writer))["[old.v1.count]"] == 2**60
    wrapped = make("Known", an_int64={"value": large})
    assert written(wrapped, writer) == f'{{"anInt64":{large}}}'


def comparable(text: str) -> str:
    """Return JSON in a form where 1 is 1.0, but not true, and -0 is not 0."""
    return json.dumps(json.loads(text, parse_int=float), sort_keys=True)


ANYS: Mapping[str, tuple[dict[str, object], dict[str, object]]] = {
    "empty": ({}, {}),
    "a message": (
        {"type_url": "x.test/library.v1.Note", "value": make("Note", text="a").SerializeToString()},
        {"@type": "x.test/library.v1.Note", "text": "a"},
    ),
    "a message without members": (
        {"type_url": "x.test/library.v1.Nothing"},
        {"@type": "x.test/library.v1.Nothing"},
    ),
    "a type with a JSON of its own": (
        {"type_url": "x.test/google.protobuf.Struct"},
        {"@type": "x.test/google.protobuf.Struct", "value": {}},
    ),
    "Any": (
        {"type_url": "x.test/google.protobuf.Any"},
        {"@type": "x.test/google.protobuf.Any", "value": {}},
    ),
    "Empty": (
        {"type_url": "x.test/google.protobuf.Empty"},
        {"@type": "x.test/google.protobuf.Empty"},
    ),
}


@pytest.mark.parametrize("name", ANYS)
def test_any(name: str) -> None:
    """What an Any holds is told with its type, beside its members or as one value."""
    held, told = ANYS[name]
    message = make("Known", an_any=held)
    assert json.loads(written(message)) == {"anAny": told, "aNull": None}


@pytest.mark.parametrize(
    "held",
    [
        {"type_url": "x.test/library.v1.Nope"},
        {"type_url": "x.test/"},
        {"type_url": "x.test/library.v1.Note", "value": b"\xff"},
    ],
    ids=["unknown", "no type", "malformed"],
)
def test_any_of_nothing_that_is_known(held: dict[str, object]) -> None:
    """An Any of an unknown type, or with a value that is not of its type, cannot be written."""
    with pytest.raises(ValueError, match=r"^a google\.protobuf\.Any has an unknown type"):
        written(make("Known", an_any=held))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_number_that_json_does_not_have(number: str) -> None:
    """A number that is none in JSON is a string in a field, and has no place in a Value."""
    assert json.loads(written(make("Known", a_double={"value": float(number)})))["aDouble"] in {
        "NaN",
        "Infinity",
        "-Infinity",
    }
    with pytest.raises(ValueError, match=r"^a google\.protobuf\.Value holds a number that JSON"):
        written(make("Known", a_value={"number_value": float(number)}))


def test_types_of_one_name_in_two_pools() -> None:
    """A writer knows a type by itself, and not by its name."""
    kind = FieldDescriptorProto.TYPE_STRING
    file = FileDescriptorProto(name="other.proto", package="library.v1", syntax="proto3")
    file.message_type.add(name="Note").field.add(name="other", number=1, type=kind, label=1)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    other: Any = GetMessageClass(pool.FindMessageTypeByName("library.v1.Note"))(other="a")
    assert (written(make("Note", text="a")), written(other)) == ('{"text":"a"}', '{"other":"a"}')


def extended() -> Any:
    """Return a message of proto2 with extensions, one of them of a well-known type."""
    types, labels = FieldDescriptorProto.Type, FieldDescriptorProto.Label
    file = FileDescriptorProto(name="old.proto", package="old.v1", syntax="proto2")
    file.dependency.append("google/protobuf/duration.proto")
    made = file.message_type.add(name="Old")
    made.field.add(name="name", number=1, type=types.TYPE_STRING, label=labels.LABEL_OPTIONAL)
    made.extension_range.add(start=100, end=200)
    for number, (name, kind, label, type_name) in enumerate(
        [
            ("count", types.TYPE_INT64, labels.LABEL_OPTIONAL, ""),
            ("tags", types.TYPE_STRING, labels.LABEL_REPEATED, ""),
            ("time", types.TYPE_MESSAGE, labels.LABEL_OPTIONAL, ".google.protobuf.Duration"),
        ],
        start=100,
    ):
        file.extension.add(
            name=name,
            number=number,
            type=kind,
            label=label,
            type_name=type_name or None,
            extendee=".old.v1.Old",
        )
    pool = DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    message: Any = GetMessageClass(pool.FindMessageTypeByName("old.v1.Old"))(name="a")
    message.Extensions[pool.FindExtensionByName("old.v1.count")] = 2**60
    message.Extensions[pool.FindExtensionByName("old.v1.tags")].append("b")
    message.Extensions[pool.FindExtensionByName("old.v1.time")].seconds = 5
    return message


def test_extensions() -> None:
    """An extension of proto2 is written by its full name."""
    message = extended()
    told = {
        "name": "a",
        "[old.v1.count]": str(2**60),
        "[old.v1.tags]": ["b"],
        "[old.v1.time]": "5s",
    }
    assert json.loads(written(message)) == json.loads(by_library(message)) == told
    message.ClearExtension(message.DESCRIPTOR.file.pool.FindExtensionByName("old.v1.time"))
    assert "time" not in written(message)


def test_what_json_has_no_numbers_for() -> None:
    """NaN and infinities are strings."""
    numbers: list[JsonTree] = [math.nan, math.inf, -math.inf]
    assert encode(numbers) == b'["NaN","Infinity","-Infinity"]'


def test_a_field_that_takes_the_place_of_a_type() -> None:
    """In an Any, a message cannot have a member @type of its own."""
    file = FileDescriptorProto(name="at.proto", package="at.v1", syntax="proto3")
    text = FieldDescriptorProto.TYPE_STRING
    file.message_type.add(name="At").field.add(
        name="at", json_name="@type", number=1, type=text, label=1
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    at = GetMessageClass(pool.FindMessageTypeByName("at.v1.At"))(at="x/at.v1.Other")
    assert json.loads(written(at)) == {"@type": "x/at.v1.Other"}
    packed = any_pb2.Any(type_url="x/at.v1.At", value=at.SerializeToString())
    with pytest.raises(ValueError, match="a field @type"):
        JsonWriter().packed(pool)(packed)


finite = st.floats(allow_nan=False, allow_infinity=False)
any_tree = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(any_tree)
def test_every_tree_is_read_back(tree: JsonTree) -> None:
    """What is encoded is what Python's own library reads as the same values."""
    assert repr(json.loads(encode(tree))) == repr(tree)


def test_no_space_and_no_escape() -> None:
    """Nothing is written that a reader does not need."""
    assert encode({"ł": [1, True, None, 'a"\n']}) == '{"ł":[1,true,null,"a\\"\\n"]}'.encode()
