"""Examples of problem documents: one for each problem, as the server gives it."""

from collections.abc import Iterator, Mapping

from google.protobuf.json_format import MessageToDict
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.http_server.http1 import request_head
from sidecar.http_server.http1.refusal import RefusedError
from sidecar.problems import CATALOGUE, Problem, Reason, find_detail, to_status
from sidecar.rest.problem_documents import problem_of
from sidecar.transcoding.body import Shape
from sidecar.transcoding.body_formats import choose_reader
from sidecar.transcoding.errors import (
    ContentTooLargeError,
    MethodNotAllowedError,
    NotServedError,
    PathNotFoundError,
    RequestError,
    UnsupportedMediaTypeError,
)
from sidecar.transcoding.strict_json import JsonTree

# Heads of requests that the listener refuses, with a target and with fields that are too long.
_TOO_LONG = (
    b"GET /" + b"x" * request_head.MAX_LINE_BYTES,
    b"GET / HTTP/1.1\r\n" + b"x" * request_head.MAX_BYTES,
)
_REQUEST_ID = "5b0c7b2e-3c8f-4f0a-9d52-1f6f0f9b9a11"


def documents(
    examples: Mapping[Reason, Problem], *, public_url: str, max_body_bytes: int
) -> Mapping[Reason, Mapping[str, JsonTree]]:
    """Return an example of every problem of the catalogue.

    `examples` are the problems of the services whose detail is not the text of the catalogue.
    `public_url` is the base of the problem types, `max_body_bytes` the limit of a body.
    """
    own = {problem.reason: problem for problem in map(problem_of, _errors(max_body_bytes))}
    chosen = {**own, **examples}
    return {
        reason: _document(chosen.get(reason) or Problem(reason=reason), public_url)
        for reason in CATALOGUE
    }


def _errors(max_body_bytes: int) -> Iterator[RequestError]:
    yield PathNotFoundError()
    yield MethodNotAllowedError("POST, OPTIONS", template="/v1/oauth/token")
    yield NotServedError(takes_stream=True)
    yield ContentTooLargeError(max_body_bytes, is_last=True)
    try:
        choose_reader(Shape.OBJECT, ["text/plain"], [])
    except UnsupportedMediaTypeError as error:
        yield error
    for head in _TOO_LONG:
        try:
            request_head.read(head)
        except RefusedError as error:
            yield error


def _document(problem: Problem, public_url: str) -> Mapping[str, JsonTree]:
    status = to_status(problem, request_id=_REQUEST_ID, public_url=public_url)
    document: Mapping[str, JsonTree] = MessageToDict(
        find_detail(status, pb.ProblemDetails) or pb.ProblemDetails()
    )
    return document
