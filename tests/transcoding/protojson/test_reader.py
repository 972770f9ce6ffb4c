"""From JSON to messages: what protobuf's own library reads is read the same, and no more."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any

import pytest
from google.protobuf import any_pb2, json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import Violations
from sidecar.transcoding.protojson.location import Location
from sidecar.transcoding.protojson.reader import JsonReader
from tests.properties import many
from tests.transcoding.library import descriptor, service
from tests.transcoding.samples import arguments

LIBRARY = service()
READER, IGNORING = JsonReader(), JsonReader(ignore_unknown=True, ignore_duplicates=True)
TYPES = ("Book", "Scalars", "Optionals", "Lists", "Maps", "Known", "Choice", "Tree", "Document")


def type_of(name: str) -> Descriptor:
    """Return a type of the library."""
    return descriptor(name, LIBRARY)


def read(name: str, body: str, by: JsonReader = READER) -> Message | list[str]:
    """Return the message that `body` is, or what is wrong with it, each after its pointer."""
    violations = Violations()
    made = by.message(type_of(name))(strict_json.parse(body.encode()), Location(), violations)
    if violations:
        return [f"{violation.pointer} {violation.detail}".lstrip() for violation in violations]
    return GetMessageClass(type_of(name))(**made)


def by_library(name: str, tree: Any) -> Message:
    """Return what protobuf's own library reads. Raises json_format.ParseError."""
    pool = LIBRARY.file.pool
    return json_format.ParseDict(tree, GetMessageClass(type_of(name))(), descriptor_pool=pool)


def bytes_of(message: Message | list[str]) -> bytes:
    """Return a message in a form that is equal even where it holds NaN."""
    assert isinstance(message, Message), message
    return message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=40)
@given(data=st.data(), keeps_names=st.booleans())
def test_agrees_with_the_library(name: str, data: st.DataObject, *, keeps_names: bool) -> None:
    """The JSON of any message, with either form of its names, is read as that message."""
    message = GetMessageClass(type_of(name))(**data.draw(arguments(type_of(name))))
    body = json_format.MessageToJson(
        message, preserving_proto_field_name=keeps_names, descriptor_pool=LIBRARY.file.pool
    )
    assert bytes_of(read(name, body)) == bytes_of(message)


def violations(name: str, body: str, **ignores: bool) -> list[str]:
    """Return what is wrong with a body, each after its pointer."""
    return violations_in(name, body, JsonReader(**ignores))


def violations_in(name: str, body: str, reader: JsonReader) -> list[str]:
    """Return what `reader` finds wrong with a body, each after its pointer."""
    made = read(name, body, reader)
    assert isinstance(made, list)
    return made


