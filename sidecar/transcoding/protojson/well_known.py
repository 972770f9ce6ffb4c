"""Well-known types whose JSON is not an object of their fields.

https://protobuf.dev/programming-guides/json/ and the files of google/protobuf define them.
`Any` is not here, because it needs all other types. The wrappers are not here either: their
JSON is that of the scalar.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import InvalidValueError
from sidecar.transcoding.protojson import structs
from sidecar.transcoding.strict_json import JsonTree, JsonValue

# Any: the classes are made at run time, from a pool that is not known here.
_Message = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WellKnown:
    """Reader and writer of the messages of one type.

    `read` takes the JSON value and its depth: the number of messages from the outermost to its
    own. It returns what protobuf accepts for a field of the type, and raises InvalidValueError.
    `is_text` says that the JSON value is a string: its text may come without quotes, and its
    depth does not matter. `write` raises ValueError for a message that has no JSON value.
    """

    read: Callable[[JsonValue, int], Any]
    write: Callable[[_Message], JsonTree]
    is_text: bool

    def read_text(self, text: str, depth: int) -> Any:
        """Return the value of a text in a path, query or form. Raises InvalidValueError."""
        if self.is_text and not text.startswith('"'):
            return self.read(text, depth)
        try:
            value = strict_json.parse(text.encode())
        except ValueError:
            raise InvalidValueError("must be JSON") from None
        return self.read(value, depth)


def assemble(make: type[Message], value: Any) -> Message:
    """Return the message of the well-known type `make` for `value`, as read for a field."""
    message: _Message = make()
    name = make.DESCRIPTOR.full_name
    if name == STRUCT:
        message.update(value)
    elif name == LIST:
        message.extend(value)
    else:
        message = make(**value)
    assembled: Message = message
    return assembled


def _read_timestamp(value: JsonValue, _depth: int) -> Mapping[str, int]:
    """Read RFC 3339 section 5.6 with a capital T and Z, as the JSON mapping demands."""
    if not isinstance(value, str) or not (match := _TIMESTAMP.fullmatch(value)):
        raise InvalidValueError(_A_TIMESTAMP)
    try:
        time = datetime.fromisoformat(value)
    except ValueError:  # for example the 30th of February
        raise InvalidValueError(_A_TIMESTAMP) from None
    span = time - _EPOCH
    seconds = span.days * _SECONDS_OF_A_DAY + span.seconds
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:  # the offset moved it out of these years
        raise InvalidValueError(_A_TIMESTAMP)
    return {"seconds": seconds, "nanos": _nanos(match[1])}


_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.([0-9]{1,9}))?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_A_TIMESTAMP = "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_OF_A_DAY = 86_400
# The years 1 to 9999 (google/protobuf/timestamp.proto).
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def _write_timestamp(message: _Message) -> JsonTree:
    # Not by the method ToJsonString, which takes twice as long.
    seconds, nanos = message.seconds, message.nanos
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < _NANOS_OF_A_SECOND):
        raise _inexpressible(message)
    time = _LOCAL_EPOCH + timedelta(*divmod(seconds, _SECONDS_OF_A_DAY))
    return f"{time.isoformat()}{_fraction(nanos)}Z"


_LOCAL_EPOCH = _EPOCH.replace(tzinfo=None)  # is written without its offset
_NANOS_OF_A_SECOND = 1_000_000_000


def _nanos(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _fraction(nanos: int) -> str:
    """Return the fraction of a second: a point and 3, 6 or 9 digits, or nothing for 0."""
    return f".{nanos:09}".removesuffix("000").removesuffix("000") if nanos else ""


def _inexpressible(message: _Message) -> ValueError:
    return ValueError(f"a {message.DESCRIPTOR.full_name} holds a value that JSON cannot express")


def _read_duration(value: JsonValue, _depth: int) -> Mapping[str, int]:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > _MAX_SECONDS:
        raise InvalidValueError("must be a duration in seconds, such as 1.5s")
    sign = -1 if match[1] else 1
    return {"seconds": sign * int(match[2]), "nanos": sign * _nanos(match[3])}


_DURATION = re.compile(r"(-)?([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
# 10,000 years (google/protobuf/duration.proto).
_MAX_SECONDS = 315_576_000_000


def _write_duration(message: _Message) -> JsonTree:
    seconds, nanos = message.seconds, message.nanos
    has_two_signs = seconds * nanos < 0
    if has_two_signs or abs(seconds) > _MAX_SECONDS or abs(nanos) >= _NANOS_OF_A_SECOND:
        raise _inexpressible(message)
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _read_mask(value: JsonValue, _depth: int) -> Mapping[str, list[str]]:
    if not isinstance(value, str) or not _MASK.fullmatch(value):
        raise InvalidValueError(_A_MASK)
    paths = _CAPITAL.sub(lambda match: f"_{match[0].lower()}", value)
    return {"paths": paths.split(",") if paths else []}


# A segment may be `*` or the key of a map (https://google.aip.dev/161), so almost any text, with
# spaces in it but not around it. An underscore would not survive the conversion to snake case and
# back.
_PATH = r"[^\s\x00-\x1f,_]+(?: +[^\s\x00-\x1f,_]+)*"
_MASK = re.compile(f"(?:{_PATH}(?:,{_PATH})*)?")
_A_MASK = (
    "must be field paths in camel case without spaces between them, such as name,shelf.shelfCode,"
    " or *"
)
_CAPITAL = re.compile("[A-Z]")


def _write_mask(message: _Message) -> JsonTree:
    try:
        text: str = message.ToJsonString()
    except ValueError:  # its text quotes the value
        raise _inexpressible(message) from None
    # The library also writes paths that are read as others, such as one with a comma.
    try:
        is_same = _read_mask(text, 0)["paths"] == [*message.paths]
    except InvalidValueError:
        is_same = False
    if not is_same:
        raise _inexpressible(message)
    return text


_TEXTS = frozenset({"Timestamp", "Duration", "FieldMask"})
WELL_KNOWN: Mapping[str, WellKnown] = MappingProxyType(
    {
        f"google.protobuf.{name}": WellKnown(read=read, write=write, is_text=name in _TEXTS)
        for name, read, write in (
            ("Timestamp", _read_timestamp, _write_timestamp),
            ("Duration", _read_duration, _write_duration),
            ("FieldMask", _read_mask, _write_mask),
            ("Struct", structs.read_struct, structs.write_struct),
            ("ListValue", structs.read_list, structs.write_list),
            ("Value", structs.read_value, structs.write_value),
        )
    }
)
ANY, EMPTY, VALUE = (f"google.protobuf.{name}" for name in ("Any", "Empty", "Value"))
STRUCT, LIST = "google.protobuf.Struct", "google.protobuf.ListValue"
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def has_own_json(descriptor: Descriptor) -> bool:
    """Whether the JSON of a message is other than an object of its fields."""
    name = descriptor.full_name
    return name in WELL_KNOWN or name in WRAPPERS or name == ANY


def has_text(field: FieldDescriptor) -> bool:
    """Whether a path, a query or a form can hold a value of `field` as a text."""
    type_ = field.message_type
    return type_ is None or type_.full_name in WELL_KNOWN or type_.full_name in WRAPPERS


def parent_type(field: FieldDescriptor) -> Descriptor | None:
    """Return the message type whose fields can follow `field` and a dot, or None."""
    type_ = field.message_type
    return None if field.is_repeated or type_ is None or has_own_json(type_) else type_
