"""An interceptor that limits the metadata of a call.

gRPC core has limits of its own, which must be higher than this one, because its refusals have no
details. It enforces them once a client has acknowledged the settings that contain them (RFC 9113
section 6.5.3). From a client that never does, it accepts 16 MiB: for example a thousand
references of one byte to one large field (RFC 7541).
"""

from typing import Any

import grpc
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.handlers import Behavior, Context, Continuation, Handler, rewrap, run
from sidecar.problems import Problem, ProblemError

# Bytes that a field counts beside its name and its value (RFC 9113 section 6.5.2).
_FIELD_OVERHEAD = 32


class MetadataLimit(grpc.aio.ServerInterceptor):
    """Refuses a call with more than `limit` bytes of metadata, as RFC 9113 counts them.

    With RequestMessage behind it, it does so before the message of the call has come.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._too_large = Problem(
            reason=pb.PROBLEM_REASON_HEADER_FIELDS_TOO_LARGE,
            detail=f"The metadata must not be larger than {limit} bytes.",
        )

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, which refuses it if its metadata is too large."""
        handler = await continuation(handler_call_details)
        return handler and rewrap(handler, self._wrap)

    def _wrap(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def limited(request: Any, context: Context) -> Any:
            size = 0
            for key, value in context.invocation_metadata() or ():
                size += len(key) + len(value) + _FIELD_OVERHEAD
            if size > self._limit:
                raise ProblemError(self._too_large)
            return await run(behavior, handler, request, context)

        return limited
