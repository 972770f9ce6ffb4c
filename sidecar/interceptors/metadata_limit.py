"""An interceptor that limits the metadata of a call.

gRPC core has limits of its own, which must be higher than this one: between them it refuses by
chance, and without details. It enforces them once a client has acknowledged the settings with
them (RFC 9113 section 6.5.3). From a client that never does, it accepts 16 MiB: for example a
thousand references of one byte to one large field (RFC 7541).
"""

from typing import Any, NoReturn

import grpc
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.handlers import Context, Continuation, Handler
from sidecar.problems import Problem, ProblemError

# Bytes that a field counts beside its name and its value (RFC 9113 section 6.5.2).
_FIELD_OVERHEAD = 32


class MetadataLimit(grpc.aio.ServerInterceptor):
    """Refuses a call with more than `limit` bytes of metadata, as RFC 9113 counts them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._too_large = Problem(
            reason=pb.PROBLEM_REASON_HEADER_FIELDS_TOO_LARGE,
            detail=f"The metadata must not be larger than {limit} bytes.",
        )
        # A streaming handler is called at once; a unary one only after its message.
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, or one that refuses it."""
        fields = handler_call_details.invocation_metadata or ()
        size = sum(len(key) + len(value) + _FIELD_OVERHEAD for key, value in fields)
        return self._refusal if size > self._limit else await continuation(handler_call_details)

    async def _refuse(self, _requests: Any, _context: Context) -> NoReturn:
        raise ProblemError(self._too_large)
