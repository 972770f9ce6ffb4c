"""An interceptor that runs others once for each method, and keeps the handlers that they return.

grpc.aio runs every interceptor of a server for each call, and each of them would make a handler.
"""

from functools import partial

import grpc

from sidecar.interceptors.handlers import Continuation, Handler


class HandlerCache(grpc.aio.ServerInterceptor):
    """Runs `interceptors`, outermost first, at the first call of each served method.

    Their handlers are kept by the name of the method. So a handler must depend on the method only;
    it reads the rest of a call from its context. A method that is not served is not kept, because
    its name is any text of the caller: the interceptors run for each of its calls.
    """

    def __init__(self, *interceptors: grpc.aio.ServerInterceptor) -> None:
        self._interceptors = interceptors
        self._handlers: dict[str, Handler | None] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the method, as all interceptors return it."""
        method = handler_call_details.method
        if method in self._handlers:
            return self._handlers[method]
        served = await continuation(handler_call_details)
        find = _continuation_to(served)
        for interceptor in reversed(self._interceptors):
            find = partial(interceptor.intercept_service, find)
        handler = await find(handler_call_details)
        if served is not None:
            self._handlers[method] = handler
        return handler


def _continuation_to(handler: "Handler | None") -> Continuation:
    """Return a continuation that returns `handler`."""

    async def find(_details: grpc.HandlerCallDetails) -> "Handler | None":
        return handler

    return find
