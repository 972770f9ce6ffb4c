"""The OpenAPI document of the API: the schema, and the additions of HTTP and OAuth to it."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from karmo.problem.v1 import problem_details_pb2 as pb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.problems import Problem, Reason
from sidecar.rest import problem_examples
from sidecar.rest.constraints import keywords_of
from sidecar.rest.fixed_content import FixedContent
from sidecar.rest.openapi_components import ALWAYS, ERRORS, Tree, components, references
from sidecar.transcoding import JsonFormat, Options, SchemaError
from sidecar.transcoding.body_formats import FORM
from sidecar.transcoding.media_type import JSON
from sidecar.transcoding.openapi import comments
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.document import describe
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.rules import Rule

TITLE = "Karmo partner token API"
_DESCRIPTION = """\
Exchange your client credentials for an access token of the partner API (RFC 6749 section 4.4).

Every response is a token or a problem document (RFC 9457) that OAuth clients understand too.\
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Examples of one method: requests by their title, a response, and problems."""

    requests: Mapping[str, Message]
    response: Message
    problems: Mapping[Reason, Problem]


def document(
    services: Mapping[ServiceDescriptor, Options],
    examples: Mapping[str, Examples],
    *,
    public_url: str,
) -> Tree:
    """Return the OpenAPI document of `services`.

    `examples` are by the full name of their method. `public_url` is the base URL of the API.
    Raises SchemaError, also for examples of a method that is not described.
    """
    shown = problem_examples.documents(
        problems_of(examples),
        public_url=public_url,
        max_body_bytes=min(options.max_body_bytes for options in services.values()),
    )
    patches = _Patches(services, examples)
    tree = describe(
        services,
        {
            "title": TITLE,
            "version": version("karmo-sidecar"),
            "description": _DESCRIPTION,
            "contact": {"name": "API reference", "url": f"{public_url}/docs"},
        },
        comments=_comments(),
        constraints=keywords_of,
        errors=[pb.ProblemDetails.DESCRIPTOR],
        patch=patches.of,
        additions={
            "servers": [{"url": public_url}],
            "components": components(shown),
        },
    )
    patches.check()
    return tree


def problems_of(examples: Mapping[str, Examples]) -> Mapping[Reason, Problem]:
    """Return the problems of all `examples`."""
    return {
        reason: problem for each in examples.values() for reason, problem in each.problems.items()
    }


def encode(tree: Mapping[str, Any]) -> bytes:
    """Return a document as JSON that people can read too."""
    return json.dumps(tree, ensure_ascii=False, indent=2).encode() + b"\n"


def route(tree: Mapping[str, Any]) -> Route:
    """Return the route of a document, which every web page may read."""
    headers = {"Access-Control-Allow-Origin": "*"}
    content = FixedContent(data=encode(tree), media_type=JSON, headers=headers)

    async def show(request: Request) -> Response:
        return content.respond(request)

    return Route("/openapi.json", show)


class _Patches:
    """Merge patches of operations: what an operation has beside the schema."""

    def __init__(
        self,
        services: Mapping[ServiceDescriptor, Options],
        examples: Mapping[str, Examples],
    ) -> None:
        self._services = services
        self._examples = examples
        self._unused = set(examples)

    def of(self, rule: Rule, operation: Tree) -> Tree:
        """Return the patch of one operation. The examples are whole messages."""
        self._unused.discard(rule.method.full_name)
        success: Tree = {"headers": references("headers", ALWAYS)}
        patch: Tree = {
            # One of the two: with HTTP Basic, or without it and with both credentials in the body.
            "security": [{"basic": []}, {}],
            "responses": {
                "200": success,
                **references("responses", ERRORS),
            },
        }
        examples = self._examples.get(rule.method.full_name)
        if examples is not None:
            json_format = self._services[rule.method.containing_service].json_format
            success |= _response_example(rule, examples, operation, json_format)
            patch |= _request_examples(rule, examples, operation, json_format)
        return patch

    def check(self) -> None:
        """Raise SchemaError if there are examples of a method without an operation."""
        if self._unused:
            raise SchemaError(
                [f"{name}: has examples, but no operation" for name in sorted(self._unused)]
            )


def _response_example(
    rule: Rule, examples: Examples, operation: Any, json_format: JsonFormat
) -> Tree:
    """Return the example of the response, if its body is the whole message in JSON."""
    if rule.response_body or JSON not in operation["responses"]["200"]["content"]:
        return {}
    return {"content": {JSON: {"example": _tree(examples.response, json_format)}}}


def _request_examples(
    rule: Rule, examples: Examples, operation: Any, json_format: JsonFormat
) -> Tree:
    """Return the examples of the request, if its body is the whole message.

    A form has those whose members are all in its schema: it has no messages inside a message.
    """
    if rule.body != () or rule.variables:
        return {}
    described = operation["requestBody"]["content"]
    trees = {
        title: _tree(request, replace(json_format, omit_defaults=True))
        for title, request in examples.requests.items()
    }
    content: Tree = {}
    for media_type in (FORM, JSON):
        if media_type in described:
            members = described[media_type]["schema"].get("properties")
            content[media_type] = {"examples": _named(trees, members)}
    return {"requestBody": {"content": content}}


def _named(trees: Mapping[str, Tree], members: Iterable[str] | None) -> Tree:
    """Return examples by a name made of their title: those with these members, or all."""
    return {
        re.sub("[^a-z0-9]+", "-", title.lower()): {"summary": title, "value": tree}
        for title, tree in trees.items()
        if members is None or tree.keys() <= set(members)
    }


def _tree(message: Message, json_format: JsonFormat) -> Tree:
    type_ = cast("Descriptor", message.DESCRIPTOR)  # its stub also allows that of the C library
    return cast("Tree", JsonWriter(json_format).message(type_)(message))


def _comments() -> Comments:
    data = files("karmo").joinpath("descriptors.binpb").read_bytes()
    return comments.read(FileDescriptorSet.FromString(data))
