"""The well-known types that JSON has as something else than an object of their fields.

https://protobuf.dev/programming-guides/json/ and the files of google/protobuf
that define them. `Any` is not here, for it needs all other types; nor are the
wrappers, which are the scalar that they wrap.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import Descriptor

from sidecar.transcoding import strict_json
from sidecar.transcoding.scalars import UnfitError, read_string, to_float
from sidecar.transcoding.strict_json import JsonObject, JsonTree, JsonValue

# What the parsers of protobuf take: messages within each other, entries of maps included.
DEEPEST = 100
_TOO_DEEP = "must not nest so deeply"

# Any: the messages are made at run time, of a pool that is not known here.
_Message = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WellKnown:
    """How the messages of one type are read and written.

    `fill` takes an empty message, its JSON value, and how deep in others it
    lies; it raises UnfitError. `is_text` tells that the JSON value is a string,
    so that its text stands for it without quotes as well. `write` raises
    ValueError for a message that has no JSON value.
    """

    fill: Callable[[_Message, JsonValue, int], None]
    write: Callable[[_Message], JsonTree]
    is_text: bool

    def fill_text(self, message: _Message, text: str, depth: int) -> None:
        """Fill `message` from the text of a path, query or form. Raises UnfitError."""
        if self.is_text and not text.startswith('"'):
            self.fill(message, text, depth)
            return
        try:
            value = strict_json.parse(text.encode())
        except ValueError:
            raise UnfitError("must be JSON") from None
        self.fill(message, value, depth)


def _fill_timestamp(message: _Message, value: JsonValue, _depth: int) -> None:
    """Read RFC 3339 section 5.6, in capitals, as the JSON mapping has it."""
    found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise UnfitError(_A_TIMESTAMP)
    try:
        moment = datetime.fromisoformat(found[1] + found[3])
    except ValueError:  # the 30th of February
        raise UnfitError(_A_TIMESTAMP) from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:  # its offset took it beyond the years
        raise UnfitError(_A_TIMESTAMP)
    message.seconds, message.nanos = seconds, _nanos(found[2])


_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_A_TIMESTAMP = "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years 1 to 9999 (google/protobuf/timestamp.proto).
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def _nanos(fraction: str | None) -> int:
    return int((fraction or "0").ljust(9, "0"))


def _fill_duration(message: _Message, value: JsonValue, _depth: int) -> None:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[2]) > _LONGEST:
        raise UnfitError("must be a duration in seconds, such as 1.5s")
    sign = -1 if found[1] else 1
    message.seconds, message.nanos = sign * int(found[2]), sign * _nanos(found[3])


_DURATION = re.compile(r"(-)?([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
# 10,000 years (google/protobuf/duration.proto).
_LONGEST = 315_576_000_000


def _fill_mask(message: _Message, value: JsonValue, _depth: int) -> None:
    if not isinstance(value, str) or not _MASK.fullmatch(value):
        raise UnfitError("must be field paths in camel case, such as name,shelf.shelfCode")
    message.FromJsonString(value)


# An underscore would not survive the way to snake case and back.
_MASK = re.compile(r"(?:[A-Za-z0-9.]+(?:,[A-Za-z0-9.]+)*)?")


def _fill_struct(message: _Message, value: JsonValue, depth: int) -> None:
    if not isinstance(value, JsonObject):
        raise UnfitError("must be an object")
    for name, member in value:
        if read_string(name) in message.fields:
            raise UnfitError("must not have a name twice in an object")
        # Struct, its entry and the Value in that: three messages.
        _fill_value(message.fields[name], member, depth + 2)


def _fill_list(message: _Message, value: JsonValue, depth: int) -> None:
    if not isinstance(value, list) or isinstance(value, JsonObject):
        raise UnfitError("must be a list")
    for element in value:
        _fill_value(message.values.add(), element, depth + 1)


def _fill_value(message: _Message, value: JsonValue, depth: int) -> None:
    if depth > DEEPEST:
        raise UnfitError(_TOO_DEEP)
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = read_string(value)
    elif isinstance(value, JsonObject):
        message.struct_value.SetInParent()  # or an empty one would not be there
        _fill_struct(message.struct_value, value, depth + 1)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        _fill_list(message.list_value, value, depth + 1)
    else:
        message.number_value = to_float(value)


def _write_struct(message: _Message) -> JsonTree:
    return {name: _write_value(value) for name, value in message.fields.items()}


def _write_list(message: _Message) -> JsonTree:
    return [_write_value(value) for value in message.values]


def _write_value(message: _Message) -> JsonTree:
    kind = message.WhichOneof("kind")
    if kind == "number_value" and not math.isfinite(message.number_value):
        raise ValueError("a google.protobuf.Value holds a number that JSON does not have")
    return _WRITE_KIND[kind](message)


def _write_number(number: float) -> float | int:
    """Return an integer where it is one, and exact; there is no integer -0."""
    is_exact = number.is_integer() and abs(number) < 2.0**53 and str(number) != "-0.0"
    return int(number) if is_exact else number


_WRITE_KIND: Mapping[str | None, Callable[[_Message], JsonTree]] = MappingProxyType(
    {
        None: lambda _message: None,
        "null_value": lambda _message: None,
        "bool_value": lambda message: message.bool_value,
        "string_value": lambda message: message.string_value,
        "number_value": lambda message: _write_number(message.number_value),
        "struct_value": lambda message: _write_struct(message.struct_value),
        "list_value": lambda message: _write_list(message.list_value),
    }
)


def _write_text(message: _Message) -> JsonTree:
    text: str = message.ToJsonString()
    return text


WELL_KNOWN: Mapping[str, WellKnown] = MappingProxyType(
    {
        f"google.protobuf.{name}": WellKnown(fill=fill, write=write, is_text=write is _write_text)
        for name, fill, write in (
            ("Timestamp", _fill_timestamp, _write_text),
            ("Duration", _fill_duration, _write_text),
            ("FieldMask", _fill_mask, _write_text),
            ("Struct", _fill_struct, _write_struct),
            ("ListValue", _fill_list, _write_list),
            ("Value", _fill_value, _write_value),
        )
    }
)
ANY, VALUE = "google.protobuf.Any", "google.protobuf.Value"
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def has_own_json(descriptor: Descriptor) -> bool:
    """Whether the JSON of a message is something else than an object of its fields."""
    name = descriptor.full_name
    return name in WELL_KNOWN or name in WRAPPERS or name == ANY
