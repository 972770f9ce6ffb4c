"""The renderer of problem documents (RFC 9457): the response to every failed REST request."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from google.protobuf.json_format import MessageToJson
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from karmo.problem.v1 import problem_details_pb2 as pb
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sidecar.call import current_call
from sidecar.http_server.http1.refusal import StoppingError
from sidecar.problems import (
    CATALOGUE,
    FieldError,
    Problem,
    Reason,
    find_detail,
    nearest,
    to_status,
)
from sidecar.transcoding import media_type
from sidecar.transcoding.errors import RequestError
from sidecar.transcoding.status import HTTP_STATUS, phrase

# Reasons of the listener itself.
_REASONS: Mapping[int, Reason] = MappingProxyType({503: pb.PROBLEM_REASON_OVERLOADED})
_STOPPING = pb.PROBLEM_REASON_SERVICE_STOPPING
# RFC 7617 sections 2 and 2.1. `error` is for clients that read the challenge instead of the
# body.
CHALLENGE = 'Basic realm="partners-api", charset="UTF-8", error="invalid_client"'


def problem_of(error: RequestError) -> Problem:
    """Return the problem of a request that is no call.

    It keeps its status, also if no reason has that one.
    """
    reason = _REASONS.get(error.status) or nearest(error.status)
    is_known = CATALOGUE[reason].http_status == error.status
    return Problem(
        reason=_STOPPING if isinstance(error, StoppingError) else reason,
        status=None if is_known else error.status,
        title=None if is_known else phrase(error.status),
        detail=error.detail,
        errors=tuple(
            FieldError(detail=violation.detail, pointer=violation.pointer)
            for violation in error.violations
            if violation.pointer is not None
        ),
    )


class Renderer:
    """Renders problem documents. `public_url` is the base URL of the problem types."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url

    def render(self, request: Request, error: RequestError | Status) -> Response:
        """Return the response to a request that is no call, or to a call that failed."""
        if isinstance(error, Status):
            return self._respond(request, error)
        problem = problem_of(error)
        return self._respond(request, self._status(problem), **error.headers)

    def render_problem(self, request: Request, problem: Problem) -> Response:
        """Return the response with `problem`."""
        return self._respond(request, self._status(problem))

    def render_http(self, request: Request, error: Exception) -> Response:
        """Return the response to an HTTPException of Starlette's routes."""
        refusal = cast("HTTPException", error)  # registered for no other
        reason = nearest(refusal.status_code)
        problem = Problem(reason=reason)
        return self._respond(request, self._status(problem), **(refusal.headers or {}))

    def render_fault(self, request: Request, _error: Exception) -> Response:
        """Return the response to an internal error. The log has its type and frames."""
        reason = pb.PROBLEM_REASON_INTERNAL
        problem = Problem(reason=reason)
        return self._respond(request, self._status(problem))

    def render_stopping(self, request: Request) -> Response:
        """Return the response to a request that the end of the process cuts off."""
        problem = Problem(reason=_STOPPING)
        return self._respond(request, self._status(problem), Connection="close")

    def _status(self, problem: Problem) -> Status:
        request_id = current_call().request_id
        return to_status(problem, request_id=request_id, public_url=self._public_url)

    def _respond(self, request: Request, status: Status, **headers: str) -> Response:
        details = find_detail(status, pb.ProblemDetails)
        if details is None or not 400 <= details.status <= 599:
            # The peer sends only codes, or details of its own.
            reason = nearest(HTTP_STATUS.get(status.code, 500))
            return self._respond(request, self._status(Problem(reason=reason)), **headers)
        info = find_detail(status, ErrorInfo) or ErrorInfo()
        current_call().note(karmo_code=details.karmo_code, reason=info.reason)
        retry = find_detail(status, RetryInfo)
        if retry is not None:
            headers["Retry-After"] = str(retry.retry_delay.seconds)
        if details.status == 401:  # RFC 9110 section 15.5.2, and nowhere else
            headers["WWW-Authenticate"] = CHALLENGE
        return Response(
            MessageToJson(details, indent=None, ensure_ascii=False),
            status_code=details.status,
            media_type=media_type.choose_problem(request.headers.getlist("accept")),
            headers={"Vary": "Accept", "Content-Language": "en", **headers},
        )
