"""How values of JSON are read that have others in them: messages, lists and maps.

Each tells all of its faults, and returns what the constructors of protobuf take.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from sidecar.transcoding.errors import InvalidValueError, Violation, Violations
from sidecar.transcoding.fields import Rivals, find_rival, rivals_of
from sidecar.transcoding.protojson.location import Arguments, Location, Read
from sidecar.transcoding.strict_json import JsonObject, JsonValue, is_array

# Raises InvalidValueError.
Leaf: TypeAlias = Callable[[JsonValue], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """How one value is read: `read` takes any, and tells of its faults.

    `leaf` is a faster way for values without others in them; it raises InvalidValueError,
    and what it refuses is for `read` to judge.
    """

    leaf: Leaf | None = None
    read: Read
    takes_null: bool = False

    def take(self, value: JsonValue, location: Location, violations: Violations) -> Any:
        """Read an element of a list or map, where null is no value."""
        if value is None and not self.takes_null:
            violations.append(location.violation("must not be null"))
            return None
        return self.read(value, location, violations)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A field of a message, and how its value is read."""

    name: str
    json_name: str
    rivals: Rivals
    element: Element

    def at(self, location: Location) -> Location:
        """Return its place in the object at `location`."""
        return Location(location, self.json_name, self.json_name)


class MessagePlan:
    """Reads an object as the arguments of a message."""

    def __init__(self, ignore_unknown: bool, ignore_duplicates: bool) -> None:
        # JSON name and proto name are two names of one field.
        self._members: dict[str, _Member] = {}
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates

    def add(self, field: FieldDescriptor, element: Element) -> None:
        """Add a field, whose value `element` reads."""
        member = _Member(
            name=field.name, json_name=field.json_name, rivals=rivals_of(field), element=element
        )
        self._members.setdefault(field.name, member)
        self._members[field.json_name] = member

    def read(self, value: JsonValue, location: Location, violations: Violations) -> Arguments:
        """Return the arguments that the object `value` stands for."""
        if not isinstance(value, JsonObject):
            violations.append(location.violation("must be a JSON object"))
            return {}
        made: Arguments = {}
        find = self._members.get
        for name, given in value:
            member = find(name)
            if member is None:
                violations.extend(self._unknown(name, location))
                continue
            field, element = member.name, member.element
            if field in made or member.rivals:
                violations.extend(
                    map(member.at(location).violation, self._conflicts(member, given, made))
                )
            if given is None and not element.takes_null:
                made[field] = None  # which its constructor takes for nothing
                continue
            if element.leaf is not None:
                try:
                    made[field] = element.leaf(given)
                    continue
                except InvalidValueError:
                    pass  # it is read again, with its place
            made[field] = element.read(given, member.at(location), violations)
        return made

    def _unknown(self, name: str, location: Location) -> Iterator[Violation]:
        if not self._ignore_unknown:
            detail = f"{location.subject} has a member that is not the name of a field."
            yield Violation(detail=detail, pointer=location.member(name, "").pointer)

    def _conflicts(self, member: _Member, given: JsonValue, made: Arguments) -> Iterator[str]:
        if member.name in made and not self._ignore_duplicates:
            yield "must be given once only"
        rival = find_rival(member.rivals, made)
        if rival and (given is not None or member.element.takes_null):
            yield f"must not be given together with {rival}"


class ListPlan:
    """Reads a list, element by element."""

    def __init__(self, name: str, element: Element) -> None:
        self._subject = f"An element of {name}"
        self._element = element

    def read(self, value: JsonValue, location: Location, violations: Violations) -> list[Any]:
        """Return the elements."""
        if not is_array(value):
            violations.append(location.violation("must be a list"))
            return []
        leaf, take = self._element.leaf, self._element.take
        if leaf is not None:
            try:
                return [leaf(element) for element in value]
            except InvalidValueError:
                pass  # each is read again, with its place
        made = (
            take(element, Location(location, index, self._subject), violations)
            for index, element in enumerate(value)
        )
        return [element for element in made if element is not None]


class MapPlan:
    """Reads an object as the entries of a map."""

    def __init__(self, name: str, read_key: Callable[[str], object], element: Element) -> None:
        self._name = name
        self._read_key = read_key
        self._element = element

    def read(self, value: JsonValue, location: Location, violations: Violations) -> dict[Any, Any]:
        """Return the values by their keys."""
        if not isinstance(value, JsonObject):
            violations.append(location.violation("must be a JSON object"))
            return {}
        made: dict[Any, Any] = {}
        for name, given in value:
            try:
                key = self._read_key(name)
            except InvalidValueError as error:
                violations.append(location.member(name, f"A key of {self._name}").violation(error))
                continue
            entry = location.member(name, f"A value of {self._name}")
            if key in made:
                violations.append(entry.violation("has a key that was given before"))
            made[key] = self._element.take(given, entry, violations)
        return {key: element for key, element in made.items() if element is not None}
