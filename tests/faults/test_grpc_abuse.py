"""Abuse of the gRPC listener (rows G1, G3 to G8, G10 and G11), of a sidecar in its own process.

After each row every place for a call is free, the next good call is served, and
nothing that the process wrote shows a secret.
"""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame, SettingsFrame
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.process import file_limits
from sidecar.settings.types import Address
from tests.faults import http2_abuse as abuse
from tests.faults.bad_http2 import Answer, BadClient, connected
from tests.faults.conditions import MIB, Footprint, Margin, footprint, no_secret, recovers
from tests.faults.wire import host_and_port
from tests.raw_http import FORM, answer_to, request
from tests.sidecar_process import SIDECAR, Sidecar, serving
from tests.test_runtime import UNHURRIED
from tests.upstream import Hold, Upstream

pytestmark = pytest.mark.unmeasured

GUARD = 60  # seconds; nothing here takes nearly as long
PLACES = 20
# What reaches the auth-api before an attack, to see that all is well.
GOOD_CALLS = 2
# How many frames a flood has. Calls, which have several each, are fewer.
COUNT = 20_000
# What a process may take more than before while it is attacked.
MAX_MEMORY = 64 * MIB
ENHANCE_YOUR_CALM = 11  # of RFC 9113 section 7
SECRET = "canary-secret-of-the-abuse"
CLIENT = "canary-client-of-the-abuse"
FIELDS = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
GOOD = ExchangeTokenRequest(**FIELDS)
SENT = GOOD.SerializeToString()
BODY = f"grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}".encode()
# Or all channels to one address share a connection.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
# A field of a number that the request does not have, and a group of it that does not end.
UNKNOWN, ENDLESS = b"\x78\x01", b"\x7b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """A sidecar that is attacked, the auth-api behind it, and a good client of it."""

    sidecar: Sidecar
    upstream: Upstream
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        """Where gRPC is."""
        return self.sidecar.addresses["grpc"]

    async def call(self) -> None:
        """Be served by gRPC. Raises AioRpcError if not."""
        response = await TokenServiceStub(self.channel).ExchangeToken(GOOD, timeout=GUARD)
        assert response.access_token == "the.access.token"

    async def good(self) -> None:
        """Be served by both protocols."""
        await self.call()
        host, port = host_and_port(self.sidecar.addresses["rest"])
        answered = await answer_to(Address(host, port), request(headers=(FORM,), body=BODY))
        assert answered.status == 200

    async def fill(self) -> None:
        """Be served as often at once as there are places, all of which must be free for it."""
        hold = Hold()
        self.upstream.script = hold.script
        calls = [asyncio.create_task(self.call()) for _ in range(PLACES)]
        await hold.wait_for(PLACES)
        hold.release.set()
        await asyncio.gather(*calls)
        self.upstream.reset()

    @asynccontextmanager
    async def survives(self, memory: int = MAX_MEMORY) -> AsyncIterator[None]:
        """Check that nothing is left of the fault inside but `memory` bytes."""
        self.upstream.reset()
        margin = Margin(memory=memory)
        async with recovers(self.good, pid=self.sidecar.pid, margin=margin):
            yield
        self.upstream.reset()
        await self.fill()
        no_secret("".join((*self.sidecar.log.seen, *self.sidecar.stderr.seen)), SECRET, CLIENT)


@pytest_asyncio.fixture(scope="module", name="attacked")
async def _attacked() -> AsyncIterator[Attacked]:
    async with (
        Upstream() as upstream,
        serving(
            "serve",
            auth_api_token_url=upstream.url,
            max_client_calls="1000000",
            max_in_flight=str(PLACES),
        ) as sidecar,
        grpc.aio.insecure_channel(sidecar.addresses["grpc"]) as channel,
    ):
        yield Attacked(sidecar=sidecar, upstream=upstream, channel=channel)


@dataclass(slots=True, kw_only=True)
class Bystander:
    """What others saw during an attack: how often they were served, and the most memory."""

    served: int = 0
    most: Footprint = field(default_factory=lambda: Footprint(descriptors=0, memory=0))


@asynccontextmanager
async def bystander(attacked: Attacked) -> AsyncIterator[Bystander]:
    """Be served by both protocols, again and again, while the attack inside goes on."""
    seen = Bystander()

    async def call() -> None:
        while True:
            await attacked.good()
            seen.served += 1
            seen.most = max(seen.most, footprint(attacked.sidecar.pid), key=lambda now: now.memory)

    before = footprint(attacked.sidecar.pid)
    calling = asyncio.create_task(call())
    yield seen
    # If a call failed, its error is raised here.
    done, _ = await asyncio.wait((calling,), timeout=0)
    await asyncio.gather(*done)
    calling.cancel()
    await asyncio.wait((calling,))
    await attacked.good()
    assert seen.most.memory - before.memory < MAX_MEMORY


async def sent_whole(client: BadClient, data: bytes, stream: int = 1) -> Answer:
    """Send `data` while what comes is read, and return the answer on `stream`."""
    sending = asyncio.create_task(client.send(data))
    answer = await client.answered(stream)
    with suppress(ConnectionError):
        await sending
    return answer


async def answered(attacked: Attacked, data: bytes, *, acknowledges: bool = False) -> Answer:
    """Return the answer to the call in `data`, on stream 1 of a connection of its own.

    gRPC core holds a client to some limits once that acknowledges them, so both
    kinds of client are tried. One call is made before, so that they have come.
    """
    async with connected(attacked.address) as client:
        if acknowledges:
            await client.send(abuse.call(path="/none.Such/Method"))
            await client.answered()
            await client.send(SettingsFrame(0, flags=["ACK"]).serialize())
        return await sent_whole(client, data, 3 if acknowledges else 1)


async def codes(attacked: Attacked, calls: Mapping[str, bytes]) -> dict[str, StatusCode | None]:
    """Return how each of the calls ends, whose answers must show no secret."""
    numbers = {code.value[0]: code for code in StatusCode}
    ends = {}
    for name, data in calls.items():
        answer = await answered(attacked, data)
        no_secret(f"{answer}", SECRET, CLIENT)
        ends[name] = None if answer.code is None else numbers[answer.code]
    return ends


# Row G1, floods


SERVED, REFUSED, CALMED, CLOSED = "served", "refused", "calmed", "closed"
FLOODS: Mapping[str, tuple[abuse.Flood, str]] = {
    # A server that keeps pace with it serves the last call too.
    "rapid reset": (lambda count: abuse.rapid_reset(count // 4), f"{REFUSED} {SERVED}"),
    "made you reset": (lambda count: abuse.made_you_reset(count // 4), CLOSED),
    "open streams": (lambda count: abuse.open_streams(count // 4), REFUSED),
    "SETTINGS": (abuse.settings_flood, SERVED),
    "PING": (abuse.ping_flood, CALMED),
    "PRIORITY": (abuse.priority_flood, SERVED),
    "empty DATA": (abuse.empty_data_flood, CLOSED),
    "CONTINUATION": (abuse.continuation_flood, CLOSED),
    "window update of 0": (lambda _: abuse.zero_window_update(), CLOSED),
    "HPACK bomb": (lambda count: abuse.hpack_bomb(count // 2), SERVED),
}


def end_of(client: BadClient, answer: Answer) -> str:
    """Return in a word how it ended for a client whose last call has `answer`."""
    if answer.code == 0:
        return SERVED
    if client.received.goaway == ENHANCE_YOUR_CALM:
        return CALMED
    return REFUSED if answer.reset == ENHANCE_YOUR_CALM else CLOSED


@pytest.mark.parametrize(("flood", "end"), FLOODS.values(), ids=FLOODS)
async def test_g01_a_flood_harms_nobody_else(
    attacked: Attacked, flood: abuse.Flood, end: str
) -> None:
    """A flood is told to be calm, closed, or taken at no cost, while all others are served."""
    last = 2 * COUNT + 1
    async with attacked.survives(), connected(attacked.address) as client:
        async with bystander(attacked):
            answer = await sent_whole(client, flood(COUNT) + abuse.call(stream=last), last)
        assert end_of(client, answer) in end.split()


@pytest.mark.soak
@pytest.mark.parametrize("begin", [abuse.head, abuse.call], ids=["headers", "whole calls"])
async def test_g01_resets_go_on(attacked: Attacked, begin: Callable[..., bytes]) -> None:
    """Who resets all calls, and answers the pings meant to slow that, has hardly one handled."""
    rounds, calls = 50, 100
    refused = seen = 0
    async with attacked.survives(), connected(attacked.address) as client:
        async with bystander(attacked) as others:
            for number in range(rounds):
                first = 2 * number * (calls + 1) + 1
                last = first + 2 * calls
                resets = [
                    begin(stream=stream) + RstStreamFrame(stream, 8).serialize()
                    for stream in range(first, last, 2)
                ]
                await client.send(b"".join(resets) + abuse.call(stream=last))
                answer = await client.answered(last)
                refused += answer.reset == ENHANCE_YOUR_CALM
                new, seen = client.received.frames[seen:], len(client.received.frames)
                pings = [frame for frame in new if isinstance(frame, PingFrame)]
                for ping in pings:
                    await client.send(PingFrame(0, ping.opaque_data, flags=["ACK"]).serialize())
        assert others.served > 0
    assert refused > rounds / 2
    assert len(attacked.upstream.requests) < rounds * calls / 10


# Row G3, metadata


EXHAUSTED = StatusCode.RESOURCE_EXHAUSTED.value[0]
LIMIT = 16 * 1024  # bytes, as RFC 9113 counts them
METADATA: Mapping[str, tuple[abuse.Field, ...]] = {
    "20 KiB": (("x-large", SECRET + "a" * 20_480),),
    "100 KiB": (("x-large", SECRET + "a" * 102_400),),
    "1 000 keys": tuple((f"x-{number}", SECRET) for number in range(1_000)),
    "1 000 references": (("x-large", SECRET + "a" * 3_900),) * 1_000,
}
# gRPC core holds a client to limits once that has acknowledged them. Before, it has none.
acknowledging = pytest.mark.parametrize("acknowledges", [True, False], ids=["settings", "none"])


def one_large(size: int) -> tuple[abuse.Field, ...]:
    """Return one field that counts `size` bytes."""
    return (("x", "a" * (size - 33)),)


def many_small(size: int) -> tuple[abuse.Field, ...]:
    """Return fields that count `size` bytes together, 40 bytes each but for the last."""
    count = size // 40 - 1
    fields = tuple((f"k{number:03}", "abcd") for number in range(count))
    return (*fields, *one_large(size - 40 * count))


@acknowledging
async def test_g03_large_metadata_is_refused(attacked: Attacked, acknowledges: bool) -> None:
    """Metadata above the limit has one code, whether gRPC core refuses it or we do."""
    async with attacked.survives():
        for fields in METADATA.values():
            data = abuse.call(*fields, stream=3 if acknowledges else 1)
            answer = await answered(attacked, data, acknowledges=acknowledges)
            assert answer.code == EXHAUSTED
            no_secret(f"{answer}", SECRET, CLIENT)
        assert len(attacked.upstream.requests) == GOOD_CALLS


async def test_g03_a_call_that_never_sends_its_message_is_refused(attacked: Attacked) -> None:
    """Too much metadata is refused without the message, which a unary call waits for."""
    async with attacked.survives():
        answer = await answered(attacked, abuse.head(*METADATA["20 KiB"]))
        assert answer.code == EXHAUSTED


@acknowledging
@pytest.mark.parametrize("fields_of", [one_large, many_small])
async def test_g03_the_limit_of_metadata_is_exact(
    attacked: Attacked, fields_of: Callable[[int], tuple[abuse.Field, ...]], acknowledges: bool
) -> None:
    """Up to the limit every call is served; one byte more is refused each time, with a reason."""
    sizes = (LIMIT // 2 + 1_000, LIMIT - 1_000, LIMIT, LIMIT + 1, LIMIT + 1_000)
    async with attacked.survives():
        for size in sizes * 5:
            data = abuse.call(*fields_of(size), stream=3 if acknowledges else 1)
            answer = await answered(attacked, data, acknowledges=acknowledges)
            assert answer.code == (EXHAUSTED if size > LIMIT else 0), size
            if size > LIMIT:
                message = "The metadata must not be larger than 16384 bytes."
                assert answer.fields["grpc-message"] == message
                assert "grpc-status-details-bin" in answer.fields


async def test_g03_malformed_metadata_is_refused(attacked: Attacked) -> None:
    """A -bin value that is no base64, and a key with a capital letter, fail the call alone."""
    bad = {name: abuse.call((name, f"!{SECRET}!")) for name in ("x-bin", "X-Upper")}
    async with attacked.survives():
        assert await codes(attacked, bad) == dict.fromkeys(bad, StatusCode.INTERNAL)
        assert len(attacked.upstream.requests) == GOOD_CALLS


# Row G4, messages


def in_gzip(data: bytes) -> bytes:
    """Return a call whose message says to be compressed by gzip."""
    return abuse.call(("grpc-encoding", "gzip"), body=abuse.message(data, compressed=True))


def of(data: bytes) -> bytes:
    """Return a call with `data` for its message."""
    return abuse.call(body=abuse.message(data))


MESSAGES: Mapping[str, tuple[bytes, StatusCode]] = {
    "over 16 KiB": (of(SENT + b"\x7a\xff\x7f" + bytes(16_383)), StatusCode.RESOURCE_EXHAUSTED),
    "length of 2 GiB": (abuse.lying_length(2**31), StatusCode.RESOURCE_EXHAUSTED),
    "length of 4 GiB": (abuse.lying_length(2**32 - 1), StatusCode.RESOURCE_EXHAUSTED),
    "length too small": (abuse.lying_length(3), StatusCode.INVALID_ARGUMENT),
    "gzip bomb": (abuse.gzip_bomb(16 * MIB), StatusCode.RESOURCE_EXHAUSTED),
    "no gzip": (in_gzip(SENT), StatusCode.INTERNAL),
    "unknown compressor": (abuse.unknown_compressor(), StatusCode.INTERNAL),
    "no compressor": (
        abuse.call(body=abuse.message(SENT, compressed=True)),
        StatusCode.INTERNAL,
    ),
    "truncated": (of(SENT[:-1]), StatusCode.INVALID_ARGUMENT),
    "invalid UTF-8": (of(SENT + b"\x12\x02\xff\xfe"), StatusCode.INVALID_ARGUMENT),
    "nested": (of(SENT + ENDLESS * 8_000), StatusCode.INVALID_ARGUMENT),
    "100 000 unknown fields": (
        of(SENT + UNKNOWN * 30_000),
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    "wrong wire types": (of(b"\x08\x01\x10\x02\x18\x03"), StatusCode.INVALID_ARGUMENT),
    "nothing": (of(b""), StatusCode.INVALID_ARGUMENT),
}


async def test_g04_a_bad_message_is_refused(attacked: Attacked) -> None:
    """A message that is too large, no message, or no request fails by its own code, unheard."""
    async with attacked.survives():
        ends = await codes(attacked, {name: data for name, (data, _) in MESSAGES.items()})
        assert ends == {name: code for name, (_, code) in MESSAGES.items()}
        assert len(attacked.upstream.requests) == GOOD_CALLS


async def test_g04_the_log_does_not_blame_the_request(attacked: Attacked) -> None:
    """A message that gRPC refuses by itself leaves the line of a call that was cancelled."""
    identity = "5b1d7d1e-0f5e-4b7a-9c3e-1f2d3c4b5a69"
    body = abuse.message(SENT, length=2**31)
    async with attacked.survives():
        answer = await answered(attacked, abuse.call(("x-request-id", identity), body=body))
        assert answer.code == StatusCode.RESOURCE_EXHAUSTED.value[0]
        line = json.loads(await attacked.sidecar.log.find(identity))
    assert line["code"] == "CANCELLED"
    assert "reason" not in line


async def test_g04_unknown_fields_are_passed_over(attacked: Attacked) -> None:
    """As many unknown fields as fit beside a good request cost nothing that others would see."""
    async with attacked.survives(), bystander(attacked):
        for _ in range(10):
            assert (await answered(attacked, of(SENT + UNKNOWN * 8_000))).code == 0


@pytest.mark.parametrize("body", [b"", b"\0\0\0", abuse.message(SENT, length=100)])
async def test_g04_a_call_without_its_message_takes_no_place(
    attacked: Attacked, body: bytes
) -> None:
    """Calls whose messages never come whole hold nothing that others need."""
    async with attacked.survives(), connected(attacked.address) as client:
        streams = range(1, 4 * PLACES, 2)
        await client.send(b"".join(abuse.call(stream=stream, body=body) for stream in streams))
        await attacked.fill()


# Row G5, deadlines


DEADLINES: Mapping[str, StatusCode] = {
    "0n": StatusCode.DEADLINE_EXCEEDED,
    "0S": StatusCode.DEADLINE_EXCEEDED,
    "-1S": StatusCode.INTERNAL,
    "1Y": StatusCode.INTERNAL,
    "1": StatusCode.INTERNAL,
    "": StatusCode.INTERNAL,
    SECRET: StatusCode.INTERNAL,
    "99999999H": StatusCode.OK,
}


async def test_g05_an_odd_deadline(attacked: Attacked) -> None:
    """No time left is told without a call upstream, a lifetime is served, garbage is refused."""
    async with attacked.survives():
        calls = {limit: abuse.call(("grpc-timeout", limit)) for limit in DEADLINES}
        assert await codes(attacked, calls) == DEADLINES
        assert len(attacked.upstream.requests) == GOOD_CALLS + 1


# Row G6, callers who leave


class Left:
    """A script of the upstream that never answers, and counts who came and who left."""

    def __init__(self) -> None:
        self.came = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)

    async def script(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Tell that a request came, and that its sender has left."""
        self.came.release()
        with suppress(ConnectionError):
            await reader.read()
        self.left.release()


