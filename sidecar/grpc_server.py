"""The gRPC server: its interceptors, its access log, its health, and its schema for tools."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs, sockets
from sidecar.guard import (
    Behavior,
    Context,
    Continuation,
    Guard,
    Handler,
    is_being_cancelled,
    parse,
    rewrap,
)
from sidecar.problems import CATALOGUE, Problem, ProblemError
from sidecar.settings import Address

_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
# Their stubs name the type of descriptors by its implementation.
_REFLECTION: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_OPTIONS = (
    # Or two processes on one port split the calls between them without a word.
    ("grpc.so_reuseport", 0),
)
_CHECK_HEALTH = "/grpc.health.v1.Health/Check"
_STOPPING = Problem(
    reason=pb.PROBLEM_REASON_SERVICE_STOPPING,
    detail=CATALOGUE[pb.PROBLEM_REASON_SERVICE_STOPPING].explanation,
)
# What the last answers, and the last news to who watches the health, may take, in seconds.
_LAST_BYTES = 0.5


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
        self._drain = Drain()
        interceptors = (AccessLog(offered), Guard(public_url), self._drain)
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
        """Refuse new calls, and give those in flight `grace` seconds to end."""
        await self._drain.run(grace)
        await self.server.stop(_LAST_BYTES)


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


class Drain(grpc.aio.ServerInterceptor):
    """Lets the server stop without a loss: refuses new calls, waits for those in flight.

    Health is still told, so that callers learn why. A stream, such as a watch of
    it, may stay open for ever, so it is not waited for.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._is_draining = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def run(self, grace: float) -> None:
        """Return when no call is in flight any more, or after `grace` seconds."""
        self._is_draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), grace)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, which the drain then knows of."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method == _CHECK_HEALTH:
            return handler
        if handler.request_streaming or handler.response_streaming:
            return handler
        return rewrap(handler, self._count)

    def _count(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def counted(request: Any, context: Context) -> Any:
            if self._is_draining:
                raise ProblemError(_STOPPING)
            self._calls += 1
            self._is_idle.clear()
            try:
                return await behavior(parse(request, handler), context)
            finally:
                self._calls -= 1
                if not self._calls:
                    self._is_idle.set()

        return counted


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