A_TYPE = "must be given once, as the URL of a type that this service knows."
A_DOUBLE = "must be a number that a double can hold."
WRONG: Mapping[tuple[str, str], list[str]] = {
    # What no type can hold is a fault of its field, and not of the body.
    ("Scalars", '{"aDouble":1e400,"aFloat":-1e39,"anInt64":1e400,"aBool":1}'): [
        f"/aDouble aDouble {A_DOUBLE}",
        "/aFloat aFloat must be a number that a float can hold.",
        f"/anInt64 anInt64 must be an integer from {-(2**63)} to {2**63 - 1}.",
        "/aBool aBool must be true or false.",
    ],
    ("Scalars", '{"aDouble":%s}' % ("1" * 999)): [f"/aDouble aDouble {A_DOUBLE}"],
    ("Known", '{"aValue":{"a":[1e400]}}'): [f"/aValue aValue {A_DOUBLE}"],
    ("Known", '{"anAny":{"@type":"canary/\\ud800"}}'): [f"/anAny/@type @type {A_TYPE}"],
    ("Known", '{"anAny":{"@type":"\\ud800/google.protobuf.Empty"}}'): [
        f"/anAny/@type @type {A_TYPE}"
    ],
    ("Known", '{"anAny":{"@type":"x/library.v1.Nothing","@type":"x/library.v1.Note"}}'): [
        f"/anAny/@type @type {A_TYPE}"
    ],
    ("Known", '{"anAny":{"@type":"library.v1.Nothing"}}'): [f"/anAny/@type @type {A_TYPE}"],
    ("Known", '{"anAny":{"@type":"x/google.protobuf.Duration","valve":"1s"}}'): [
        "/anAny anAny must have the members @type and value, and no other."
    ],
    ("Known", '{"anAny":{"@type":"canary/\u00e9"}}'): [f"/anAny/@type @type {A_TYPE}"],
    ("Known", '{"anAny":{"@type":"x/library.v1.Shelf","name":1,"nope":1}}'): [
        "/anAny/name name must be a string.",
        "/anAny/nope anAny has a member that is not the name of a field.",
    ],
    ("Known", '{"anAny":{"@type":"x/google.protobuf.Duration","value":"canary"}}'): [
        "/anAny/value value must be a duration in seconds, such as 1.5s."
    ],
    # A name that is not shown is not gone past either.
    ("Maps", '{"maps":{"<canary>":{"maps":{"a":{"strings":1}},"bools":{"canary":1}}}}'): [
        "/maps strings must be a JSON object.",
        "/maps A key of bools must be true or false.",
    ],
    # Nothing but a repeated name.
    ("Scalars", '{"aString":"a","aBool":true,"aString":"a"}'): [
        "/aString aString must be given once only."
    ],
    ("Scalars", '{"aString":"a","a_string":null}'): ["/aString aString must be given once only."],
    ("Maps", '{"strings":{"a":"b","a":"b"}}'): [
        "/strings/a A value of strings has a key that was given before."
    ],
    ("Maps", '{"strings":[]}'): ["/strings strings must be a JSON object."],
    ("Lists", '{"strings":{}}'): ["/strings strings must be a list."],
    ("Tree", '{"left":[]}'): ["/left left must be a JSON object."],
    ("Known", '{"anAny":[]}'): ["/anAny anAny must be a JSON object."],
    ("Maps", '{"shelves":{"a":{"name":1},"a":{}}}'): [
        "/shelves/a/name name must be a string.",
        "/shelves/a A value of shelves has a key that was given before.",
    ],
}


@pytest.mark.parametrize("of", WRONG, ids=repr)
def test_wrong(of: tuple[str, str]) -> None:
    """Everything that is wrong is told where it is, and nothing of what was sent."""
    found = violations(*of)
    assert found == WRONG[of]
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"byTitle":"a","byCode":null}', {"byTitle": "a"}),
        ('{"byCode":null,"byTitle":"a"}', {"byTitle": "a"}),
        ('{"byCode":null,"byTitle":null}', {}),
        ('{"byTitle":"a","byValue":null}', None),
        ('{"byNothing":null,"byTitle":"a"}', None),
        ('{"byTitle":"","byCode":0}', None),
    ],
)
def test_null_in_a_oneof(body: str, told: dict[str, object] | None) -> None:
    """Null is no value of a oneof, but where it is the value."""
    made = read("Choice", body)
    assert (made == by_library("Choice", told)) if told is not None else isinstance(made, list)


@pytest.mark.parametrize("name", ["gr", "Gr"])
def test_a_group(name: str) -> None:
    """A group of proto2 has two names in the schema; each of them is written by some library."""
    file = FileDescriptorProto(name="old.proto", package="old.v1", syntax="proto2")
    old, kinds = file.message_type.add(name="Old"), FieldDescriptorProto
    group = old.nested_type.add(name="Gr")
    group.field.add(name="text", number=2, label=1, type=kinds.TYPE_STRING)
    old.field.add(name="gr", number=1, label=1, type=kinds.TYPE_GROUP, type_name=".old.v1.Old.Gr")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("old.v1.Old")
    body, found = strict_json.parse(b'{"%b":{"text":"a"}}' % name.encode()), Violations()
    assert JsonReader().message(descriptor)(body, Location(), found) == {"gr": {"text": "a"}}
    assert found == []


