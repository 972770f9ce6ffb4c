"""Builds the parts that serve calls, with their limits, from the settings. It starts nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket
from typing import cast

import grpc
from karmo.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from sidecar.api import EXAMPLES, MAX_REQUEST_BYTES, SERVICES, limits_of, read_samples
from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.auth_api.request import ClientAuthentication
from sidecar.exchange.client_hash import ClientHash
from sidecar.exchange.service import TokenService
from sidecar.exchange.shared_counts.names import CountNames
from sidecar.exchange.shared_counts.sharing import Sharing
from sidecar.exchange.throttle import Throttle
from sidecar.grpc_server.server import GrpcLimits, GrpcServer
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener import HttpListener
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.call_span import CallSpan
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.interceptors.handler_cache import HandlerCache
from sidecar.process.sockets import BACKLOG
from sidecar.rest import app as rest_app
from sidecar.settings.model import Settings
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.spans import Tracer
from sidecar.telemetry.metrics.durations import Durations
from sidecar.tls.certificates import Certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """Builds each part from `settings` and from what several parts share.

    Without `tracer` no part makes spans.
    """

    settings: Settings
    public_url: str
    certificates: Certificates
    admission: Admission
    durations: Durations
    tracer: Tracer | None

    def build_server(self) -> GrpcServer:
        """Return the gRPC server, which has no servicer of ours yet."""
        settings, tls = self.settings, self.certificates.grpc
        return GrpcServer(
            SERVICES,
            self.admission,
            public_url=self.public_url,
            reflects=settings.grpc_reflection,
            credentials=tls.credentials() if tls else None,
            trusted_proxies=settings.trusted_proxies,
            tracer=self.tracer,
            limits=GrpcLimits(
                handshake_timeout=settings.header_timeout,
                message_timeout=settings.request_timeout,
                read_timeout=settings.request_timeout,
                max_message_bytes=MAX_REQUEST_BYTES,
                connections=settings.max_connections,
            ),
            observe=self.durations.observe_grpc,
        )

    def build_sharing(self) -> Sharing | None:
        """Return what shares wrong secrets with other replicas, or None if they are not shared."""
        url, key = self.settings.shared_limits_url, self.settings.log_client_key
        if url is None or key is None:
            return None
        from sidecar.exchange.shared_counts.redis_store import (  # noqa: PLC0415 its client is in the extra `shared-limits`
            RedisStore,
        )

        return Sharing(RedisStore(url), CountNames(key))

    def build_service(self, token_url: str, sharing: Sharing | None) -> TokenService:
        """Return the servicer of the exchange at `token_url`. Its `auth_api` must be entered.

        Its throttle tells `sharing` of wrong secrets.
        """
        settings = self.settings
        throttle = Throttle(
            client_failures=settings.max_client_failures,
            address_failures=settings.max_address_failures,
            all_failures=settings.max_failures,
            client_calls=settings.max_client_calls,
            key=sharing.throttle_key.reveal() if sharing else None,
            on_failure=sharing.count if sharing else None,
        )
        hashes = ClientHash(settings.log_client_key)
        return TokenService(self._build_auth_api(token_url), throttle, hashes)

    def _build_auth_api(self, token_url: str) -> AuthApi:
        settings, tls = self.settings, self.certificates.auth_api
        return AuthApi(
            token_url,
            Timeouts(
                connect=settings.auth_api_connect_timeout,
                one_try=settings.auth_api_try_timeout,
                total=settings.auth_api_timeout,
            ),
            tls=tls.context if tls else None,
            authentication=ClientAuthentication(settings.auth_api_client_authentication),
            keep_alive=settings.auth_api_keep_alive,
            dns_stale=settings.auth_api_dns_stale,
            observe=self.durations.observe_exchange,
        )

    def build_channel(self) -> InProcessChannel:
        """Return the channel by which REST requests reach servicers. It has none yet."""
        spans = (CallSpan(),) if self.tracer else ()
        boundary = ErrorBoundary(self.public_url)
        return InProcessChannel((HandlerCache(*spans, boundary, self.admission),))

    def build_rest(self, channel: grpc.aio.Channel, bound: Sequence[socket]) -> HttpListener:
        """Return the REST listener on the sockets `bound`."""
        settings, tls = self.settings, self.certificates.rest
        app = rest_app.build(
            SERVICES,
            channel,
            public_url=self.public_url,
            examples=EXAMPLES,
            limits=limits_of(settings),
            samples=read_samples(),
            trusted_proxies=settings.trusted_proxies,
            tracer=self.tracer,
            observe=self.durations.observe_rest,
        )
        return HttpListener(
            app,
            *bound,
            # The drain ends sooner what takes too long.
            grace=settings.drain_timeout + SHUTDOWN_MARGIN.responses,
            limits=_limits(settings),
            tls=tls.context if tls else None,
            load_shedding=self._build_load_shedding(),
        )

    def _build_load_shedding(self) -> LoadShedding:
        response = rest_app.serialize(self.admission.overloaded, self.public_url)
        return LoadShedding(self.admission.is_full, response, self.durations.observe_shed)


def add_servicers(service: TokenService, server: GrpcServer, channel: InProcessChannel) -> None:
    """Add `service` to both protocols: to `server` for gRPC, and to `channel` for REST."""
    add_TokenServiceServicer_to_server(service, server.server)
    # Here the channel only needs the methods of a server that add handlers.
    add_TokenServiceServicer_to_server(service, cast("grpc.aio.Server", channel))


def _limits(settings: Settings) -> Limits:
    return Limits(
        header_timeout=settings.header_timeout,
        request_timeout=settings.request_timeout,
        keep_alive=settings.rest_keep_alive,
        connections=settings.max_connections,
        # Behind a proxy all connections come from the address of the proxy.
        connections_per_address=(
            0 if settings.trusted_proxies else settings.max_connections_per_address
        ),
        backlog=BACKLOG,
    )
