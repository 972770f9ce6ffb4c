"""Parameters of queries and forms, read as fields of a message.

google/api/http.proto: the name of a parameter is the path of a field, with a dot between
fields. A repeated field is given by repeating the parameter. Maps, lists of messages and whole
messages have no text, so they cannot be parameters; the fields of a message can.

Names in a query that begin with $ and are no fields are system parameters
(https://cloud.google.com/apis/docs/system-parameters), which the clients that Google generates
send. They are ignored, except $alt, the format of the response.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sidecar.transcoding.errors import InvalidValueError, Violation, Violations
from sidecar.transcoding.fields import Rivals, find_rival, rivals_of
from sidecar.transcoding.percent import decode_form
from sidecar.transcoding.protojson.location import Arguments, is_shown
from sidecar.transcoding.protojson.scalars import scalar_of
from sidecar.transcoding.protojson.structs import MAX_DEPTH
from sidecar.transcoding.protojson.well_known import WELL_KNOWN, has_text, parent_type

# Takes a text and its depth, and returns a value. The depth is the number of messages from the
# outermost to that of the value. Raises InvalidValueError.
ReadText: TypeAlias = Callable[[str, int], Any]
# Takes the dotted name of a field and a predicate, and returns the violation. The name is None if
# it is the client's own and must not be shown.
Report: TypeAlias = Callable[[str | None, str], Violation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A field by its name. `read` reads its text; a field without a text may have `fields`."""

    name: str
    json_name: str
    is_repeated: bool
    rivals: Rivals
    read: ReadText | None
    fields: "Parameters"


Parameters: TypeAlias = dict[str, Parameter]


def label(chain: Sequence[Parameter]) -> str:
    """Return the name of the parameter for `chain`, of JSON names that have no dot in them."""
    names = (each.name if "." in each.json_name else each.json_name for each in chain)
    return ".".join(names)


class ParameterReader:
    """Reads parameters as messages of any type. Each type is compiled once.

    `ignore_unknown` skips names that no field has. `ignore_duplicates` uses the last of several
    values of a singular field.
    """

    def __init__(self, *, ignore_unknown: bool = False, ignore_duplicates: bool = False) -> None:
        self._ignore_unknown = ignore_unknown
        self._ignore_duplicates = ignore_duplicates
        # Not keyed by name: another pool may have another type of the same name.
        self._types: dict[Descriptor, Parameters] = {}
        self._incomplete: list[Descriptor] = []

    def fields(self, descriptor: Descriptor) -> Parameters:
        """Return the fields of a type by both of their names. JSON names take precedence."""
        fields = self._fields(descriptor)
        while self._incomplete:  # a loop, because the types may form a long chain
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

        A text that could not be decoded is None. It is a violation only if its name is known.
        """
        arguments: Arguments = {}
        for name, text in pairs:
            chain = find(fields, name)
            if chain is None:
                violations.extend(self._unknown(name, report))
                continue
            try:
                self._set(arguments, chain, text)
            except InvalidValueError as error:
                violations.append(report(label(chain), str(error)))
        return arguments

    def without_system(
        self,
        fields: Parameters,
        pairs: Iterable[tuple[str, str | None]],
        violations: Violations,
        report: Report,
    ) -> Iterator[tuple[str, str | None]]:
        """Yield all of `pairs` that are no system parameters; add a violation if $alt is wrong."""
        formats = []
        for name, text in pairs:
            if not _is_system(fields, name):
                yield name, text
            elif name == _FORMAT:
                formats.append(text)
        if self._ignore_unknown:
            return
        if not {*formats} <= _FORMATS:
            violations.append(report(_FORMAT, f"must be {' or '.join(sorted(_FORMATS))}"))
        elif len(formats) > 1 and not self._ignore_duplicates:
            violations.append(report(_FORMAT, "must be given once only"))

    def _unknown(self, name: str, report: Report) -> Iterator[Violation]:
        if not self._ignore_unknown:
            yield report(name if is_shown(name) else None, "must be the name of a field")

    def _set(self, arguments: Arguments, chain: Sequence[Parameter], text: str | None) -> None:
        *parents, leaf = chain
        if text is None:
            raise InvalidValueError("must be valid percent-encoded UTF-8")
        if leaf.read is None:
            raise InvalidValueError(_explain(leaf))
        value = leaf.read(text, len(chain) + 1)
        for parent in parents:
            _check_rivals(parent, arguments)
            arguments = arguments.setdefault(parent.name, {})
        _check_rivals(leaf, arguments)
        if leaf.is_repeated:
            arguments.setdefault(leaf.name, []).append(value)
            return
        if leaf.name in arguments and not self._ignore_duplicates:
            raise InvalidValueError("must be given once only")
        arguments[leaf.name] = value

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


def parse_query(query: str, violations: Violations) -> Iterator[tuple[str, str | None]]:
    """Yield the names and texts in a raw query; add a violation for each malformed name.

    A text that cannot be decoded is None.
    """
    for parameter in filter(None, query.split("&")):
        name, _, text = parameter.partition("=")
        decoded = _decode(name)
        if decoded is None:
            violations.append(Violation(detail="The query must be valid percent-encoded UTF-8."))
        else:
            yield decoded, _decode(text)


def _decode(text: str) -> str | None:
    """Return the percent-decoded text; None if `text` is malformed or not ASCII (RFC 3986)."""
    try:
        return decode_form(text) if text.isascii() else None
    except ValueError:
        return None


def asks_enum_numbers(fields: Parameters, query: str) -> bool:
    """Whether the raw `query` of a message with `fields` asks for the numbers of enum values.

    If there are several formats, the last one counts.
    """
    if "$" not in query and "%24" not in query:
        return False
    pairs = parse_query(query, Violations())
    formats = [text for name, text in pairs if name == _FORMAT and _is_system(fields, name)]
    return formats[-1:] == [_ENUM_NUMBERS]


def _is_system(fields: Parameters, name: str) -> bool:
    return name.startswith("$") and name.partition(".")[0] not in fields


_FORMAT, _ENUM_NUMBERS = "$alt", "json;enum-encoding=int"
_FORMATS = {"json", _ENUM_NUMBERS}


def find(fields: Parameters, name: str) -> Sequence[Parameter] | None:
    """Return the fields along the dotted path `name`, or None if there is no such field."""
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
    """Return the reader of the text of one value of `field`, which must have a text."""
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
    """Remove the quotes of a JSON string; for most types they are not part of the value."""
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else text


def _check_rivals(parameter: Parameter, arguments: Arguments) -> None:
    rival = find_rival(parameter.rivals, arguments)
    if rival is not None:
        raise InvalidValueError(f"must not be given together with {rival}")


def _explain(parameter: Parameter) -> str:
    if parameter.fields:
        return "is a message; name one of its fields after a dot"
    return "cannot be given as a parameter, only in a JSON body"