def test_any_of_a_message_that_lacks_a_field() -> None:
    """What an Any holds is a whole message: proto2 has fields that must be given."""
    types, labels = FieldDescriptorProto.Type, FieldDescriptorProto.Label
    file = FileDescriptorProto(name="old.proto", package="old.v1", syntax="proto2")
    file.dependency.append("google/protobuf/any.proto")
    file.message_type.add(name="Old").field.add(
        name="key", number=1, type=types.TYPE_STRING, label=labels.LABEL_REQUIRED
    )
    file.message_type.add(name="Holder").field.add(
        name="held", number=1, type=11, type_name=".google.protobuf.Any", label=1
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    reader = JsonReader().message(pool.FindMessageTypeByName("old.v1.Holder"))
    told = {}
    for members in ("", ',"key":"a"', ',"key":1'):
        found = Violations()
        body = f'{{"held":{{"@type":"x/old.v1.Old"{members}}}}}'
        reader(strict_json.parse(body.encode()), Location(), found)
        told[members] = [f"{violation.pointer} {violation.detail}" for violation in found]
    assert told == {
        "": ["/held held must have all required fields."],
        ',"key":"a"': [],
        ',"key":1': ["/held/key key must be a string."],
    }


IGNORED: Mapping[tuple[str, str], dict[str, object]] = {
    ("Scalars", '{"nope":1e400,"aString":"a"}'): {"aString": "a"},
    # The names of values that are not known are unknown too, and no numbers are.
    ("Scalars", '{"aMood":"MOOD_NEW","aBool":true}'): {"aBool": True},
    ("Lists", '{"moods":["MOOD_NEW","MOOD_MERRY",7,"MOOD_NEW"]}'): {"moods": [1, 7]},
    ("Maps", '{"bools":{"true":"MOOD_NEW","false":"MOOD_MERRY"}}'): {"bools": {"false": 1}},
}


@pytest.mark.parametrize("of", IGNORED, ids=repr)
def test_what_is_ignored(of: tuple[str, str]) -> None:
    """What no schema of ours has is passed over where the option says so, as the library does."""
    name, body = of
    made = read(name, body, JsonReader(ignore_unknown=True))
    assert bytes_of(made) == bytes_of(by_library(name, IGNORED[of]))
    assert isinstance(read(name, body), list)


def test_other_faults_of_enums_are_not_ignored() -> None:
    """A value that is no name at all is a fault however much is ignored."""
    assert violations("Scalars", '{"aMood":true}', ignore_unknown=True) == [
        "/aMood aMood must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY."
    ]


# What stands in the place of a value: near enough to right ones to be taken for them.
odd: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1.0, 1.5, 2**31, 2**63, 2**64, -(2**63) - 1, 1e300, 3.5e38, -0.0]),
    st.sampled_from(["", "0", "-1", "1.0", "1.5", "1e2", "0x1", " 1", "1 ", "+1", "true", "NaN"]),
    st.sampled_from(["Infinity", "-Infinity", "nan", "MOOD_MERRY", "1s", "-1.5s", "AQ", "A", "=="]),
    st.sampled_from(["2020-01-01T00:00:00Z", "2020-02-30T00:00:00Z", "a,b_c", "aB.c"]),
    st.sampled_from([[], {}, [None], [[]], [{}], {"": 1}, {"name": "a"}, {"name": 1}, {"1": "1"}]),
    st.sampled_from([{"@type": "x/library.v1.Note", "text": "a"}, {"value": 1}, ["1"], [1.0]]),
)


@pytest.mark.parametrize("name", TYPES)
@settings(many, max_examples=40)
@given(data=st.data())
def test_one_violation_changes_nothing_else(name: str, data: st.DataObject) -> None:
    """Values are read the same, with the same violations, whatever is wrong beside them."""
    message = GetMessageClass(type_of(name))(**data.draw(arguments(type_of(name))))
    tree = json_format.MessageToDict(message, descriptor_pool=LIBRARY.file.pool)
    places = _paths(tree)
    for holder, key in data.draw(st.lists(st.sampled_from(places), max_size=1)) if places else []:
        holder[key] = data.draw(odd)
    body = json.dumps(tree)
    alone, beside = (read(name, one, IGNORING) for one in (body, with_a_duplicate(name, body)))
    assert told(beside) == told(alone)


