"""The token service by REST and by gRPC, on virtual time, with an auth-api in memory.

Both protocols have the product's own parts from their borders on: the REST application or a
stub, the in-process channel, the servicer with its throttle, and the client of the auth-api.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qs, urlencode

import grpc
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)

from sidecar.api import SERVICES
from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.call import Call, entered
from sidecar.exchange.limit import Limit
from sidecar.exchange.service import TokenService
from sidecar.exchange.throttle import Throttle
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.rest import app as rest_app
from tests.upstream import TOKEN, answer
from tests.virtual_time import VirtualLoop

PUBLIC_URL = "https://api.example.test"
SECRET = "the-right-secret"
Protocol = Literal["rest", "grpc"]
# How an exchange ended: what its caller got, or that the caller left.
Outcome = Literal["token", "rejected", "refused", "cut", "left"]
OUTCOMES: dict[object, Outcome] = {
    200: "token",
    401: "rejected",
    429: "refused",
    503: "cut",
    grpc.StatusCode.OK: "token",
    grpc.StatusCode.UNAUTHENTICATED: "rejected",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "refused",
    grpc.StatusCode.CANCELLED: "left",
    None: "left",
}


class SocketPairLoop(VirtualLoop):
    """A loop on virtual time whose connections lead to a function, over socket pairs.

    `reply` takes a whole request and returns the response.
    """

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._reply = reply

    async def create_connection(  # type: ignore[override] # the product opens no other way
        self, protocol_factory: Callable[[], asyncio.Protocol], *_: object
    ) -> Any:
        """Return the transport and protocol of a new connection."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.add_reader(theirs, self._serve, theirs)
        return await super().create_connection(protocol_factory, sock=ours)

    def turn(self) -> None:
        """Run one turn."""
        self.call_soon(self.stop)
        self.run_forever()

    def _serve(self, theirs: socket.socket) -> None:
        request = b""
        with suppress(ConnectionResetError):
            request = theirs.recv(65536)
        if request:
            theirs.send(self._reply(request))
        else:
            self.remove_reader(theirs)
            theirs.close()


class Exchange:
    """One exchange of a caller; `outcome` is None while it runs."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[None]
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Let the caller go away."""
        self._leaving.set()

    def cut(self) -> None:
        """Cancel the exchange as the HTTP server does at the end of its grace."""
        self.task.cancel()

    async def by_rest(self, app: Any, address: str, fields: dict[str, str]) -> None:
        """Exchange over REST, as the HTTP server calls the application."""
        status: int | None = None
        body = urlencode(fields).encode()
        requests = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            message = next(requests, None)
            if message is None:
                await self._leaving.wait()
            return message or {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        await app(_scope(address, len(body)), receive, send)
        self.outcome = OUTCOMES[status]

    async def by_grpc(
        self, channel: grpc.aio.Channel, address: str, fields: dict[str, str]
    ) -> None:
        """Exchange over gRPC, as its server calls the servicer."""
        with entered(Call.of(request_id=None, traceparent=None, address=address)):
            call = TokenServiceStub(channel).ExchangeToken(ExchangeTokenRequest(**fields))
        leaving = asyncio.create_task(self._leaving.wait())
        leaving.add_done_callback(lambda _: call.cancel())
        self.outcome = OUTCOMES[await call.code()]
        leaving.cancel()


def _scope(address: str, length: int) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/oauth/token",
        "raw_path": b"/v1/oauth/token",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-length", b"%d" % length),
        ],
        "client": (address, 4711),
    }


class Scene:
    """A sidecar with limits of wrong secrets, inside its context or until `close`.

    `judged` has the time, the client and the secret of each exchange that reached the auth-api,
    `counted` the limits that counted wrong secrets.
    """

    def __init__(self, *, client_failures: int, address_failures: int, all_failures: int) -> None:
        self.judged: list[tuple[float, str, str]] = []
        self.counted: Counter[Limit] = Counter()
        self.loop = SocketPairLoop(self._judge)
        self.throttle = Throttle(
            client_failures=client_failures,
            address_failures=address_failures,
            all_failures=all_failures,
            client_calls=10**6,
            on_failure=lambda limit, _: self.counted.update([limit]),
            now=self.loop.time,
        )
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        # Nothing listens there: the loop opens the connections.
        self._auth_api = AuthApi("http://127.0.0.1:9/", Timeouts())
        channel = InProcessChannel(interceptors=(ErrorBoundary(PUBLIC_URL),))
        service = TokenService(self._auth_api, self.throttle)
        add_TokenServiceServicer_to_server(service, cast("grpc.aio.Server", channel))
        self._channel = channel
        self._app = rest_app.build(SERVICES, channel, public_url=PUBLIC_URL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all exchanges, and free all resources."""
        self.loop.abandon()
        self.loop.run_until_complete(self._auth_api.__aexit__())
        self.loop.settle()
        self.loop.close()

    @property
    def in_flight(self) -> int:
        """The number of keys with an exchange in flight, over all limits."""
        return sum(limit.in_flight for limit in self.throttle._limits.values())

    def begin(self, protocol: Protocol, address: str, client: str, secret: str) -> Exchange:
        """Begin an exchange; it runs with the turns of the loop."""
        fields = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret,
        }
        one = Exchange()
        if protocol == "rest":
            running = one.by_rest(self._app, address, fields)
        else:
            running = one.by_grpc(self._channel, address, fields)
        one.task = self.loop.create_task(running)
        return one

    def finish(self, *exchanges: Exchange) -> None:
        """Run the loop until the exchanges have ended."""
        while not all(one.task.done() for one in exchanges):
            self.loop.turn()
        for one in exchanges:
            one.task.result()

    def _judge(self, request: bytes) -> bytes:
        fields = parse_qs(request.partition(b"\r\n\r\n")[2].decode())
        client, secret = fields["client_id"][0], fields["client_secret"][0]
        self.judged.append((self.loop.time(), client, secret))
        if secret == SECRET:
            return answer(200, TOKEN, Connection="keep-alive")
        return answer(401, {"error": "invalid_client"}, Connection="keep-alive")
