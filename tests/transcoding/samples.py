"""Random messages of any type, as the arguments that protobuf makes them of."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st

Strategy: TypeAlias = st.SearchStrategy[Any]

characters = st.characters(exclude_categories=["Cs"])
nanos = st.integers(0, 999_999_999)
numbers = st.floats(allow_nan=False, allow_infinity=False)
int64s = st.integers(-(2**63), 2**63 - 1)
moods = st.integers(0, 3)  # the last has no name
KINDS: Mapping[int, Strategy] = {
    # There is one NaN in JSON, and many in memory.
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False) | st.just(math.nan),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(allow_nan=False, width=32) | st.just(math.nan),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: int64s,
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: moods,
}
NULL, WRAPPERS = "google.protobuf.NullValue", "google/protobuf/wrappers.proto"
values: Strategy = st.recursive(
    st.one_of(
        st.just({"null_value": 0}),
        numbers.map(lambda number: {"number_value": number}),
        st.text(characters).map(lambda text: {"string_value": text}),
        st.booleans().map(lambda value: {"bool_value": value}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda made: {"list_value": {"values": made}}),
        st.dictionaries(st.text(characters), inner, max_size=2).map(
            lambda made: {"struct_value": {"fields": made}}
        ),
    ),
    max_leaves=4,
)
# The well-known types that are text in JSON, and those that are not.
TEXTS: Mapping[str, Strategy] = {
    "google.protobuf.Timestamp": st.fixed_dictionaries(
        {"seconds": st.integers(-62_135_596_800, 253_402_300_799), "nanos": nanos}
    ),
    "google.protobuf.Duration": st.builds(
        lambda sign, seconds, nanos: {"seconds": sign * seconds, "nanos": sign * nanos},
        st.sampled_from([1, -1]),
        st.integers(0, 315_576_000_000),
        nanos,
    ),
    "google.protobuf.FieldMask": st.lists(
        st.sampled_from(["a", "name", "shelf.shelf_code", "a_b_c"]), max_size=3
    ).map(lambda paths: {"paths": paths}),
}
TREES: Mapping[str, Strategy] = {
    "google.protobuf.Value": values,
    "google.protobuf.ListValue": st.lists(values, max_size=2).map(lambda made: {"values": made}),
    "google.protobuf.Struct": st.dictionaries(st.text(characters), values, max_size=2).map(
        lambda made: {"fields": made}
    ),
    "google.protobuf.Any": st.integers(0, 9).map(
        lambda seconds: {
            "type_url": "type.googleapis.com/google.protobuf.Duration",
            "value": Duration(seconds=seconds).SerializeToString(),
        }
    ),
}


def has_text(field: FieldDescriptor) -> bool:
    """Whether a query can have the field, or fields of it; the client leaves out what is null."""
    type_ = field.message_type
    if type_ is None:
        return not is_null(field)
    if type_.full_name in TEXTS or type_.file.name == WRAPPERS:
        return True
    return not field.is_repeated and type_.full_name not in TREES and bool(type_.fields)


def is_null(field: FieldDescriptor) -> bool:
    """Whether null is the only value of the field."""
    return field.enum_type is not None and field.enum_type.full_name == NULL


def arguments(type_: Descriptor, *, depth: int = 3, in_query: bool = False) -> Strategy:
    """Return what makes the arguments of messages, all of which a query can have if need be."""
    known = {**TEXTS, **TREES}.get(type_.full_name)
    if known is not None:
        return known
    fields = [
        field
        for field in type_.fields
        if (depth or field.message_type is None) and (has_text(field) or not in_query)
    ]
    chosen = st.lists(st.sampled_from(fields), max_size=4, unique=True) if fields else st.just([])
    return chosen.flatmap(
        lambda some: st.fixed_dictionaries(
            {field.name: _field(field, depth=depth - 1, in_query=in_query) for field in some}
        )
    )


def _field(field: FieldDescriptor, *, depth: int, in_query: bool) -> Strategy:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key = _one(entry.fields_by_name["key"], depth=depth, in_query=in_query)
        value = _one(entry.fields_by_name["value"], depth=depth, in_query=in_query)
        return st.dictionaries(key, value, max_size=2)
    one = _one(field, depth=depth, in_query=in_query)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _one(field: FieldDescriptor, *, depth: int, in_query: bool) -> Strategy:
    if field.message_type is not None:
        return arguments(field.message_type, depth=max(depth, 0), in_query=in_query)
    if field.type == field.TYPE_STRING:
        return st.text(characters, max_size=8)
    return st.just(0) if is_null(field) else KINDS.get(field.cpp_type, st.binary(max_size=8))
