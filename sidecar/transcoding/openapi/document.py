"""The OpenAPI 3.1 document of services (https://spec.openapis.org/oas/v3.1.1.html)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.openapi import merge_patch, names
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.field_options import Constraints
from sidecar.transcoding.openapi.names import Use
from sidecar.transcoding.openapi.operations import Operations
from sidecar.transcoding.openapi.paths import Path, path_of
from sidecar.transcoding.openapi.schemas import Schemas
from sidecar.transcoding.openapi.value_schemas import Schema
from sidecar.transcoding.options import Options, unserved_by
from sidecar.transcoding.rules import Rule, read_rules
from sidecar.transcoding.strict_json import JsonTree

# Takes a rule and its Operation Object, and returns a merge patch (RFC 7396) of that object.
Patch: TypeAlias = Callable[[Rule, Schema], Mapping[str, JsonTree]]

# The fields of a Path Item Object that are operations.
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class _Place(NamedTuple):
    """The place of an operation: its method, and its path without the names of parameters."""

    shape: str
    method: str


def describe(
    services: Mapping[ServiceDescriptor, Options],
    info: Schema,
    *,
    comments: Comments = MappingProxyType({}),
    constraints: Constraints | None = None,
    errors: Sequence[Descriptor] = (),
    patch: Patch | None = None,
    additions: Mapping[str, JsonTree] = MappingProxyType({}),
) -> Schema:
    """Return the document of the methods of `services` that have an HTTP rule and are served.

    `info` is its Info Object. `comments` become descriptions, and `constraints` keywords of the
    schemas. `errors` are messages that error responses have without their empty fields, and that
    are the last item of a stream that fails; each has a component schema. What descriptors do not
    say is given as JSON merge patches (RFC 7396): `patch` returns that of each Operation Object,
    and `additions` is that of the document. Raises SchemaError with every rule that OpenAPI cannot
    describe, and every fault of a constraint.
    """
    violations = SchemaViolations()
    rules = read_rules(services, violations, unserved_by(services.values()))
    schemas = Schemas(
        comments=comments,
        constraints=constraints or _unconstrained,
        open_types=_open_types(services, rules),
        violations=violations,
    )
    for error in errors:
        schemas.message(error, Use.ERROR)
    tags = names.tags(dict.fromkeys(rule.method.containing_service for rule in rules))
    places = _places(rules, violations)
    operations = _operations(places, Operations(schemas, comments, tags, errors), violations)
    schemas.complete()
    violations.check()
    ids = names.operation_ids([rule.method for rule in places.values()], tags)
    paths = _paths(places, operations, ids, patch or _unpatched)
    resolved, components = schemas.resolve(dict(paths))
    described = [_tag(service, tag, comments) for service, tag in tags.items()]
    return merge_patch.apply(additions, _document(info, described, resolved, components))


def _document(
    info: Schema, tags: Sequence[Schema], paths: Schema, component_schemas: Schema
) -> Schema:
    return {
        "openapi": "3.1.0",
        "info": info,
        "tags": [*tags],
        "paths": paths,
        "components": {"schemas": component_schemas},
    }


def _unconstrained(_field: FieldDescriptor) -> Schema:
    return {}


def _unpatched(_rule: Rule, _operation: Schema) -> Schema:
    return {}


def _open_types(
    services: Mapping[ServiceDescriptor, Options], rules: Sequence[Rule]
) -> set[Descriptor]:
    """Return the types of messages in requests to services that ignore unknown names."""
    types: set[Descriptor] = set()
    stack = [
        rule.method.input_type
        for rule in rules
        if services[rule.method.containing_service].ignore_unknown
    ]
    while stack:
        type_ = stack.pop()
        if type_ not in types:
            types.add(type_)
            stack += [field.message_type for field in type_.fields if field.message_type]
    return types


def _places(rules: Sequence[Rule], violations: SchemaViolations) -> Mapping[_Place, Rule]:
    """Return the rule of each operation, in the order of `rules`.

    As in the router, a rule for every method serves the methods that no other rule with its
    template serves. Two templates in one place are a violation.
    """
    chosen: dict[_Place, Rule] = {}
    for rule in sorted(rules, key=_is_for_every_method):
        for name in _take_places(rule, _methods(rule, violations), chosen):
            violations.add(rule.name, f"OpenAPI cannot tell its requests from those of {name}")
    order = {id(rule): at for at, rule in enumerate(rules)}
    return dict(sorted(chosen.items(), key=lambda item: order[id(item[1])]))


def _take_places(
    rule: Rule, methods: Sequence[str], chosen: dict[_Place, Rule]
) -> Mapping[str, None]:
    """Add `rule` to `chosen` for each of `methods`; return the names of the rules in its way."""
    shape = path_of(rule).shape
    clashes: dict[str, None] = {}
    for method in methods:
        other = chosen.get(_Place(shape, method))
        if other is None and method == "head" and _is_for_every_method(rule):
            other = chosen[_Place(shape, "get")]  # a rule for GET serves HEAD too
        if other is None or other is rule:
            chosen[_Place(shape, method)] = rule
        elif not _precedes(other, rule):
            clashes[other.name] = None
    return clashes


def _is_for_every_method(rule: Rule) -> bool:
    return rule.http_method == "*"


def _precedes(other: Rule, rule: Rule) -> bool:
    """Whether the router prefers `other` wherever both rules match."""
    one, two = other.template, rule.template
    is_same = (one.segments, one.verb) == (two.segments, two.verb)
    return is_same and _is_for_every_method(rule) and not _is_for_every_method(other)


def _methods(rule: Rule, violations: SchemaViolations) -> Sequence[str]:
    """Return the names of the operations of `rule`; add a violation if it has none."""
    if _is_for_every_method(rule):
        return _METHODS
    if rule.http_method.lower() not in _METHODS or not rule.http_method.isupper():
        violations.add(rule.name, f"OpenAPI has no operation for the method {rule.http_method}")
        return ()
    return (rule.http_method.lower(),)


def _paths(
    places: Mapping[_Place, Rule],
    operations: Mapping[str, Schema],
    ids: Sequence[str],
    patch: Patch,
) -> Mapping[str, Schema]:
    """Return each path and its Path Item Object. `operations` are by the name of their rule."""
    items: dict[str, Schema] = {}
    texts: dict[str, str] = {}
    for (place, rule), id_ in zip(places.items(), ids, strict=True):
        operation = {"operationId": id_, **operations[rule.name]}
        text = texts.setdefault(place.shape, path_of(rule).text)
        items.setdefault(text, {})[place.method] = merge_patch.apply(
            patch(rule, operation), operation
        )
    return {text: items[text] for text in sorted(items)}


def _operations(
    places: Mapping[_Place, Rule], build: Operations, violations: SchemaViolations
) -> Mapping[str, Schema]:
    """Return the Operation Object of each rule by the name of the rule, but its id."""
    first: dict[str, Path] = {}
    operations: dict[str, Schema] = {}
    for place, rule in places.items():
        own = path_of(rule)
        # OpenAPI holds paths that differ only in the names of parameters to be identical.
        path = first.setdefault(place.shape, own)
        parameters = [
            replace(parameter, name=named.name)
            for parameter, named in zip(own.parameters, path.parameters, strict=True)
        ]
        if rule.name not in operations:
            operation = violations.attempt(rule.name, build.of, rule, parameters)
            operations[rule.name] = operation or {}
    return operations


def _tag(service: ServiceDescriptor, tag: str, comments: Comments) -> Schema:
    comment = comments.get(service.full_name)
    return {"name": tag, **({"description": comment} if comment else {})}
