"""Properties of fields that protobuf descriptors show only indirectly."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

# The other fields of a oneof: their names, mapped to their JSON names.
Rivals: TypeAlias = Mapping[str, str]

_HTTP_BODY = "google.api.HttpBody"


def map_entry_of(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of the entries of a map field, or None for any other field.

    Descriptors represent a map as a repeated message.
    """
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def rivals_of(field: FieldDescriptor) -> Rivals:
    """Return the other fields of the oneof that `field` is in; none without a oneof."""
    oneof = field.containing_oneof
    fields = oneof.fields if oneof is not None else []
    return {other.name: other.json_name for other in fields if other is not field}


def find_rival(rivals: Rivals, arguments: Mapping[str, Any]) -> str | None:
    """Return the JSON name of one of `rivals` that `arguments` set, or None."""
    conflicting = (json for name, json in rivals.items() if arguments.get(name) is not None)
    return next(conflicting, None)


def is_http_body(target: Descriptor | FieldDescriptor) -> bool:
    """Whether `target` is google.api.HttpBody, or a singular field of that type."""
    message = message_of(target)
    return message is not None and message.full_name == _HTTP_BODY


def message_of(target: Descriptor | FieldDescriptor) -> Descriptor | None:
    """Return `target` itself or the message type of a singular field; None for any other field."""
    if isinstance(target, Descriptor):
        return target
    return None if target.is_repeated else target.message_type
