"""HTTP rules: which HTTP requests stand for a method, read from its options.

https://github.com/googleapis/googleapis/blob/master/google/api/http.proto

So far a rule has a standard method, a template of literals, and the whole
message as its body; the other forms are refused by name.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from sidecar.transcoding.errors import SchemaFaults
from sidecar.transcoding.template import Template, TemplateError, parse

_HTTP: Any = annotations_pb2.http  # its stub types the extension as a plain FieldDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One binding of `method` to an HTTP method and the paths that `template` matches."""

    method: MethodDescriptor
    http_method: str
    template: Template


def read_rules(services: Iterable[ServiceDescriptor], faults: SchemaFaults) -> list[Rule]:
    """Return the rules of all annotated methods; what is wrong with others goes to `faults`."""
    rules: list[Rule] = []
    for method, told in _annotated(services):
        with faults.collect(method.full_name):
            rules.append(_read_rule(method, told))
    return rules


def _annotated(
    services: Iterable[ServiceDescriptor],
) -> Iterator[tuple[MethodDescriptor, HttpRule]]:
    for service in services:
        for method in service.methods:
            options = method.GetOptions()
            if options.HasExtension(_HTTP):
                yield method, options.Extensions[_HTTP]


def _read_rule(method: MethodDescriptor, told: HttpRule) -> Rule:
    pattern = told.WhichOneof("pattern")
    if method.client_streaming or method.server_streaming:
        raise ValueError("streaming methods are not supported")
    if pattern is None or pattern == "custom":
        raise ValueError("only the patterns get, put, post, delete and patch are supported yet")
    if told.body != "*" or told.response_body or told.additional_bindings:
        raise ValueError('only rules with body "*" and nothing besides are supported yet')
    path = getattr(told, pattern)
    try:
        return Rule(method=method, http_method=pattern.upper(), template=parse(path))
    except TemplateError as error:
        raise ValueError(f"{pattern}: {path!r}: {error}") from None
