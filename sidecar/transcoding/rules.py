"""HTTP rules: which HTTP requests stand for a method, read from its options.

https://github.com/googleapis/googleapis/blob/master/google/api/http.proto
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import MethodOptions

from sidecar.transcoding.errors import SchemaFaults
from sidecar.transcoding.parameters import text_reader
from sidecar.transcoding.template import Template, Variable, parse

_HTTP: Any = annotations_pb2.http  # its stub types the extension as a plain FieldDescriptor
# RFC 9110 section 5.6.2; "*" is one as well.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOG = logging.getLogger(__name__)

FieldPath = tuple[FieldDescriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One binding of `method` to an HTTP method and the paths that `template` matches.

    `http_method` is "*" for all of them. `variables` are the fields that those of
    the template lead to. `body` and `response_body` are the way to what the bodies
    hold: () is the whole message, and None is no body.
    """

    method: MethodDescriptor
    http_method: str
    template: Template
    variables: tuple[FieldPath, ...]
    body: FieldPath | None
    response_body: FieldPath


def read_rules(services: Iterable[ServiceDescriptor], faults: SchemaFaults) -> list[Rule]:
    """Return the rules of all unary methods; what is wrong with others goes to `faults`.

    Streaming methods that have rules are named in one warning.
    """
    rules: list[Rule] = []
    streaming: list[str] = []
    for method, told in _annotated(services):
        if method.client_streaming or method.server_streaming:
            streaming.append(method.full_name)
            continue
        for where, one in _bindings(told):
            with faults.collect(f"{method.full_name}: {where}{_name(one)}"):
                rules.append(_read_rule(method, one, is_additional=bool(where)))
    if streaming:
        _LOG.warning("streaming methods are not served over HTTP: %s", ", ".join(streaming))
    return rules


def _annotated(
    services: Iterable[ServiceDescriptor],
) -> Iterator[tuple[MethodDescriptor, HttpRule]]:
    for service in services:
        for method in service.methods:
            # Read again, for they may have been read before the extension was known.
            options = MethodOptions.FromString(method.GetOptions().SerializeToString())
            if options.HasExtension(_HTTP):
                yield method, options.Extensions[_HTTP]


def _bindings(told: HttpRule) -> Iterator[tuple[str, HttpRule]]:
    yield "", told
    for at, binding in enumerate(told.additional_bindings):
        yield f"additional_bindings[{at}].", binding


def _name(told: HttpRule) -> str:
    pattern = told.WhichOneof("pattern")
    if pattern == "custom":
        return f"custom {told.custom.kind!r} {told.custom.path!r}"
    return f"{pattern} {getattr(told, pattern)!r}" if pattern else "rule"


def _read_rule(method: MethodDescriptor, told: HttpRule, *, is_additional: bool) -> Rule:
    if is_additional and told.additional_bindings:
        raise ValueError("additional bindings cannot have more of them")
    http_method, path = _pattern(told)
    template = parse(path)
    variables = tuple(_resolve(method.input_type, variable) for variable in template.variables)
    body = (
        None
        if not told.body
        else _part(method.input_type, "body", "" if told.body == "*" else told.body)
    )
    _check_apart(variables, body or ())
    return Rule(
        method=method,
        http_method=http_method,
        template=template,
        variables=variables,
        body=body,
        response_body=_part(method.output_type, "response_body", told.response_body),
    )


def _pattern(told: HttpRule) -> tuple[str, str]:
    """Return the HTTP method and the template. Raises ValueError."""
    pattern = told.WhichOneof("pattern")
    if pattern is None:
        raise ValueError("it has none of get, put, post, delete, patch and custom")
    if pattern != "custom":
        return pattern.upper(), getattr(told, pattern)
    if not _TOKEN.fullmatch(told.custom.kind):
        raise ValueError("its kind must be an HTTP method, or '*' for all")
    return told.custom.kind, told.custom.path


def _resolve(message: Descriptor | None, variable: Variable) -> FieldPath:
    """Return the fields that lead to the one that `variable` gives. Raises ValueError."""
    path: list[FieldDescriptor] = []
    for name in variable.field_path:
        field = message.fields_by_name.get(name) if message else None
        if field is None:
            holder = message.full_name if message else path[-1].full_name
            raise ValueError(f"column {variable.column}: {holder} has no field {name!r}")
        if field.is_repeated:
            raise ValueError(
                f"column {variable.column}: {field.full_name} is repeated, and a path is not"
            )
        path.append(field)
        # A well-known type is one value and has no fields here.
        message = field.message_type if text_reader(field) is None else None
    if text_reader(path[-1]) is None:
        raise ValueError(
            f"column {variable.column}: {path[-1].full_name} is a message; name a field of it"
        )
    return tuple(path)


def _part(message: Descriptor, what: str, name: str) -> FieldPath:
    """Return the way to the field `name`, or to the whole message without a name."""
    if not name:
        return ()
    field = message.fields_by_name.get(name)
    if field is None:
        raise ValueError(f"{what}: {message.full_name} has no field {name!r}")
    return (field,)


def _check_apart(variables: Iterable[FieldPath], body: FieldPath) -> None:
    """Raise ValueError where path and body would give the same field, or two of a oneof."""
    if body in variables:
        raise ValueError(f"the path and the body both give {body[0].full_name}")
    chosen: dict[tuple[FieldPath, str], FieldDescriptor] = {}
    for path in (*variables, body):
        for at, field in enumerate(path):
            oneof = field.containing_oneof
            if oneof is None:
                continue
            other = chosen.setdefault((path[:at], oneof.name), field)
            if other is not field:
                raise ValueError(
                    f"{other.full_name} and {field.full_name} exclude each other in a oneof"
                )
