"""The health service (gRPC health checking protocol) for the server and its services.

That of grpcio-health-checking writes to a watch inside a lock. A client that did not read its watch
would stop all watches and every change of the status, so that the process could not shut down.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.interceptors.handlers import Context

_Response = health_pb2.HealthCheckResponse
_UNKNOWN = "The server has no such service."


class Health(health_pb2_grpc.HealthServicer):
    """One status for the server, whose name is empty, and for `services`: first NOT_SERVING."""

    def __init__(self, services: Iterable[str]) -> None:
        self._names = frozenset(("", *services))
        self._status: int = _Response.NOT_SERVING
        self._changed = asyncio.Event()

    def set_serving(self, *, serving: bool) -> None:
        """Set the status. Watches learn of it."""
        self._status = _Response.SERVING if serving else _Response.NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802 the name of the RPC
        """Return the status. An unknown service is NOT_FOUND."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, _UNKNOWN)
        return _Response(status=self._status)

    async def Watch(self, request: Any, context: Context) -> None:  # noqa: N802 as above
        """Write the status, and each new one. An unknown service is SERVICE_UNKNOWN."""
        last = None
        while True:
            changed = self._changed
            is_known = request.service in self._names
            status = self._status if is_known else _Response.SERVICE_UNKNOWN
            if status != last:
                await context.write(_Response(status=status))
                last = status
            await changed.wait()
