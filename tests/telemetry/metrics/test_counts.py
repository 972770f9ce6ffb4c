"""Tests of the metrics of a running sidecar: they are equal to what happened, to the call."""

import asyncio
import random
import string
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar import runtime
from sidecar.auth_api.fail_fast import DOWN_AFTER
from sidecar.exchange.limit import Limit
from sidecar.http_server.counts import Refusal
from sidecar.settings.sources import load
from sidecar.settings.types import Address
from tests.faults.scripted import KeepAlive
from tests.faults.wire import held_port
from tests.patience import HANG, PATIENT
from tests.raw_http import FORM, answer_to, request, sent
from tests.scraped import EXCHANGES, HTTP, RPC, Scrape, scrape, scrape_until
from tests.sidecar_process import LISTENERS
from tests.upstream import Hold, Script, answer
from tests.ways import Deployment, Sent, Way, basic, open_deployment, open_ways

pytestmark = pytest.mark.unmeasured

ROUTE, METHOD = "/v1/oauth/token", "karmo.auth.v1.TokenService/ExchangeToken"
GRANT = {"grant_type": "client_credentials"}
SENT = Sent(fields=GRANT, authorization=(basic(),))
WRONG = answer(401, {"error": "invalid_client"})
JSON = b"Content-Type: application/json"
BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"


async def raw(deployment: Deployment, data: bytes) -> int:
    """Send `data` to the REST listener and return the status of the response."""
    return (await answer_to(deployment.addresses.rest, data)).status


async def call_unknown(deployment: Deployment, name: str) -> None:
    """Call a gRPC method that is not served."""
    call: Any = deployment.channels["grpc"].unary_unary(name)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"", timeout=HANG)


async def cancel_one_of_each(deployment: Deployment) -> None:
    """Let a caller of each protocol leave while the auth-api works."""
    upstream = deployment.upstream
    upstream.script = upstream.hang
    async with sent(deployment.addresses.rest, request(body=BODY), resets=True):
        await upstream.received.wait()
    await upstream.gone.wait()
    upstream.reset()
    upstream.script = upstream.hang
    stub = TokenServiceStub(deployment.channels["grpc"])
    fields = {**GRANT, "client_id": "partner", "client_secret": "secret"}
    call = stub.ExchangeToken(ExchangeTokenRequest(**fields), timeout=HANG)
    await upstream.received.wait()
    call.cancel()
    await upstream.gone.wait()
    upstream.reset()


async def send_known_load(deployment: Deployment) -> None:
    """Send a known number of calls of every kind."""
    await asyncio.gather(*(deployment.ways["form"](SENT) for _ in range(7)))
    await asyncio.gather(*(deployment.ways["json"](SENT) for _ in range(5)))
    await asyncio.gather(*(deployment.ways["grpc"](SENT) for _ in range(6)))
    deployment.upstream.reply = WRONG
    for way in ("form", "form", "json", "grpc", "grpc"):
        await deployment.ways[way](SENT)
    deployment.upstream.reset()
    for path in ("/nothing", "/nothing/else", "/v1/oauth/token/"):
        assert await raw(deployment, request("GET", path)) == 404
    assert await raw(deployment, request("GET", "/")) == 200
    assert await raw(deployment, request("DELETE")) == 405
    assert await raw(deployment, request("POST", "/problems")) == 405
    assert await raw(deployment, request("GET", "/problems/invalid-client")) == 200
    for body in (b"{", b"[]"):
        assert await raw(deployment, request(headers=[JSON], body=body)) == 400
    assert await raw(deployment, request(headers=[b"Content-Type: text/html"], body=b"a")) == 415
    assert await raw(deployment, b"nonsense\r\n\r\n") == 400
    for name in ("/karmo.auth.v1.TokenService/Made", "/made.Up/Made"):
        await call_unknown(deployment, name)
    await cancel_one_of_each(deployment)


