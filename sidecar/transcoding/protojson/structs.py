"""Readers and writers of google.protobuf.Struct, ListValue and Value, which hold any JSON.

https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/struct.proto

Protobuf accepts Python's dictionaries and lists for them. It nests messages for these, and
their depth must be checked here.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType, NoneType
from typing import Any

from sidecar.transcoding.errors import InvalidValueError
from sidecar.transcoding.protojson.numerals import to_double
from sidecar.transcoding.protojson.scalars import read_string
from sidecar.transcoding.strict_json import JsonObject, JsonTree, JsonValue, is_array

# Limit of the parsers of protobuf: nested messages, entries of maps included.
MAX_DEPTH = 100

# Any: the classes are made at run time, from a pool that is not known here.
_Message = Any
_Tree = bool | str | float | dict[str, Any] | list[Any] | None


def read_struct(value: JsonValue, depth: int) -> dict[str, _Tree]:
    """Return the dictionary for a Struct `depth` messages deep. Raises InvalidValueError."""
    if not isinstance(value, JsonObject):
        raise InvalidValueError("must be an object")
    return _to_dict(value, depth)


def read_list(value: JsonValue, depth: int) -> list[_Tree]:
    """Return the list for a ListValue `depth` messages deep. Raises InvalidValueError."""
    if not is_array(value):
        raise InvalidValueError("must be a list")
    return _to_list(value, depth)


def read_value(value: JsonValue, depth: int) -> Mapping[str, _Tree]:
    """Return the arguments of a Value `depth` messages deep. Raises InvalidValueError."""
    tree = _to_tree(value, depth)
    # Zero is the number of the only value of NullValue.
    return {_KINDS[type(tree)]: 0 if tree is None else tree}


_KINDS: Mapping[type, str] = MappingProxyType(
    {
        NoneType: "null_value",
        bool: "bool_value",
        str: "string_value",
        float: "number_value",
        dict: "struct_value",
        list: "list_value",
    }
)


def _to_tree(value: JsonValue, depth: int) -> _Tree:
    """Return the content of a Value `depth` messages deep. Raises InvalidValueError."""
    if depth > MAX_DEPTH:
        raise InvalidValueError("must not nest so deeply")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return read_string(value)
    if isinstance(value, int | float):
        return to_double(value)
    if isinstance(value, JsonObject):
        return _to_dict(value, depth + 1)
    return _to_list(value, depth + 1)


def _to_dict(members: JsonObject, depth: int) -> dict[str, _Tree]:
    # Three messages: the Struct, its entry, and the Value in that.
    fields = {read_string(name): _to_tree(member, depth + 2) for name, member in members}
    if len(fields) < len(members):
        raise InvalidValueError("must not have a name twice in an object")
    return fields


def _to_list(elements: list[JsonValue], depth: int) -> list[_Tree]:
    return [_to_tree(element, depth + 1) for element in elements]


def write_struct(message: _Message) -> JsonTree:
    """Return the JSON object of a Struct. Raises ValueError as `write_value` does."""
    return {name: write_value(value) for name, value in message.fields.items()}


def write_list(message: _Message) -> JsonTree:
    """Return the JSON array of a ListValue. Raises ValueError as `write_value` does."""
    return [write_value(value) for value in message.values]


def write_value(message: _Message) -> JsonTree:
    """Return the JSON of a Value. Raises ValueError for a number that JSON does not have."""
    kind = message.WhichOneof("kind")
    if kind == "number_value" and not math.isfinite(message.number_value):
        raise ValueError("a google.protobuf.Value holds a number that JSON does not have")
    return _WRITE_KIND[kind](message)


def _write_number(number: float) -> float | int:
    """Return an exact integer as an int, any other number as a float; there is no integer -0."""
    is_exact = number.is_integer() and abs(number) < 2.0**53 and str(number) != "-0.0"
    return int(number) if is_exact else number


_WRITE_KIND: Mapping[str | None, Callable[[_Message], JsonTree]] = MappingProxyType(
    {
        None: lambda _message: None,
        "null_value": lambda _message: None,
        "bool_value": lambda message: message.bool_value,
        "string_value": lambda message: message.string_value,
        "number_value": lambda message: _write_number(message.number_value),
        "struct_value": lambda message: write_struct(message.struct_value),
        "list_value": lambda message: write_list(message.list_value),
    }
)
