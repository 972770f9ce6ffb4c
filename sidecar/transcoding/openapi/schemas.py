"""JSON Schemas (2020-12) of messages, enums and the values of fields.

They describe the JSON that the transcoder writes, and the canonical form of what it reads:
numbers of 32 bits may also be sent as strings, those of 64 bits as numbers, and enums as numbers.
https://protobuf.dev/programming-guides/json/
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from sidecar.transcoding.fields import map_entry_of
from sidecar.transcoding.openapi import names
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.field_behavior import Behavior, behavior_of
from sidecar.transcoding.openapi.names import Key, Use
from sidecar.transcoding.protojson.scalars import NULL_VALUE
from sidecar.transcoding.protojson.well_known import WRAPPERS
from sidecar.transcoding.strict_json import JsonTree

Schema: TypeAlias = dict[str, JsonTree]
# Returns the keywords of JSON Schema that the value of a field keeps besides its type.
Constraints: TypeAlias = Callable[[FieldDescriptor], Mapping[str, JsonTree]]

_INT32: Schema = {"type": "integer", "format": "int32"}
_UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_INT64: Schema = {"type": "string", "format": "int64"}
_UINT64: Schema = {"type": "string", "format": "uint64"}
_NOT_NUMBERS: Schema = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}
_FLOAT: Schema = {"anyOf": [{"type": "number", "format": "float"}, _NOT_NUMBERS]}
_DOUBLE: Schema = {"anyOf": [{"type": "number", "format": "double"}, _NOT_NUMBERS]}
_SCALARS: Mapping[int, Schema] = MappingProxyType(
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
        FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    }
)
_WELL_KNOWN: Mapping[str, Schema] = MappingProxyType(
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
_KEYS: Mapping[int, Schema] = MappingProxyType(
    {
        FieldDescriptor.CPPTYPE_BOOL: {"enum": ["true", "false"]},
        FieldDescriptor.CPPTYPE_INT32: {"pattern": "^-?[0-9]+$"},
        FieldDescriptor.CPPTYPE_INT64: {"pattern": "^-?[0-9]+$"},
        FieldDescriptor.CPPTYPE_UINT32: {"pattern": "^[0-9]+$"},
        FieldDescriptor.CPPTYPE_UINT64: {"pattern": "^[0-9]+$"},
    }
)
_OF_ARRAYS = frozenset({"minItems", "maxItems"})
_MARKS: Mapping[Behavior, str] = MappingProxyType(
    {Behavior.OUTPUT_ONLY: "readOnly", Behavior.INPUT_ONLY: "writeOnly"}
)


class Schemas:
    """Makes the schemas of a document.

    Until `resolve`, a reference to a component schema holds a key instead of a name: which
    names are free is known only once all schemas are. `closes`: requests with unknown names are
    refused, so their schemas allow none.
    """

    def __init__(self, *, comments: Comments, constraints: Constraints, closes: bool) -> None:
        self._comments = comments
        self._constraints = constraints
        self._closes = closes
        self._components: dict[Key, Schema] = {}
        self._incomplete: list[Key] = []

    def resolve(self, tree: Schema) -> tuple[Schema, Schema]:
        """Return `tree` and all component schemas, with the names of these as references."""
        while self._incomplete:  # a loop, because the types may form a long chain
            key = self._incomplete.pop()
            self._components[key] = self._component(key)
        chosen = names.choose(self._components)
        references = {_placeholder(key): f"#/components/schemas/{chosen[key]}" for key in chosen}
        components = {chosen[key]: schema for key, schema in self._components.items()}
        ordered: Schema = {name: components[name] for name in sorted(components)}
        return _rename(tree, references), _rename(ordered, references)

    def _component(self, key: Key) -> Schema:
        if isinstance(key.type, EnumDescriptor):
            schema: Schema = {"type": "string", "enum": [*key.type.values_by_name]}
            return self._described(key.type.full_name, schema)
        return self.object(key.type, key.use)

    def _reference(self, type_: Descriptor | EnumDescriptor, use: Use) -> Schema:
        key = Key(type_, use)
        if key not in self._components:
            self._components[key] = {}
            self._incomplete.append(key)
        return {"$ref": _placeholder(key)}

    def object(
        self, descriptor: Descriptor, use: Use, *, without: frozenset[str] = frozenset()
    ) -> Schema:
        """Return the schema of the object of a message; fields named in `without` are left out."""
        fields = [field for field in descriptor.fields if field.name not in without]
        schema: Schema = {
            "type": "object",
            "properties": {field.json_name: self.field(field, use) for field in fields},
        }
        required = [field.json_name for field in fields if _is_required(field, use)]
        if required:
            schema["required"] = list[JsonTree](required)
        exclusions = [_not_both(*pair) for pair in _rivals(descriptor)]
        if exclusions:
            schema["allOf"] = list[JsonTree](exclusions)
        if use is Use.REQUEST and self._closes and not descriptor.is_extendable:
            schema["additionalProperties"] = False
        return self._described(descriptor.full_name, schema)

    def message(self, descriptor: Descriptor, use: Use) -> Schema:
        """Return the schema of a message: a reference, or that of a well-known type."""
        name = descriptor.full_name
        if name in WRAPPERS:
            return self._element(descriptor.fields_by_name["value"], use)
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        return self._reference(descriptor, use)

    def field(self, field: FieldDescriptor, use: Use) -> Schema:
        """Return the schema of a field in an object, with its comment."""
        schema = self.value(field, use)
        if use is Use.REQUEST and _takes_null(field):
            schema = _or_null(schema)
        marks = {_MARKS[mark]: True for mark in behavior_of(field) if mark in _MARKS}
        return self._described(field.full_name, {**schema, **marks, **_deprecation(field)})

    def described_value(self, field: FieldDescriptor) -> Schema:
        """Return the schema of the value of a field in a form, with its comment."""
        return self._described(field.full_name, self.value(field, Use.REQUEST))

    def value(self, field: FieldDescriptor, use: Use) -> Schema:
        """Return the schema of the value of a field: of a map, a list or one element."""
        keywords = dict(self._constraints(field))
        whole = {name: keywords.pop(name) for name in _OF_ARRAYS & keywords.keys()}
        entry = map_entry_of(field)
        if entry is not None:
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            names = {"propertyNames": _KEYS[key.cpp_type]} if key.cpp_type in _KEYS else {}
            return {"type": "object", **names, "additionalProperties": self._element(value, use)}
        element = {**self._element(field, use), **keywords}
        return {"type": "array", "items": element, **whole} if field.is_repeated else element

    def _element(self, field: FieldDescriptor, use: Use) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type, use)
        if field.enum_type is None:
            return dict(_SCALARS[field.type])
        if field.enum_type.full_name == NULL_VALUE:
            return {"type": "null"}
        return self._reference(field.enum_type, Use.ENUM)

    def _described(self, full_name: str, schema: Schema) -> Schema:
        comment = self._comments.get(full_name)
        return {**schema, "description": comment} if comment else schema


def _is_required(field: FieldDescriptor, use: Use) -> bool:
    """Whether an object always has the field. The writer leaves out no field without presence."""
    is_written = use is Use.RESPONSE and not field.has_presence
    return field.is_required or Behavior.REQUIRED in behavior_of(field) or is_written


def _takes_null(field: FieldDescriptor) -> bool:
    """Whether null stands for the absent field. In a oneof it may choose the field."""
    oneof = field.containing_oneof  # `optional` makes one of a single field
    is_alone = oneof is None or len(oneof.fields) == 1
    return is_alone and not _is_required(field, Use.REQUEST)


def _rivals(descriptor: Descriptor) -> Iterator[tuple[FieldDescriptor, FieldDescriptor]]:
    for oneof in descriptor.oneofs:
        yield from combinations(oneof.fields, 2)


def _not_both(one: FieldDescriptor, other: FieldDescriptor) -> Schema:
    return {"not": {"required": [one.json_name, other.json_name]}}


def _or_null(schema: Schema) -> Schema:
    if not schema or schema.get("type") == "null":
        return schema
    if isinstance(schema.get("type"), str) and not {"const", "enum"} & schema.keys():
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def _placeholder(key: Key) -> str:
    return f"{key.type.full_name} {key.use.name}"


def _rename(tree: JsonTree, references: Mapping[str, str]) -> Any:
    """Return a copy of `tree` with the references that have names."""
    if isinstance(tree, list):
        return [_rename(item, references) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        name: references.get(member, member)
        if name == "$ref" and isinstance(member, str)
        else _rename(member, references)
        for name, member in tree.items()
    }


def _deprecation(field: FieldDescriptor) -> Schema:
    return {"deprecated": True} if field.GetOptions().deprecated else {}
