"""Compiled readers of messages, lists and maps.

Each reader adds all of its violations, and returns what the constructors of protobuf take.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from sidecar.transcoding.errors import InvalidValueError, Violation, Violations
from sidecar.transcoding.fields import Rivals, find_rival, rivals_of
from sidecar.transcoding.protojson.location import Arguments, Location, Read
from sidecar.transcoding.strict_json import JsonObject, JsonValue, is_array

# Reads a value that has no others in it. Raises InvalidValueError.
Leaf: TypeAlias = Callable[[JsonValue], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """Reader of one value: `read` takes any value and adds violations.

    `leaf` is a faster reader of values without others in them. It raises InvalidValueError for
    a value that `read` must then judge. `takes_null` says that null is a value.
    """

    leaf: Leaf | None = None
    read: Read
    takes_null: bool = False

    def take(self, value: JsonValue, location: Location, violations: Violations) -> Any:
        """Read an element of a list or map, where null is not allowed."""
        if value is None and not self.takes_null:
            violations.append(location.violation("must not be null"))
            return None
        return self.read(value, location, violations)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A field of a message, and the reader of its value."""

    name: str
    json_name: str
    rivals: Rivals
    element: Element

    def at(self, location: Location) -> Location:
        """Return the location of the field in the object at `location`."""
        return Location(location, self.json_name, self.json_name)


class MessagePlan:
    """Reads an object as the arguments of a message."""

    def __init__(self, ignore_unknown: bool, ignore_duplicates: bool) -> None:
        # By JSON name, by proto name, and by the name that a group has in the schema.
        self._members: dict[str, _Member] = {}
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates

    def add(self, field: FieldDescriptor, element: Element) -> None:
        """Add a field whose value `element` reads."""
        member = _Member(
            name=field.name, json_name=field.json_name, rivals=rivals_of(field), element=element
        )
        self._members.setdefault(field.name, member)
        group = field.message_type if field.type == field.TYPE_GROUP else None
        if group is not None and group.name.lower() == field.name:
            # Go writes this name where it writes proto names.
            self._members.setdefault(group.name, member)
        self._members[field.json_name] = member

    def read(self, value: JsonValue, location: Location, violations: Violations) -> Arguments:
        """Return the arguments in the object `value`; add to `violations`."""
        if not isinstance(value, JsonObject):
            violations.append(location.violation("must be a JSON object"))
            return {}
        arguments: Arguments = {}
        find = self._members.get
        for name, item in value:
            member = find(name)
            if member is None:
                violations.extend(self._unknown(name, location))
                continue
            field, element = member.name, member.element
            if field in arguments or member.rivals:
                violations.extend(
                    map(member.at(location).violation, self._conflicts(member, item, arguments))
                )
            if item is None and not element.takes_null:
                arguments[field] = None  # the constructor treats None as an absent field
                continue
            if element.leaf is not None:
                try:
                    arguments[field] = element.leaf(item)
                    continue
                except InvalidValueError:
                    pass  # it is read again, with its location
            arguments[field] = element.read(item, member.at(location), violations)
        return arguments

    def _unknown(self, name: str, location: Location) -> Iterator[Violation]:
        if not self._ignore_unknown:
            detail = f"{location.subject} has a member that is not the name of a field."
            yield Violation(detail=detail, pointer=location.member(name, "").pointer)

    def _conflicts(self, member: _Member, item: JsonValue, arguments: Arguments) -> Iterator[str]:
        if member.name in arguments and not self._ignore_duplicates:
            yield "must be given once only"
        rival = find_rival(member.rivals, arguments)
        if rival and (item is not None or member.element.takes_null):
            yield f"must not be given together with {rival}"


class ListPlan:
    """Reads a list, element by element."""

    def __init__(self, name: str, element: Element) -> None:
        self._subject = f"An element of {name}"
        self._element = element

    def read(self, value: JsonValue, location: Location, violations: Violations) -> list[Any]:
        """Return the elements; add to `violations`."""
        if not is_array(value):
            violations.append(location.violation("must be a list"))
            return []
        leaf, take = self._element.leaf, self._element.take
        if leaf is not None:
            try:
                return [leaf(element) for element in value]
            except InvalidValueError:
                pass  # each is read again, with its location
        elements = (
            take(element, Location(location, index, self._subject), violations)
            for index, element in enumerate(value)
        )
        return [element for element in elements if element is not None]


class MapPlan:
    """Reads an object as the entries of a map."""

    def __init__(self, name: str, read_key: Callable[[str], object], element: Element) -> None:
        self._name = name
        self._read_key = read_key
        self._element = element

    def read(self, value: JsonValue, location: Location, violations: Violations) -> dict[Any, Any]:
        """Return the values by key; add to `violations`."""
        if not isinstance(value, JsonObject):
            violations.append(location.violation("must be a JSON object"))
            return {}
        entries: dict[Any, Any] = {}
        for name, item in value:
            try:
                key = self._read_key(name)
            except InvalidValueError as error:
                violations.append(location.member(name, f"A key of {self._name}").violation(error))
                continue
            entry = location.member(name, f"A value of {self._name}")
            if key in entries:
                violations.append(entry.violation("has a key that was given before"))
            entries[key] = self._element.take(item, entry, violations)
        return {key: element for key, element in entries.items() if element is not None}
