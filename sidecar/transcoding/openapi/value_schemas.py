"""JSON Schemas of scalars, well-known types and the keys of maps."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from sidecar.transcoding.protojson import well_known
from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.strict_json import JsonTree

Schema: TypeAlias = dict[str, JsonTree]

_INT32: Schema = {
    "type": "integer",
    "format": "int32",
    "minimum": -(2**31),
    "maximum": 2**31 - 1,
}
_UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
# Patterns of strings are limits of their digits only: 2**63 has 19, 2**64 has 20.
_INT64: Schema = {
    "type": "string",
    "format": "int64",
    "pattern": "^(0|-?[1-9][0-9]{0,18})$",
}
_UINT64: Schema = {"type": "string", "format": "uint64", "pattern": "^(0|[1-9][0-9]{0,19})$"}
_NOT_NUMBERS: Schema = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}
_MAX_FLOAT = 3.4028235e38  # as the writer writes the largest float
_FLOAT: Schema = {
    "anyOf": [
        {"type": "number", "format": "float", "minimum": -_MAX_FLOAT, "maximum": _MAX_FLOAT},
        _NOT_NUMBERS,
    ]
}
_DOUBLE: Schema = {"anyOf": [{"type": "number", "format": "double"}, _NOT_NUMBERS]}
# `contentEncoding` is a note that validators do not check, so the pattern says it too.
_BYTES: Schema = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
SCALARS: Mapping[int, Schema] = MappingProxyType(
    {
        FieldDescriptor.TYPE_DOUBLE: _DOUBLE,
        FieldDescriptor.TYPE_FLOAT: _FLOAT,
        FieldDescriptor.TYPE_INT32: _INT32,
        FieldDescriptor.TYPE_SINT32: _INT32,
        FieldDescriptor.TYPE_SFIXED32: _INT32,
        FieldDescriptor.TYPE_UINT32: _UINT32,
        FieldDescriptor.TYPE_FIXED32: _UINT32,
        FieldDescriptor.TYPE_INT64: _INT64,
        FieldDescriptor.TYPE_SINT64: _INT64,
        FieldDescriptor.TYPE_SFIXED64: _INT64,
        FieldDescriptor.TYPE_UINT64: _UINT64,
        FieldDescriptor.TYPE_FIXED64: _UINT64,
        FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
        FieldDescriptor.TYPE_STRING: {"type": "string"},
        FieldDescriptor.TYPE_BYTES: _BYTES,
    }
)
# 64-bit integers as numbers. No limits: a reader that rounds them would get others.
_INT64_NUMBER: Schema = {"type": "integer", "format": "int64"}
_UINT64_NUMBER: Schema = {"type": "integer", "format": "uint64", "minimum": 0}
_INT64_NUMBERS: Mapping[int, Schema] = MappingProxyType(
    {
        FieldDescriptor.CPPTYPE_INT64: _INT64_NUMBER,
        FieldDescriptor.CPPTYPE_UINT64: _UINT64_NUMBER,
    }
)
# NullValue, in JSON and in the text of a parameter.
NULL: Schema = {"type": "null"}
NULL_TEXT: Schema = {"type": "string", "const": "null"}
WELL_KNOWN: Mapping[str, Schema] = MappingProxyType(
    {
        "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
        "google.protobuf.Duration": {
            "type": "string",
            "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
            "description": "A duration in seconds, such as 1.5s.",
        },
        "google.protobuf.FieldMask": {
            "type": "string",
            "description": "JSON names of fields, separated by commas.",
        },
        "google.protobuf.Struct": {"type": "object"},
        "google.protobuf.ListValue": {"type": "array", "items": {}},
        "google.protobuf.Value": {},
        "google.protobuf.Any": {
            "type": "object",
            "properties": {"@type": {"type": "string", "format": "uri-reference"}},
        },
    }
)
# The JSON names of map keys that are no strings.
KEYS: Mapping[int, Schema] = MappingProxyType(
    {
        FieldDescriptor.CPPTYPE_BOOL: {"enum": ["true", "false"]},
        FieldDescriptor.CPPTYPE_INT32: {"pattern": "^-?[0-9]+$"},
        FieldDescriptor.CPPTYPE_INT64: {"pattern": "^-?[0-9]+$"},
        FieldDescriptor.CPPTYPE_UINT32: {"pattern": "^[0-9]+$"},
        FieldDescriptor.CPPTYPE_UINT64: {"pattern": "^[0-9]+$"},
    }
)


def scalar(field: FieldDescriptor, json_format: JsonFormat) -> Schema:
    """Return the schema of one value of `field`, which is neither a message nor an enum."""
    if json_format.int64_numbers and field.cpp_type in _INT64_NUMBERS:
        return dict(_INT64_NUMBERS[field.cpp_type])
    return dict(SCALARS[field.type])


def enum(descriptor: EnumDescriptor, json_format: JsonFormat) -> Schema:
    """Return the schema of the values of an enum.

    The names of numbers are in `x-enum-varnames`, where many generators of clients look for them.
    """
    if not json_format.enum_numbers:
        return {"type": "string", "enum": [*descriptor.values_by_name]}
    # The first name of a number is its name, the others are aliases.
    names: dict[int, JsonTree] = {}
    for value in descriptor.values:
        names.setdefault(value.number, value.name)
    return {
        "type": "integer",
        "format": "int32",
        "enum": [*names],
        "x-enum-varnames": [*names.values()],
    }


def or_null(schema: Schema) -> Schema:
    """Return a schema that allows null too."""
    if not schema or schema == NULL:
        return schema
    if isinstance(schema.get("type"), str) and not {"const", "enum"} & schema.keys():
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, dict(NULL)]}


def is_json_text(field: FieldDescriptor) -> bool:
    """Whether the text of a field in a path, query or form is one JSON value."""
    return holds_json(field) and not field.is_repeated


def holds_json(field: FieldDescriptor) -> bool:
    """Whether the text of each value of a field is JSON: of a Struct, ListValue or Value."""
    type_ = field.message_type
    known = well_known.WELL_KNOWN.get(type_.full_name) if type_ is not None else None
    return known is not None and not known.is_text
