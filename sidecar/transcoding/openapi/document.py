"""The OpenAPI 3.1 document of services (https://spec.openapis.org/oas/v3.1.1.html)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.openapi import merge_patch
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.names import Use
from sidecar.transcoding.openapi.operations import Operations
from sidecar.transcoding.openapi.paths import Path, path_of
from sidecar.transcoding.openapi.schemas import Constraints, Schema, Schemas
from sidecar.transcoding.options import Options
from sidecar.transcoding.rules import Rule, read_rules
from sidecar.transcoding.strict_json import JsonTree

# The fields of a Path Item Object that are operations.
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_NOTHING: Mapping[str, Schema] = MappingProxyType({})


def describe(
    services: Mapping[ServiceDescriptor, Options],
    info: Schema,
    *,
    comments: Comments = MappingProxyType({}),
    constraints: Constraints | None = None,
    errors: Sequence[Descriptor] = (),
    operations: Mapping[str, Schema] = _NOTHING,
    additions: Mapping[str, JsonTree] = MappingProxyType({}),
) -> Schema:
    """Return the document of the unary methods of `services` that have an HTTP rule.

    `info` is its Info Object. `comments` become descriptions, and `constraints` keywords of the
    schemas. `errors` are messages that error responses have without their empty fields; each has
    a component schema. What descriptors do not say is given as JSON merge patches (RFC 7396):
    `operations` for the Operation Objects, by the full name of their method, and `additions` for
    the document. Raises SchemaError with every rule that OpenAPI cannot describe.
    """
    violations = SchemaViolations()
    schemas = Schemas(
        comments=comments,
        constraints=constraints or _unconstrained,
        closes=not any(options.ignore_unknown for options in services.values()),
    )
    for error in errors:
        schemas.message(error, Use.ERROR)
    rules = read_rules(services, violations)
    paths = dict(_paths(rules, Operations(schemas, comments), operations, violations))
    violations.check()
    resolved, components = schemas.resolve({path: paths[path] for path in sorted(paths)})
    used = dict.fromkeys(rule.method.containing_service for rule in rules)
    document: Schema = {
        "openapi": "3.1.0",
        "info": info,
        "tags": [_tag(service, comments) for service in used],
        "paths": resolved,
        "components": {"schemas": components},
    }
    return merge_patch.apply(additions, document)


def _unconstrained(_field: FieldDescriptor) -> Schema:
    return {}


def _paths(
    rules: Sequence[Rule],
    operations: Operations,
    patches: Mapping[str, Schema],
    violations: SchemaViolations,
) -> Iterator[tuple[str, Schema]]:
    """Yield each path and its Path Item Object."""
    ids = _Ids(rules)
    paths: dict[str, Path] = {}
    items: dict[str, Schema] = {}
    for rule in rules:
        own = path_of(rule)
        # OpenAPI holds paths that differ only in the names of parameters to be identical.
        path = paths.setdefault(own.shape, own)
        parameters = [
            replace(parameter, name=first.name)
            for parameter, first in zip(own.parameters, path.parameters, strict=True)
        ]
        patch = patches.get(rule.method.full_name, {})
        item = items.setdefault(path.text, {})
        for method in _methods(rule, violations):
            operation = operations.of(rule, parameters, ids.take(rule))
            item.setdefault(method, merge_patch.apply(patch, operation))
    yield from items.items()


def _methods(rule: Rule, violations: SchemaViolations) -> Sequence[str]:
    """Return the names of the operations of `rule`; add a violation if it has none."""
    if rule.http_method == "*":
        return _METHODS
    if rule.http_method.lower() not in _METHODS or not rule.http_method.isupper():
        violations.add(rule.name, f"OpenAPI has no operation for the method {rule.http_method}")
        return ()
    return (rule.http_method.lower(),)


class _Ids:
    """Chooses an operationId for each operation.

    It is the name of the method, with its service if other services have a method of that name,
    and a number if it has several operations.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._shared = Counter(name for name, _ in {(r.method.name, r.method) for r in rules})
        self._taken: Counter[str] = Counter()

    def take(self, rule: Rule) -> str:
        """Return an id for the next operation of `rule`."""
        name = rule.method.name[:1].lower() + rule.method.name[1:]
        if self._shared[rule.method.name] > 1:
            name = f"{rule.method.containing_service.name}_{name}"
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}_{self._taken[name]}"


def _tag(service: ServiceDescriptor, comments: Comments) -> Schema:
    comment = comments.get(service.full_name)
    return {"name": service.name, **({"description": comment} if comment else {})}
