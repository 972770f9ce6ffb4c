"""google.protobuf.Struct, ListValue and Value, which hold JSON of any kind.

https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/struct.proto

Protobuf takes Python's own dictionaries and lists for them. How deep the messages
lie that it makes of those is for us to know.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType, NoneType
from typing import Any

from sidecar.transcoding.errors import InvalidValueError
from sidecar.transcoding.protojson.numerals import to_double
from sidecar.transcoding.protojson.scalars import read_string
from sidecar.transcoding.strict_json import JsonObject, JsonTree, JsonValue, is_array

# What the parsers of protobuf take: messages within each other, entries of maps included.
MAX_DEPTH = 100

# Any: the messages are made at run time, of a pool that is not known here.
_Message = Any
_Tree = bool | str | float | dict[str, Any] | list[Any] | None


def read_struct(value: JsonValue, depth: int) -> dict[str, _Tree]:
    """Return what a Struct is made of, which lies in `depth` messages. Raises InvalidValueError."""
    if not isinstance(value, JsonObject):
        raise InvalidValueError("must be an object")
    return _to_dict(value, depth)


def read_list(value: JsonValue, depth: int) -> list[_Tree]:
    """Return the arguments of a ListValue in `depth` messages. Raises InvalidValueError."""
    if not is_array(value):
        raise InvalidValueError("must be a list")
    return _to_list(value, depth)


def read_value(value: JsonValue, depth: int) -> Mapping[str, _Tree]:
    """Return what a Value is made of, which lies in `depth` messages. Raises InvalidValueError."""
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
    """Return what a Value at `depth` holds."""
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
    # The Struct, its entry and the Value in that: three messages.
    made = {read_string(name): _to_tree(member, depth + 2) for name, member in members}
    if len(made) < len(members):
        raise InvalidValueError("must not have a name twice in an object")
    return made


def _to_list(elements: list[JsonValue], depth: int) -> list[_Tree]:
    return [_to_tree(element, depth + 1) for element in elements]


def write_struct(message: _Message) -> JsonTree:
    """Return the object that a Struct is. Raises ValueError."""
    return {name: write_value(value) for name, value in message.fields.items()}


def write_list(message: _Message) -> JsonTree:
    """Return the array that a ListValue is. Raises ValueError."""
    return [write_value(value) for value in message.values]


def write_value(message: _Message) -> JsonTree:
    """Return the JSON that a Value is. Raises ValueError for a number that JSON does not have."""
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
        "struct_value": lambda message: write_struct(message.struct_value),
        "list_value": lambda message: write_list(message.list_value),
    }
)
