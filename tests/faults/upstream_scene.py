"""A sidecar before an upstream that a test spoils, and what callers of both protocols are told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.rpc.error_details_pb2 import RetryInfo
from grpc import StatusCode
from grpc.aio import AioRpcError
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.problems import find_detail
from tests.faults.chaos import Chaos
from tests.faults.conditions import no_secret
from tests.recorded import Line, Log, recorded
from tests.upstream import TOKEN, Hold, Upstream
from tests.ways import House, Outcome, Sent, open_house

# One way into the process by each protocol.
BOTH = ("form", "grpc")
# How many calls there may be at once.
MOST = 8
# How long a test may take before it fails, in seconds.
GUARD = 60
CLIENT_ID = "canary-client-id-8e21"
SECRET = "canary+secret/71d0%7E"
ACCESS_TOKEN = str(TOKEN["access_token"])
GRANT = {"grant_type": "client_credentials"}
SENT = Sent(fields={**GRANT, "client_id": CLIENT_ID, "client_secret": SECRET})
TIMES: Mapping[str, str] = {
    "auth_api_connect_timeout": "700ms",
    "auth_api_try_timeout": "1500ms",
    "auth_api_timeout": "8s",
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

    def __init__(self, house: House, upstream: Upstream, chaos: Chaos, log: Log) -> None:
        self.house, self.upstream, self.chaos, self.log = house, upstream, chaos, log

    async def ask(self, way: str, sent: Sent = SENT) -> Outcome:
        """Send a good request."""
        return await self.house.ways[way](sent)

    async def fails(self, way: str, told: Told) -> Outcome:
        """Check that a good request fails so, and that nothing secret is told with it."""
        outcome = await self.ask(way)
        assert_told(outcome, told)
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
        stub = TokenServiceStub(self.house.channels["grpc"])
        try:
            await stub.ExchangeToken(ExchangeTokenRequest(**SENT.fields), timeout=GUARD)
        except AioRpcError as error:
            told = {key: str(value) for key, value in error.trailing_metadata()}
            return told.get("grpc-retry-pushback-ms")
        raise AssertionError("it must fail")


def url_of(address: str) -> str:
    """Return the token endpoint at an address."""
    return f"http://{address}/v1/oauth/token"


@asynccontextmanager
async def open_scene(tls: ssl.SSLContext | None = None, /, **flags: str) -> AsyncIterator[Scene]:
    """Run a sidecar with short times; at the end its log must have shown no secret.

    With `tls` its upstream speaks https.
    """
    async with (
        asyncio.timeout(GUARD),
        Upstream(tls) as upstream,
        Chaos(upstream.url.split("/")[2]) as chaos,
    ):
        chosen = {
            "auth_api_token_url": upstream.url.replace(chaos.target, chaos.address),
            "max_in_flight": str(MOST),
        }
        async with open_house(**{**chosen, **TIMES, **flags}) as house:
            with recorded() as log:
                yield Scene(house, upstream, chaos, log)
        no_secret(log.text, CLIENT_ID, SECRET, ACCESS_TOKEN)


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
