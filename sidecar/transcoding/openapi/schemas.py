"""JSON Schemas (2020-12) of messages, enums and the values of fields.

They describe the JSON that the transcoder writes for a service. Requests are described in the
same format, though all others are read as well: numbers as strings, 64-bit integers as numbers,
enums as numbers, both names of a field, and bytes in the alphabet for URLs or without padding.
https://protobuf.dev/programming-guides/json/
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from sidecar.transcoding.body_formats import JSON
from sidecar.transcoding.fields import map_entry_of
from sidecar.transcoding.openapi import field_options, value_schemas
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.field_options import CheckedConstraints
from sidecar.transcoding.openapi.names import Components, Key, Use
from sidecar.transcoding.openapi.value_schemas import (
    KEYS,
    NULL,
    NULL_TEXT,
    WELL_KNOWN,
    Schema,
    holds_json,
    or_null,
)
from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.protojson.scalars import NULL_VALUE
from sidecar.transcoding.protojson.well_known import WRAPPERS
from sidecar.transcoding.rules import FieldPath
from sidecar.transcoding.strict_json import JsonTree


class Schemas:
    """Builds the schemas of one format of JSON; those of messages and enums are `components`.

    Requests may have unknown names in messages of `open_types` only.
    """

    def __init__(
        self,
        json_format: JsonFormat,
        *,
        components: Components,
        comments: Comments,
        constraints: CheckedConstraints,
        open_types: Collection[Descriptor],
    ) -> None:
        self._format = json_format
        self._components = components
        self._comments = comments
        self._constraints = constraints
        self._open_types = open_types

    def _component(self, key: Key) -> Schema:
        if isinstance(key.type, EnumDescriptor):
            schema = value_schemas.enum(key.type, self._format)
            return self._described(key.type.full_name, schema)
        return self.object(key.type, key.use)

    def _reference(self, type_: Descriptor | EnumDescriptor, use: Use) -> Schema:
        return self._components.reference(Key(type_, use, self._format), self._component)

    def label(self, path: FieldPath) -> str:
        """Return the name of the parameter for the field at the end of `path`."""
        return ".".join(map(self._format.parameter_name_of, path))

    def object(
        self, descriptor: Descriptor, use: Use, *, without: Collection[FieldPath] = ()
    ) -> Schema:
        """Return the schema of the object of a message; the fields at `without` are left out."""
        fields = [field for field in descriptor.fields if (field,) not in without]
        properties: Schema = {}
        required: list[JsonTree] = []
        for field in fields:
            inner = [path[1:] for path in without if path[0] == field]
            schema = self._part(field, use, inner) if inner else self.field(field, use)
            name = self._format.name_of(field)
            properties[name] = schema
            # The path sets a field in the message, so the message exists and needs the others.
            if "required" in schema if inner else self._is_required(field, use):
                required.append(name)
        exclusions: list[JsonTree] = [
            {"not": {"required": [*map(self._format.name_of, pair)]}}
            for pair in _rivals(descriptor, fields)
        ]
        is_closed = use is Use.REQUEST and not self.is_open(descriptor)
        schema = {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            **({"allOf": exclusions} if exclusions else {}),
            **({"additionalProperties": False} if is_closed else {}),
        }
        return self._described(descriptor.full_name, schema)

    def is_open(self, descriptor: Descriptor) -> bool:
        """Whether the object of a message in a request may have names that are not described."""
        return descriptor in self._open_types or descriptor.is_extendable

    def message(self, descriptor: Descriptor, use: Use) -> Schema:
        """Return the schema of a message: a reference, or that of a well-known type."""
        name = descriptor.full_name
        if name in WRAPPERS:
            return self._element(descriptor.fields_by_name["value"], use)
        if name in WELL_KNOWN:
            return dict(WELL_KNOWN[name])
        return self._reference(descriptor, use)

    def field(self, field: FieldDescriptor, use: Use) -> Schema:
        """Return the schema of a field in an object, with its comment."""
        is_required = self._is_required(field, use)
        return self._member(field, self.value(field, use), use, is_required=is_required)

    def _part(self, field: FieldDescriptor, use: Use, without: Sequence[FieldPath]) -> Schema:
        """Return the schema of a field whose message has no fields at `without`."""
        message = cast("Descriptor", field.message_type)  # it has fields
        schema = self.object(message, use, without=without)
        return self._member(field, schema, use, is_required="required" in schema)

    def _member(
        self, field: FieldDescriptor, schema: Schema, use: Use, *, is_required: bool
    ) -> Schema:
        if use is Use.REQUEST and not is_required and _is_alone(field):
            schema = or_null(schema)
        marks: Schema = {
            **({"readOnly": True} if field_options.is_output_only(field) else {}),
            **({"writeOnly": True} if field_options.is_input_only(field) else {}),
            **({"deprecated": True} if field.GetOptions().deprecated else {}),
        }
        return self._described(field.full_name, {**schema, **marks})

    def value(self, field: FieldDescriptor, use: Use) -> Schema:
        """Return the schema of the value of a field: of a map, a list or one element."""
        entry = map_entry_of(field)
        keywords = self._keywords_of(field)
        if entry is not None:
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            names = {"propertyNames": KEYS[key.cpp_type]} if key.cpp_type in KEYS else {}
            return {"type": "object", **names, "additionalProperties": self._element(value, use)}
        if not field.is_repeated:
            return {**self._element(field, use), **keywords}
        limit = {"maxItems": keywords.pop("maxItems")} if "maxItems" in keywords else {}
        element = {**self._element(field, use), **keywords}
        return {"type": "array", "items": element, **limit}

    def text(self, field: FieldDescriptor) -> Schema:
        """Return the schema of the text of a field in a path, a query or a form.

        Where the text is JSON (`is_json_text`), it is the schema of that JSON. In a list each item
        is a text, so an item is a string that contains JSON.
        """
        schema = self.value(field, Use.REQUEST)
        if schema == NULL:
            return dict(NULL_TEXT)
        if not field.is_repeated:
            return schema
        items = schema["items"]
        if items == NULL:
            items = dict(NULL_TEXT)
        elif holds_json(field):
            items = {"type": "string", "contentMediaType": JSON, "contentSchema": items}
        return {**schema, "items": items}

    def described_text(self, field: FieldDescriptor) -> Schema:
        """Return the schema of the text of a field, with its comment."""
        return self._described(field.full_name, self.text(field))

    def _keywords_of(self, field: FieldDescriptor) -> Schema:
        keywords = dict(self._constraints.of(field))
        if field.enum_type is not None and self._format.enum_numbers and "const" in keywords:
            keywords["const"] = field.enum_type.values_by_name[str(keywords["const"])].number
        return keywords

    def _is_required(self, field: FieldDescriptor, use: Use) -> bool:
        """Whether an object always has the field, as it is written or must be read."""
        if use is Use.REQUEST:
            return field_options.is_required_in_request(field)
        if use is Use.RESPONSE and self._format.omit_defaults and not field.has_presence:
            return False
        is_optional = field.has_presence or field_options.is_input_only(field) or use is Use.ERROR
        return field_options.is_required_in_response(field) or not is_optional

    def _element(self, field: FieldDescriptor, use: Use) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type, use)
        if field.enum_type is None:
            return value_schemas.scalar(field, self._format)
        if field.enum_type.full_name == NULL_VALUE:
            return dict(NULL)
        return self._reference(field.enum_type, Use.ENUM)

    def _described(self, full_name: str, schema: Schema) -> Schema:
        comment = self._comments.get(full_name)
        return {**schema, "description": comment} if comment else schema


def _is_alone(field: FieldDescriptor) -> bool:
    """Whether null can only be the absent field. In a oneof it may choose the field."""
    oneof = field.containing_oneof  # `optional` makes one of a single field
    return oneof is None or len(oneof.fields) == 1


def _rivals(
    descriptor: Descriptor, fields: Sequence[FieldDescriptor]
) -> Iterator[tuple[FieldDescriptor, FieldDescriptor]]:
    """Yield each two of `fields` that are in one oneof."""
    for oneof in descriptor.oneofs:
        yield from combinations([field for field in oneof.fields if field in fields], 2)
