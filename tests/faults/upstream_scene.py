"""A sidecar before an upstream that a test spoils, and what callers of both protocols are told.

No test waits for a timeout: it waits until a call is where it is to end, and skips the time.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from google.rpc.error_details_pb2 import RetryInfo
from grpc import StatusCode
from grpc.aio import AioRpcError
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.problems import find_detail
from tests.faults.chaos import Chaos
from tests.faults.conditions import eventually, no_secret
from tests.faults.wire import host_and_port
from tests.recorded import Line, Log, recorded
from tests.upstream import TOKEN, Hold, Upstream
from tests.ways import Deployment, Outcome, Sent, open_deployment

# One way into the process by each protocol.
BOTH = ("form", "grpc")
# How many calls there may be at once.
MOST = 8
# How long an event may take before the test fails, in seconds.
GUARD = 60
CLIENT_ID = "canary-client-id-8e21"
SECRET = "canary+secret/71d0%7E"
ACCESS_TOKEN = str(TOKEN["access_token"])
GRANT = {"grant_type": "client_credentials"}
SENT = Sent(fields={**GRANT, "client_id": CLIENT_ID, "client_secret": SECRET})
# The timeouts of a connection and of a try, in seconds. Each is far from the next, so that a
# machine that is late by less than that does not change which of them ends a call.
CONNECT, TRY = 20, 40
TIMES: Mapping[str, str] = {
    "auth_api_connect_timeout": f"{CONNECT}s",
    "auth_api_try_timeout": f"{TRY}s",
    "auth_api_timeout": "110s",
    "drain_timeout": "120s",
    "termination_grace": "140s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a caller is told by each protocol."""

    status: int
    code: StatusCode
    karmo_code: str


BAD = Told(status=502, code=StatusCode.INTERNAL, karmo_code="50230001")
LOST = Told(status=502, code=StatusCode.UNAVAILABLE, karmo_code="50230002")
UNAVAILABLE = Told(status=503, code=StatusCode.UNAVAILABLE, karmo_code="50330001")
TIMEOUT = Told(status=504, code=StatusCode.DEADLINE_EXCEEDED, karmo_code="50430001")
OVERLOADED = Told(status=503, code=StatusCode.UNAVAILABLE, karmo_code="50390002")
BUSY = Told(status=429, code=StatusCode.RESOURCE_EXHAUSTED, karmo_code="42930001")


class Scene:
    """A running sidecar; a proxy that spoils what passes is between it and its upstream."""

    log: Log

    def __init__(self, deployment: Deployment, upstream: Upstream, chaos: Chaos) -> None:
        self.deployment, self.upstream, self.chaos = deployment, upstream, chaos

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Begin without a fault and with an empty log, which must show no secret at the end."""
        self.upstream.reset()
        self.chaos.is_silent, self.chaos.accepted = False, 0
        with recorded() as self.log:
            yield
        no_secret(self.log.text, CLIENT_ID, SECRET, ACCESS_TOKEN)

    async def ask(self, way: str, sent: Sent = SENT) -> Outcome:
        """Send a good request."""
        return await self.deployment.ways[way](sent)

    async def fails(self, way: str, told: Told) -> Outcome:
        """Check that a good request fails so, and that nothing secret is told with it."""
        outcome = await self.ask(way)
        assert_told(outcome, told)
        return outcome

    async def times_out(
        self,
        way: str,
        sent: Sent = SENT,
        *,
        step: str = "answer",
        count: Callable[[], int] | None = None,
    ) -> Outcome:
        """Check that a good request ends by the timeout of the step at which it stands still.

        The steps are "open", "handshake" and "answer". A request has come to its step when
        `count` grows: by default what the proxy has heard.
        """
        count = count or (lambda: self.chaos.heard)
        if step == "open":
            count = partial(connections, self.chaos.address, SYN_SENT)
        before = count()
        asking = asyncio.create_task(self.ask(way, sent))
        await eventually(lambda: count() > before)
        skip(TRY if step == "answer" else CONNECT)
        outcome = await asking
        assert_told(outcome, TIMEOUT)
        return outcome

    async def works(self) -> None:
        """Check that a good request is served, on both protocols."""
        for way in BOTH:
            assert_token(await self.ask(way))

    async def works_in_full(self) -> None:
        """Check that as many calls are served at once as may be: none before is still counted."""
        hold = Hold()
        self.upstream.reset()
        self.upstream.script = hold.script
        calls = [asyncio.create_task(self.ask(way)) for way in BOTH * (MOST // len(BOTH))]
        await hold.wait_for(MOST)
        hold.release.set()
        for outcome in await asyncio.gather(*calls):
            assert_token(outcome)
        self.upstream.reset()

    async def line_of(self, outcome: Outcome) -> Line:
        """Return the access line of a call that failed."""
        assert outcome.problem
        return await self.log.access_line(outcome.problem["instance"].removeprefix("urn:uuid:"))

    async def pushback(self) -> str | None:
        """Return what a gRPC library that retries by itself reads from a call that must fail."""
        stub = TokenServiceStub(self.deployment.channels["grpc"])
        try:
            await stub.ExchangeToken(ExchangeTokenRequest(**SENT.fields), timeout=GUARD)
        except AioRpcError as error:
            told = {key: str(value) for key, value in error.trailing_metadata()}
            return told.get("grpc-retry-pushback-ms")
        raise AssertionError("it must fail")


def skip(seconds: float) -> None:
    """Move the clock of the running loop: the timeouts that this leaves behind pass at once."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign] # for the rest of its life


