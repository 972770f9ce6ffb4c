"""Compiled readers of messages, lists and maps, which return what constructors of protobuf take.

Each has two methods. `read_valid` is for the many values in which nothing is wrong: it is fast
and raises an error at the first violation. `read` then finds all violations and their locations.
Neither calls the other, so that no value is read more than twice, however deep it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from sidecar.transcoding.errors import InvalidValueError, Violation, Violations
from sidecar.transcoding.fields import Rivals, find_rival, rivals_of
from sidecar.transcoding.protojson.location import Arguments, Location, Read, ReadValid
from sidecar.transcoding.strict_json import JsonObject, JsonValue, is_array

# Reads a value that has no others in it. Raises InvalidValueError.
Leaf: TypeAlias = Callable[[JsonValue], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """Readers of one value: `read` takes any value and adds violations.

    `read_valid` and `leaf` are faster. They raise InvalidValueError, perhaps without a text, for a
    value that `read` must then judge. Only values without others in them have a `leaf`.
    `takes_null` says that null is a value.
    """

    leaf: Leaf | None = None
    read_valid: ReadValid
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


# A field as MessagePlan.read_valid needs it: its name, and of its element `leaf`, `read_valid`
# and `takes_null`. It is a tuple, because attributes would take longer.
_ValidMember: TypeAlias = tuple[str, Leaf | None, ReadValid, bool]


class MessagePlan:
    """Reads an object as the arguments of a message."""

    def __init__(self, ignore_unknown: bool, ignore_duplicates: bool) -> None:
        # By JSON name, by proto name, and by the name that a group has in the schema.
        self._members: dict[str, _Member] = {}
        self._valid_members: dict[str, _ValidMember] = {}
        self._oneofs: dict[str, Sequence[str]] = {}  # those of several fields
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
        valid = (field.name, element.leaf, element.read_valid, element.takes_null)
        self._valid_members.setdefault(field.name, valid)
        self._valid_members[field.json_name] = valid
        if field.containing_oneof is not None and member.rivals:
            names = [field.name, *member.rivals]
            self._oneofs.setdefault(field.containing_oneof.name, names)

    def read_valid(self, value: JsonValue, depth: int) -> Arguments:
        """Return the arguments in the object `value`. Raises InvalidValueError."""
        if not isinstance(value, JsonObject):
            raise InvalidValueError
        arguments: Arguments = {}
        members, inner_depth, ignored = self._valid_members, depth + 1, 0
        for name, item in value:
            try:
                field, leaf, read_valid, takes_null = members[name]
            except KeyError:
                if not self._ignore_unknown:
                    raise InvalidValueError from None
                ignored += 1
                continue
            if item is None and not takes_null:
                arguments[field] = None
            elif leaf is not None:
                arguments[field] = leaf(item)
            else:
                arguments[field] = read_valid(item, inner_depth)
        if len(arguments) + ignored < len(value):  # a field was given twice
            raise InvalidValueError
        for names in self._oneofs.values():
            if sum(arguments.get(name) is not None for name in names) > 1:
                raise InvalidValueError
        return arguments

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

    def read_valid(self, value: JsonValue, depth: int) -> list[Any]:
        """Return the elements. Raises InvalidValueError."""
        if not is_array(value):
            raise InvalidValueError
        element = self._element
        if element.leaf is not None:
            return list(map(element.leaf, value))
        read_valid, inner_depth = element.read_valid, depth + 1
        return [read_valid(item, inner_depth) for item in value]

    def read(self, value: JsonValue, location: Location, violations: Violations) -> list[Any]:
        """Return the elements; add to `violations`."""
        if not is_array(value):
            violations.append(location.violation("must be a list"))
            return []
        take = self._element.take
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

    def read_valid(self, value: JsonValue, depth: int) -> dict[Any, Any]:
        """Return the values by key. Raises InvalidValueError."""
        if not isinstance(value, JsonObject):
            raise InvalidValueError
        read_key, read_valid, inner_depth = self._read_key, self._element.read_valid, depth + 1
        entries = {read_key(name): read_valid(item, inner_depth) for name, item in value}
        if len(entries) < len(value):
            raise InvalidValueError
        return entries

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
