"""The exchange with the auth-api, which here is a raw socket that breaks every rule there is."""

import asyncio
import contextlib
import gzip
import json
import socket
import ssl
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.auth_api.dns.resolver import LookUps
from sidecar.auth_api.fail_fast import DOWN_AFTER, MAX_PAUSE, FailFast
from sidecar.auth_api.outcomes import Outcome
from sidecar.auth_api.response import Token
from sidecar.auth_api.transport.connection import Connection
from sidecar.auth_api.transport.pool import ConnectionCounters
from sidecar.call import Call, entered
from sidecar.problems import Problem, ProblemError, Reason
from sidecar.secret import Secret
from tests.faults.test_upstream_faults import full
from tests.faults.wire import free_port, held_port, reset
from tests.loops import on_skipping_loop, on_uvloop
from tests.upstream import TOKEN, Script, Upstream, answer, within
from tests.virtual_time import skip
from tests.ways import basic

TIMEOUT = pb.PROBLEM_REASON_UPSTREAM_TIMEOUT
LOST = pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST
UNAVAILABLE = pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE
BAD = pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER

# The longest that anything here may take before the test fails, in seconds.
GUARD = 60
SHORT = 0.1
# The first is long enough but on a busy machine.
SHORT_TIMES = (0.3, 3.0, 15.0)
CREDENTIALS = ClientCredentials(
    client_id=Secret("partner"),
    client_secret=Secret("s&cret"),
    authorization=None,
    encoded=(),
)
GOOD = answer(200, TOKEN)
HEAD, _, BODY = GOOD.partition(b"\r\n\r\n")
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module", name="_upstream")
async def _run_upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """Give an upstream as new: it answers with a token until it is told otherwise."""
    _upstream.reset()
    return _upstream


@pytest.fixture(scope="module")
async def api(_upstream: Upstream) -> AsyncIterator[AuthApi]:
    """Give what exchanges with the upstream, with more time than anything takes."""
    async with AuthApi(_upstream.url, within(GUARD)) as opened:
        yield opened


async def exchange(
    api: AuthApi,
    deadline: float | None = None,
    credentials: ClientCredentials = CREDENTIALS,
) -> Token | Problem:
    """Return what one exchange brings: a token, or the problem that it is."""
    async with asyncio.timeout(GUARD):
        try:
            return await api.exchange(credentials, deadline=deadline)
        except ProblemError as error:
            return error.problem


async def soon(upstream: Upstream) -> Token | Problem:
    """Return what an exchange brings that has little time, once its request was read."""
    for seconds in SHORT_TIMES:
        async with AuthApi(upstream.url, within(seconds)) as api:
            found = await exchange(api)
        if upstream.received.is_set():
            return found
    raise TimeoutError("the request must be read")


def reason_of(outcome: Token | Problem) -> Reason:
    """Return the reason of what must be a problem, none of whose text is the upstream's."""
    assert isinstance(outcome, Problem)
    assert outcome.detail == outcome.definition.explanation
    return outcome.reason


def assert_works(outcome: Token | Problem, token: str = "the.access.token") -> None:
    """Assert that `outcome` is the token that was answered."""
    assert isinstance(outcome, Token)
    assert outcome.access_token.reveal() == token


# Scripts


def sends(data: bytes) -> Script:
    """Send `data` and close."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return script


def resets_after(data: bytes) -> Script:
    """Send `data`, then have the kernel send RST in place of FIN."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sends(data)(_reader, writer)
        reset(writer)

    return script


def drips(data: bytes) -> Script:
    """Send `data`, then for ever one letter after the other, each in time for a read timeout."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sends(data)(reader, writer)
        is_there = True
        while is_there:
            await sends(b"a")(reader, writer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SHORT / 10):  # it is this pace that is the fault
                    is_there = bool(await reader.read())

    return script


class Flood:
    """A script that sends `data`, then `more` for ever, and counts what leaves it."""

    def __init__(self, data: bytes, more: bytes) -> None:
        self._data, self._more = data, more
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send until the client hangs up."""
        writer.transport.set_write_buffer_limits(0)
        await sends(self._data)(reader, writer)
        try:
            while True:
                await sends(self._more)(reader, writer)
                self.sent += len(self._more)
        finally:
            self.ended.set()


