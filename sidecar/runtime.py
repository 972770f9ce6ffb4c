"""The composition root: builds all parts, starts them, and stops them in the right order.

It is the only module that knows all others. One process has one event loop.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from socket import socket
from typing import cast

import grpc
from karmo.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server
from starlette.types import ASGIApp

from sidecar import admin_app, logs
from sidecar.api import EXAMPLES, MAX_REQUEST_BYTES, SERVICES, limits_of, read_samples
from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.auth_api.request import ClientAuthentication
from sidecar.exchange.service import TokenService
from sidecar.exchange.throttle import Throttle
from sidecar.grpc_server.server import GrpcLimits, GrpcServer
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener import HttpListener
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.process import file_limits, signals
from sidecar.process.drain import Drain
from sidecar.process.sockets import BACKLOG, Addresses, Sockets, address_of, naming
from sidecar.rest import app as rest_app
from sidecar.settings.model import Settings
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.tls import reloading
from sidecar.tls.certificates import Certificates


async def run(
    settings: Settings, *, embeds_auth_api: bool, announce: Callable[[Addresses], None]
) -> None:
    """Serve until a signal stops the process, let calls in flight finish, and return.

    `announce` is called once, when every listener accepts connections. Raises OSError, with
    one line that names the setting, if an address is in use.
    """
    asyncio.get_running_loop().set_exception_handler(logs.loop_failure)
    drain = drain_of(settings)
    signals.catch(drain)
    async with running(settings, embeds_auth_api=embeds_auth_api, drain=drain) as addresses:
        # Objects that live as long as the process are left out of later collections.
        gc.collect()
        gc.freeze()
        announce(addresses)
        logs.event("serving", **addresses.by_name())
        await drain.beginning()
        logs.event("stopping")
    logs.event("stopped")
    signals.ignore()


def drain_of(settings: Settings) -> Drain:
    """Return a drain with the times of `settings`."""
    return Drain(lame_duck=settings.lame_duck, timeout=settings.drain_timeout)


@asynccontextmanager
async def running(
    settings: Settings, *, embeds_auth_api: bool, drain: Drain | None = None
) -> AsyncIterator[Addresses]:
    """Run a sidecar inside the context; with `embeds_auth_api` also the auth-api that it calls.

    At the end of the context the sidecar serves new calls for the time of the lame duck,
    then gives calls in flight the time of the drain, and frees all resources. `drain` can be
    hastened. Raises OSError.
    """
    drain = drain or drain_of(settings)
    async with AsyncExitStack() as stack:
        bound = Sockets.bind(
            stack.enter_context(ExitStack()), settings, embeds_auth_api=embeds_auth_api
        )
        certificates = Certificates.load(settings)
        stack.callback(asyncio.create_task(reloading.watch(*certificates.parts)).cancel)
        public_url = settings.public_url_at(address_of(bound.rest))
        admission = Admission(settings.max_in_flight)
        server = _build_server(settings, admission, certificates, public_url)
        with naming("grpc_listen"):
            grpc_address = server.bind(settings.grpc_listen)
        addresses = bound.addresses(grpc_address, settings.auth_api_token_url)
        is_started = asyncio.Event()
        await _serve_auxiliary(stack, bound, is_started, drain)
        service = await _build_service(stack, settings, addresses.token_url, certificates)
        add_TokenServiceServicer_to_server(service, server.server)
        channel = InProcessChannel(interceptors=(ErrorBoundary(public_url), admission))
        # Here the channel only needs the methods of a server that add handlers.
        add_TokenServiceServicer_to_server(service, cast("grpc.aio.Server", channel))
        rest = _build_rest(settings, channel, admission, certificates, public_url, bound.rest)
        await rest.start()
        stack.push_async_callback(_stop, drain, rest, server, admission)
        await server.start()
        await server.set_serving(serving=True)
        is_started.set()
        yield addresses


async def _stop(drain: Drain, rest: HttpListener, server: GrpcServer, admission: Admission) -> None:
    """Begin the drain, pass its phases, and end the calls of both protocols."""
    drain.begin()
    await server.set_serving(serving=False)
    rest.retire()
    await drain.pass_lame_duck()

    def cut() -> None:
        admission.end_calls()
        server.cut(SHUTDOWN_MARGIN.responses / 2)
        rest.cut()

    grace = drain.timeout + SHUTDOWN_MARGIN.responses
    await drain.end(asyncio.gather(rest.stop(), server.stop(grace)), cut)


async def _serve_auxiliary(
    stack: AsyncExitStack, bound: Sockets, is_started: asyncio.Event, drain: Drain
) -> None:
    """Serve the admin application, and the embedded auth-api if there is one."""
    admin = admin_app.build(
        is_started=is_started.is_set,
        is_ready=lambda: is_started.is_set() and not drain.has_begun,
        drain=signals.stop_handler("POST /drain", drain.begin),
    )
    await _serve(stack, admin, bound.admin)
    if bound.embedded is not None:
        await _serve(stack, _build_embedded(bound.embedded), bound.embedded)


def _build_rest(
    settings: Settings,
    channel: grpc.aio.Channel,
    admission: Admission,
    certificates: Certificates,
    public_url: str,
    bound: socket,
) -> HttpListener:
    app = rest_app.build(
        SERVICES,
        channel,
        public_url=public_url,
        examples=EXAMPLES,
        limits=limits_of(settings),
        samples=read_samples(),
        trusted_proxies=settings.trusted_proxies,
    )
    refusal = rest_app.serialize(admission.overloaded, public_url)
    return HttpListener(
        app,
        bound,
        # The drain ends sooner what takes too long.
        grace=settings.drain_timeout + SHUTDOWN_MARGIN.responses,
        limits=_limits(settings),
        tls=certificates.rest.context if certificates.rest else None,
        load_shedding=LoadShedding(admission.is_full, refusal),
    )


def _build_server(
    settings: Settings, admission: Admission, certificates: Certificates, public_url: str
) -> GrpcServer:
    return GrpcServer(
        SERVICES,
        admission,
        public_url=public_url,
        reflects=settings.grpc_reflection,
        credentials=certificates.grpc.credentials() if certificates.grpc else None,
        trusted_proxies=settings.trusted_proxies,
        limits=GrpcLimits(
            handshake_timeout=settings.header_timeout,
            message_timeout=settings.request_timeout,
            max_message_bytes=MAX_REQUEST_BYTES,
            connections=settings.max_connections,
        ),
    )


async def _build_service(
    stack: AsyncExitStack, settings: Settings, token_url: str, certificates: Certificates
) -> TokenService:
    auth_api = AuthApi(
        token_url,
        Timeouts(
            connect=settings.auth_api_connect_timeout,
            one_try=settings.auth_api_try_timeout,
            total=settings.auth_api_timeout,
        ),
        tls=certificates.auth_api.context if certificates.auth_api else None,
        authentication=ClientAuthentication(settings.auth_api_client_authentication),
        keep_alive=settings.auth_api_keep_alive,
        dns_stale=settings.auth_api_dns_stale,
    )
    throttle = Throttle(
        client_failures=settings.max_client_failures,
        address_failures=settings.max_address_failures,
        all_failures=settings.max_failures,
        client_calls=settings.max_client_calls,
    )
    return TokenService(await stack.enter_async_context(auth_api), throttle)


def _limits(settings: Settings) -> Limits:
    return Limits(
        header_timeout=settings.header_timeout,
        request_timeout=settings.request_timeout,
        keep_alive=settings.rest_keep_alive,
        connections=settings.max_connections,
        backlog=BACKLOG,
    )


async def _serve(stack: AsyncExitStack, app: ASGIApp, bound: socket) -> None:
    limits = Limits(connections=file_limits.AUXILIARY_CONNECTIONS, backlog=BACKLOG)
    listener = HttpListener(app, bound, grace=SHUTDOWN_MARGIN.admin_listener, limits=limits)
    await listener.start()

    async def stop() -> None:
        listener.end_idle()  # a probe loses nothing
        await listener.stop()

    stack.push_async_callback(stop)


def _build_embedded(bound: socket) -> ASGIApp:
    # Its signing library is in the extra `dev`.
    from sidecar import dev_auth_api  # noqa: PLC0415 `serve` runs without it

    return dev_auth_api.build(issuer=f"http://{address_of(bound)}")
