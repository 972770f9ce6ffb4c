"""From JSON to what makes a message, by plans that are compiled once for each type.

https://protobuf.dev/programming-guides/json/

What is read is not yet a message but the arguments of its constructor, nested
in the same way, so that path and query can be added. Every fault is collected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding.any_reader import AnyReader
from sidecar.transcoding.errors import Fault, Faults
from sidecar.transcoding.fields import Rivals, find_rival, map_entry_of, rivals_of
from sidecar.transcoding.place import Arguments, Place, Read
from sidecar.transcoding.scalars import NULL_VALUE, UnfitError, UnknownNameError, scalar_of
from sidecar.transcoding.strict_json import JsonObject, JsonValue, is_array
from sidecar.transcoding.well_known import ANY, VALUE, WELL_KNOWN, WRAPPERS, assemble

_Leaf: TypeAlias = Callable[[JsonValue], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Element:
    """How one value is read: `read` takes any, and tells of its faults.

    `leaf` is a faster way for values without others in them; it raises UnfitError,
    and what it refuses is for `read` to judge.
    """

    leaf: _Leaf | None = None
    read: Read
    takes_null: bool = False

    def take(self, value: JsonValue, place: Place, faults: Faults) -> Any:
        """Read an element of a list or map, where null is no value."""
        if value is None and not self.takes_null:
            faults.append(place.fault("must not be null"))
            return None
        return self.read(value, place, faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A field of a message, and how its value is read."""

    name: str
    json_name: str
    rivals: Rivals
    element: _Element

    def at(self, place: Place) -> Place:
        """Return its place in the object at `place`."""
        return Place(place, self.json_name, self.json_name)


class JsonReader:
    """Reads messages and fields of any type. Each type is compiled once.

    `ignore_unknown` passes over members that no field has, and over the names of
    enum values that no enum has; `ignore_duplicates` lets the last value count of
    a field that is given several.
    """

    def __init__(self, *, ignore_unknown: bool = False, ignore_duplicates: bool = False) -> None:
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates
        # Not by their names: another pool may have another type of the same name.
        self._plans: dict[Descriptor, _MessagePlan] = {}
        self._incomplete: list[Descriptor] = []

    def message(self, descriptor: Descriptor) -> Read:
        """Return what reads a message of any type; one of a well-known type is made already."""
        read = self._complete(self._message(descriptor)).read
        if descriptor.full_name not in WELL_KNOWN:
            return read
        make = GetMessageClass(descriptor)

        def read_message(value: JsonValue, place: Place, faults: Faults) -> Any:
            count, made = len(faults), read(value, place, faults)
            return assemble(make, made) if len(faults) == count else make()

        return read_message

    def field(self, field: FieldDescriptor) -> Read:
        """Return what reads the value of `field`, be it one, a list or a map; null is None."""
        element = self._complete(self._field(field))
        if element.takes_null:
            return element.read
        return lambda value, *at: None if value is None else element.read(value, *at)

    def _complete(self, element: _Element) -> _Element:
        """Compile the types that `element` needs: one by one, for they may form a long chain."""
        while self._incomplete:
            descriptor = self._incomplete.pop()
            for field in descriptor.fields:
                self._plans[descriptor].add(field, self._field(field))
        return element

    def _field(self, field: FieldDescriptor) -> _Element:
        entry = map_entry_of(field)
        if entry is not None:
            read_key = scalar_of(entry.fields_by_name["key"]).read_text
            values = self._element(entry.fields_by_name["value"])
            return _Element(read=_MapPlan(field.json_name, read_key, values).read)
        if field.is_repeated:
            return _Element(read=_ListPlan(field.json_name, self._element(field)).read)
        return self._element(field)

    def _element(self, field: FieldDescriptor) -> _Element:
        if field.message_type is not None:
            return self._message(field.message_type)
        is_null = field.enum_type is not None and field.enum_type.full_name == NULL_VALUE
        return self._leaf(scalar_of(field).read, takes_null=is_null)

    def _message(self, descriptor: Descriptor) -> _Element:
        name = descriptor.full_name
        if name in WRAPPERS:
            wrapped = scalar_of(descriptor.fields_by_name["value"])
            return self._leaf(lambda value: {"value": wrapped.read(value)})
        if name in WELL_KNOWN:
            read = WELL_KNOWN[name].read
            if WELL_KNOWN[name].is_text:
                return self._leaf(lambda value: read(value, 0))
            return _Element(read=_at_depth(read), takes_null=name == VALUE)
        if name == ANY:
            return _Element(read=AnyReader(self.message, descriptor.file.pool).read)
        return _Element(read=self._plan(descriptor).read)

    def _plan(self, descriptor: Descriptor) -> "_MessagePlan":
        plan = self._plans.get(descriptor)
        if plan is None:
            plan = _MessagePlan(self._ignore_unknown, self._ignore_duplicates)
            self._plans[descriptor] = plan
            self._incomplete.append(descriptor)
        return plan

    def _leaf(self, read: _Leaf, *, takes_null: bool = False) -> _Element:
        def read_at(value: JsonValue, place: Place, faults: Faults) -> object:
            try:
                return read(value)
            except UnfitError as error:
                if not (self._ignore_unknown and isinstance(error, UnknownNameError)):
                    faults.append(place.fault(error))
                return None

        return _Element(leaf=read, read=read_at, takes_null=takes_null)


