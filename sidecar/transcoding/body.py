"""Request bodies: the kind that a rule allows, and the fields that a body sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

from sidecar.transcoding.errors import Violation, Violations
from sidecar.transcoding.fields import find_rival, is_http_body, message_of, rivals_of
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.location import Arguments, Location
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.well_known import has_own_json
from sidecar.transcoding.rules import Rule
from sidecar.transcoding.strict_json import JsonValue


class Shape(Enum):
    """Allowed kind of body: nothing, an object, another JSON value, or any bytes."""

    NOTHING = auto()
    OBJECT = auto()
    VALUE = auto()
    RAW = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Json:
    """A JSON body."""

    value: JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form body, as its names and values."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A body that is passed on unchanged, with the media type of the request."""

    content_type: str
    data: bytes


# None means that the request has no body.
Content: TypeAlias = Json | Form | Raw | None


class Body:
    """The part of the message that a rule's body sets: nothing, one field, or all of it.

    `shape` is the allowed kind of body; it decides on the reader.
    """

    def __init__(self, rule: Rule, json: JsonReader, parameters: ParameterReader) -> None:
        """Prepare for `rule`; `json` and `parameters` compile its types."""
        message = rule.method.input_type
        self._field = rule.body[0] if rule.body else None
        self._location = Location(depth=1 if self._field else 0)
        self._rivals = rivals_of(self._field) if self._field else {}
        self._is_whole = rule.body == ()
        self._read_json = json.field(self._field) if self._field else json.message(message)
        self._parameters = parameters
        target = message_of(self._field or message)
        self._names = parameters.fields(target) if target else {}
        self.shape = shape_of(rule)

    def owns(self, name: str) -> bool:
        """Whether the field `name` of the message is set by the body only."""
        return self._is_whole or (self._field is not None and self._field.name == name)

    def read(self, content: Content, violations: Violations) -> Any:
        """Return the arguments of the message, or the message itself; add to `violations`."""
        if content is None:
            return {}
        value = self._read(content, violations)
        return {self._field.name: value} if self._field else value

    def find_rival(self, arguments: Any, queried: Arguments) -> str | None:
        """Return the JSON name of a field in the query that excludes the body's field, or None."""
        is_given = self._field is not None and arguments.get(self._field.name) is not None
        return find_rival(self._rivals, queried) if is_given else None

    def location(self, names: Sequence[str | None]) -> Location:
        """Return the location in the body of the field that `names` lead to in the message.

        `names` are JSON names; None stands for one that must not be shown.
        """
        location = self._location
        for name in names[1:] if self._field else names:
            location = Location(location, name, name or "")
        return location

    def _read(self, content: Json | Form | Raw, violations: Violations) -> Any:
        if isinstance(content, Json):
            return self._read_json(content.value, self._location, violations)
        if isinstance(content, Form):
            return self._parameters.read(self._names, content.pairs, violations, _in_form)
        return {"content_type": content.content_type, "data": content.data}


def shape_of(rule: Rule) -> Shape:
    """Return the kind of body that `rule` allows."""
    if rule.body is None:
        return Shape.NOTHING
    target = message_of(rule.body[0] if rule.body else rule.method.input_type)
    if target is None or has_own_json(target):
        return Shape.VALUE
    return Shape.RAW if is_http_body(target) else Shape.OBJECT


def _in_form(name: str | None, predicate: str) -> Violation:
    if name is None:
        return Location(subject="A parameter").violation(predicate)
    location = Location()
    for part in name.split("."):
        location = Location(location, part, name)
    return location.violation(predicate)
