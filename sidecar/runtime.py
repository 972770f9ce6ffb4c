"""The running sidecar: starts all parts, and stops them in the right order.

It and `assembly`, which builds most parts, are the only modules that know all others. One process
has one event loop.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

from starlette.routing import Route
from starlette.types import ASGIApp

from sidecar import admin_app, logs
from sidecar.assembly import Assembly, add_servicers
from sidecar.grpc_server.server import GrpcServer
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener import HttpListener
from sidecar.interceptors.admission import Admission
from sidecar.process import file_limits, signals
from sidecar.process.drain import Drain, Phase
from sidecar.process.sockets import BACKLOG, Addresses, Bound, Endpoint, Sockets, naming
from sidecar.settings.model import Settings
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.telemetry.counts import Parts, counts_for_drain
from sidecar.telemetry.metrics.metrics import Metrics
from sidecar.telemetry.state import State
from sidecar.telemetry.tracing import setup
from sidecar.tls import expiry, reloading
from sidecar.tls.certificates import Certificates

_ONE_ADDRESS = (
    "REST clients share the limits of one address, because the listener is on loopback or a Unix "
    "socket: if a proxy is in front, set SIDECAR_TRUSTED_PROXIES"
)


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
    async with running(
        settings,
        embeds_auth_api=embeds_auth_api,
        drain=drain,
        on_state=lambda shown: signals.show_by(shown.log),
    ) as addresses:
        # Objects that live as long as the process are left out of later collections.
        gc.collect()
        gc.freeze()
        announce(addresses)
        logs.event("serving", **addresses.by_name())
        if settings.shares_one_address and not embeds_auth_api:
            logs.event(_ONE_ADDRESS)
        await drain.beginning()
        logs.event("stopping")
    drain.log_stopped()
    signals.ignore()


def drain_of(settings: Settings) -> Drain:
    """Return a drain with the times of `settings`."""
    return Drain(lame_duck=settings.lame_duck, timeout=settings.drain_timeout)


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    embeds_auth_api: bool,
    drain: Drain | None = None,
    on_state: Callable[[State], None] = lambda _: None,
) -> AsyncIterator[Addresses]:
    """Run a sidecar inside the context; with `embeds_auth_api` also the auth-api that it calls.

    At the end of the context the sidecar serves new calls for the time of the lame duck,
    then gives calls in flight the time of the drain, and frees all resources. `drain` can be
    hastened. `on_state` gets the state, as soon as it can be read. Raises OSError.
    """
    drain = drain or drain_of(settings)
    async with AsyncExitStack() as stack:
        bound = Sockets.bind(
            stack.enter_context(ExitStack()), settings, embeds_auth_api=embeds_auth_api
        )
        certificates = _watch_certificates(stack, settings)
        tracing = setup.start()
        stack.push_async_callback(tracing.finished, SHUTDOWN_MARGIN.admin_listener)
        metrics = Metrics()
        stack.enter_context(metrics.measuring_loop())
        assembly = _assemble(
            settings, bound.rest, certificates=certificates, metrics=metrics, tracing=tracing
        )
        server, endpoint = _bind_server(stack, assembly)
        addresses = bound.addresses(endpoint, settings.auth_api_token_url)
        parts = Parts(
            drain=drain, admission=assembly.admission, server=server, certificates=certificates
        )
        state = State(addresses.by_name(), parts.counts)
        on_state(state)
        await _serve_auxiliary(stack, bound, parts, [state.route(), metrics.route(parts.counts)])
        rest = await _build_rest(stack, assembly, parts, bound.rest, addresses.token_url)
        await rest.start()
        stack.callback(tracing.finish)
        stack.push_async_callback(_stop, drain, rest, server, assembly.admission)
        await server.start()
        await server.set_serving(serving=True)
        drain.started()
        yield addresses


def _assemble(
    settings: Settings,
    bound: Bound,
    *,
    certificates: Certificates,
    metrics: Metrics,
    tracing: setup.Tracing,
) -> Assembly:
    """Return what builds the parts. `bound` is the REST listener."""
    return Assembly(
        settings=settings,
        public_url=settings.public_url_at(bound.endpoint.connectable),
        certificates=certificates,
        admission=Admission(settings.max_in_flight, streams=settings.max_streams),
        durations=metrics.durations,
        tracer=tracing.tracer,
    )


def _bind_server(stack: AsyncExitStack, assembly: Assembly) -> tuple[GrpcServer, Endpoint]:
    """Return the gRPC server, which listens but does not serve yet, and its addresses."""
    server = assembly.build_server()
    stack.callback(server.release)
    with naming("grpc_listen"):
        return server, server.bind(assembly.settings.grpc_listen)


def _watch_certificates(stack: AsyncExitStack, settings: Settings) -> Certificates:
    """Return the certificates, which are reloaded, and whose ends are warned of."""
    certificates = Certificates.load(settings)
    stack.callback(asyncio.create_task(reloading.watch(*certificates.parts)).cancel)
    stack.callback(asyncio.create_task(expiry.watch(certificates.expiries)).cancel)
    return certificates


async def _serve_auxiliary(
    stack: AsyncExitStack, bound: Sockets, parts: Parts, routes: list[Route]
) -> None:
    """Serve the admin application with `routes`, and the embedded auth-api if there is one."""
    drain = parts.drain
    admin = admin_app.build(
        is_started=lambda: drain.phase is not Phase.STARTING,
        is_ready=lambda: drain.phase is Phase.SERVING,
        drain=signals.stop_handler("POST /drain", drain.begin),
        further=routes,
    )
    parts.http["admin"] = await _serve(stack, admin, bound.admin)
    if bound.embedded is not None:
        embedded = _build_embedded(bound.embedded)
        parts.http["dev_auth_api"] = await _serve(stack, embedded, bound.embedded)


async def _build_rest(
    stack: AsyncExitStack, assembly: Assembly, parts: Parts, bound: Bound, token_url: str
) -> HttpListener:
    """Return the REST listener on `bound`, after the servicer was added to both protocols."""
    sharing = parts.sharing = assembly.build_sharing()
    service = parts.service = assembly.build_service(token_url, sharing)
    await stack.enter_async_context(service.auth_api)
    if sharing is not None:
        await stack.enter_async_context(sharing.running(service.throttle.learn))
    channel = assembly.build_channel()
    add_servicers(service, parts.server, channel)
    rest = parts.http["rest"] = assembly.build_rest(channel, bound.sockets)
    parts.drain.count = lambda: counts_for_drain(parts.counts())
    return rest


async def _stop(drain: Drain, rest: HttpListener, server: GrpcServer, admission: Admission) -> None:
    """Begin the drain, pass its phases, and end the calls of both protocols."""
    drain.begin()
    await server.set_serving(serving=False)
    rest.retire()
    await drain.pass_lame_duck()

    def cut() -> None:
        admission.end_calls()
        server.cut(SHUTDOWN_MARGIN.responses / 2)
        rest.cut(SHUTDOWN_MARGIN.responses / 2)

    grace = drain.timeout + SHUTDOWN_MARGIN.responses
    await drain.end(asyncio.gather(rest.stop(), server.stop(grace)), cut)


async def _serve(stack: AsyncExitStack, app: ASGIApp, bound: Bound) -> HttpListener:
    limits = Limits(connections=file_limits.AUXILIARY_CONNECTIONS, backlog=BACKLOG)
    grace = SHUTDOWN_MARGIN.admin_listener
    listener = HttpListener(app, *bound.sockets, grace=grace, limits=limits)
    await listener.start()

    async def stop() -> None:
        listener.end_idle()  # a probe loses nothing
        await listener.stop()

    stack.push_async_callback(stop)
    return listener


def _build_embedded(bound: Bound) -> ASGIApp:
    # Its signing library is in the extra `dev`.
    from sidecar import dev_auth_api  # noqa: PLC0415 `serve` runs without it

    return dev_auth_api.build(issuer=f"http://{bound.endpoint.connectable}")