def _at_depth(read: Callable[[JsonValue, int], Any]) -> Read:
    def read_at(value: JsonValue, place: Place, faults: Faults) -> object:
        try:
            return read(value, place.depth + 1)
        except UnfitError as error:
            faults.append(place.fault(error))
            return None

    return read_at


class _MessagePlan:
    """Reads an object as the arguments of a message."""

    def __init__(self, ignore_unknown: bool, ignore_duplicates: bool) -> None:
        # JSON name and proto name are two names of one field.
        self._members: dict[str, _Member] = {}
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates

    def add(self, field: FieldDescriptor, element: _Element) -> None:
        member = _Member(
            name=field.name, json_name=field.json_name, rivals=rivals_of(field), element=element
        )
        self._members.setdefault(field.name, member)
        self._members[field.json_name] = member

    def read(self, value: JsonValue, place: Place, faults: Faults) -> Arguments:
        if not isinstance(value, JsonObject):
            faults.append(place.fault("must be a JSON object"))
            return {}
        made: Arguments = {}
        find = self._members.get
        for name, given in value:
            member = find(name)
            if member is None:
                faults.extend(self._unknown(name, place))
                continue
            field, element = member.name, member.element
            if field in made or member.rivals:
                faults.extend(map(member.at(place).fault, self._conflicts(member, given, made)))
            if given is None and not element.takes_null:
                made[field] = None  # which its constructor takes for nothing
                continue
            if element.leaf is not None:
                try:
                    made[field] = element.leaf(given)
                    continue
                except UnfitError:
                    pass  # it is read again, with its place
            made[field] = element.read(given, member.at(place), faults)
        return made

    def _unknown(self, name: str, place: Place) -> Iterator[Fault]:
        if not self._ignore_unknown:
            detail = f"{place.subject} has a member that no field has."
            yield Fault(detail=detail, pointer=place.told(name, "").pointer)

    def _conflicts(self, member: _Member, given: JsonValue, made: Arguments) -> Iterator[str]:
        if member.name in made and not self._ignore_duplicates:
            yield "must be given once only"
        rival = find_rival(member.rivals, made)
        if rival and (given is not None or member.element.takes_null):
            yield f"must not be given together with {rival}"


class _ListPlan:
    """Reads a list, element by element."""

    def __init__(self, name: str, element: _Element) -> None:
        self._subject = f"An element of {name}"
        self._element = element

    def read(self, value: JsonValue, place: Place, faults: Faults) -> list[Any]:
        if not is_array(value):
            faults.append(place.fault("must be a list"))
            return []
        leaf, take = self._element.leaf, self._element.take
        if leaf is not None:
            try:
                return [leaf(element) for element in value]
            except UnfitError:
                pass  # each is read again, with its place
        made = (
            take(element, Place(place, index, self._subject), faults)
            for index, element in enumerate(value)
        )
        return [element for element in made if element is not None]


class _MapPlan:
    """Reads an object as the entries of a map."""

    def __init__(self, name: str, read_key: Callable[[str], object], element: _Element) -> None:
        self._name = name
        self._read_key = read_key
        self._element = element

    def read(self, value: JsonValue, place: Place, faults: Faults) -> dict[Any, Any]:
        if not isinstance(value, JsonObject):
            faults.append(place.fault("must be a JSON object"))
            return {}
        made: dict[Any, Any] = {}
        for name, given in value:
            try:
                key = self._read_key(name)
            except UnfitError as error:
                faults.append(place.told(name, f"A key of {self._name}").fault(error))
                continue
            entry = place.told(name, f"A value of {self._name}")
            if key in made:
                faults.append(entry.fault("has a key that was given before"))
            made[key] = self._element.take(given, entry, faults)
        return {key: element for key, element in made.items() if element is not None}
