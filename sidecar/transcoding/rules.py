"""HTTP rules read from method options.

https://github.com/googleapis/googleapis/blob/master/google/api/http.proto
"""

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.fields import is_http_body, map_entry_of, message_of
from sidecar.transcoding.protojson.well_known import has_own_json, has_text, parent_type
from sidecar.transcoding.template import Template, Variable, parse

_HTTP: Any = annotations_pb2.http  # its stub types the extension as a plain FieldDescriptor
# RFC 9110 section 5.6.2. "*" is a token as well.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOG = logging.getLogger(__name__)

FieldPath = tuple[FieldDescriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One binding of `method` to an HTTP method and the paths that `template` matches.

    `name` identifies the rule in messages. `http_method` is "*" for every method. `variables`
    are the field paths of the template's variables, in their order. `body` and `response_body`
    are the field paths of the bodies: () is the whole message, None is no body. The requests of
    a rule that is not `is_served` are answered with 501, and match no other rule.
    """

    name: str
    method: MethodDescriptor
    http_method: str
    template: Template
    variables: tuple[FieldPath, ...] = ()
    body: FieldPath | None = None
    response_body: FieldPath = ()
    is_served: bool = True


def read_rules(
    services: Iterable[ServiceDescriptor],
    violations: SchemaViolations,
    unserved: Collection[str] = (),
) -> list[Rule]:
    """Return the rules of all methods with one request whose full names are not in `unserved`.

    Adds to `violations` what is wrong with a rule, and each name in `unserved` that no method has.
    Warnings name the methods that are left out.
    """
    services = tuple(services)
    rules: list[Rule] = []
    streaming: list[str] = []
    for method, http_rule in _annotated(services):
        if method.full_name in unserved:
            _LOG.warning("%s is not served over HTTP: the options leave it out", method.full_name)
        elif method.client_streaming:
            streaming.append(method.full_name)
        else:
            rules.extend(_read_bindings(method, http_rule, violations))
    if streaming:
        _LOG.warning(
            "methods with a stream of requests are not served over HTTP: %s", ", ".join(streaming)
        )
    known = {method.full_name for service in services for method in service.methods}
    for name in sorted(set(unserved) - known):
        violations.add(name, "unserved_methods names it, but no service has this method")
    return rules


def read_unserved(services: Iterable[ServiceDescriptor], unserved: Collection[str]) -> list[Rule]:
    """Return the rules of all methods with a stream of requests, and of those in `unserved`.

    A rule whose HTTP method or path is wrong is left out, and a warning names it: its requests may
    match another rule.
    """
    violations = SchemaViolations()
    rules = [
        replace(rule, is_served=False)
        for method, http_rule in _annotated(services)
        if method.client_streaming or method.full_name in unserved
        for name, binding in _bindings(method, http_rule)
        # Without its fields and bodies if any of them is wrong.
        for rule in [*_read_rule(name, method, binding, SchemaViolations())]
        or _read_route(name, method, binding, violations)
    ]
    for violation in violations:
        _LOG.warning("the route of an unserved method cannot be kept: %s", violation)
    return rules


def _annotated(
    services: Iterable[ServiceDescriptor],
) -> Iterator[tuple[MethodDescriptor, HttpRule]]:
    for service in services:
        for method in service.methods:
            # Parsed again: they may have been parsed before the extension was known.
            options = MethodOptions.FromString(method.GetOptions().SerializeToString())
            if options.HasExtension(_HTTP):
                yield method, options.Extensions[_HTTP]


def _bindings(method: MethodDescriptor, http_rule: HttpRule) -> Iterator[tuple[str, HttpRule]]:
    """Yield the rule and its additional bindings, each after the name of its rule in messages."""
    yield f"{method.full_name}: {_name(http_rule)}", http_rule
    for at, binding in enumerate(http_rule.additional_bindings):
        yield f"{method.full_name}: additional_bindings[{at}].{_name(binding)}", binding


def _read_bindings(
    method: MethodDescriptor, http_rule: HttpRule, violations: SchemaViolations
) -> Iterator[Rule]:
    for name, binding in _bindings(method, http_rule):
        yield from _read_rule(name, method, binding, violations)
        if binding is not http_rule and binding.additional_bindings:
            violations.add(name, "additional bindings cannot be nested")


def _name(http_rule: HttpRule) -> str:
    pattern = http_rule.WhichOneof("pattern")
    if pattern == "custom":
        return f"custom {http_rule.custom.kind!r} {http_rule.custom.path!r}"
    return f"{pattern} {getattr(http_rule, pattern)!r}" if pattern else "rule"


def _read_rule(
    name: str, method: MethodDescriptor, http_rule: HttpRule, violations: SchemaViolations
) -> Iterator[Rule]:
    """Yield the rule if it can be served; add all of its violations otherwise."""
    count = len(violations)
    route = next(_read_route(name, method, http_rule, violations), None)
    resolved = [
        violations.attempt(name, _resolve, method.input_type, variable)
        for variable in (route.template.variables if route is not None else ())
    ]
    body = violations.attempt(name, _body, method.input_type, http_rule.body)
    response_body = violations.attempt(
        name, _part, method.output_type, "response_body", http_rule.response_body
    )
    if route is None or response_body is None or len(violations) > count:
        return
    variables = tuple(path for path in resolved if path is not None)
    for violation in _conflicts(method.input_type, route.template, variables, body):
        violations.add(name, violation)
    if len(violations) == count:
        yield replace(route, variables=variables, body=body, response_body=response_body)


def _read_route(
    name: str, method: MethodDescriptor, http_rule: HttpRule, violations: SchemaViolations
) -> Iterator[Rule]:
    """Yield the rule without its fields and bodies if its method and its path are right."""
    pattern = _pattern(http_rule)
    if pattern is None:
        violations.add(name, "it has none of get, put, post, delete, patch and custom")
        return
    http_method, path = pattern
    is_token = _TOKEN.fullmatch(http_method) is not None
    if not is_token:
        violations.add(name, "its kind must be an HTTP method, or '*' for all")
    template = violations.attempt(name, parse, path)
    if is_token and template is not None:
        yield Rule(name=name, method=method, http_method=http_method, template=template)


def _pattern(http_rule: HttpRule) -> tuple[str, str] | None:
    """Return the HTTP method and the template, or None without a pattern."""
    pattern = http_rule.WhichOneof("pattern")
    if pattern == "custom":
        return http_rule.custom.kind, http_rule.custom.path
    return (pattern.upper(), getattr(http_rule, pattern)) if pattern else None


def _resolve(message: Descriptor | None, variable: Variable) -> FieldPath:
    """Return the field path of `variable`, from `message` on. Raises ValueError."""
    path: list[FieldDescriptor] = []
    where = f"column {variable.column}: "
    for name in variable.field_path:
        field = message.fields_by_name.get(name) if message else None
        if message is None:
            raise ValueError(f"{where}{path[-1].full_name} has no fields that a path can set")
        if field is None:
            raise ValueError(f"{where}{message.full_name} has no field {name!r}")
        if field.is_repeated:
            kind = "is a map" if map_entry_of(field) else "is repeated"
            raise ValueError(f"{where}{field.full_name} {kind}, and a path gives one value")
        path.append(field)
        message = parent_type(field)
    if not has_text(path[-1]):
        raise ValueError(f"{where}{path[-1].full_name} is a message; name a field of it")
    return tuple(path)


def _body(message: Descriptor, name: str) -> FieldPath | None:
    return _part(message, "body", "" if name == "*" else name) if name else None


def _part(message: Descriptor, option: str, name: str) -> FieldPath:
    """Return the field path of `name`, or () for the whole message without a name.

    Raises ValueError, whose text begins with `option`, the name of the option.
    """
    if not name:
        return ()
    field = message.fields_by_name.get(name)
    if field is None:
        raise ValueError(f"{option}: {message.full_name} has no field {name!r}")
    return (field,)


def _conflicts(
    message: Descriptor, template: Template, paths: Sequence[FieldPath], body: FieldPath | None
) -> Iterator[str]:
    """Yield each field that both path and body would set, and each conflict in a oneof."""
    whole = body[0] if body else message
    target = message_of(whole)
    leaves_nothing = target is None or has_own_json(target) or is_http_body(target)
    chosen: dict[tuple[FieldPath, str], FieldDescriptor] = {}
    for variable, path in zip(template.variables, paths, strict=True):
        where = f"column {variable.column}: "
        if body is not None and path[: len(body)] == body and leaves_nothing:
            yield f"{where}the body already sets all of {whole.full_name}"
        yield from (f"{where}{violation}" for violation in _exclusions(path, chosen))
    yield from (f"body: {violation}" for violation in _exclusions(body or (), chosen))


def _exclusions(
    path: FieldPath, chosen: dict[tuple[FieldPath, str], FieldDescriptor]
) -> Iterator[str]:
    """Yield each oneof conflict of the fields in `path` with the fields `chosen` before."""
    for at, field in enumerate(path):
        oneof = field.containing_oneof
        other = chosen.setdefault((path[:at], oneof.name), field) if oneof else field
        if other is not field:
            yield f"{other.full_name} and {field.full_name} exclude each other in a oneof"
