"""Status of a gRPC call, and its mapping to an HTTP status."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError
from grpc_status import rpc_status

from sidecar.transcoding.errors import ResponseError

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
HTTP_STATUS: Mapping[int, int] = MappingProxyType(
    {
        code_pb2.OK: 200,
        code_pb2.CANCELLED: 499,
        code_pb2.UNKNOWN: 500,
        code_pb2.INVALID_ARGUMENT: 400,
        code_pb2.DEADLINE_EXCEEDED: 504,
        code_pb2.NOT_FOUND: 404,
        code_pb2.ALREADY_EXISTS: 409,
        code_pb2.PERMISSION_DENIED: 403,
        code_pb2.RESOURCE_EXHAUSTED: 429,
        code_pb2.FAILED_PRECONDITION: 400,
        code_pb2.ABORTED: 409,
        code_pb2.OUT_OF_RANGE: 400,
        code_pb2.UNIMPLEMENTED: 501,
        code_pb2.INTERNAL: 500,
        code_pb2.UNAVAILABLE: 503,
        code_pb2.DATA_LOSS: 500,
        code_pb2.UNAUTHENTICATED: 401,
    }
)

# Phrases of RFC 9110 section 15.5, where older versions of Python have others. Proxies write 499
# if the client has disconnected.
_PHRASES: Mapping[int, str] = MappingProxyType(
    {
        413: "Content Too Large",
        414: "URI Too Long",
        416: "Range Not Satisfiable",
        422: "Unprocessable Content",
        499: "Client Closed Request",
    }
)


def phrase(status: int) -> str:
    """Return the reason phrase of an HTTP status, the same with every version of Python."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def check_size(error: AioRpcError) -> None:
    """Raise ResponseError if `error` is no status of the service, but the response was too large.

    gRPC core fails such a call itself, with the code of a service that refuses a caller. Only its
    text shows the difference.
    """
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or ""):
        raise ResponseError("it is larger than the channel accepts")


_TOO_LARGE = "CLIENT: Received message larger than max"


def read_status(error: AioRpcError) -> Status:
    """Return the status of a failed call, with its details if it has any.

    Details that cannot be decoded, or that contradict the call's code or message, are left out.
    """
    try:
        # The error has the accessors of a finished call; `from_call` uses nothing else.
        status: Status | None = rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError):
        status = None
    return status or Status(code=error.code().value[0], message=error.details() or "")