EXPECTED: Mapping[str, Mapping[tuple[str, ...], int]] = {
    HTTP: {
        ("POST", ROUTE, "200", ""): 12,
        ("POST", ROUTE, "401", "INVALID_CLIENT"): 3,
        ("GET", "/", "200", ""): 1,
        ("GET", "unmatched", "404", "NOT_FOUND"): 3,
        ("DELETE", ROUTE, "405", "METHOD_NOT_ALLOWED"): 1,
        ("POST", "/problems", "405", "METHOD_NOT_ALLOWED"): 1,
        ("GET", "/problems/{slug}", "200", ""): 1,
        ("POST", ROUTE, "400", "INVALID_REQUEST"): 2,
        ("POST", ROUTE, "415", "UNSUPPORTED_MEDIA_TYPE"): 1,
        ("other", "unmatched", "400", "INVALID_REQUEST"): 1,
        ("POST", ROUTE, "499", ""): 1,
    },
    RPC: {
        (METHOD, "OK", ""): 6,
        (METHOD, "UNAUTHENTICATED", "INVALID_CLIENT"): 2,
        ("other", "UNIMPLEMENTED", "NOT_FOUND"): 2,
        (METHOD, "CANCELLED", ""): 1,
    },
    EXCHANGES: {("200", ""): 18, ("401", "rejected"): 5, ("", "cancelled"): 2},
}


async def test_equal_to_the_call() -> None:
    """Every call and every exchange is counted once, by its outcome, and nothing else is."""
    async with open_deployment() as deployment:
        await send_known_load(deployment)

        def is_whole(page: Scrape) -> bool:
            return all(
                sum(page.counts(name).values()) >= sum(counts.values())
                for name, counts in EXPECTED.items()
            )

        page = await scrape_until(deployment.addresses.admin, is_whole)
        assert {name: page.counts(name) for name in EXPECTED} == EXPECTED
        assert page.value("karmo_sidecar_auth_api_tries_total") == 25
        assert page.value("karmo_sidecar_calls_in_flight") == 0
        assert page.value("karmo_sidecar_calls_in_flight_limit") == 1000


def random_word(random_number: random.Random, characters: str) -> str:
    """Return a word of 1 to 20 of `characters`."""
    return "".join(random_number.choices(characters, k=random_number.randint(1, 20)))


async def send_noise(deployment: Deployment, seed: int) -> None:
    """Send requests and calls with random methods and paths."""
    chosen = random.Random(seed)  # noqa: S311 a test that can be repeated
    for _ in range(60):
        method = random_word(chosen, string.ascii_uppercase)
        path = f"/{random_word(chosen, string.ascii_letters + '/{}')}"
        assert await raw(deployment, request(method, path)) == 404
        assert await raw(deployment, request(method)) == 405
        assert await raw(deployment, request(method, "/problems")) == 405
        assert await raw(deployment, f"{method} {path}\r\n\r\n".encode()) == 400
    for _ in range(20):
        await call_unknown(deployment, f"/{random_word(chosen, string.ascii_letters)}/Made")


async def test_unknown_names_make_no_series() -> None:
    """Random paths, methods and gRPC methods are counted under names that are known before."""
    async with open_deployment() as deployment:
        await send_noise(deployment, seed=1)
        before = await scrape(deployment.addresses.admin)
        await send_noise(deployment, seed=2)
        after = await scrape(deployment.addresses.admin)
    assert after.series == before.series
    assert after.counts(HTTP) == {
        ("other", "unmatched", "404", "NOT_FOUND"): 120,
        ("other", ROUTE, "405", "METHOD_NOT_ALLOWED"): 120,
        ("other", "/problems", "405", "METHOD_NOT_ALLOWED"): 120,
        ("other", "unmatched", "400", "INVALID_REQUEST"): 120,
    }
    assert after.counts(RPC) == {("other", "UNIMPLEMENTED", "NOT_FOUND"): 40}


# What never becomes a call


def head(line: bytes = b"POST / HTTP/1.1", *fields: bytes) -> bytes:
    """Return a request of a line, a host and further fields."""
    return b"\r\n".join((line, b"Host: sidecar.test", *fields, b"", b""))


CHUNKED = head(b"POST /v1/oauth/token HTTP/1.1", FORM, b"Transfer-Encoding: chunked")
REFUSED: Mapping[Refusal, bytes] = {
    Refusal.REQUEST_LINE: b"nonsense\r\n\r\n",
    Refusal.TARGET_TOO_LONG: head(b"GET /" + b"a" * 9000 + b" HTTP/1.1"),
    Refusal.HEADER_TOO_LARGE: head(b"GET / HTTP/1.1", *[b"A: " + b"a" * 5000] * 4),
    Refusal.TOO_MANY_FIELDS: head(b"GET / HTTP/1.1", *[b"A: a"] * 70),
    Refusal.FIELD_LINE: head(b"GET / HTTP/1.1", b"A: a\n b"),
    Refusal.HOST: b"GET / HTTP/1.1\r\n\r\n",
    Refusal.LENGTH: head(b"POST / HTTP/1.1", b"Content-Length: a"),
    Refusal.TRANSFER_ENCODING: head(b"POST / HTTP/1.1", b"Transfer-Encoding: gzip"),
    Refusal.BAD_HTTP: head(b"GET / HTTP/1.1", b"A b: c"),
    Refusal.TOO_MANY_CHUNKS: CHUNKED + b"1\r\na\r\n" * 1030,
    Refusal.HEADER_TIMEOUT: b"GET / HT",
    Refusal.BODY_TIMEOUT: head(b"POST /v1/oauth/token HTTP/1.1", FORM, b"Content-Length: 5"),
}


