"""The problems of the contract, as data.

Written by hand and not read from the catalogue, so that a change there that callers would
notice fails the tests. `checks` has the checks.
"""

from dataclasses import dataclass, replace

import grpc

from tests.ways import PUBLIC_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedProblem:
    """A problem of any protocol, without the members that differ between two occurrences.

    `detail`: None allows any text; an empty text means that there must be no detail.
    `pointers` are those of `karmoErrors`, in order. `retry` is in seconds.
    """

    status: int
    karmo_code: str
    error: str
    code: grpc.StatusCode
    reason: str
    title: str
    type: str
    detail: str | None = None
    pointers: tuple[str, ...] = ()
    retry: int | None = None

    def at(self, *pointers: str) -> "ExpectedProblem":
        """Return the same problem with violations at `pointers`."""
        return replace(self, pointers=pointers)


def _type(slug: str) -> str:
    return f"{PUBLIC_URL}/problems/{slug}"


INVALID_REQUEST = ExpectedProblem(
    status=400,
    karmo_code="40010001",
    error="invalid_request",
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="INVALID_REQUEST",
    title="Invalid request",
    type=_type("invalid-request"),
)
UNSUPPORTED_GRANT_TYPE = ExpectedProblem(
    status=400,
    karmo_code="40010002",
    error="unsupported_grant_type",
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="UNSUPPORTED_GRANT_TYPE",
    title="Unsupported grant type",
    type=_type("unsupported-grant-type"),
)
INVALID_SCOPE = ExpectedProblem(
    status=400,
    karmo_code="40010003",
    error="invalid_scope",
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="INVALID_SCOPE",
    title="Invalid scope",
    type=_type("invalid-scope"),
)
UNAUTHORIZED_CLIENT = ExpectedProblem(
    status=400,
    karmo_code="40020001",
    error="unauthorized_client",
    code=grpc.StatusCode.FAILED_PRECONDITION,
    reason="UNAUTHORIZED_CLIENT",
    title="Unauthorized client",
    type=_type("unauthorized-client"),
)
INVALID_CLIENT = ExpectedProblem(
    status=401,
    karmo_code="40120001",
    error="invalid_client",
    code=grpc.StatusCode.UNAUTHENTICATED,
    reason="INVALID_CLIENT",
    title="Client authentication failed",
    type=_type("invalid-client"),
)
ACCESS_DENIED = ExpectedProblem(
    status=403,
    karmo_code="40320001",
    error="access_denied",
    code=grpc.StatusCode.PERMISSION_DENIED,
    reason="ACCESS_DENIED",
    title="Access denied",
    type=_type("access-denied"),
)
NOT_FOUND = ExpectedProblem(
    status=404,
    karmo_code="40400001",
    error="invalid_request",
    code=grpc.StatusCode.UNIMPLEMENTED,
    reason="NOT_FOUND",
    title="Not found",
    type=_type("not-found"),
)
RESOURCE_NOT_FOUND = ExpectedProblem(
    status=404,
    karmo_code="40430001",
    error="invalid_request",
    code=grpc.StatusCode.NOT_FOUND,
    reason="RESOURCE_NOT_FOUND",
    title="Resource not found",
    type=_type("resource-not-found"),
)
METHOD_NOT_ALLOWED = ExpectedProblem(
    status=405,
    karmo_code="40500001",
    error="invalid_request",
    code=grpc.StatusCode.UNIMPLEMENTED,
    reason="METHOD_NOT_ALLOWED",
    title="Method not allowed",
    type=_type("method-not-allowed"),
)
CONFLICT = ExpectedProblem(
    status=409,
    karmo_code="40930001",
    error="invalid_request",
    code=grpc.StatusCode.ABORTED,
    reason="CONFLICT",
    title="Conflict",
    type=_type("conflict"),
)
CONTENT_TOO_LARGE = ExpectedProblem(
    status=413,
    karmo_code="41300001",
    error="invalid_request",
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="CONTENT_TOO_LARGE",
    title="Content too large",
    type=_type("content-too-large"),
)
UNSUPPORTED_MEDIA_TYPE = ExpectedProblem(
    status=415,
    karmo_code="41500001",
    error="invalid_request",
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="UNSUPPORTED_MEDIA_TYPE",
    title="Unsupported media type",
    type=_type("unsupported-media-type"),
)
UNPROCESSABLE_CONTENT = ExpectedProblem(
    status=422,
    karmo_code="42230001",
    error="invalid_request",
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="UNPROCESSABLE_CONTENT",
    title="Unprocessable content",
    type=_type("unprocessable-content"),
)
TOO_MANY_REQUESTS = ExpectedProblem(
    status=429,
    karmo_code="42930001",
    error="temporarily_unavailable",
    code=grpc.StatusCode.RESOURCE_EXHAUSTED,
    reason="TOO_MANY_REQUESTS",
    title="Too many requests",
    type=_type("too-many-requests"),
    retry=1,
)
INTERNAL = ExpectedProblem(
    status=500,
    karmo_code="50090001",
    error="server_error",
    code=grpc.StatusCode.INTERNAL,
    reason="INTERNAL",
    title="Internal error",
    type=_type("internal-error"),
)
UPSTREAM_BAD_ANSWER = ExpectedProblem(
    status=502,
    karmo_code="50230001",
    error="server_error",
    code=grpc.StatusCode.INTERNAL,
    reason="UPSTREAM_BAD_ANSWER",
    title="Bad answer from the auth-api",
    type=_type("upstream-bad-answer"),
)
UPSTREAM_CONNECTION_LOST = ExpectedProblem(
    status=502,
    karmo_code="50230002",
    error="server_error",
    code=grpc.StatusCode.UNAVAILABLE,
    reason="UPSTREAM_CONNECTION_LOST",
    title="Connection to the auth-api lost",
    type=_type("upstream-connection-lost"),
    retry=1,
)
UPSTREAM_UNAVAILABLE = ExpectedProblem(
    status=503,
    karmo_code="50330001",
    error="temporarily_unavailable",
    code=grpc.StatusCode.UNAVAILABLE,
    reason="UPSTREAM_UNAVAILABLE",
    title="Auth-api unavailable",
    type=_type("upstream-unavailable"),
    retry=1,
)
UPSTREAM_TIMEOUT = ExpectedProblem(
    status=504,
    karmo_code="50430001",
    error="temporarily_unavailable",
    code=grpc.StatusCode.DEADLINE_EXCEEDED,
    reason="UPSTREAM_TIMEOUT",
    title="Auth-api timeout",
    type=_type("upstream-timeout"),
    retry=1,
)
