"""The composition root: builds every part, and lets it live and end in the right order.

The only module that knows all the others. One process has one event loop.
"""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from socket import socket
from typing import cast

import grpc
from karmo.auth.v1 import token_service_pb2
from karmo.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server
from starlette.types import ASGIApp

from sidecar import admin_app, logs, rest_app, sockets
from sidecar.auth_api import AuthApi
from sidecar.grpc_server import GrpcServer
from sidecar.guard import Guard
from sidecar.http_listener import HttpListener
from sidecar.in_process import InProcessChannel
from sidecar.settings import Address, Settings
from sidecar.sockets import address_of
from sidecar.token_service import TokenService

SERVICES = (token_service_pb2.DESCRIPTOR.services_by_name["TokenService"],)
# The longest that calls in flight may take to end after a signal, in seconds.
GRACE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a running sidecar listens, and what it calls.

    `auth_api` is the embedded one, if there is one; `token_url` is the one in use.
    """

    rest: Address
    grpc: Address
    admin: Address
    auth_api: Address | None
    token_url: str

    def told(self) -> dict[str, str]:
        """Return the addresses that there are, by name."""
        named = {"rest": self.rest, "grpc": self.grpc, "admin": self.admin}
        embedded = {"auth_api": self.auth_api} if self.auth_api else {}
        told = {name: str(address) for name, address in (named | embedded).items()}
        return told | {"auth_api_token_url": self.token_url}


async def run(
    settings: Settings, *, embeds_auth_api: bool, announce: Callable[[Addresses], None]
) -> None:
    """Serve until SIGTERM or SIGINT, let the calls in flight end, and return.

    `announce` is called once, when everything answers. Raises OSError, in one
    line that names the address, when one of them is in use.
    """
    stop = _catch_signals()
    asyncio.get_running_loop().set_exception_handler(logs.loop_failure)
    async with running(settings, embeds_auth_api=embeds_auth_api) as addresses:
        # What lives as long as the process need not be looked at with each large request.
        gc.collect()
        gc.freeze()
        announce(addresses)
        logs.event("serving", **addresses.told())
        await stop.wait()
        logs.event("stopping")
    logs.event("stopped")


@asynccontextmanager
async def running(settings: Settings, *, embeds_auth_api: bool) -> AsyncIterator[Addresses]:
    """Run a sidecar, and with `embeds_auth_api` the auth-api that it calls, inside the context.

    At its end no call is taken any more, those in flight have `GRACE` seconds
    to finish, and everything is given back. Raises OSError.
    """
    async with AsyncExitStack() as stack:
        rest_socket = _bind(stack, settings.rest_listen)
        admin_socket = _bind(stack, settings.admin_listen)
        embedded_socket = _bind(stack, settings.dev_auth_api_listen) if embeds_auth_api else None
        public_url = settings.public_url or f"http://{address_of(rest_socket)}"
        server = GrpcServer(SERVICES, public_url=public_url, reflects=settings.grpc_reflection)
        embedded = address_of(embedded_socket) if embedded_socket else None
        addresses = Addresses(
            rest=address_of(rest_socket),
            grpc=server.bind(settings.grpc_listen),
            admin=address_of(admin_socket),
            auth_api=embedded,
            token_url=settings.auth_api_token_url or f"http://{embedded}/v1/oauth/token",
        )
        is_ready = asyncio.Event()
        await _serve(stack, admin_app.build(is_ready.is_set), admin_socket)
        if embedded_socket is not None:
            await _serve(stack, _build_embedded(embedded_socket), embedded_socket)
        auth_api = AuthApi(addresses.token_url, timeout=settings.auth_api_timeout)
        service = TokenService(await stack.enter_async_context(auth_api))
        channel = InProcessChannel(interceptors=(Guard(public_url),))
        add_TokenServiceServicer_to_server(service, server.server)
        # The channel takes handlers as a server does, which is all that is asked of it here.
        add_TokenServiceServicer_to_server(service, cast("grpc.aio.Server", channel))
        rest = HttpListener(
            rest_app.build(SERVICES, channel, public_url=public_url), rest_socket, grace=GRACE
        )
        await rest.start()
        stack.push_async_callback(_drain, rest, server, is_ready)
        await server.start()
        await server.set_serving(serving=True)
        is_ready.set()
        yield addresses


async def _drain(rest: HttpListener, server: GrpcServer, is_ready: asyncio.Event) -> None:
    """Say that no more calls are wanted, then let those in flight end, on both protocols."""
    is_ready.clear()
    await server.set_serving(serving=False)
    await asyncio.gather(rest.stop(), server.stop(GRACE))


def _bind(stack: AsyncExitStack, address: Address) -> socket:
    return stack.enter_context(closing(sockets.listen(address)))


async def _serve(stack: AsyncExitStack, app: ASGIApp, bound: socket) -> None:
    listener = HttpListener(app, bound, grace=GRACE)
    await listener.start()
    stack.push_async_callback(listener.stop)


def _build_embedded(bound: socket) -> ASGIApp:
    # Its signing library comes with the extra `dev`; `serve` runs without it.
    from sidecar import dev_auth_api  # noqa: PLC0415

    return dev_auth_api.build(issuer=f"http://{address_of(bound)}")


def _catch_signals() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