async def test_every_refusal_has_its_reason() -> None:
    """Each request that the listener refuses is counted by its reason, and as a request."""
    impatient = {"header_timeout": "1s", "request_timeout": "2s"}
    async with open_deployment(**impatient) as deployment:
        statuses = [
            str(status)
            for status in await asyncio.gather(
                *(raw(deployment, data) for data in REFUSED.values())
            )
        ]
        page = await scrape(deployment.addresses.admin)
    name = "karmo_sidecar_requests_refused_total"
    assert page.by(name, "reason", listener="rest") == dict.fromkeys(REFUSED, 1)
    assert page.by(name, "reason", listener="admin") == {}
    assert sorted(key[2] for key, n in page.counts(HTTP).items() for _ in range(n)) == sorted(
        statuses
    )


async def test_connections_are_counted() -> None:
    """Open and idle connections of a listener are counted, and those that its limit ends."""
    async with open_deployment(max_connections="2") as deployment:
        rest, admin = deployment.addresses.rest, deployment.addresses.admin
        hold = Hold()
        deployment.upstream.script = hold.script
        async with sent(rest, request(body=BODY)), sent(rest, b""):
            await hold.wait_for(1)
            page = await scrape_until(admin, lambda page: opened(page) == 2)
            assert page.value("karmo_sidecar_connections_idle", listener="rest") == 1
            async with sent(rest, request(body=BODY)):
                await hold.wait_for(1)  # the idle connection has made room
                assert await raw(deployment, request()) == 503
                page = await scrape(admin)
            hold.release.set()
    name = "karmo_sidecar_connections_dropped_total"
    assert page.by(name, "reason", listener="rest") == {"idle": 1}
    name = "karmo_sidecar_requests_refused_total"
    assert page.by(name, "reason", listener="rest") == {Refusal.TOO_MANY_CONNECTIONS: 1}
    assert page.value("karmo_sidecar_calls_in_flight") == 2


def opened(page: Scrape) -> float:
    """Return the open connections of the REST listener."""
    return page.value("karmo_sidecar_connections_open", listener="rest")


async def test_shed_requests_are_counted() -> None:
    """A request that is shed is counted as such, and as a request with its status."""
    async with open_deployment(max_in_flight="1") as deployment:
        hold = Hold()
        deployment.upstream.script = hold.script
        async with sent(deployment.addresses.rest, request(body=BODY)):
            await hold.wait_for(1)
            kept = request(body=BODY).replace(b"Connection: close\r\n", b"")
            for _ in range(3):
                async with sent(deployment.addresses.rest, kept) as reader:
                    assert (await reader.readline()).split()[1] == b"503"
            page = await scrape(deployment.addresses.admin)
            hold.release.set()
    assert page.value("karmo_sidecar_requests_shed_total") == 3
    assert page.counts(HTTP) == {("POST", "unmatched", "503", "OVERLOADED"): 3}


@pytest.mark.parametrize(
    ("flags", "reply", "limit"),
    [
        ({"max_client_failures": "2"}, WRONG, Limit.CLIENT_FAILURES),
        (
            {"max_client_failures": "2", "max_address_failures": "2"},
            WRONG,
            Limit.ADDRESS_FAILURES,
        ),
        ({"max_client_calls": "2"}, None, Limit.CLIENT_CALLS),
    ],
)
async def test_the_limit_that_throttles_is_named(
    flags: Mapping[str, str], reply: bytes | None, limit: Limit
) -> None:
    """What the throttle refuses is counted by the limit that was reached."""
    async with open_deployment(**flags) as deployment:
        deployment.upstream.reply = reply or deployment.upstream.reply
        for number in range(5):
            one = "partner" if limit is not Limit.ADDRESS_FAILURES else f"partner-{number}"
            await deployment.ways["form"](Sent(fields=GRANT, authorization=(basic(one),)))
        page = await scrape(deployment.addresses.admin)
    assert page.by("karmo_sidecar_throttled_total", "limit") == {limit: 3}
    assert page.counts(HTTP)["POST", ROUTE, "429", "TOO_MANY_ATTEMPTS"] == 3


