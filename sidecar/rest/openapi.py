"""The OpenAPI document of the API: what the schema says, and what HTTP and OAuth add to it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from operator import attrgetter

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from karmo.problem.v1 import problem_details_pb2 as pb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.problems import CATALOGUE, Definition, Problem, Reason
from sidecar.rest import problem_examples
from sidecar.rest.constraints import keywords_of
from sidecar.rest.fixed_content import FixedContent
from sidecar.transcoding import Options
from sidecar.transcoding.body_formats import FORM
from sidecar.transcoding.media_type import JSON, PROBLEM_JSON
from sidecar.transcoding.openapi import comments
from sidecar.transcoding.openapi.comments import Comments
from sidecar.transcoding.openapi.document import describe
from sidecar.transcoding.strict_json import JsonTree

Tree = dict[str, JsonTree]

TITLE = "Karmo partner token API"
_DESCRIPTION = """\
Exchange your client credentials for an access token of the partner API (RFC 6749 section 4.4).

Every response is a token or a problem document (RFC 9457) that OAuth clients understand too.\
"""
# Where a response names one of them, it is there, except Retry-After: not every problem with a
# status may be tried again.
_HEADERS: Tree = {
    "X-Request-Id": {
        "required": True,
        "description": "Identifier of the request. Quote it when you ask for help.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "Cache-Control": {
        "required": True,
        "description": "No cache may store the response.",
        "schema": {"type": "string", "const": "no-store"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "required": True,
        "description": "The challenge of HTTP Basic authentication (RFC 7617).",
        "schema": {"type": "string"},
    },
    "Allow": {
        "required": True,
        "description": "The methods that the path supports.",
        "schema": {"type": "string"},
    },
}
# Header fields that only responses with these statuses have.
_HEADERS_OF = {401: "WWW-Authenticate", 405: "Allow"}
# Statuses without an entry of their own: a problem document of the auth-api keeps its status.
_RELAYED = ("4XX", "5XX")
_ALWAYS = ("X-Request-Id", "Cache-Control")
_BASIC: Tree = {
    "type": "http",
    "scheme": "basic",
    "description": "Identifier and secret of the client, each form-encoded before they are joined "
    "(RFC 6749 section 2.3.1). With it the body has no client_secret.",
}


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
    Raises SchemaError.
    """
    statuses = _by_status()
    problems = {
        reason: problem for each in examples.values() for reason, problem in each.problems.items()
    }
    shown = problem_examples.documents(
        problems,
        public_url=public_url,
        max_body_bytes=min(options.max_body_bytes for options in services.values()),
    )
    return describe(
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
        operations={name: _operation(each, statuses) for name, each in examples.items()},
        additions={
            "servers": [{"url": public_url}],
            "components": _components(statuses, shown),
        },
    )


def encode(tree: Tree) -> bytes:
    """Return a document as JSON that people can read too."""
    return json.dumps(tree, ensure_ascii=False, indent=2).encode() + b"\n"


def route(tree: Tree) -> Route:
    """Return the route of a document, which every web page may read."""
    headers = {"Access-Control-Allow-Origin": "*"}
    content = FixedContent(data=encode(tree), media_type=JSON, headers=headers)

    async def show(request: Request) -> Response:
        return content.respond(request)

    return Route("/openapi.json", show)


def _components(
    statuses: Mapping[int, Sequence[Definition]], examples: Mapping[Reason, Mapping[str, JsonTree]]
) -> Tree:
    return {
        "responses": {
            **{str(status): _response(status, entries) for status, entries in statuses.items()},
            **dict.fromkeys(_RELAYED, _relayed()),
        },
        "examples": {
            CATALOGUE[reason].slug: {"summary": CATALOGUE[reason].title, "value": dict(example)}
            for reason, example in examples.items()
        },
        "headers": _HEADERS,
        "securitySchemes": {"basic": _BASIC},
    }


def _operation(examples: Examples, statuses: Mapping[int, Sequence[Definition]]) -> Tree:
    """Return what an operation has beside what the schema says, as a merge patch."""
    requests: Tree = {
        re.sub("[^a-z0-9]+", "-", title.lower()): {"summary": title, "value": _tree(request)}
        for title, request in examples.requests.items()
    }
    success: Tree = {
        "headers": _references("headers", _ALWAYS),
        "content": {JSON: {"example": _tree(examples.response)}},
    }
    return {
        # One of the two: with HTTP Basic, or without it and with both credentials in the body.
        "security": [{"basic": []}, {}],
        "requestBody": {"content": {FORM: {"examples": requests}, JSON: {"examples": requests}}},
        "responses": {
            "200": success,
            **_references("responses", [*map(str, statuses), *_RELAYED]),
        },
    }


def _response(status: int, entries: Sequence[Definition]) -> Tree:
    """Return the Response Object of the problems `entries`, which share a status."""
    lines = [f"* `{entry.karmo_code}` {entry.title}: {entry.explanation}" for entry in entries]
    names = [*_ALWAYS, *([_HEADERS_OF[status]] if status in _HEADERS_OF else [])]
    if any(entry.retry_after_seconds for entry in entries):
        names.append("Retry-After")
    content: Tree = {
        "schema": _reference("schemas", pb.ProblemDetails.DESCRIPTOR.name),
        "examples": _references("examples", [entry.slug for entry in entries]),
    }
    return {
        "description": "\n".join([f"{HTTPStatus(status).phrase}. By `karmoCode`:\n", *lines]),
        "headers": _references("headers", names),
        "content": {PROBLEM_JSON: content, JSON: content},
    }


def _relayed() -> Tree:
    """Return the Response Object of problems with a status that the catalogue does not have."""
    schema = _reference("schemas", pb.ProblemDetails.DESCRIPTOR.name)
    return {
        "description": "A problem with another status, as the auth-api reported it.",
        "headers": _references("headers", _ALWAYS),
        "content": {PROBLEM_JSON: {"schema": schema}, JSON: {"schema": schema}},
    }


def _references(kind: str, names: Iterable[str]) -> Tree:
    return {name: _reference(kind, name) for name in names}


def _reference(kind: str, name: str) -> Tree:
    return {"$ref": f"#/components/{kind}/{name}"}


def _by_status() -> Mapping[int, Sequence[Definition]]:
    """Return the catalogue by HTTP status, in the order of the statuses."""
    entries = sorted(CATALOGUE.values(), key=attrgetter("http_status"))
    return {status: list(group) for status, group in groupby(entries, attrgetter("http_status"))}


def _tree(message: Message) -> Tree:
    tree: Tree = MessageToDict(message)
    return tree


def _comments() -> Comments:
    data = files("karmo").joinpath("descriptors.binpb").read_bytes()
    return comments.read(FileDescriptorSet.FromString(data))
