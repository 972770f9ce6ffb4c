"""The span of the RPC that a REST request was transcoded into.

It begins when the request is complete, and ends before the response is written.
"""

from typing import Any

import grpc

from sidecar.call import current_call, entered
from sidecar.interceptors.access_log import code_of
from sidecar.interceptors.handlers import Behavior, Context, Continuation, Handler, rewrap


class CallSpan(grpc.aio.ServerInterceptor):
    """Starts a span below the one of the current call, for the handler of an RPC."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, in its span."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method

        def trace(behavior: Behavior, _handler: Handler) -> Behavior:
            async def traced(request: Any, context: Context) -> Any:
                call = current_call()
                span = call.span and call.span.start_rpc(method)
                if span is None or span is call.span:
                    return await behavior(request, context)
                unset = "UNKNOWN"
                with entered(call.within(span)):
                    try:
                        response = await behavior(request, context)
                        unset = "OK"
                    finally:
                        span.end({**call.notes, "code": code_of(context, unset)})
                return response

            return traced

        return handler and rewrap(handler, trace)