# The way to the auth-api


def sends(data: bytes) -> Script:
    """Return a script that sends `data` and closes."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return script


FAULTS: Mapping[tuple[str, str], bytes] = {
    ("", "closed"): b"",
    ("", "bad_http"): b"nonsense\r\n\r\n",
    ("302", "bad_status"): answer(302),
    ("404", "bad_error"): answer(404),
    ("200", "bad_media_type"): answer(200, {}, "text/html"),
    ("200", "bad_json"): answer(200, b"{"),
    ("200", "bad_token"): answer(200, {}),
    ("503", "error_response"): answer(503),
    ("401", "rejected"): WRONG,
}


async def test_every_fault_of_the_auth_api_is_counted() -> None:
    """An exchange is counted by the status of its response and the name of its fault."""
    async with open_deployment() as deployment:
        for data in FAULTS.values():
            deployment.upstream.script = sends(data)
            await deployment.ways["form"](SENT)
            await deployment.ways["grpc"](SENT)
        page = await scrape(deployment.addresses.admin)
    assert page.counts(EXCHANGES) == dict.fromkeys(FAULTS, 2)
    connections = "karmo_sidecar_auth_api_connections"
    assert page.value(f"{connections}_opened_total") == 18
    assert sum(page.by(f"{connections}_closed_total", "reason").values()) == 18
    assert page.value(f"{connections}_open") == page.value(f"{connections}_idle") == 0


@asynccontextmanager
async def running(url: str) -> AsyncIterator[tuple[Mapping[str, Way], Address]]:
    """Run a sidecar that calls `url`; yield the ways into it, and its admin listener."""
    free = dict.fromkeys(LISTENERS, "127.0.0.1:0") | dict(PATIENT)
    chosen = load({}, free | {"auth_api_token_url": url})
    async with (
        runtime.running(chosen, embeds_auth_api=False) as addresses,
        open_ways(addresses.by_name()) as ways,
    ):
        yield ways, addresses.admin


async def test_fail_fast_shows() -> None:
    """While the auth-api is down the metrics say so, with second tries and fast failures.

    Each fault has shown 0 before.
    """
    with held_port() as port:
        async with running(f"http://127.0.0.1:{port}/") as (ways, admin):
            before = await scrape(admin)
            for _ in range(6):
                await ways["form"](SENT)
            page = await scrape(admin)
    assert before.value("karmo_sidecar_auth_api_down") == 0
    for fault in ("refused", "fail_fast"):
        assert before.value(f"{EXCHANGES}_count", error_type=fault) == 0
    assert page.value("karmo_sidecar_auth_api_down") == 1
    counts = page.counts(EXCHANGES)
    assert sum(counts.values()) == 6
    assert set(counts) == {("", "refused"), ("", "fail_fast")}
    second = page.value("karmo_sidecar_auth_api_second_tries_total")
    assert second >= 1
    assert page.value("karmo_sidecar_auth_api_tries_total") >= DOWN_AFTER


async def test_kept_connections_and_look_ups_show() -> None:
    """A kept connection is counted as open, idle and reused; a name as looked up once."""
    async with (
        KeepAlive(60) as server,
        running(server.url.replace("127.0.0.1", "localhost")) as (ways, admin),
    ):
        for _ in range(3):
            assert (await ways["form"](SENT)).token
        page = await scrape(admin)
    connections = "karmo_sidecar_auth_api_connections"
    assert page.value(f"{connections}_open") == page.value(f"{connections}_idle") == 1
    assert page.value(f"{connections}_opened_total") == 1
    assert page.value(f"{connections}_reused_total") == 2
    look_ups = "karmo_sidecar_dns_look_ups"
    assert page.value(f"{look_ups}_started_total") == page.value(f"{look_ups}_finished_total") == 1
    assert page.value(f"{look_ups}_failed_total") == page.value(f"{look_ups}_hung") == 0
    assert 0 < page.value("karmo_sidecar_dns_look_up_seconds_total") < HANG


async def test_resent_requests_show() -> None:
    """A request that was sent again over a fresh connection is counted."""
    async with KeepAlive(60, answers=1) as server, running(server.url) as (ways, admin):
        for _ in range(2):
            assert (await ways["form"](SENT)).token
        page = await scrape(admin)
    assert page.value("karmo_sidecar_auth_api_resent_total") == 1
    assert page.counts(EXCHANGES) == {("200", ""): 2}
