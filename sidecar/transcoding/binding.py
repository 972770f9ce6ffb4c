"""Binding of the path, query and body of a request to the message of its call.

google/api/http.proto: each scalar field of the message is set by one of the three.

* The path sets the fields of its template.
* The body sets what the rule says: one field, all remaining fields, or none.
* The query sets the rest.

A value in the wrong place is refused. Otherwise a proxy that checks the path could pass a
request whose body or query changes the value that it checked.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding.body import Body, Content
from sidecar.transcoding.errors import (
    InvalidValueError,
    MalformedRequestError,
    Violation,
    Violations,
)
from sidecar.transcoding.fields import find_rival, map_entry_of
from sidecar.transcoding.parameters import (
    Parameter,
    ParameterReader,
    Parameters,
    asks_enum_numbers,
    find,
    label,
    parse_query,
    text_reader,
)
from sidecar.transcoding.protojson.location import Arguments, is_shown
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.rules import Rule

# JSON names, map keys and list indexes. None is a key that must not be shown.
_Names: TypeAlias = Sequence[str | None]


class Binder:
    """Builds the messages of requests by one rule. `body` is the part that their body sets."""

    def __init__(self, rule: Rule, json: JsonReader, parameters: ParameterReader) -> None:
        """Prepare for `rule`; `json` and `parameters` compile its types."""
        descriptor = rule.method.input_type
        self._make: type[Message] = GetMessageClass(descriptor)
        self._reader = parameters
        self._fields = parameters.fields(descriptor)
        self._variables = [_Variable(self._fields, path) for path in rule.variables]
        self.body = Body(rule, json, parameters)

    def bind(self, variables: Sequence[str], query: str, content: Content) -> Message:
        """Return the message for the texts of the path, the raw query and the body.

        Raises MalformedRequestError with the violations in all three, at most 100. Missing
        required fields (proto2) come in a second pass: only if there is no other violation.
        """
        violations = Violations()
        values = [
            variable.read(text, violations)
            for variable, text in zip(self._variables, variables, strict=True)
        ]
        queried = self._read_query(query, violations)
        arguments = self._read_body(content, violations)
        rival = self.body.find_rival(arguments, queried)
        if rival is not None:
            violations.append(_in_query(rival, "must not be given together with the body"))
        if violations:
            raise MalformedRequestError.of(violations)
        message = self._merge(arguments, queried, values)
        violations.extend(map(self._missing, _uninitialized(message)))
        if violations:
            raise MalformedRequestError.of(violations)
        return message

    def asks_enum_numbers(self, query: str) -> bool:
        """Whether the raw `query`, which was bound without violations, asks for enum numbers."""
        return asks_enum_numbers(self._fields, query)

    def _read_query(self, query: str, violations: Violations) -> Arguments:
        pairs = []
        for name, text in parse_query(query, violations):
            violation = self._refuse(name)
            if violation is None:
                pairs.append((name, text))
            else:
                violations.append(violation)
        others = self._reader.without_system(self._fields, pairs, violations, _in_query)
        queried = self._reader.read(self._fields, others, violations, _in_query)
        for variable, names in self._conflicts(queried):
            violations.append(_in_query(".".join(names), f"must not be given with {variable}"))
        return queried

    def _refuse(self, name: str) -> Violation | None:
        """Return the violation if the path or the body must set the field `name`, else None."""
        field = self._fields.get(name.partition(".")[0])
        if field is None:
            return None
        chain = find(self._fields, name)
        dotted_name = label(chain) if chain else field.json_name
        if any(variable.label == dotted_name for variable in self._variables):
            return _parameter_violation(dotted_name, "must not be in the query; the path gives it")
        if self.body.owns(field.name):
            return _parameter_violation(
                dotted_name, "must not be in the query; send it in the body"
            )
        return None

    def _read_body(self, content: Content, violations: Violations) -> Any:
        arguments = self.body.read(content, violations)
        for variable, names in self._conflicts(arguments):
            predicate = f"must not be in the body; the path gives {variable}"
            violations.append(self.body.location(names).violation(predicate))
        return arguments

    def _conflicts(self, arguments: Any) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield each path variable that conflicts with `arguments`: its name, and where.

        Where is the field in `arguments` that `_Variable.find_in` returns.
        """
        for variable in self._variables:
            names = variable.find_in(arguments)
            if names is not None:
                yield variable.label, names

    def _missing(self, names: _Names) -> Violation:
        """Return the violation of a missing required field; only proto2 has such fields."""
        if self.body.owns(self._fields[names[0] or ""].name):
            return self.body.location(names).violation("must be given")
        return _parameter_violation(".".join(filter(None, names)), "must be given")

    def _merge(self, arguments: Any, queried: Arguments, values: Sequence[object]) -> Message:
        if isinstance(arguments, Message):
            return arguments
        arguments |= queried  # `_refuse` has refused fields of the body in the query
        for variable, value in zip(self._variables, values, strict=True):
            variable.put(arguments, value)
        return self._make(**arguments)


