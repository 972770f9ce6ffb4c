"""The limit of metadata, held also against those to whom gRPC core does not hold it.

Core holds a client to its limit once that has acknowledged the settings that tell
it (RFC 9113 section 6.5.3). From a client that never does it takes 16 MiB, which
may be a thousand references to one field (RFC 7541), of one byte each.
"""

from typing import Any, NoReturn

import grpc
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.handlers import Context, Continuation, Handler
from sidecar.problems import Problem, ProblemError

# What a field takes beside its name and its value (RFC 9113 section 6.5.2), in bytes.
_PER_FIELD = 32


class MetadataLimit(grpc.aio.ServerInterceptor):
    """Refuses every call with more than `most` bytes of metadata, as RFC 9113 counts them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._too_large = Problem(
            reason=pb.PROBLEM_REASON_HEADER_FIELDS_TOO_LARGE,
            detail=f"The metadata must not be larger than {most} bytes.",
        )
        # As a stream it is called at once: of a unary call the message is awaited before.
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, or one that refuses it."""
        fields = handler_call_details.invocation_metadata or ()
        size = sum(len(key) + len(value) + _PER_FIELD for key, value in fields)
        return self._refusal if size > self._most else await continuation(handler_call_details)

    async def _refuse(self, _requests: Any, _context: Context) -> NoReturn:
        raise ProblemError(self._too_large)
