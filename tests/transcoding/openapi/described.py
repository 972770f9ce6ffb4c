"""Documents of methods of the neutral schema, and validators of their parts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodDescriptorProto
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from sidecar.transcoding import Options
from sidecar.transcoding.openapi.document import describe
from tests.transcoding import library

Tree = dict[str, Any]
INFO: Tree = {"title": "A library", "version": "1"}


def document(
    *methods: MethodDescriptorProto, options: Options | None = None, **arguments: Any
) -> Tree:
    """Return the document of a service with `methods`; it is valid."""
    return document_of({library.service(*methods): options or Options()}, **arguments)


def document_of(services: Mapping[ServiceDescriptor, Options], **arguments: Any) -> Tree:
    """Return the document of `services`; it is valid OpenAPI 3.1."""
    api = describe(services, INFO, **arguments)
    OpenAPIV31SpecValidator(api).validate()
    return api


def operations(api: Tree) -> Iterator[Tree]:
    """Yield every operation of a document."""
    for item in api["paths"].values():
        yield from item.values()


def only_operation(api: Tree) -> Tree:
    """Return the operation of a document that has one."""
    (operation,) = operations(api)
    return operation


def violations(api: Tree, schema: Tree, value: object) -> Sequence[str]:
    """Return what is wrong with `value` by a `schema` of a document."""
    rooted = {**schema, "components": api["components"]}
    return [error.message for error in Draft202012Validator(rooted).iter_errors(value)]
