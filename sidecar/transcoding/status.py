"""Status of a gRPC call, and its mapping to an HTTP status.

The status of a failed call is that of the service, or one that gRPC core makes itself. Core uses
the codes of services too, so only its texts show the difference (grpcio 1.85).
"""

import logging
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError
from grpc_status import rpc_status

from sidecar.transcoding.errors import (
    MessageTooLargeError,
    MetadataTooLargeError,
    RequestError,
    ResponseError,
)

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


def failure_of(error: AioRpcError) -> AioRpcError | ResponseError | RequestError:
    """Return the error to raise for a failed call.

    * `error` itself if it has the status of the service.
    * RequestError or ResponseError if a message or metadata is beyond a limit of gRPC.
    * Else an error without a text. It has the code of core if that blames nobody; any other code
      is logged with its text, and becomes UNAVAILABLE.
    """
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        for pattern, failure in _BEYOND_LIMITS.items():
            if pattern.match(text):
                return failure()
    if not _OF_CORE.match(text):
        return error
    if code not in _NEUTRAL_CODES:
        _LOG.error("a call ended without a status of the service (%s): %s", code.name, text)
        code = grpc.StatusCode.UNAVAILABLE
    return AioRpcError(code, error.initial_metadata(), error.trailing_metadata())


def _large_response() -> ResponseError:
    return ResponseError("it is larger than the channel accepts")


def _large_metadata() -> ResponseError:
    return ResponseError("its metadata is larger than the channel accepts")


# By the texts of core: in this process, or in a server before its handler runs.
_BEYOND_LIMITS: Mapping[re.Pattern[str], Callable[[], ResponseError | RequestError]] = (
    MappingProxyType(
        {
            re.compile(pattern): failure
            for pattern, failure in (
                ("(?:CLIENT: Sent|SERVER: Received) message larger than", MessageTooLargeError),
                ("received metadata size exceeds", MetadataTooLargeError),
                (r"(?:Stream removed \()?CLIENT: Received message larger than", _large_response),
                ("Decompressed message larger than", _large_response),
                (r"Stream removed \(received metadata size exceeds", _large_metadata),
            )
        }
    )
)
# In turn: a stream that was reset, cut off or too late; a response of HTTP without gRPC; a response
# without a status; a deadline that passed in this process.
_OF_CORE = re.compile(
    r"Stream removed \(|Received http2 header with status: |No status received$|Deadline Exceeded$"
)
# The codes that blame neither the service nor its caller.
_NEUTRAL_CODES = frozenset(
    {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
_LOG = logging.getLogger(__name__)


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