async def times(semaphore: asyncio.Semaphore, count: int) -> None:
    """Wait until `semaphore` was released so many times."""
    async with asyncio.timeout(GUARD):
        for _ in range(count):
            await semaphore.acquire()


async def test_g06_a_thousand_cancel(attacked: Attacked) -> None:
    """Each of 1 000 cancelled calls leaves the upstream; neither memory nor descriptors grow."""
    stub = TokenServiceStub(attacked.channel)
    left = Left()

    async def wave() -> None:
        calls = [stub.ExchangeToken(GOOD) for _ in range(PLACES)]
        await times(left.came, PLACES)
        for call in calls:
            call.cancel()
        await times(left.left, PLACES)
        assert {await call.code() for call in calls} == {StatusCode.CANCELLED}

    async with attacked.survives(memory=8 * MIB):
        attacked.upstream.script = left.script
        for _ in range(1_000 // PLACES):
            await wave()
        attacked.upstream.reset()


async def test_g06_connections_break(attacked: Attacked) -> None:
    """Calls whose connection is gone leave the upstream, and their places to others."""
    left = Left()
    calls = b"".join(abuse.call(stream=stream) for stream in range(1, 2 * PLACES, 2))
    async with attacked.survives():
        attacked.upstream.script = left.script
        for _ in range(10):
            async with connected(attacked.address) as client:
                await client.send(calls)
                await times(left.came, PLACES)
            await times(left.left, PLACES)
        attacked.upstream.reset()


# Row G7, too many of everything


async def test_g07_idle_connections(attacked: Attacked) -> None:
    """Beside 300 connections that are silent or unfinished others are served as ever."""
    async with attacked.survives(), AsyncExitStack() as stack:
        for number in range(300):
            opening = b"PRI * HTTP/2.0"[: number % 15]
            await stack.enter_async_context(connected(attacked.address, opening))
        await attacked.fill()


async def test_g07_connections_take_nothing_from_others() -> None:
    """With as many descriptors as suffice by our count, a crowd at gRPC leaves REST and probes."""
    needed, _ = file_limits.raise_soft_limit(connections=40, calls=5)
    program = ("prlimit", f"--nofile={needed}:{needed}", *SIDECAR)
    async with (
        Upstream() as upstream,
        serving(
            "serve",
            program=program,
            auth_api_token_url=upstream.url,
            max_connections="40",
            max_in_flight="5",
        ) as sidecar,
        AsyncExitStack() as crowd,
    ):
        rest, admin = (Address(*host_and_port(sidecar.addresses[one])) for one in ("rest", "admin"))
        for _ in range(needed + 100):
            await crowd.enter_async_context(connected(sidecar.addresses["grpc"]))
        for _ in range(3):
            assert (await answer_to(admin, request("GET", "/readyz"))).status == 200
            assert (await answer_to(rest, request(headers=(FORM,), body=BODY))).status == 200
        assert sidecar.stderr.seen == []


async def test_g07_too_many_streams(attacked: Attacked) -> None:
    """Of 250 calls at once on a connection 50 are refused, and others are served meanwhile."""
    async with attacked.survives(), connected(attacked.address) as client:
        await client.send(abuse.open_streams(250) + abuse.call(stream=501))
        await client.answered(501)
        resets = [frame for frame in client.received.frames if isinstance(frame, RstStreamFrame)]
        assert len(resets) == 51
        await attacked.fill()


# Row G8, pings


@pytest.mark.parametrize(("pings", "goaway"), [(3, None), (4, ENHANCE_YOUR_CALM)])
async def test_g08_pings_too_often(attacked: Attacked, pings: int, goaway: int | None) -> None:
    """Two pings too early are forgiven; the third ends the connection with too_many_pings."""
    async with attacked.survives(), connected(attacked.address) as client:
        answer = await sent_whole(client, abuse.ping_flood(pings) + abuse.call())
        assert client.received.goaway == goaway
        assert answer.code == (None if goaway else 0)


async def test_g08_a_client_that_keeps_alive(attacked: Attacked) -> None:
    """A client of grpc.aio that pings as often as gRPC lets it, each 10 seconds, is served."""
    options = (
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with (
        attacked.survives(),
        grpc.aio.insecure_channel(attacked.address, options=options) as channel,
    ):
        for _ in range(10):
            await TokenServiceStub(channel).ExchangeToken(GOOD, timeout=GUARD)


# Row G10, what there is not


PATHS = (
    "/karmo.auth.v1.TokenService/Other",
    "/karmo.auth.v1.Other/ExchangeToken",
    f"/{SECRET}/{SECRET}",
    "//",
    "karmo",
    "/" + "a" * 4_000,
)


async def test_g10_an_unknown_method(attacked: Attacked) -> None:
    """What is not served is UNIMPLEMENTED, and is named neither in the answer nor in the log."""
    async with attacked.survives():
        for path in PATHS:
            answer = await answered(attacked, abuse.call(path=path))
            assert answer.code == StatusCode.UNIMPLEMENTED.value[0]
            assert answer.fields["grpc-message"] == "The server has no such service or method."
            no_secret(f"{answer}", SECRET)


# Row G11, streams


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_g11_questions_whose_answers_nobody_reads(attacked: Attacked, version: str) -> None:
    """Questions whose answers would take 170 MB take the server hardly any memory."""
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    # Each answer has 13 KB. All questions fit into the window of a connection.
    question = ServerReflectionRequest(file_containing_symbol="google.protobuf.FileOptions")
    questions = DataFrame(1, abuse.message(question.SerializeToString()) * 400).serialize()
    before = footprint(attacked.sidecar.pid)
    async with attacked.survives(), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(attacked.address)) for _ in range(32)]
        for client in clients:
            await client.send(abuse.head(path=path) + questions)
        for client in clients:
            await client.filled()
        await attacked.fill()
        assert footprint(attacked.sidecar.pid).memory - before.memory < MAX_MEMORY


