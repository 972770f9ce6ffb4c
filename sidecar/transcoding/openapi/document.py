"""The OpenAPI 3.1 document of services (https://spec.openapis.org/oas/v3.1.1.html)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.openapi import merge_patch, names
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.field_options import CheckedConstraints, Constraints
from sidecar.transcoding.openapi.names import Components, Use
from sidecar.transcoding.openapi.operations import Operations
from sidecar.transcoding.openapi.paths import Path, path_of
from sidecar.transcoding.openapi.schemas import Schemas
from sidecar.transcoding.openapi.value_schemas import Schema
from sidecar.transcoding.options import Options, unserved_by
from sidecar.transcoding.protojson.json_format import DEFAULT, JsonFormat
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


class _Described(NamedTuple):
    """A rule, its path, and the builder of its operation."""

    rule: Rule
    path: Path
    operations: Operations


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
    schemas. `errors` are the types of error responses, which leave out empty fields; a stream that
    fails ends with one of them. Each has a component schema. Merge patches (RFC 7396) add what
    descriptors do not say: `patch` to each Operation Object, `additions` to the document. Raises
    SchemaError with every rule that OpenAPI cannot describe, and every fault of a constraint.
    """
    violations, components = SchemaViolations(), Components()
    rules = read_rules(services, violations, unserved_by(services.values()))
    schemas_in = partial(
        Schemas,
        components=components,
        comments=comments,
        constraints=CheckedConstraints(constraints or _unconstrained, violations),
        open_types=_open_types(services, rules),
    )
    problems = [schemas_in(DEFAULT).message(error, Use.ERROR) for error in errors]
    tags = names.tags(dict.fromkeys(rule.method.containing_service for rule in rules))
    formats = {service: options.json_format for service, options in services.items()}
    builders = {
        each: Operations(schemas_in(each), comments, tags, problems) for each in formats.values()
    }
    places = _places(_with_builders(rules, formats, builders), violations)
    operations = _operations(places, violations)
    components.complete()
    violations.check()
    paths = _paths(places, operations, tags, patch or _unpatched)
    document = _document(info, _tags(tags, comments), *components.resolve(dict(paths)))
    return merge_patch.apply(additions, document)


def _with_builders(
    rules: Sequence[Rule],
    formats: Mapping[ServiceDescriptor, JsonFormat],
    builders: Mapping[JsonFormat, Operations],
) -> Sequence[_Described]:
    """Return each rule with its path and the builder of its operation, in its service's format."""
    described = []
    for rule in rules:
        json_format = formats[rule.method.containing_service]
        described.append(_Described(rule, path_of(rule, json_format), builders[json_format]))
    return described


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


def _places(
    described: Sequence[_Described], violations: SchemaViolations
) -> Mapping[_Place, _Described]:
    """Return the rule of each operation, in the order of `described`.

    As in the router, a rule for every method serves the methods that no other rule with its
    template serves. Two templates in one place are a violation.
    """
    chosen: dict[_Place, _Described] = {}
    for each in sorted(described, key=lambda each: _is_for_every_method(each.rule)):
        for name in _take_places(each, _methods(each.rule, violations), chosen):
            violations.add(each.rule.name, f"OpenAPI cannot tell its requests from those of {name}")
    order = {id(each): at for at, each in enumerate(described)}
    return dict(sorted(chosen.items(), key=lambda item: order[id(item[1])]))


def _take_places(
    described: _Described, methods: Sequence[str], chosen: dict[_Place, _Described]
) -> Mapping[str, None]:
    """Add a rule to `chosen` for each of `methods`; return the names of the rules in its way."""
    rule, shape = described.rule, described.path.shape
    clashes: dict[str, None] = {}
    for method in methods:
        other = chosen.get(_Place(shape, method))
        if other is None and method == "head" and _is_for_every_method(rule):
            other = chosen[_Place(shape, "get")]  # a rule for GET serves HEAD too
        if other is None or other is described:
            chosen[_Place(shape, method)] = described
        elif not _precedes(other.rule, rule):
            clashes[other.rule.name] = None
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
    places: Mapping[_Place, _Described],
    operations: Mapping[str, Schema],
    tags: Mapping[ServiceDescriptor, str],
    patch: Patch,
) -> Mapping[str, Schema]:
    """Return each path and its Path Item Object. `operations` are by the name of their rule."""
    ids = names.operation_ids([each.rule.method for each in places.values()], tags)
    items: dict[str, Schema] = {}
    texts: dict[str, str] = {}
    for (place, described), id_ in zip(places.items(), ids, strict=True):
        operation = {"operationId": id_, **operations[described.rule.name]}
        text = texts.setdefault(place.shape, described.path.text)
        items.setdefault(text, {})[place.method] = merge_patch.apply(
            patch(described.rule, operation), operation
        )
    return {text: items[text] for text in sorted(items)}


def _operations(
    places: Mapping[_Place, _Described], violations: SchemaViolations
) -> Mapping[str, Schema]:
    """Return the Operation Object of each rule by the name of the rule, but its id."""
    first: dict[str, Path] = {}
    operations: dict[str, Schema] = {}
    for place, (rule, own, build) in places.items():
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


def _tags(tags: Mapping[ServiceDescriptor, str], comments: Comments) -> Sequence[Schema]:
    """Return the Tag Object of each service."""
    described = [(tag, comments.get(service.full_name)) for service, tag in tags.items()]
    return [
        {"name": tag, **({"description": comment} if comment else {})} for tag, comment in described
    ]
