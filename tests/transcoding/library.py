"""A neutral schema: a library whose methods each test chooses, in a descriptor pool of its own.

What belongs here: the messages, and how a service of them is made. What a test
makes of it belongs to the test.
"""

from typing import Any, TypeAlias

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    EnumValueDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MessageOptions,
    MethodDescriptorProto,
    OneofDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PACKAGE, SERVICE = "library.v1", "Library"
_HTTP: Any = annotations_pb2.http  # its stub types the extension as a plain FieldDescriptor
_Type: TypeAlias = "FieldDescriptorProto.Type.ValueType"
_STRING, _REPEATED = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.LABEL_REPEATED


def field(
    name: str, kind: _Type = _STRING, *, repeated: bool = False, json_name: str = "", of: str = ""
) -> FieldDescriptorProto:
    """Return a field, whose number is given to it by its message; `of` is a type of ours."""
    return FieldDescriptorProto(
        name=name,
        type=kind,
        label=_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL,
        json_name=json_name or None,
        type_name=f".{PACKAGE}.{of}" if of else None,
    )


def message(name: str, *fields: FieldDescriptorProto) -> DescriptorProto:
    """Return a message of `fields`, which are numbered in their order."""
    for number, one in enumerate(fields, 1):
        one.number = number
    return DescriptorProto(name=name, field=fields)


def _choice() -> DescriptorProto:
    made = message("Choice", field("by_title"), field("by_code"))
    made.oneof_decl.append(OneofDescriptorProto(name="key"))
    for one in made.field:
        one.oneof_index = 0
    return made


def _note() -> DescriptorProto:
    made = message("Note", field("text"))
    made.oneof_decl.append(OneofDescriptorProto(name="_text"))
    made.field[0].oneof_index = 0
    made.field[0].proto3_optional = True
    return made


def _labels() -> DescriptorProto:
    kind = FieldDescriptorProto.TYPE_MESSAGE
    made = message("Labels", field("labels", kind, repeated=True, of="Labels.LabelsEntry"))
    entry = message("LabelsEntry", field("key"), field("value"))
    entry.options.CopyFrom(MessageOptions(map_entry=True))
    made.nested_type.append(entry)
    return made


def _messages() -> tuple[DescriptorProto, ...]:
    kinds = FieldDescriptorProto
    return (
        # What requests are made of: singular strings.
        message("Shelf", field("name"), field("theme"), field("shelf_code", json_name="shelfCode")),
        message("Odd", field("path", json_name="a/b~c"), field("plain", json_name="plain")),
        message("Nothing"),
        _note(),
        # What answers may have besides.
        message(
            "Receipt",
            field("name"),
            field("shelf_code", json_name="shelfCode"),
            field("copies", kinds.TYPE_INT64),
            field("pages", kinds.TYPE_INT32),
            field("lent", kinds.TYPE_BOOL),
            field("tags", repeated=True),
            field("mood", kinds.TYPE_ENUM, of="Mood"),
            field("cover", kinds.TYPE_BYTES),
            field("shelf", kinds.TYPE_MESSAGE, of="Shelf"),
        ),
        # What requests cannot be made of yet, one reason each.
        message("Counted", field("name"), field("count", kinds.TYPE_INT32)),
        message("Lent", field("lent", kinds.TYPE_BOOL)),
        message("Cover", field("data", kinds.TYPE_BYTES)),
        message("Moody", field("mood", kinds.TYPE_ENUM, of="Mood")),
        message("Nested", field("shelf", kinds.TYPE_MESSAGE, of="Shelf")),
        message("Tagged", field("tags", repeated=True)),
        _labels(),
        _choice(),
    )


def method(
    name: str,
    rule: HttpRule | None = None,
    *,
    takes: str = "Shelf",
    gives: str = "Receipt",
    streams: str = "",
) -> MethodDescriptorProto:
    """Return a method; `streams` names the sides that stream: "client", "server" or both."""
    made = MethodDescriptorProto(
        name=name,
        input_type=f".{PACKAGE}.{takes}",
        output_type=f".{PACKAGE}.{gives}",
        client_streaming="client" in streams,
        server_streaming="server" in streams,
    )
    if rule is not None:
        made.options.Extensions[_HTTP].CopyFrom(rule)
    return made


def post(path: str) -> HttpRule:
    """Return the rule that there is most: POST, the whole message as the body."""
    return HttpRule(post=path, body="*")


def service(*methods: MethodDescriptorProto) -> ServiceDescriptor:
    """Return the service library.v1.Library of `methods`."""
    mood = EnumDescriptorProto(
        name="Mood",
        value=[
            EnumValueDescriptorProto(name="MOOD_UNSPECIFIED", number=0),
            EnumValueDescriptorProto(name="MOOD_MERRY", number=1),
        ],
    )
    file = FileDescriptorProto(
        name="library/v1/library.proto",
        package=PACKAGE,
        syntax="proto3",
        message_type=_messages(),
        enum_type=[mood],
    )
    file.service.add(name=SERVICE, method=methods)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{PACKAGE}.{SERVICE}")


def descriptor(name: str, of: ServiceDescriptor | None = None) -> Descriptor:
    """Return the descriptor of a message, in the pool of the service that it is `of`."""
    found: Descriptor = (of or service()).file.message_types_by_name[name]
    return found


def make(name: str, /, **members: object) -> Message:
    """Return a message by its name, in a pool of its own."""
    return GetMessageClass(descriptor(name))(**members)