def keeps_open(upstream: Upstream, *answers: bytes) -> Script:
    """Answer one request after the other on the same connection, until the client hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for data in answers:
                await sends(data)(reader, writer)
                upstream.requests.append(await reader.readuntil(b"s%26cret"))
        finally:
            upstream.gone.set()

    return script


# What is sent


async def test_only_what_the_auth_api_needs_is_sent(upstream: Upstream, api: AuthApi) -> None:
    """Credentials of the body go upstream in the body, with the identity of the call."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    call = Call.of(request_id=str(uuid.uuid4()), traceparent=trace)
    with logs.access(call):
        assert_works(await exchange(api))
    head, _, body = upstream.requests[0].partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    named = {name.lower(): value for name, value in (field.split(": ") for field in fields)}
    assert named.pop("user-agent").startswith("karmo-sidecar/")
    assert line == "POST /v1/oauth/token HTTP/1.1"
    assert named == {
        "host": httpx2.URL(upstream.url).netloc.decode(),
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(body)),
        "x-request-id": call.request_id,
        "traceparent": trace,
    }
    assert body == b"grant_type=client_credentials&client_id=partner&client_secret=s%26cret"


async def test_a_basic_header_is_sent_as_it_came(upstream: Upstream, api: AuthApi) -> None:
    """A Basic header goes upstream byte for byte, and its credentials nowhere else."""
    header = basic("par tner", "s%26cret")
    credentials = ClientCredentials(
        client_id=Secret("par tner"),
        client_secret=Secret("s&cret"),
        authorization=Secret(header),
        encoded=(),
    )
    assert_works(await exchange(api, credentials=credentials))
    head, _, body = upstream.requests[0].partition(b"\r\n\r\n")
    assert f"Authorization: {header}".encode() in head.split(b"\r\n")
    assert body == b"grant_type=client_credentials"


async def test_cookies_are_not_returned(upstream: Upstream, api: AuthApi) -> None:
    """A cookie that an answer sets for one caller is not sent with the request of the next."""
    upstream.reply = answer(200, TOKEN, Set_Cookie="session=caller-1; Path=/")
    for _ in range(2):
        assert_works(await exchange(api))
    assert len(upstream.requests) == 2
    assert not any(b"cookie" in request.lower() for request in upstream.requests)


