"""From names and texts to what makes a message: parameters of queries and forms.

google/api/http.proto: a name is the path of a field, with a dot between fields;
a repeated field is given by repeating its name. What has no text cannot be given
so: maps, lists of messages, and messages otherwise than by their fields.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sidecar.transcoding.errors import InvalidValueError, Violation, Violations
from sidecar.transcoding.fields import Rivals, find_rival, rivals_of
from sidecar.transcoding.protojson.location import Arguments, is_shown
from sidecar.transcoding.protojson.scalars import scalar_of
from sidecar.transcoding.protojson.structs import MAX_DEPTH
from sidecar.transcoding.protojson.well_known import WELL_KNOWN, has_text, parent_type

# From a text, and how many messages there are down to its own. Raises InvalidValueError.
ReadText: TypeAlias = Callable[[str, int], Any]
# From the dotted name of a field, and what is wrong, to the fault. Without a name for
# one that a client made up and that must not be shown to it again.
Report: TypeAlias = Callable[[str | None, str], Violation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A field by its name. `read` reads its text; one that has none may have `fields` instead."""

    name: str
    json_name: str
    is_repeated: bool
    rivals: Rivals
    read: ReadText | None
    fields: "Parameters"


Parameters: TypeAlias = dict[str, Parameter]


def label(chain: Sequence[Parameter]) -> str:
    """Return the dotted name of the field at the end of `chain`."""
    return ".".join(parameter.json_name for parameter in chain)


class ParameterReader:
    """Reads parameters as messages of any type. Each type is compiled once.

    `ignore_unknown` passes over names that no field has; `ignore_duplicates` lets
    the last value count of a singular field that is given several.
    """

    def __init__(self, *, ignore_unknown: bool = False, ignore_duplicates: bool = False) -> None:
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates
        # Not by their names: another pool may have another type of the same name.
        self._types: dict[Descriptor, Parameters] = {}
        self._incomplete: list[Descriptor] = []

    def fields(self, descriptor: Descriptor) -> Parameters:
        """Return the fields of a type by both of their names; a JSON name goes before others."""
        fields = self._fields(descriptor)
        while self._incomplete:  # one by one, for the types may form a long chain
            descriptor = self._incomplete.pop()
            for field in descriptor.fields:
                parameter = self._compile(field)
                self._types[descriptor].setdefault(field.name, parameter)
                self._types[descriptor][field.json_name] = parameter
        return fields

    def _fields(self, descriptor: Descriptor) -> Parameters:
        if descriptor not in self._types:
            self._types[descriptor] = {}
            self._incomplete.append(descriptor)
        return self._types[descriptor]

    def read(
        self,
        fields: Parameters,
        pairs: Iterable[tuple[str, str | None]],
        violations: Violations,
        report: Report,
    ) -> Arguments:
        """Return the arguments of the message that has `fields`; add to `violations`.

        A text is None where it could not be decoded, which matters for a known name only.
        """
        made: Arguments = {}
        for name, text in pairs:
            chain = find(fields, name)
            if chain is None:
                violations.extend(self._unknown(name, report))
                continue
            try:
                self._set(made, chain, text)
            except InvalidValueError as error:
                violations.append(report(label(chain), str(error)))
        return made

    def _unknown(self, name: str, report: Report) -> Iterator[Violation]:
        if not self._ignore_unknown:
            yield report(name if is_shown(name) else None, "must be the name of a field")

    def _set(self, made: Arguments, chain: Sequence[Parameter], text: str | None) -> None:
        *parents, leaf = chain
        if text is None:
            raise InvalidValueError("must hold well-formed percent escapes of UTF-8 only")
        if leaf.read is None:
            raise InvalidValueError(_explain(leaf))
        value = leaf.read(text, len(chain) + 1)
        for parent in parents:
            _check_rivals(parent, made)
            made = made.setdefault(parent.name, {})
        _check_rivals(leaf, made)
        if leaf.is_repeated:
            made.setdefault(leaf.name, []).append(value)
            return
        if leaf.name in made and not self._ignore_duplicates:
            raise InvalidValueError("must be given once only")
        made[leaf.name] = value

    def _compile(self, field: FieldDescriptor) -> Parameter:
        parent = parent_type(field)
        return Parameter(
            name=field.name,
            json_name=field.json_name,
            is_repeated=field.is_repeated,
            rivals=rivals_of(field),
            read=text_reader(field) if has_text(field) else None,
            fields=self._fields(parent) if parent else {},
        )


def find(fields: Parameters, name: str) -> Sequence[Parameter] | None:
    """Return the fields that lead to the one that `name` is the path of, or None without one."""
    names = name.split(".", MAX_DEPTH)
    if len(names) > MAX_DEPTH:
        return None
    chain = []
    for part in names:
        if part not in fields:
            return None
        chain.append(fields[part])
        fields = fields[part].fields
    return chain


def text_reader(field: FieldDescriptor) -> ReadText:
    """Return what reads one value of `field`, which has a text, from that."""
    type_ = field.message_type
    if type_ is None:
        read = scalar_of(field).read_text
        return lambda text, _depth: read(text)
    if type_.full_name in WELL_KNOWN:
        return WELL_KNOWN[type_.full_name].read_text
    wrapped = type_.fields_by_name["value"]
    read = scalar_of(wrapped).read_text
    if wrapped.type == wrapped.TYPE_STRING:
        return lambda text, _depth: {"value": read(text)}
    return lambda text, _depth: {"value": read(_unquote(text))}


def _unquote(text: str) -> str:
    """Take off the quotes that a JSON string has; for most types they are no part of the value."""
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else text


def _check_rivals(parameter: Parameter, made: Arguments) -> None:
    rival = find_rival(parameter.rivals, made)
    if rival is not None:
        raise InvalidValueError(f"must not be given together with {rival}")


def _explain(parameter: Parameter) -> str:
    if parameter.fields:
        return "is a message, of which the fields must be named, after a dot"
    return "cannot be given as a parameter, only in a JSON body"