async def end_of_watch(watch: Any) -> StatusCode:
    """Read `watch`, which must fail, to its end, and return its code."""

    async def read() -> None:
        while (response := await watch.read()) is not grpc.aio.EOF:
            assert response.status == HealthCheckResponse.NOT_SERVING

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    return caught.value.code()


async def test_g11_watches_do_not_delay_the_end() -> None:
    """With 320 watches open, which nobody reads, a sidecar that gets SIGTERM ends, and says why."""
    async with Upstream() as upstream, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        sidecar = await enter(serving("serve", auth_api_token_url=upstream.url, **UNHURRIED))
        # A connection may have 8 at most.
        channels = [
            await enter(grpc.aio.insecure_channel(sidecar.addresses["grpc"], OWN_CONNECTION))
            for _ in range(40)
        ]
        # Any: the stub of the health service names the types of none of its methods.
        stubs: list[Any] = [HealthStub(channel) for channel in channels]
        watches = [stub.Watch(HealthCheckRequest()) for stub in stubs for _ in range(8)]
        for watch in watches:
            assert (await watch.read()).status == HealthCheckResponse.SERVING
        sidecar.signal(signal.SIGTERM)
        assert (await sidecar.ended()).status == 0
        ends = Counter([await end_of_watch(watch) for watch in watches])
        assert ends == {StatusCode.UNAVAILABLE: len(watches)}