async def test_the_environment_steers_nothing(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names is not asked."""
    dead = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
        monkeypatch.setenv(name.lower(), dead)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with AuthApi(upstream.url, within(GUARD)) as api:
        assert_works(await exchange(api))


# Tokens


# What a token must hold is in test_auth_answer; here is in what ways HTTP may bring it.
GOOD_TOKENS = {
    "a token": GOOD,
    "identity": answer(200, TOKEN, Content_Encoding="identity"),
    "chunked": CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "until the end": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + GOOD,
    "three interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + GOOD,
    "as large as may be": answer(200, BODY.ljust(64 * 1024)),
}


@pytest.mark.parametrize("reply", GOOD_TOKENS.values(), ids=GOOD_TOKENS)
async def test_a_token_is_read(upstream: Upstream, api: AuthApi, reply: bytes) -> None:
    """A token is read in every framing that HTTP has."""
    upstream.reply = reply
    assert_works(await exchange(api))


BAD_ANSWERS = {
    "HTML": answer(200, b"<html>login</html>", "text/html"),
    "two types": answer(200, TOKEN, "application/json, text/html"),
    "two fields of a type": GOOD.replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n"),
    "gzip": answer(200, gzip.compress(BODY), Content_Encoding="gzip"),
    "said to be gzip": answer(200, TOKEN, Content_Encoding="gzip"),
    "many codings": answer(200, TOKEN, Content_Encoding=", ".join(["gzip", "br"] * 5)),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 with a body": answer(204, TOKEN),
    "304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "600": answer(600, TOKEN),
    "empty": answer(200),
    "cut short": answer(200, BODY[:-1]),
    "one byte too large": answer(200, BODY.ljust(64 * 1024 + 1)),
}


@pytest.mark.parametrize("reply", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_what_is_no_token_is_a_bad_answer(
    upstream: Upstream, api: AuthApi, reply: bytes
) -> None:
    """A success that does not hold a token as the contract has it never reaches the caller."""
    upstream.reply = reply
    assert reason_of(await exchange(api)) == BAD


@pytest.mark.parametrize(
    ("status", "to"),
    [(302, "other host"), (307, "itself"), (308, "metadata service"), (301, "nonsense")],
)
async def test_a_redirect_is_not_followed(
    upstream: Upstream, api: AuthApi, status: int, to: str
) -> None:
    """A redirect is a bad answer, and neither it nor the credentials go anywhere."""
    async with Upstream() as other:
        location = {
            "other host": other.url,
            "itself": upstream.url,
            "metadata service": "http://169.254.169.254/latest/meta-data",
            "nonsense": "http://[",
        }[to]
        upstream.reply = answer(status, TOKEN, Location=location)
        assert reason_of(await exchange(api)) == BAD
        assert other.requests == []
    assert len(upstream.requests) == 1


# Broken connections


BROKEN: dict[str, Script] = {
    "closed at once": sends(b""),
    "closed in the head": sends(HEAD[:30]),
    "closed in the body": sends(GOOD[:-5]),
    "last chunk missing": sends(CHUNKED + b"%x\r\n%b\r\n" % (len(BODY), BODY)),
    "closed in a chunk": sends(CHUNKED + b"%x\r\n%b" % (len(BODY) + 1, BODY)),
    "reset at once": resets_after(b""),
    "reset in the head": resets_after(HEAD[:30]),
    "reset in the body": resets_after(GOOD[:-5]),
    "reset in a chunk": resets_after(CHUNKED + b"%x\r\n%b" % (len(BODY) + 1, BODY)),
    "101": sends(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + GOOD),
    "closed after 100": sends(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "not HTTP": sends(b"\x15\x03\x01\x00\x02\x02\x46"),
    "HTTP/0.9": sends(BODY),
    "bad status line": sends(GOOD.replace(b"200", b"2OO", 1)),
    "two lengths": sends(GOOD.replace(b"Length: ", b"Length: 1\r\nContent-Length: ", 1)),
    "length is no number": sends(GOOD.replace(b"Length: ", b"Length: +", 1)),
    "bad chunk size": sends(CHUNKED + b"zz\r\n" + BODY),
    "NUL in a header": sends(GOOD.replace(b"Status", b"OK\r\nX-A: a\0b", 1)),
    "header of 200 KiB": sends(GOOD.replace(b"Status", b"OK\r\nX-A: " + b"a" * 200_000, 1)),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_broken_connection_is_a_lost_one(
    upstream: Upstream, api: AuthApi, script: Script
) -> None:
    """An answer that breaks off, or that is not HTTP, is not used as far as it goes."""
    upstream.script = script
    assert reason_of(await exchange(api)) == LOST
    upstream.reset()
    assert_works(await exchange(api))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no-such-host.invalid"])
async def test_an_unreachable_upstream_is_unavailable(host: str) -> None:
    """A port that refuses, and a name that does not resolve, are the same to the caller."""
    async with AuthApi(f"http://{host}:{free_port()}/token", within(GUARD)) as api:
        assert reason_of(await exchange(api)) == UNAVAILABLE


FLOODS = {
    "by length": (HEAD.replace(b"Length: ", b"Length: 999999") + b"\r\n\r\n", b" " * 16384, BAD),
    "chunked": (CHUNKED, b"4000\r\n" + b" " * 16384 + b"\r\n", BAD),
    "small chunks": (CHUNKED, b"1\r\n \r\n" * 4096, BAD),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\n", b" " * 16384, BAD),
    "of an error": (CHUNKED.replace(b"200", b"403"), b"4000\r\n" + b" " * 16384 + b"\r\n", BAD),
    "of header fields": (b"HTTP/1.1 200 OK\r\n", b"X-A: aaaaaaaa\r\n" * 1024, LOST),
    "of one header field": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 16384, LOST),
}


@pytest.mark.parametrize(("data", "more", "reason"), FLOODS.values(), ids=FLOODS)
async def test_a_flood_is_not_read(
    upstream: Upstream, api: AuthApi, data: bytes, more: bytes, reason: Reason
) -> None:
    """An answer without end is given up at its limit, and its connection with it.

    What leaves the upstream is at most what the buffers of the kernel hold.
    """
    flood = Flood(data, more)
    upstream.script = flood
    assert reason_of(await exchange(api)) == reason
    async with asyncio.timeout(GUARD):
        await flood.ended.wait()
    assert flood.sent < 16 * 1024 * 1024


# Time


SLOW = {
    "in the head": drips(b"HTTP/1.1 200 OK\r\nX-A: "),
    "in the body": drips(HEAD.replace(b"Length: ", b"Length: 99") + b'\r\n\r\n{"access_token":"'),
    "in the length of a chunk": drips(CHUNKED + b"1;"),
    "in interim answers": drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 10 + b"HTTP/1.1 100 "),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_a_slow_answer_ends_by_the_total_time(upstream: Upstream, script: Script) -> None:
    """One deadline covers the whole exchange, however often a byte comes."""
    upstream.script = script
    assert reason_of(await soon(upstream)) == TIMEOUT


@pytest.mark.timing("it is never accepted, however long it has")
async def test_a_connection_that_is_never_accepted_ends_by_the_timeout() -> None:
    """The time that it takes to connect is part of the same timeout."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        host, port = listener.getsockname()
        for _ in range(4):  # more than its queue holds: the kernel drops what comes after
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        async with AuthApi(f"http://{host}:{port}/", within(SHORT)) as api:
            assert reason_of(await exchange(api)) == TIMEOUT


@pytest.mark.parametrize(("limit", "deadline"), [(60, None), (60, 600), (600, 60)])
@on_skipping_loop
async def test_an_answer_that_never_comes_ends_by_the_shorter_time(
    limit: float, deadline: float | None
) -> None:
    """The upstream is given up, and hung up on, by the timeout or the deadline of the caller."""
    async with Upstream() as upstream, AuthApi(upstream.url, within(limit)) as api:
        upstream.script = upstream.hang
        end = deadline and asyncio.get_running_loop().time() + deadline
        running = asyncio.create_task(api.exchange(CREDENTIALS, deadline=end))
        await upstream.received.wait()
        skip(55)
        await asyncio.sleep(0)
        assert not running.done()
        skip(6)
        with pytest.raises(ProblemError) as caught:
            await running
        assert reason_of(caught.value.problem) == TIMEOUT
        await upstream.gone.wait()


@pytest.mark.parametrize("late", [0.0, 0.001, 60.0])
@pytest.mark.parametrize("connected", [False, True], ids=["new connection", "open connection"])
async def test_a_deadline_that_has_passed_calls_nobody(
    upstream: Upstream, late: float, connected: bool
) -> None:
    """A request that is too late is not sent, not even over a connection that is open."""
    upstream.script = keeps_open(upstream, token_kept("a"), token_kept("b"))
    async with AuthApi(upstream.url, within(GUARD)) as api:
        if connected:
            assert_works(await exchange(api), "a")
        end = asyncio.get_running_loop().time() - late
        assert reason_of(await exchange(api, end)) == TIMEOUT
        assert isinstance(await exchange(api), Token)
    assert len(upstream.requests) == 1 + connected


def token_kept(access_token: str) -> bytes:
    """Return an answer with a token that leaves the connection open."""
    return answer(200, {**TOKEN, "access_token": access_token}, Connection="keep-alive")


# The pool


async def test_what_follows_an_answer_is_not_the_next_answer(upstream: Upstream) -> None:
    """An answer that is longer than its length poisons its connection, not the next caller."""
    first, second = token_kept("first"), token_kept("somebody-elses")
    upstream.script = keeps_open(upstream, first + second, token_kept("second"))
    async with AuthApi(upstream.url, within(GUARD)) as api:
        assert_works(await exchange(api), "first")
        upstream.script = keeps_open(upstream, token_kept("second"))
        assert_works(await exchange(api), "second")


async def test_a_broken_answer_ends_its_connection(upstream: Upstream) -> None:
    """A body that was given up is never taken for the beginning of the next answer."""
    too_large = answer(200, BODY.ljust(70_000), Connection="keep-alive")
    upstream.script = keeps_open(upstream, too_large, token_kept("from the old connection"))
    async with AuthApi(upstream.url, within(GUARD)) as api:
        assert reason_of(await exchange(api)) == BAD
        async with asyncio.timeout(GUARD):
            await upstream.gone.wait()
        upstream.reset()
        assert_works(await exchange(api))


async def test_a_cancelled_exchange_hangs_up(upstream: Upstream) -> None:
    """When the caller goes away, the auth-api is not left working for nobody."""
    upstream.script = upstream.hang
    async with AuthApi(upstream.url, within(GUARD)) as api, asyncio.timeout(GUARD):
        running = asyncio.create_task(api.exchange(CREDENTIALS, deadline=None))
        await upstream.received.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await upstream.gone.wait()


async def test_cancelled_exchanges_cost_no_connection_of_the_pool(upstream: Upstream) -> None:
    """However far an exchange got when it was cancelled, its place in the pool comes back.

    Twice as many are cancelled as there are places, at every step of the loop
    from the first on; one lost place each would leave none.
    """
    upstream.script = upstream.hang
    async with AuthApi(upstream.url, within(GUARD)) as api, asyncio.timeout(GUARD):
        for number in range(200):
            running = asyncio.create_task(api.exchange(CREDENTIALS, deadline=None))
            for _ in range(number % 50):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert 0 < len(upstream.requests) < 200  # some were awaiting, some still connecting
        upstream.reset()
        for _ in range(3):
            assert_works(await exchange(api))


# Errors whose body does not count


REFUSALS: dict[str, tuple[bytes, Reason]] = {
    "401 in a coding": (
        answer(401, b"\x1f\x8b", Content_Encoding="gzip", WWW_Authenticate="Basic"),
        pb.PROBLEM_REASON_INVALID_CLIENT,
    ),
    "401 of 70 kB": (
        answer(401, b" " * 70_000, "text/html", WWW_Authenticate="Basic"),
        pb.PROBLEM_REASON_INVALID_CLIENT,
    ),
    "401 of 70 kB without a challenge": (answer(401, b" " * 70_000, "text/html"), BAD),
    "400 of 70 kB": (answer(400, b" " * 70_000, "text/html"), BAD),
    "400 in a coding": (answer(400, b"\x1f\x8b", Content_Encoding="gzip"), BAD),
    "503 in a coding": (answer(503, b"\x1f\x8b", Content_Encoding="br"), UNAVAILABLE),
    "503 of 70 kB": (answer(503, b" " * 70_000, "text/html"), UNAVAILABLE),
}


@pytest.mark.parametrize(("reply", "reason"), REFUSALS.values(), ids=REFUSALS)
async def test_the_status_of_an_unreadable_error_speaks(
    upstream: Upstream, api: AuthApi, reply: bytes, reason: Reason
) -> None:
    """Of an error whose body is too large or coded the status and the challenge count."""
    upstream.reply = reply
    problem = await exchange(api)
    assert isinstance(problem, Problem)
    assert problem.reason == reason


@pytest.mark.parametrize(
    ("host", "fault"),
    [("127.0.0.1", "refused"), ("no-such-host.invalid", "dns")],
)
async def test_the_log_tells_refused_from_unknown(host: str, fault: str) -> None:
    """An upstream that refuses and one whose name is unknown need different hands."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there meanwhile
        url = f"http://{host}:{unused.getsockname()[1]}/"
        async with AuthApi(url, within(GUARD)) as api:
            with logs.access(Call.of(request_id=None, traceparent=None)) as call:
                assert isinstance(await exchange(api), Problem)
    assert call.notes["upstream_fault"] == fault


# What the log learns


NOTED: dict[str, tuple[Script, dict[str, object]]] = {
    "token": (sends(GOOD), {"upstream_status": 200}),
    "refusal": (
        sends(answer(401, {"error": "invalid_client"})),
        {"upstream_status": 401, "upstream_error": "invalid_client"},
    ),
    "a refusal by an extension": (
        sends(answer(400, {"error": "use_dpop_nonce"})),
        {"upstream_status": 400, "upstream_error": "use_dpop_nonce"},
    ),
    "an error that is not registered": (
        sends(answer(403, {"error": "canary"})),
        {"upstream_status": 403},
    ),
    "bad": (
        sends(answer(200, b"canary", "text/html")),
        {"upstream_status": 200, "upstream_fault": "bad_media_type"},
    ),
    "lost": (
        sends(b"canary\r\n\r\n"),
        {"upstream_fault": "bad_http", "upstream_detail": "no status line"},
    ),
    "reset": (
        resets_after(b""),
        {"upstream_fault": "closed", "upstream_detail": "ECONNRESET"},
    ),
    "slow": (drips(b"HTTP/1.1 200 OK\r\nX-A: canary"), {"upstream_fault": "timeout"}),
}


@pytest.mark.parametrize(("script", "notes"), NOTED.values(), ids=NOTED)
async def test_the_log_learns_how_the_exchange_went(
    upstream: Upstream, api: AuthApi, script: Script, notes: dict[str, object]
) -> None:
    """The access line tells status, duration and kind of fault of the exchange, and no text."""
    upstream.script = script
    with logs.access(Call.of(request_id=None, traceparent=None)) as call:
        await (soon(upstream) if "timeout" in notes.values() else exchange(api))
    for name in ("upstream_ms", "connect_ms"):
        assert isinstance(call.notes.pop(name), float)
    assert call.notes == notes
    assert "canary" not in json.dumps(call.notes)


async def test_calls_on_one_connection_note_their_own(upstream: Upstream) -> None:
    """What a kept connection reports goes to the call that uses it, not to the first one."""
    refused = answer(503, {}, Connection="keep-alive")
    upstream.script = keeps_open(upstream, token_kept("a"), refused)
    calls = [Call.of(request_id=None, traceparent=None) for _ in range(2)]
    async with AuthApi(upstream.url, within(GUARD)) as api:
        for call in calls:
            with entered(call):
                await exchange(api)
    assert [call.notes["upstream_status"] for call in calls] == [200, 503]
    assert ["upstream_reused" in call.notes for call in calls] == [False, True]


async def test_counters(upstream: Upstream) -> None:
    """One object has the counters of the way to the auth-api."""
    upstream.script = keeps_open(upstream, token_kept("a"), token_kept("b"))
    async with AuthApi(upstream.url, within(GUARD)) as api:
        for _ in range(2):
            await exchange(api)
        counters = api.counts
        assert counters.connections == ConnectionCounters(open=1, idle=1, opened=1, reused=1)
        assert (counters.tries, counters.second_tries, counters.is_down) == (2, 0, False)
        assert counters.look_ups == LookUps()  # an IP address needs none
    url = f"http://localhost:{free_port()}/token"
    async with AuthApi(url, Timeouts(connect=20, one_try=25, total=60)) as api:
        await exchange(api)
        assert (api.counts.tries, api.counts.second_tries) == (2, 1)
        assert (api.counts.look_ups.started, api.counts.look_ups.finished) == (1, 1)


# Whose fault it is


HTML = b"<html>canary</html>"
REJECTIONS: dict[str, bytes] = {
    "an OAuth error": answer(401, {"error": "invalid_client"}),
    "by 400": answer(400, {"error": "invalid_client"}),
    "a challenge": answer(401, HTML, "text/html", WWW_Authenticate="Basic"),
    "neither": answer(401, HTML, "text/html"),
    "a problem": answer(401, {"karmoCode": "40112345"}, "application/problem+json"),
    "cut short": answer(401, {"error": "invalid_client"})[:-1],
    "too large": answer(401, b" " * 70_000),
}


@pytest.mark.parametrize("reply", REJECTIONS.values(), ids=REJECTIONS)
async def test_every_401_is_a_rejection(upstream: Upstream, api: AuthApi, reply: bytes) -> None:
    """Whatever else is wrong with a 401 and told to the caller, it counts as a wrong secret."""
    upstream.reply = reply
    with pytest.raises(RejectedError):
        await api.exchange(CREDENTIALS, deadline=None)


@pytest.mark.timing("the body never comes, so the deadline passes however slow the machine is")
async def test_a_401_whose_body_never_comes_is_a_rejection(upstream: Upstream) -> None:
    """Who guesses does not get its guesses free by an auth-api that is slow."""
    upstream.script = sends_and_waits(upstream, answer(401, {"error": "invalid_client"})[:-1])
    async with AuthApi(upstream.url, Timeouts(connect=GUARD, one_try=1, total=GUARD)) as api:
        with pytest.raises(RejectedError) as raised:
            await api.exchange(CREDENTIALS, deadline=None)
    assert raised.value.problem.reason == TIMEOUT


def sends_and_waits(upstream: Upstream, data: bytes) -> Script:
    """Send `data`, then nothing more until the client hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await upstream.hang(reader, writer)

    return script


@pytest.mark.parametrize("status", [400, 403, 503])
async def test_other_errors_are_no_rejection(upstream: Upstream, api: AuthApi, status: int) -> None:
    """What says nothing of the secret does not count as a wrong one."""
    upstream.reply = answer(status, {"error": "access_denied"})
    with pytest.raises(ProblemError) as raised:
        await api.exchange(CREDENTIALS, deadline=None)
    assert not isinstance(raised.value, RejectedError)


def break_down() -> ssl.SSLContext:
    """Be a bug below the client."""
    raise AttributeError("canary")


async def test_a_bug_is_no_upstream_fault() -> None:
    """An error that no connection has is ours: it leaves as it is, for the error boundary."""
    observed: list[tuple[str, int | None]] = []

    def observe(outcome: str, status: int | None, _seconds: float) -> None:
        observed.append((outcome, status))

    tls = break_down
    with entered(Call.of(request_id=None, traceparent=None)) as call:
        async with AuthApi("https://127.0.0.1:1/", within(GUARD), tls=tls, observe=observe) as api:
            with pytest.raises(AttributeError):
                await api.exchange(CREDENTIALS, deadline=None)
    assert "upstream_fault" not in call.notes
    assert observed == [(Outcome.FAILED, None)]


@on_uvloop
async def test_a_reset_as_soon_as_it_is_accepted() -> None:
    """An auth-api that resets what it accepts is a lost connection, at whatever moment that is."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, AuthApi(f"http://127.0.0.1:{port}/", within(GUARD)) as api:
        for _ in range(20):
            found = await asyncio.gather(*(exchange(api) for _ in range(16)))
            assert {reason_of(one) for one in found} == {LOST}


# Fail-fast


async def test_a_connection_that_opens_ends_what_is_down(upstream: Upstream) -> None:
    """While it is down, callers who leave at once neither keep it down nor keep others out."""
    upstream.script = upstream.hang
    fail_fast = FailFast(pause := Pause())
    async with AuthApi(upstream.url, within(GUARD), fail_fast=fail_fast) as api:
        for _ in range(DOWN_AFTER):
            fail_fast.failed()
        assert reason_of(await exchange(api)) == UNAVAILABLE
        pause.is_over = True
        probe = asyncio.create_task(exchange(api))
        await upstream.received.wait()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert not fail_fast.is_down
        upstream.reset()
        assert isinstance(await exchange(api), Token)


async def test_a_probe_that_is_cancelled_is_given_back(upstream: Upstream) -> None:
    """A caller who leaves before the connection is open leaves the probe to the next one."""
    fail_fast = FailFast(pause := Pause())
    async with AuthApi(upstream.url, within(GUARD), fail_fast=fail_fast) as api:
        for _ in range(DOWN_AFTER):
            fail_fast.failed()
        pause.is_over = True
        probe = asyncio.create_task(exchange(api))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert fail_fast.is_down
        assert isinstance(await exchange(api), Token)


async def test_a_refused_probe_is_tried_once() -> None:
    """While the auth-api is down a refused connection shows as such, and has no second try."""
    observed: list[str] = []
    fail_fast = FailFast(pause := Pause())
    with held_port() as port:
        async with AuthApi(
            f"http://127.0.0.1:{port}/",
            Timeouts(connect=GUARD / 2, one_try=GUARD, total=GUARD),
            fail_fast=fail_fast,
            observe=lambda outcome, _status, _seconds: observed.append(outcome),
        ) as api:
            for _ in range(DOWN_AFTER):
                fail_fast.failed()
            pause.is_over = True
            assert reason_of(await exchange(api)) == UNAVAILABLE
            pause.is_over = False
            assert reason_of(await exchange(api)) == UNAVAILABLE
            assert (api.counts.tries, api.counts.second_tries) == (1, 0)
    assert observed == ["refused", "fail_fast"]


async def test_a_probe_that_finds_no_address_is_given_back() -> None:
    """DNS that fails says nothing about the auth-api: the next call may try at once."""
    fail_fast = FailFast(pause := Pause())
    url = "http://no-such-host.invalid/"
    async with AuthApi(url, within(GUARD), fail_fast=fail_fast) as api:
        for _ in range(DOWN_AFTER):
            fail_fast.failed()
        pause.is_over = True
        assert reason_of(await exchange(api)) == UNAVAILABLE
        assert fail_fast.is_down
        assert fail_fast.admit() == 0


def answers_once(upstream: Upstream) -> Script:
    """Answer one request, and nothing more until the client hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await sends(token_kept("a"))(reader, writer)
        await upstream.hang(reader, writer)

    return script


class Pause:
    """A clock that stands still, before or after the end of the pause."""

    is_over = False

    def __call__(self) -> float:
        """Return the seconds."""
        return MAX_PAUSE if self.is_over else 0.0


async def test_a_probe_whose_handshake_fails_finds_it_down() -> None:
    """By TLS a connection is open after the handshake: a port that accepts and closes is down."""

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fail_fast = FailFast(pause := Pause())
    url, context = f"https://127.0.0.1:{port}/", ssl.create_default_context()
    async with (
        server,
        AuthApi(url, within(GUARD), tls=lambda: context, fail_fast=fail_fast) as api,
    ):
        for _ in range(DOWN_AFTER):
            fail_fast.failed()
        pause.is_over = True
        await exchange(api)
        assert fail_fast.is_down


@pytest.mark.timing("the connection never opens, however long it has")
async def test_a_slow_look_up_is_no_failure_of_the_auth_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A try whose look-up leaves no time to connect says nothing about the auth-api."""
    with held_port() as port, full(f"127.0.0.1:{port}"):
        system = socket.getaddrinfo

        def look_up(_host: str, *arguments: Any, **options: Any) -> Any:
            threading.Event().wait(0.9)
            return system("127.0.0.1", *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        fail_fast = FailFast()
        timeouts = Timeouts(connect=GUARD, one_try=1.0, total=GUARD)
        url = f"http://auth-api.test:{port}/"
        async with AuthApi(url, timeouts, fail_fast=fail_fast) as api:
            found = await asyncio.gather(*(exchange(api) for _ in range(DOWN_AFTER)))
        assert {reason_of(one) for one in found} == {TIMEOUT}
        assert not fail_fast.is_down


@pytest.mark.timing("it never answers, however long it has")
async def test_a_kept_connection_says_nothing_until_it_answers(upstream: Upstream) -> None:
    """While it is down, a probe over a kept connection that is dead does not end that."""
    fail_fast = FailFast(pause := Pause())
    timeouts = Timeouts(connect=GUARD, one_try=1.0, total=GUARD)
    async with AuthApi(upstream.url, timeouts, fail_fast=fail_fast) as api:
        upstream.script = answers_once(upstream)
        assert isinstance(await exchange(api), Token)
        for _ in range(DOWN_AFTER):
            fail_fast.failed()
        pause.is_over = True
        assert reason_of(await exchange(api)) == TIMEOUT
        assert api.counts.connections.reused == 1
        assert fail_fast.is_down
        assert fail_fast.admit() == 0  # it is given back


async def test_an_answer_over_a_kept_connection_ends_what_is_down(upstream: Upstream) -> None:
    """A kept connection that answers shows that the auth-api is there, as a new one does."""
    upstream.script = keeps_open(upstream, token_kept("a"), token_kept("b"))
    fail_fast = FailFast(pause := Pause())
    async with AuthApi(upstream.url, within(GUARD), fail_fast=fail_fast) as api:
        assert_works(await exchange(api), "a")
        for _ in range(DOWN_AFTER):
            fail_fast.failed()
        pause.is_over = True
        assert_works(await exchange(api), "b")
        assert api.counts.connections.reused == 1
        assert not fail_fast.is_down


async def test_tls_that_fails_on_open_connections_is_not_down(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An auth-api whose connections opened is there, however many of them end by TLS at once."""
    all_are_open = asyncio.Barrier(DOWN_AFTER)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await all_are_open.wait()
        await sends(GOOD)(reader, writer)

    def fail(connection: Connection, _data: bytes) -> None:
        connection.connection_lost(ssl.SSLError("canary"))

    upstream.script = script
    monkeypatch.setattr(Connection, "data_received", fail)
    fail_fast = FailFast()
    async with AuthApi(upstream.url, within(GUARD), fail_fast=fail_fast) as api:
        found = await asyncio.gather(*(exchange(api) for _ in range(DOWN_AFTER)))
    assert {reason_of(one) for one in found} == {LOST}
    assert not fail_fast.is_down
