"""Options of fields: behavior (required, direction), and constraints of their values.

https://github.com/googleapis/googleapis/blob/master/google/api/field_behavior.proto
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.fields import map_entry_of
from sidecar.transcoding.openapi.value_schemas import SCALARS
from sidecar.transcoding.protojson.scalars import NULL_VALUE
from sidecar.transcoding.protojson.well_known import WRAPPERS
from sidecar.transcoding.strict_json import JsonTree

# Returns the constraints of a field, as keywords of JSON Schema: const, minLength, maxLength,
# pattern, format, minimum, maximum and maxItems.
Constraints: TypeAlias = Callable[[FieldDescriptor], Mapping[str, JsonTree]]

# Its stub types the extension as a plain FieldDescriptor.
_BEHAVIOR: Any = field_behavior_pb2.field_behavior
_OF_STRINGS = frozenset({"const", "minLength", "maxLength", "pattern", "format"})
_OF_INTEGERS = frozenset({"const", "minimum", "maximum"})
# The keywords for values of each type. Numbers of 64 bits are strings in JSON, so none limits them.
_KEYWORDS: Mapping[int, frozenset[str]] = MappingProxyType(
    {
        FieldDescriptor.TYPE_STRING: _OF_STRINGS,
        FieldDescriptor.TYPE_ENUM: frozenset({"const"}),
        FieldDescriptor.TYPE_BOOL: frozenset({"const"}),
        FieldDescriptor.TYPE_FLOAT: frozenset({"minimum", "maximum"}),
        FieldDescriptor.TYPE_DOUBLE: frozenset({"minimum", "maximum"}),
        FieldDescriptor.TYPE_INT32: _OF_INTEGERS,
        FieldDescriptor.TYPE_SINT32: _OF_INTEGERS,
        FieldDescriptor.TYPE_SFIXED32: _OF_INTEGERS,
        FieldDescriptor.TYPE_UINT32: _OF_INTEGERS,
        FieldDescriptor.TYPE_FIXED32: _OF_INTEGERS,
    }
)
_TYPES: Mapping[str, type] = MappingProxyType({"string": str, "boolean": bool, "integer": int})
_PAIRS = (("minimum", "maximum"), ("minLength", "maxLength"))


def is_required_in_request(field: FieldDescriptor) -> bool:
    """Whether a request must have `field`. Only proto2 can demand one that is OUTPUT_ONLY."""
    behavior = _behavior_of(field)
    is_marked = field_behavior_pb2.REQUIRED in behavior
    return field.is_required or (is_marked and field_behavior_pb2.OUTPUT_ONLY not in behavior)


def is_required_in_response(field: FieldDescriptor) -> bool:
    """Whether a response must have `field`. Only proto2 can demand one that is INPUT_ONLY."""
    behavior = _behavior_of(field)
    is_marked = field_behavior_pb2.REQUIRED in behavior
    return field.is_required or (is_marked and field_behavior_pb2.INPUT_ONLY not in behavior)


def is_output_only(field: FieldDescriptor) -> bool:
    """Whether requests need not have `field`, because only responses use it."""
    return field_behavior_pb2.OUTPUT_ONLY in _behavior_of(field) and not field.is_required


def is_input_only(field: FieldDescriptor) -> bool:
    """Whether responses need not have `field`, because only requests use it."""
    return field_behavior_pb2.INPUT_ONLY in _behavior_of(field) and not field.is_required


def _behavior_of(field: FieldDescriptor) -> frozenset[int]:
    # Parsed again: they may have been parsed before the extension was known.
    options = FieldOptions.FromString(field.GetOptions().SerializeToString())
    return frozenset(options.Extensions[_BEHAVIOR])


class CheckedConstraints:
    """Constraints of fields, each checked once. Their faults are added to `violations`."""

    def __init__(self, constraints: Constraints, violations: SchemaViolations) -> None:
        self._constraints = constraints
        self._violations = violations
        self._keywords: dict[FieldDescriptor, Mapping[str, JsonTree]] = {}

    def of(self, field: FieldDescriptor) -> Mapping[str, JsonTree]:
        """Return the keywords of `field`; none if they have a fault."""
        if field not in self._keywords:
            keywords = self._constraints(field)
            faults = list(faults_of(field, keywords))
            for fault in faults:
                self._violations.add(field.full_name, fault)
            self._keywords[field] = {} if faults else keywords
        return self._keywords[field]


def faults_of(field: FieldDescriptor, keywords: Mapping[str, Any]) -> Iterator[str]:
    """Yield each fault of the constraints of `field`: they do not fit its type, or cannot hold."""
    allowed = _allowed(field)
    yield from (f"{name} does not fit its type" for name in keywords if name not in allowed)
    for lower, upper in _PAIRS:
        if lower in keywords and upper in keywords and keywords[lower] > keywords[upper]:
            yield f"{lower} is larger than {upper}"
    for name in ("minLength", "maxLength", "maxItems"):
        if keywords.get(name, 0) < 0:
            yield f"{name} is negative"
    if "const" in keywords and not keywords.keys() <= {"const", "maxItems"}:
        yield "const excludes other constraints of the value"
    for name in keywords.keys() & allowed & {"const", "minimum", "maximum"}:
        if not _is_in_range(_value_field(field), keywords[name]):
            yield f"{name} is no value of its type"
    yield from _faults_of_pattern(keywords.get("pattern", ""))


def _allowed(field: FieldDescriptor) -> frozenset[str]:
    if map_entry_of(field) is not None:
        return frozenset()
    value = _value_field(field)
    is_null = value.enum_type is not None and value.enum_type.full_name == NULL_VALUE
    of_values = frozenset() if is_null else _KEYWORDS.get(value.type, frozenset())
    return of_values | {"maxItems"} if field.is_repeated else of_values


def _value_field(field: FieldDescriptor) -> FieldDescriptor:
    """Return the field inside a wrapper, such as StringValue, or else `field` itself."""
    type_ = field.message_type
    if type_ is None or type_.full_name not in WRAPPERS:
        return field
    return type_.fields_by_name["value"]


def _is_in_range(field: FieldDescriptor, value: Any) -> bool:
    if field.enum_type is not None:
        return value in field.enum_type.values_by_name
    schema: Mapping[str, Any] = SCALARS[field.type]
    if "type" not in schema:  # float and double
        return True
    if type(value) is not _TYPES[schema["type"]]:  # a bool is an int too
        return False
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def _faults_of_pattern(pattern: str) -> Iterator[str]:
    """Yield the fault of a pattern. One that JSON Schema advises is the same in all dialects."""
    try:
        re.compile(pattern)
    except re.error as error:
        yield f"pattern is no regular expression: {error}"
