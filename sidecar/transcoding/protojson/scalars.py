"""Scalars and enums: their JSON values, and their texts in paths, queries and forms.

https://protobuf.dev/programming-guides/json/ has the table of JSON values. A text is read as
the JSON string of the same characters would be. Where JSON has no string for a value (true,
false, numbers of enums), the text is read as JSON itself.
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from sidecar.transcoding.errors import InvalidValueError, UnknownNameError
from sidecar.transcoding.protojson.numerals import (
    integer,
    is_number,
    read_double,
    read_float,
    write_double,
    write_float,
)
from sidecar.transcoding.strict_json import JsonTree, JsonValue

NULL_VALUE = "google.protobuf.NullValue"

_MAX_NAMES = 10

# RFC 4648 sections 4 and 5: either alphabet, padded or not.
_BASE64 = re.compile(r"([A-Za-z0-9+/_-]*)(={0,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """Reader and writer of one scalar type.

    `read` takes a JSON value and `read_text` a text. Both return what protobuf accepts, and
    raise InvalidValueError. `write` returns the JSON value; it is None if the values of the
    type are JSON values already.
    """

    read: Callable[[JsonValue], object]
    read_text: Callable[[str], object]
    write: Callable[[Any], JsonTree] | None = None


def scalar_of(field: FieldDescriptor) -> Scalar:
    """Return the scalar of `field`, which must not be a message."""
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return _SCALARS[field.type]


def _read_bool(value: JsonValue) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidValueError(_A_BOOL)


def _read_bool_text(text: str) -> bool:
    if text in _BOOLS:
        return _BOOLS[text]
    raise InvalidValueError(_A_BOOL)


_A_BOOL = "must be true or false"
_BOOLS = {"true": True, "false": False}


def read_string(value: JsonValue) -> str:
    """Return `value` if it is a string of Unicode characters. Raises InvalidValueError."""
    if not isinstance(value, str):
        raise InvalidValueError("must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can escape a lone surrogate
            raise InvalidValueError("must be a string that UTF-8 can encode") from None
    return value


def _read_bytes(value: JsonValue) -> bytes:
    match = _BASE64.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[2] and len(match[0]) % 4):
        raise InvalidValueError(_BASE64_WANTED)
    digits = match[1].replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    except binascii.Error:  # a single digit is less than a byte
        raise InvalidValueError(_BASE64_WANTED) from None


_BASE64_WANTED = "must be bytes in base64"


def _write_bytes(data: bytes) -> JsonTree:
    return b64encode(data).decode()


def _enum(enum: EnumDescriptor) -> Scalar:
    if enum.full_name == NULL_VALUE:
        return _NULL
    numbers = {value.name: value.number for value in enum.values}
    # The first name of a number is its name, the others are aliases.
    names = {value.number: value.name for value in reversed(enum.values)}
    # The first names suffice to show the kind of value.
    some = ", ".join(value.name for value in enum.values[:_MAX_NAMES])
    predicate = f"must be one of {some}{', ...' if len(enum.values) > _MAX_NAMES else ''}"

    def find(name: str) -> int:
        if name in numbers:
            return numbers[name]
        raise UnknownNameError(predicate)

    def check(value: JsonValue) -> object:
        try:
            number = _INT32.read(value)
        except InvalidValueError:
            raise InvalidValueError(predicate) from None
        if enum.is_closed and number not in names:  # an open enum keeps unknown numbers
            raise InvalidValueError(predicate)
        return number

    return Scalar(
        read=lambda value: find(value) if isinstance(value, str) else check(value),
        read_text=lambda text: check(text) if is_number(text) else find(text),
        write=lambda number: names.get(number, number),
    )


def _read_null(value: JsonValue) -> int:
    if value is None or value == "NULL_VALUE" or (type(value) is int and value == 0):
        return 0
    raise InvalidValueError("must be null")


def _read_null_text(text: str) -> int:
    return _read_null({"null": None, "0": 0}.get(text, text))


_NULL = Scalar(read=_read_null, read_text=_read_null_text, write=lambda _number: None)


def _number(
    read: Callable[[JsonValue], float], write: Callable[[Any], JsonTree] | None = None
) -> Scalar:
    return Scalar(read=read, read_text=read, write=write)


_INT32 = _number(integer(-(2**31), 2**31 - 1))
_UINT32 = _number(integer(0, 2**32 - 1))
# JavaScript has no 64-bit integers, so they are strings.
_INT64 = _number(integer(-(2**63), 2**63 - 1), str)
_UINT64 = _number(integer(0, 2**64 - 1), str)

_SCALARS: Mapping[int, Scalar] = MappingProxyType(
    {
        FieldDescriptor.TYPE_DOUBLE: _number(read_double, write_double),
        FieldDescriptor.TYPE_FLOAT: _number(read_float, write_float),
        FieldDescriptor.TYPE_INT32: _INT32,
        FieldDescriptor.TYPE_SINT32: _INT32,
        FieldDescriptor.TYPE_SFIXED32: _INT32,
        FieldDescriptor.TYPE_INT64: _INT64,
        FieldDescriptor.TYPE_SINT64: _INT64,
        FieldDescriptor.TYPE_SFIXED64: _INT64,
        FieldDescriptor.TYPE_UINT32: _UINT32,
        FieldDescriptor.TYPE_FIXED32: _UINT32,
        FieldDescriptor.TYPE_UINT64: _UINT64,
        FieldDescriptor.TYPE_FIXED64: _UINT64,
        FieldDescriptor.TYPE_BOOL: Scalar(read=_read_bool, read_text=_read_bool_text),
        FieldDescriptor.TYPE_STRING: Scalar(read=read_string, read_text=read_string),
        FieldDescriptor.TYPE_BYTES: Scalar(
            read=_read_bytes, read_text=_read_bytes, write=_write_bytes
        ),
    }
)
