"""Compiled readers from JSON to the arguments of messages.

https://protobuf.dev/programming-guides/json/

A reader returns the arguments of a message's constructor, nested in the same way, so that path
and query can be added. All violations are collected.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding.errors import InvalidValueError, UnknownNameError, Violations
from sidecar.transcoding.fields import map_entry_of
from sidecar.transcoding.protojson.any_reader import AnyReader
from sidecar.transcoding.protojson.containers import Element, Leaf, ListPlan, MapPlan, MessagePlan
from sidecar.transcoding.protojson.location import Location, Read
from sidecar.transcoding.protojson.scalars import NULL_VALUE, scalar_of
from sidecar.transcoding.protojson.well_known import ANY, VALUE, WELL_KNOWN, WRAPPERS, assemble
from sidecar.transcoding.strict_json import JsonValue


class JsonReader:
    """Reads messages and fields of any type. Each type is compiled once.

    `ignore_unknown` skips members that no field has, and names that no value of an enum has.
    `ignore_duplicates` uses the last of several values of a field.
    """

    def __init__(self, *, ignore_unknown: bool = False, ignore_duplicates: bool = False) -> None:
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates
        # Not keyed by name: another pool may have another type of the same name.
        self._plans: dict[Descriptor, MessagePlan] = {}
        self._incomplete: list[Descriptor] = []

    def message(self, descriptor: Descriptor) -> Read:
        """Return the reader of a type. For a type in WELL_KNOWN it returns finished messages."""
        return _entry(self._whole(descriptor))

    def field(self, field: FieldDescriptor) -> Read:
        """Return the reader of the value of `field`, also of a list or map.

        It reads null as None, unless null is a value of the field.
        """
        element = self._complete(self._field(field))
        read = _entry(element)
        if element.takes_null:
            return read
        return lambda value, *at: None if value is None else read(value, *at)

    def _whole(self, descriptor: Descriptor) -> Element:
        element = self._complete(self._message(descriptor))
        return _assembled(element, descriptor)

    def _complete(self, element: Element) -> Element:
        """Compile the types that `element` needs; a loop, because they may form a long chain."""
        while self._incomplete:
            descriptor = self._incomplete.pop()
            for field in descriptor.fields:
                self._plans[descriptor].add(field, self._field(field))
        return element

    def _field(self, field: FieldDescriptor) -> Element:
        entry = map_entry_of(field)
        if entry is not None:
            read_key = scalar_of(entry.fields_by_name["key"]).read_text
            values = self._element(entry.fields_by_name["value"])
            if entry.fields_by_name["value"].message_type is not None:
                # In a map, protobuf accepts no dictionaries and lists for Struct and ListValue.
                values = _assembled(values, entry.fields_by_name["value"].message_type)
            return _container(MapPlan(field.json_name, read_key, values))
        if field.is_repeated:
            return _container(ListPlan(field.json_name, self._element(field)))
        return self._element(field)

    def _element(self, field: FieldDescriptor) -> Element:
        if field.message_type is not None:
            return self._message(field.message_type)
        is_null = field.enum_type is not None and field.enum_type.full_name == NULL_VALUE
        return self._leaf(scalar_of(field).read, takes_null=is_null)

    def _message(self, descriptor: Descriptor) -> Element:
        name = descriptor.full_name
        if name in WRAPPERS:
            wrapped = scalar_of(descriptor.fields_by_name["value"])
            return self._leaf(lambda value: {"value": wrapped.read(value)})
        if name in WELL_KNOWN:
            read = WELL_KNOWN[name].read
            if WELL_KNOWN[name].is_text:
                return self._leaf(lambda value: read(value, 0))
            return _at_depth(read, takes_null=name == VALUE)
        if name == ANY:
            return _container(AnyReader(self._whole, descriptor.file.pool))
        return _container(self._plan(descriptor))

    def _plan(self, descriptor: Descriptor) -> MessagePlan:
        plan = self._plans.get(descriptor)
        if plan is None:
            plan = MessagePlan(self._ignore_unknown, self._ignore_duplicates)
            self._plans[descriptor] = plan
            self._incomplete.append(descriptor)
        return plan

    def _leaf(self, read: Leaf, *, takes_null: bool = False) -> Element:
        def read_at(value: JsonValue, location: Location, violations: Violations) -> object:
            try:
                return read(value)
            except InvalidValueError as error:
                if not (self._ignore_unknown and isinstance(error, UnknownNameError)):
                    violations.append(location.violation(error))
                return None

        return Element(
            leaf=read,
            read_valid=lambda value, _depth: read(value),
            read=read_at,
            takes_null=takes_null,
        )


def _container(plan: MessagePlan | ListPlan | MapPlan | AnyReader) -> Element:
    return Element(read_valid=plan.read_valid, read=plan.read)


def _entry(element: Element) -> Read:
    """Return a reader that tries `read_valid`, and finds the violations by `read` if that fails."""
    read_valid, read = element.read_valid, element.read

    def read_at(value: JsonValue, location: Location, violations: Violations) -> Any:
        try:
            return read_valid(value, location.depth)
        except InvalidValueError:
            return read(value, location, violations)

    return read_at


def _assembled(element: Element, descriptor: Descriptor) -> Element:
    """Return a reader of finished messages for a type in WELL_KNOWN, or else `element`."""
    if descriptor.full_name not in WELL_KNOWN:
        return element
    make, read_valid = GetMessageClass(descriptor), element.read_valid

    def read_message(value: JsonValue, location: Location, violations: Violations) -> Any:
        count, arguments = len(violations), element.read(value, location, violations)
        return assemble(make, arguments) if len(violations) == count else None

    return Element(
        read_valid=lambda value, depth: assemble(make, read_valid(value, depth)),
        read=read_message,
        takes_null=element.takes_null,
    )


def _at_depth(read: Callable[[JsonValue, int], Any], *, takes_null: bool) -> Element:
    """Return the readers of a well-known type, whose `read` takes the depth of its messages."""

    def read_at(value: JsonValue, location: Location, violations: Violations) -> object:
        try:
            return read(value, location.depth + 1)
        except InvalidValueError as error:
            violations.append(location.violation(error))
            return None

    return Element(
        read_valid=lambda value, depth: read(value, depth + 1), read=read_at, takes_null=takes_null
    )