def with_a_duplicate(name: str, body: str) -> str:
    """Return `body` with its first field as null twice, which changes nothing if that is ignored.

    It leads to the reader that finds all violations.
    """
    field = type_of(name).fields[0].json_name
    rest = body.removeprefix("{")
    return f'{{"{field}":null,"{field}":null{"" if rest == "}" else ","}{rest}'


def told(made: Message | list[str]) -> bytes | list[str]:
    """Return what a body was read as, in a form that is equal even where it holds NaN."""
    return bytes_of(made) if isinstance(made, Message) else made


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions in Python `work` calls."""
    count = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


DEPTHS = range(40, 60)  # of arrays: about half of the messages that they become


@pytest.mark.parametrize(
    ("name", "prefix", "suffix"),
    [
        ("Tree", "", ""),
        ("Tree", '"branches":[{"branches":[{', "}]}]"),
        ("Maps", '"maps":{"a":{"values":{"a":{"a":{', "}}}}}"),
        ("Known", '"anAny":{"@type":"x/library.v1.Tree",', "}"),
    ],
)
def test_the_depth_of_values_has_one_limit(name: str, prefix: str, suffix: str) -> None:
    """Values nest to the same depth whichever reader reads them, and no deeper."""
    ending = {"Maps": '"b":'}.get(name, '"leaf":')
    bodies = [f"{{{prefix}{ending}{'[' * depth}{']' * depth}{suffix}}}" for depth in DEPTHS]
    alone, beside = (
        [isinstance(read(name, change(body), IGNORING), Message) for body in bodies]
        for change in (str, partial(with_a_duplicate, name))
    )
    assert alone == beside == sorted(alone, reverse=True)
    assert {*alone} == {True, False}


# What is repeated for each level, and a violation in the innermost one.
CHAINS: Mapping[str, tuple[str, str, str, str]] = {
    "messages": ("Tree", '"left":{', '"name":1', "}"),
    "lists": ("Tree", '"branches":[{', '"name":1', "}]"),
    "maps": ("Maps", '"maps":{"a":{', '"strings":1', "}}"),
    "Any": ("Known", '"anAny":{"@type":"x/library.v1.Known",', '"aBool":1', "}"),
}


@pytest.mark.parametrize(("name", "opened", "wrong", "closed"), CHAINS.values(), ids=CHAINS)
def test_a_violation_at_any_depth_is_found_in_linear_time(
    name: str, opened: str, wrong: str, closed: str
) -> None:
    """No level is read again for each level around it."""
    reader = JsonReader()
    shallow, deep = (f"{{{opened * depth}{wrong}{closed * depth}}}" for depth in (20, 40))
    assert len(violations_in(name, shallow, reader)) == 1  # which compiles the types
    assert len(violations_in(name, deep, reader)) == 1
    calls = [calls_of(partial(violations_in, name, body, reader)) for body in (shallow, deep)]
    assert calls[1] < 2.1 * calls[0]


def _paths(tree: Any) -> list[tuple[Any, Any]]:
    """Return each place of a value in `tree`: what holds it, and its name or number there."""
    if not isinstance(tree, dict | list):
        return []
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    return [(tree, key) for key in keys] + [pair for key in keys for pair in _paths(tree[key])]


# Book has nothing but what these have.
@pytest.mark.parametrize("name", TYPES[1:])
@settings(many, max_examples=40)
@given(data=st.data())
def test_what_is_read_is_what_the_library_reads(name: str, data: st.DataObject) -> None:
    """Of JSON with odd values whatever is read at all is what protobuf's own library reads."""
    message = GetMessageClass(type_of(name))(**data.draw(arguments(type_of(name))))
    tree = json_format.MessageToDict(message, descriptor_pool=LIBRARY.file.pool)
    tree.pop("nulls", None)
    # The library fails with an AttributeError for null in the place of a list of these two.
    places = [pair for pair in _paths(tree) if pair[1] not in {"nulls", "values"}]
    for holder, key in data.draw(st.lists(st.sampled_from(places), max_size=2)) if places else []:
        holder[key] = data.draw(odd)
    made = read(name, json.dumps(tree))
    if isinstance(made, Message):
        assert bytes_of(made) == bytes_of(by_library(name, tree))
