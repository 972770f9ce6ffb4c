"""Every way into the sidecar behind one signature, so that a case can be sent by each."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlencode

import grpc
import httpx2
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)
from karmo.problem.v1.problem_details_pb2 import ProblemDetails

from sidecar import runtime
from sidecar.auth_api.client import AuthApi
from sidecar.exchange.service import TokenService
from sidecar.exchange.throttle import Throttle
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.problems import find_detail
from sidecar.process.sockets import Addresses
from sidecar.settings.model import Settings
from sidecar.settings.sources import load
from tests.openapi.described import check_response
from tests.patience import HANG, PATIENT
from tests.upstream import Upstream, within

PUBLIC_URL = "https://api.example.test"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A token request of any protocol. An absent field is not sent at all."""

    fields: Mapping[str, str] = field(default_factory=dict)
    authorization: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a request: a token or a problem as JSON, and values of the protocol."""

    token: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    code: grpc.StatusCode | None = None
    details: Status | None = None


Way = Callable[[Sent], Awaitable[Outcome]]
WAYS = ("form", "json", "grpc", "grpc in process")


def basic(client_id: str = "partner", client_secret: str = "secret") -> str:
    """Return a Basic header for credentials that are not form-encoded."""
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A sidecar over sockets and its parts in process, with one scripted upstream."""

    upstream: Upstream
    addresses: Addresses
    ways: Mapping[str, Way]
    rest: httpx2.AsyncClient
    channels: Mapping[str, grpc.aio.Channel]


def unlimited() -> Throttle:
    """Return a throttle whose limits are never reached."""
    return Throttle(
        client_failures=10**6, address_failures=10**6, all_failures=10**6, client_calls=10**6
    )


def settings(upstream: Upstream, **flags: str) -> Settings:
    """Return settings for a sidecar on free ports that calls `upstream`."""
    listen = dict.fromkeys(("rest_listen", "grpc_listen", "admin_listen"), "127.0.0.1:0")
    # Many tests send wrong secrets, all from one address.
    limits = dict.fromkeys(
        ("max_client_failures", "max_address_failures", "max_client_calls"), "1000000"
    )
    chosen = {"public_url": PUBLIC_URL, "auth_api_token_url": upstream.url}
    chosen["max_in_flight"] = "1000"
    return load({}, listen | limits | dict(PATIENT) | chosen | flags)


@asynccontextmanager
async def open_deployment(**flags: str) -> AsyncIterator[Deployment]:
    """Run a sidecar and its upstream; `flags` are settings by field name."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        upstream = await enter(Upstream())
        chosen = settings(upstream, **flags)
        addresses = await enter(runtime.running(chosen, embeds_auth_api=False))
        socket = await enter(grpc.aio.insecure_channel(str(addresses.grpc)))
        local = await enter(InProcessChannel(interceptors=(ErrorBoundary(PUBLIC_URL),)))
        auth_api = await enter(AuthApi(upstream.url, within(chosen.auth_api_timeout)))
        add_TokenServiceServicer_to_server(
            TokenService(auth_api, unlimited()),
            cast("grpc.aio.Server", local),  # handlers are added to it as to a server
        )
        base = f"http://{addresses.rest}"
        # Whatever a test asks, the OpenAPI document describes the response.
        hooks = {"response": [check_response]}
        rest = await enter(httpx2.AsyncClient(base_url=base, timeout=HANG, event_hooks=hooks))
        ways: dict[str, Way] = {
            "form": _by_form(rest),
            "json": _by_json(rest),
            "grpc": _by_grpc(socket),
            "grpc in process": _by_grpc(local),
        }
        channels = {"grpc": socket, "grpc in process": local}
        yield Deployment(
            upstream=upstream, addresses=addresses, ways=ways, rest=rest, channels=channels
        )


@asynccontextmanager
async def open_ways(addresses: Mapping[str, str]) -> AsyncIterator[Mapping[str, Way]]:
    """Open the ways into any sidecar; `addresses` are its listeners by name."""
    async with (
        rest_client(addresses["rest"]) as rest,
        grpc.aio.insecure_channel(addresses["grpc"]) as channel,
    ):
        yield {"form": _by_form(rest), "json": _by_json(rest), "grpc": _by_grpc(channel)}


def rest_client(address: str) -> httpx2.AsyncClient:
    """Return a client of the REST listener at `address`, which may be a Unix socket."""
    path = address.removeprefix("unix:")
    base = f"http://{address}" if path == address else "http://localhost"
    transport = httpx2.AsyncHTTPTransport(uds=None if path == address else path)
    return httpx2.AsyncClient(base_url=base, transport=transport, timeout=HANG, trust_env=False)


def _by_form(client: httpx2.AsyncClient) -> Way:
    async def send(sent: Sent) -> Outcome:
        content = urlencode(sent.fields).encode()
        return await _post(client, sent, "application/x-www-form-urlencoded", content)

    return send


def _by_json(client: httpx2.AsyncClient) -> Way:
    async def send(sent: Sent) -> Outcome:
        content = json.dumps(dict(sent.fields)).encode()
        return await _post(client, sent, "application/json", content)

    return send


async def _post(
    client: httpx2.AsyncClient, sent: Sent, content_type: str, content: bytes
) -> Outcome:
    headers = [("Content-Type", content_type)]
    headers += [("Authorization", value) for value in sent.authorization]
    response = await client.post("/v1/oauth/token", content=content, headers=headers)
    body = response.json()
    is_token = response.status_code == 200
    return Outcome(
        status=response.status_code,
        headers=response.headers,
        token=body if is_token else None,
        problem=None if is_token else body,
    )


def _by_grpc(channel: grpc.aio.Channel) -> Way:
    stub = TokenServiceStub(channel)

    async def send(sent: Sent) -> Outcome:
        metadata = tuple(("authorization", value) for value in sent.authorization)
        try:
            response = await stub.ExchangeToken(
                ExchangeTokenRequest(**sent.fields), metadata=metadata, timeout=HANG
            )
        except grpc.aio.AioRpcError as error:
            return outcome_of(error)
        return Outcome(token=json_format.MessageToDict(response))

    return send


def outcome_of(error: grpc.aio.AioRpcError) -> Outcome:
    """Return the code, the details and the problem of a failed call."""
    details = rpc_status.from_call(cast("grpc.Call", error))  # it has the same accessors
    message = find_detail(details, ProblemDetails) if details else None
    problem = json_format.MessageToDict(message) if message else None
    return Outcome(code=error.code(), details=details, problem=problem)
