"""What descriptors of fields tell in a roundabout way."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

# The other fields of a oneof: from their names to those that they have in JSON.
Rivals: TypeAlias = Mapping[str, str]

_HTTP_BODY = "google.api.HttpBody"


def map_entry_of(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of the entries of a map, which descriptors have as a repeated message."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def rivals_of(field: FieldDescriptor) -> Rivals:
    """Return the fields of which none can be set together with `field`."""
    oneof = field.containing_oneof
    fields = oneof.fields if oneof is not None else []
    return {other.name: other.json_name for other in fields if other is not field}


def find_rival(rivals: Rivals, arguments: Mapping[str, Any]) -> str | None:
    """Return the JSON name of one of `rivals` that `arguments` of a message give, if any."""
    given = (json for name, json in rivals.items() if arguments.get(name) is not None)
    return next(given, None)


def is_http_body(target: Descriptor | FieldDescriptor) -> bool:
    """Whether `target` is a google.api.HttpBody, or a field that holds one."""
    message = message_of(target)
    return message is not None and message.full_name == _HTTP_BODY


def message_of(target: Descriptor | FieldDescriptor) -> Descriptor | None:
    """Return the message that `target` is, or is a field for; None if it is for several or none."""
    if isinstance(target, Descriptor):
        return target
    return None if target.is_repeated else target.message_type
