"""The bad client of the kit: h2 finds in its bytes what they claim to be, and a server reacts."""

import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial

import h2.events as ev
import pytest
from grpc import StatusCode
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import DenialOfServiceError, ProtocolError
from karmo.auth.v1.token_service_pb2 import ExchangeTokenResponse

from tests.faults import http2_abuse as abuse
from tests.faults.bad_http2 import OPENING, connected
from tests.ways import Deployment

PREFIX = 5  # bytes of a message of gRPC before its data
ENHANCE_YOUR_CALM = 11  # of RFC 9113 section 7


@pytest.fixture
def address(deployment: Deployment) -> str:
    """Give the address of gRPC."""
    return str(deployment.addresses.grpc)


def judged(data: bytes) -> Counter[type[ev.Event]]:
    """Return which events h2 finds in `data`, as a server that allows any number of streams."""
    server = H2Connection(H2Configuration(client_side=False))
    server.local_settings.max_concurrent_streams = 1_000_000
    server.initiate_connection()
    return Counter(type(event) for event in server.receive_data(OPENING + data))


async def code(address: str, data: bytes) -> StatusCode | None:
    """Return how the call in `data` ends, on a connection of its own."""
    async with connected(address) as client:
        await client.send(data)
        number = (await client.answered()).code
    return next((code for code in StatusCode if code.value[0] == number), None)


async def test_a_good_call_is_answered(address: str) -> None:
    """The frames of a good call are a request, and what comes back is a token and OK."""
    async with connected(address) as client:
        await client.send(abuse.call())
        answer = await client.answered()
    assert answer.code == 0
    token = ExchangeTokenResponse.FromString(answer.data[PREFIX:])
    assert token.access_token == "the.access.token"
    assert judged(abuse.call())[ev.RequestReceived] == 1


async def test_metadata_of_any_size_arrives_whole(address: str) -> None:
    """A header that takes several frames is one request, whose path may be any."""
    data = abuse.call(("x-large", "~" * 40_000), path="/none.Such/Method")
    assert data.count(b"/none.Such") == 0  # it is compressed
    assert judged(data)[ev.RequestReceived] == 1
    assert await code(address, abuse.call(path="/none.Such/Method")) is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (partial(abuse.hpack_bomb, 10_000), StatusCode.RESOURCE_EXHAUSTED),
        (partial(abuse.lying_length, 2**31), StatusCode.RESOURCE_EXHAUSTED),
        (partial(abuse.lying_length, 3), StatusCode.INVALID_ARGUMENT),
        (partial(abuse.gzip_bomb, 16 * 1024 * 1024), StatusCode.RESOURCE_EXHAUSTED),
        (abuse.unknown_compressor, StatusCode.INTERNAL),
    ],
    ids=["HPACK bomb", "length too large", "length too small", "gzip", "compressor"],
)
async def test_a_bad_call_is_refused(
    address: str, data: Callable[[], bytes], expected: StatusCode
) -> None:
    """A server of grpcio sees what is wrong with each bad call."""
    assert await code(address, data()) is expected


async def test_a_small_bomb_is_a_message(address: str) -> None:
    """What a gzip bomb holds is a request of which every field is unknown."""
    assert await code(address, abuse.gzip_bomb(8 * 1024)) is StatusCode.INVALID_ARGUMENT


def test_the_bombs_are_small() -> None:
    """What is sent of a bomb is a thousandth of what it takes, or a field of it one byte."""
    assert len(abuse.gzip_bomb(16 * 1024 * 1024)) < 17_000
    assert len(abuse.hpack_bomb(2_000)) - len(abuse.hpack_bomb(1_000)) == 1_000


