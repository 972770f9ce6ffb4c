"""The access log of gRPC: one line for each call."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from sidecar import logs
from sidecar.call import Call
from sidecar.client_address import UNIX_PEER
from sidecar.interceptors.handlers import (
    Behavior,
    Context,
    Continuation,
    Handler,
    is_being_cancelled,
    rewrap,
)
from sidecar.spans import Tracer


class AccessLog(grpc.aio.ServerInterceptor):
    """Enters the call for the records of its task, and writes its access line.

    The names of methods of `services` are written; any other name is text of the caller
    and is written as "unknown". `calls` is the number of calls so far. With `tracer` a call
    has a span. `observe` gets the values of each line.
    """

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        trusted_proxies: int = 0,
        *,
        tracer: Tracer | None = None,
        observe: logs.Observe | None = None,
    ) -> None:
        self.calls = 0
        self._trusted_proxies = trusted_proxies
        self._tracer = tracer
        self._observe = observe
        self._methods = frozenset(
            f"/{service.full_name}/{method.name}"
            for service in services
            for method in service.methods
        )

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, with its access line."""
        handler = await continuation(handler_call_details)
        name = handler_call_details.method
        method = name if name in self._methods else "unknown"

        def log(behavior: Behavior, _handler: Handler) -> Behavior:
            async def logged(request: Any, context: Context) -> Any:
                self.calls += 1
                peer = _peer(context.peer())
                notes = {"protocol": "grpc", "method": method, "peer": peer}
                call = _open(context, peer, self._trusted_proxies)
                if self._tracer is not None:
                    span = self._tracer.start_grpc(call.traceparent, call.tracestate, method=method)
                    call = call.within(span)
                with logs.access(call, self._observe, **notes):
                    try:
                        response = await behavior(request, context)
                    except BaseException:
                        call.note(code=code_of(context, "UNKNOWN"))
                        raise
                    call.note(code=code_of(context, "OK"))
                    return response

            return logged

        return handler and rewrap(handler, log)


def _open(context: Context, peer: str, trusted_proxies: int) -> Call:
    # A key without the suffix -bin has text for its value.
    metadata = ((key, str(value)) for key, value in context.invocation_metadata() or ())
    return Call.received(metadata, _host(peer), trusted_proxies=trusted_proxies)


@lru_cache(maxsize=1024)  # a connection has many calls
def _peer(name: str) -> str:
    """Return the IP address and port of the client, or UNIX_PEER.

    gRPC has them as `ipv4:127.0.0.1:1` and `ipv6:%5B::1%5D:1`, and `unix:` with a path or without.
    """
    scheme, _, address = unquote(name).partition(":")
    return UNIX_PEER if scheme == "unix" else address


def _host(peer: str) -> str:
    return peer.rpartition(":")[0].strip("[]") or peer


def code_of(context: Context, unset: str) -> str:
    """Return the code of the call as its caller saw it; `unset` if its handler has set none."""
    if is_being_cancelled():
        return "DEADLINE_EXCEEDED" if context.time_remaining() == 0 else "CANCELLED"
    code: grpc.StatusCode | None = context.code()
    return unset if code is None else code.name