class _Variable:
    """A path variable: sets one field of the message, to which a chain of fields leads."""

    def __init__(self, fields: Parameters, path: Sequence[FieldDescriptor]) -> None:
        self._chain: list[Parameter] = []
        for field in path:
            # The keys are no help: the key that is this proto name may be the JSON name of
            # another field.
            self._chain.append(next(each for each in fields.values() if each.name == field.name))
            fields = self._chain[-1].fields
        self.label = label(self._chain)
        self._read = text_reader(path[-1])

    def read(self, text: str, violations: Violations) -> object:
        """Return the value of `text`. If it is invalid, add to `violations` and return None."""
        try:
            return self._read(text, len(self._chain) + 1)
        except InvalidValueError as error:
            violations.append(Violation(detail=f"{self.label} in the path {error}."))
            return None

    def put(self, arguments: Arguments, value: object) -> None:
        """Set the field to `value` in the arguments of the message."""
        *parents, leaf = self._chain
        for parent in parents:
            if arguments.get(parent.name) is None:  # null in a body is an absent field
                arguments[parent.name] = {}
            arguments = arguments[parent.name]
        arguments[leaf.name] = value

    def find_in(self, arguments: Any) -> Sequence[str] | None:
        """Return the JSON names that lead to a conflicting field in `arguments`, or None.

        The field of this variable conflicts. So does another field of a oneof that the field,
        or a message around it, is in.
        """
        names: list[str] = []
        for field in self._chain:
            rival = find_rival(field.rivals, arguments)
            if rival is not None:
                return [*names, rival]
            arguments = arguments.get(field.name)
            if arguments is None:
                return None
            names.append(field.json_name)
        return names


def _in_query(name: str | None, predicate: str) -> Violation:
    return Violation(detail=f"{name or 'A parameter'} in the query {predicate}.", parameter=name)


def _parameter_violation(name: str, predicate: str) -> Violation:
    return Violation(detail=f"{name} {predicate}.", parameter=name)


def _uninitialized(message: Message, names: _Names = ()) -> Iterator[_Names]:
    """Yield, for each missing required field, the JSON names that lead to it."""
    type_ = type(message)  # a field of the message may have the name of any of its methods
    if type_.IsInitialized(message):
        return
    for field in type_.DESCRIPTOR.fields:
        if field.is_required and not type_.HasField(message, field.name):
            yield (*names, field.json_name)
    for field, value in type_.ListFields(message):
        if field.message_type is not None:
            for token, inner in _messages(field, value):
                yield from _uninitialized(inner, (*names, field.json_name, *token))


def _messages(field: FieldDescriptor, value: Any) -> Iterator[tuple[_Names, Message]]:
    """Yield each message in `value`, the value of `field`, after its map key or list index.

    For a singular field there is neither, and the names are empty.
    """
    entry = map_entry_of(field)
    if entry is not None:
        has_messages = entry.fields_by_name["value"].message_type is not None
        shown = ((str(key) if is_shown(str(key)) else None, key) for key in value if has_messages)
        yield from (((token,), value[key]) for token, key in shown)
    elif field.is_repeated:
        yield from (((str(index),), inner) for index, inner in enumerate(value))
    else:
        yield (), value