@pytest.mark.parametrize(
    "data",
    [partial(abuse.hpack_bomb, 1_000), partial(abuse.oversized_metadata, 70_000)],
    ids=["HPACK bomb", "one field"],
)
def test_oversized_metadata_is_too_large(data: Callable[[], bytes]) -> None:
    """A reader that takes 64 KiB of header refuses what takes more, however it is sent."""
    with pytest.raises(DenialOfServiceError, match="Oversized header block"):
        judged(data())


@pytest.mark.parametrize(
    ("data", "event", "count"),
    [
        (abuse.rapid_reset(50), ev.StreamReset, 50),
        (abuse.open_streams(50), ev.RequestReceived, 50),
        (abuse.settings_flood(50), ev.RemoteSettingsChanged, 51),
        (abuse.ping_flood(50), ev.PingReceived, 50),
        (abuse.priority_flood(50), ev.PriorityUpdated, 50),
        (abuse.empty_data_flood(50), ev.DataReceived, 50),
        (abuse.zero_window(), ev.RemoteSettingsChanged, 2),
    ],
    ids=["reset", "streams", "SETTINGS", "PING", "PRIORITY", "DATA", "window"],
)
def test_a_flood_is_what_it_claims(data: bytes, event: type[ev.Event], count: int) -> None:
    """A reader of HTTP/2 finds so many events in a flood, and no error."""
    assert judged(data)[event] == count


def test_what_no_reader_takes() -> None:
    """An endless header, and an update of a window by nothing, are errors to any reader."""
    assert judged(abuse.continuation_flood(50))[ev.RequestReceived] == 0
    for data in (
        abuse.continuation_flood(100),
        abuse.zero_window_update(),
        abuse.made_you_reset(1),
    ):
        with pytest.raises(ProtocolError):
            judged(data)
    update = abuse.zero_window_update(1)[:-8]
    assert abuse.made_you_reset(50).count(update) == 50


@pytest.mark.parametrize("flood", abuse.FLOODS.values(), ids=abuse.FLOODS)
async def test_a_server_lives_through_a_flood(address: str, flood: abuse.Flood) -> None:
    """The server closes the connection of a flood in the end, and serves the next good call."""
    async with connected(address) as client:
        assert (await client.exchange(flood(200))).frames
    assert await code(address, abuse.call()) is StatusCode.OK


async def test_the_answers_to_a_flood_are_read(address: str) -> None:
    """Each of many SETTINGS is acknowledged; too many PING bring GOAWAY."""
    async with connected(address) as client:
        received = await client.exchange(abuse.settings_flood(5_000))
    kinds = Counter(type(frame).__name__ for frame in received.frames)
    assert kinds["SettingsFrame"] == 5_002  # with the first of both sides
    async with connected(address) as client:
        assert (await client.exchange(abuse.ping_flood(1_000))).goaway == ENHANCE_YOUR_CALM


async def test_a_reset_stream_is_told(address: str) -> None:
    """A call whose client sends no more is reset, and the error is in the answer."""
    async with connected(address) as client:
        received = await client.exchange(abuse.open_streams(2))
    assert received.answer(3).reset is not None
    assert received.answer(5).reset is None


@pytest.mark.parametrize("opening", [abuse.HTTP1, abuse.tls_hello(), abuse.call()])
async def test_a_wrong_opening_is_not_served(address: str, opening: bytes) -> None:
    """HTTP/1, TLS, and frames without a preface get no answer, and the connection is closed."""
    async with connected(address, opening) as client:
        assert (await client.closed()).answer().code is None


async def test_a_slow_opening_is_dripped(address: str) -> None:
    """A server that is sent the opening byte by byte serves the call after it."""
    async with connected(address, b"") as client:
        await client.drip(OPENING, 0.001)
        await client.send(abuse.call())
        assert (await client.answered()).code == 0


def test_the_hello_is_one_of_tls() -> None:
    """A server of TLS reads the hello, and only then misses its certificate."""
    sent = ssl.MemoryBIO()
    sent.write(abuse.tls_hello())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = context.wrap_bio(sent, ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        server.do_handshake()
