"""From JSON to messages: what protobuf's own library reads is read the same, and no more."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import Faults
from sidecar.transcoding.json_reader import JsonReader
from sidecar.transcoding.place import Place
from tests.properties import many
from tests.transcoding.library import descriptor, service
from tests.transcoding.samples import arguments

LIBRARY = service()
READER = JsonReader()
TYPES = ("Book", "Scalars", "Optionals", "Lists", "Maps", "Known", "Choice", "Tree", "Document")


def type_of(name: str) -> Descriptor:
    """Return a type of the library."""
    return descriptor(name, LIBRARY)


def read(name: str, body: str) -> Message | list[str]:
    """Return the message that `body` is, or what is wrong with it, each after its pointer."""
    faults = Faults()
    made = READER.message(type_of(name))(strict_json.parse(body.encode()), Place(), faults)
    if faults:
        return [f"{fault.pointer} {fault.detail}".lstrip() for fault in faults]
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
@pytest.mark.parametrize("keeps_names", [False, True], ids=["JSON names", "proto names"])
@settings(many, max_examples=40)
@given(data=st.data())
def test_agrees_with_the_library(name: str, keeps_names: bool, data: st.DataObject) -> None:
    """The JSON of any message, with either form of its names, is read as that message."""
    message = GetMessageClass(type_of(name))(**data.draw(arguments(type_of(name))))
    body = json_format.MessageToJson(
        message, preserving_proto_field_name=keeps_names, descriptor_pool=LIBRARY.file.pool
    )
    assert bytes_of(read(name, body)) == bytes_of(message)


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


def _paths(tree: Any) -> list[tuple[Any, Any]]:
    """Return each place of a value in `tree`: what holds it, and its name or number there."""
    if not isinstance(tree, dict | list):
        return []
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    return [(tree, key) for key in keys] + [pair for key in keys for pair in _paths(tree[key])]


# Book has nothing but what these have.
@pytest.mark.parametrize("name", TYPES[1:])
@settings(many, max_examples=120)
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
