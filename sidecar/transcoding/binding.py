"""Binding: from the members of a body to the message of a call, with every fault found.

https://protobuf.dev/programming-guides/json/ gives the mapping; what a rule
leaves to path, query and body is in google/api/http.proto.

So far messages of singular strings are bound; other fields are refused while building.
"""

from collections import Counter
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding.errors import Fault, MalformedRequestError
from sidecar.transcoding.percent import decode_form
from sidecar.transcoding.strict_json import JsonObject, JsonValue


class Binder:
    """Makes messages of one type. All look-ups in the descriptor are done while building it."""

    def __init__(self, descriptor: Descriptor, *, ignore_unknown: bool) -> None:
        """Prepare for messages of `descriptor`.

        `ignore_unknown` passes over members and parameters that no field has,
        instead of refusing them. Raises ValueError for a field of another type
        than string.
        """
        self._make: type[Message] = GetMessageClass(descriptor)
        self._ignore_unknown = ignore_unknown
        # JSON name and proto name are two names of one field.
        self._fields: dict[str, FieldDescriptor] = {}
        for field in descriptor.fields:
            if field.type != field.TYPE_STRING or field.is_repeated or _is_alternative(field):
                raise ValueError(f"{field.full_name}: only singular strings are supported yet")
            self._fields |= {field.name: field, field.json_name: field}

    def bind(self, body: JsonValue, query: str) -> Message:
        """Return the message that a request stands for when the whole message is its body.

        Raises MalformedRequestError with every fault of `body` and of the raw `query`.
        """
        faults = list(self._query_faults(query))
        message = self._make()
        if isinstance(body, JsonObject):
            faults.extend(self._fill(message, body))
        else:
            faults.append(Fault(detail="The body must be a JSON object.", pointer=""))
        if faults:
            raise MalformedRequestError.of(faults)
        return message

    def _fill(self, message: Message, members: JsonObject) -> Iterator[Fault]:
        given: Counter[str] = Counter()
        for name, value in members:
            field = self._fields.get(name)
            if field is None:
                if not self._ignore_unknown:
                    yield Fault(detail="The body has a member that no field has.", pointer="")
                continue
            pointer = _pointer(field)
            given[field.name] += 1
            if given[field.name] == 2:  # the third says no more than the second
                yield Fault(detail=f"{field.json_name} must be given once only.", pointer=pointer)
            if fault := _set_string(message, field, value):
                yield Fault(detail=fault, pointer=pointer)

    def _query_faults(self, query: str) -> Iterator[Fault]:
        for parameter in filter(None, query.split("&")):
            try:
                name = decode_form(parameter.partition("=")[0])
            except ValueError:
                yield Fault(detail="The query must hold well-formed percent escapes of UTF-8 only.")
                continue
            # A dotted name reaches into a field, which is as much the body's.
            field = self._fields.get(name.partition(".")[0])
            if field is not None:
                yield Fault(
                    detail=f"{field.json_name} must not be in the query; send it in the body."
                )
            elif not self._ignore_unknown:
                yield Fault(detail="The query has a parameter that no field has.")


def _is_alternative(field: FieldDescriptor) -> bool:
    """Whether the field is one of a oneof; `optional` makes one too, with that field alone."""
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1


def _pointer(field: FieldDescriptor) -> str:
    """Return the JSON Pointer to the field (RFC 6901 section 3 has the escapes)."""
    return "/" + field.json_name.replace("~", "~0").replace("/", "~1")


def _set_string(message: Message, field: FieldDescriptor, value: JsonValue) -> str | None:
    """Set the field; return what is wrong with `value`, if anything. null is the default."""
    if value is None:
        return None
    if not isinstance(value, str):
        return f"{field.json_name} must be a string."
    try:
        setattr(message, field.name, value)
    except ValueError:  # a lone surrogate: JSON can escape what UTF-8 cannot encode
        return f"{field.json_name} must be a string that UTF-8 can encode."
    return None
