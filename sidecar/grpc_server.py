"""The gRPC server: its interceptors, its access log, its health, and its schema for tools."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from sidecar import logs, sockets
from sidecar.guard import (
    Behavior,
    Context,
    Continuation,
    Guard,
    Handler,
    is_being_cancelled,
    rewrap,
)
from sidecar.settings import Address

_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
# Their stubs name the type of descriptors by its implementation.
_REFLECTION: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_OPTIONS = (
    # Or two processes on one port split the calls between them without a word.
    ("grpc.so_reuseport", 0),
)


class GrpcServer:
    """A gRPC server for `services`, whose servicers are still to be added to `server`.

    `public_url` is the base of the problem types. `reflects` lets tools such as
    grpcurl ask for the schema.
    """

    def __init__(
        self, services: Sequence[ServiceDescriptor], *, public_url: str, reflects: bool
    ) -> None:
        self._health = health.aio.HealthServicer()
        self._health_names = (health.OVERALL_HEALTH, *(service.full_name for service in services))
        offered: list[ServiceDescriptor] = [
            *services,
            _HEALTH,
            *([_REFLECTION] if reflects else []),
        ]
        self._streams = StreamEnder()
        interceptors = (AccessLog(offered), self._streams, Guard(public_url))
        self.server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        if reflects:
            names = [service.full_name for service in offered]
            reflection.enable_server_reflection(names, self.server)

    def bind(self, address: Address) -> Address:
        """Take the address; return it with its port, if that was 0. Raises OSError."""
        # gRPC takes no socket of ours, and tells of a busy port by lines of its own on
        # standard error. So the address is tried first.
        sockets.listen(address).close()
        try:
            port = self.server.add_insecure_port(str(address))
        except RuntimeError:  # pragma: no cover - taken since, which no test can time
            raise OSError(f"cannot listen on {address}") from None
        return Address(address.host, port)

    async def start(self) -> None:
        """Begin to answer calls, though not yet healthy."""
        await self.set_serving(serving=False)
        await self.server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell those who ask for the health of the server, or of a service of it."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in self._health_names:
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """End the streams, refuse new calls, and give those in flight `grace` seconds to end."""
        self._streams.end()
        await self.server.stop(grace)


class AccessLog(grpc.aio.ServerInterceptor):
    """Opens the call that records belong to, and writes the access line of each call.

    Only names of methods of `services` are written: others are the caller's text.
    """

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
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
                notes = {"protocol": "grpc", "method": method, "peer": context.peer()}
                with logs.access(_open(context), **notes) as call:
                    try:
                        response = await behavior(request, context)
                    except BaseException:
                        call.note(code=_code(context, "UNKNOWN"))
                        raise
                    call.note(code=_code(context, "OK"))
                    return response

            return logged

        return handler and rewrap(handler, log)


class StreamEnder(grpc.aio.ServerInterceptor):
    """Ends the streams when the server stops, which would wait for them in vain.

    A watch of the health, for one, stays open until its caller leaves.
    """

    def __init__(self) -> None:
        self._ending = asyncio.Event()

    def end(self) -> None:
        """End all streams, with UNAVAILABLE: their callers may go on elsewhere."""
        self._ending.set()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call; a streaming one will end with the server."""
        handler = await continuation(handler_call_details)
        if handler and (handler.request_streaming or handler.response_streaming):
            return rewrap(handler, self._bound)
        return handler

    def _bound(self, behavior: Behavior, _handler: Handler) -> Behavior:
        async def bounded(request: Any, context: Context) -> Any:
            serving = asyncio.ensure_future(behavior(request, context))
            ending = asyncio.ensure_future(self._ending.wait())
            try:
                await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not serving.done():
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
                return await serving
            finally:
                serving.cancel()
                ending.cancel()

        return bounded


def _open(context: Context) -> logs.Call:
    # A key without the suffix -bin has text for its value.
    metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
    return logs.Call.of(
        request_id=metadata.get("x-request-id"), traceparent=metadata.get("traceparent")
    )


def _code(context: Context, unset: str) -> str:
    """Return the code of the call as its caller saw it; `unset` if its handler has set none."""
    if is_being_cancelled():
        return "DEADLINE_EXCEEDED" if context.time_remaining() == 0 else "CANCELLED"
    code: grpc.StatusCode | None = context.code()
    return unset if code is None else code.name