# States of TCP in /proc/net/tcp.
ESTABLISHED, SYN_SENT = "01", "02"


def connections(address: str, state: str) -> int:
    """Return how many connections to `address` the system has in `state`."""
    host, port = host_and_port(address)
    target = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X} {state}"
    return Path("/proc/net/tcp").read_text("ascii").count(target)


def url_of(address: str) -> str:
    """Return the token endpoint at an address."""
    return f"http://{address}/v1/oauth/token"


@asynccontextmanager
async def open_scene(tls: ssl.SSLContext | None = None, /, **flags: str) -> AsyncIterator[Scene]:
    """Run a sidecar of its own for one test. With `tls` its upstream speaks https."""
    async with shared_scene(tls, **flags) as scene:
        with scene.renewed():
            yield scene


@asynccontextmanager
async def shared_scene(tls: ssl.SSLContext | None = None, /, **flags: str) -> AsyncIterator[Scene]:
    """Run a sidecar for several tests, each of which must renew the scene."""
    async with Upstream(tls) as upstream, Chaos(upstream.url.split("/")[2]) as chaos:
        chosen = {
            "auth_api_token_url": upstream.url.replace(chaos.target, chaos.address),
            "max_in_flight": str(MOST),
        }
        async with open_deployment(**{**chosen, **TIMES, **flags}) as deployment:
            yield Scene(deployment, upstream, chaos)


def assert_told(outcome: Outcome, told: Told) -> None:
    """Check status, code and problem of an answer, and that it shows no secret."""
    assert outcome.problem
    assert outcome.problem["karmoCode"] == told.karmo_code
    if outcome.code is None:
        assert outcome.status == told.status
        assert outcome.headers["content-type"] == "application/problem+json"
    else:
        assert outcome.code == told.code
    no_secret(str(outcome), CLIENT_ID, SECRET, ACCESS_TOKEN)


def assert_token(outcome: Outcome, access_token: str = ACCESS_TOKEN) -> None:
    """Check that an answer is the token."""
    assert outcome.token, outcome
    assert outcome.token["access_token"] == access_token


def delay_of(outcome: Outcome) -> int | None:
    """Return in how many seconds the caller may come again, by the field of its protocol."""
    if outcome.details is None:
        value = outcome.headers.get("retry-after")
        return None if value is None else int(value)
    told = find_detail(outcome.details, RetryInfo)
    return None if told is None else told.retry_delay.seconds
