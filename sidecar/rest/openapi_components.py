"""Components of the OpenAPI document that no schema declares: responses, headers, security."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import CATALOGUE, Definition, Reason
from sidecar.transcoding.media_type import JSON, PROBLEM_JSON
from sidecar.transcoding.status import phrase
from sidecar.transcoding.strict_json import JsonTree

Tree = dict[str, JsonTree]

_by_status = attrgetter("http_status")
# The catalogue by HTTP status, in the order of the statuses.
_BY_STATUS: Mapping[int, Sequence[Definition]] = {
    status: list(entries)
    for status, entries in groupby(sorted(CATALOGUE.values(), key=_by_status), _by_status)
}
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
# The names of all error responses.
ERRORS = (*map(str, _BY_STATUS), *_RELAYED)
ALWAYS = ("X-Request-Id", "Cache-Control")
_BASIC: Tree = {
    "type": "http",
    "scheme": "basic",
    "description": "Identifier and secret of the client, each form-encoded before they are joined "
    "(RFC 6749 section 2.3.1). With it the body has no client_secret.",
}


def components(examples: Mapping[Reason, Mapping[str, JsonTree]]) -> Tree:
    """Return the components beside the schemas. `examples` are the examples of problems."""
    return {
        "responses": {
            **{str(status): _response(status, entries) for status, entries in _BY_STATUS.items()},
            **dict.fromkeys(_RELAYED, _relayed()),
        },
        "examples": {
            CATALOGUE[reason].slug: {"summary": CATALOGUE[reason].title, "value": dict(example)}
            for reason, example in examples.items()
        },
        "headers": _HEADERS,
        "securitySchemes": {"basic": _BASIC},
    }


def _response(status: int, entries: Sequence[Definition]) -> Tree:
    """Return the Response Object of the problems `entries`, which share a status."""
    lines = [f"* `{entry.karmo_code}` {entry.title}: {entry.explanation}" for entry in entries]
    names = [*ALWAYS, *([_HEADERS_OF[status]] if status in _HEADERS_OF else [])]
    if any(entry.retry_after_seconds for entry in entries):
        names.append("Retry-After")
    content: Tree = {
        "schema": _reference("schemas", pb.ProblemDetails.DESCRIPTOR.name),
        "examples": references("examples", [entry.slug for entry in entries]),
    }
    return {
        "description": "\n".join([f"{phrase(status)}. By `karmoCode`:\n", *lines]),
        "headers": references("headers", names),
        "content": {PROBLEM_JSON: content, JSON: content},
    }


def _relayed() -> Tree:
    """Return the Response Object of problems with a status that the catalogue does not have."""
    schema = _reference("schemas", pb.ProblemDetails.DESCRIPTOR.name)
    return {
        "description": "A problem with another status, as the auth-api reported it.",
        "headers": references("headers", ALWAYS),
        "content": {PROBLEM_JSON: {"schema": schema}, JSON: {"schema": schema}},
    }


def references(kind: str, names: Iterable[str]) -> Tree:
    """Return references to components of a kind, by their names."""
    return {name: _reference(kind, name) for name in names}


def _reference(kind: str, name: str) -> Tree:
    return {"$ref": f"#/components/{kind}/{name}"}
