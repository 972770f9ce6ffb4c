"""Ours beside Envoy: one table of requests, the same backend, and a reason for each difference."""

import asyncio
import http.client
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from starlette.routing import Router

from sidecar.http_server.listener import HttpListener
from sidecar.process.sockets import address_of, listen
from sidecar.settings.types import Address
from sidecar.transcoding import Options, Transcoder
from tests.transcoding import echo
from tests.transcoding.cases import bodies, known, messages, paths, queries
from tests.transcoding.cases.case import SILENCE, Case, Content, Outcome, Seen, send
from tests.transcoding.cases.differences import DIFFERENCES
from tests.transcoding.envoy import envoy

pytestmark = pytest.mark.unmeasured

CASES = (*paths.CASES, *queries.CASES, *messages.CASES, *known.CASES, *bodies.CASES)
ANSWERED = [case for case in CASES if case.envoy != SILENCE]
LARGEST = 256 * 1024
# How long an answer may take before the test fails, in seconds.
GUARD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The service behind both, and where it listens."""

    handler: echo.Echo
    port: int


@pytest_asyncio.fixture(scope="module", name="backend")
async def _backend() -> AsyncIterator[Backend]:
    server = grpc.aio.server()
    handler = echo.Echo()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Backend(handler=handler, port=port)
    await server.stop(None)


@pytest_asyncio.fixture(scope="module", name="ours")
async def _ours(backend: Backend) -> AsyncIterator[Address]:
    services = [echo.find_service(name) for name in (echo.RULES, echo.PARTS)]
    bound = listen(Address("127.0.0.1", 0))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{backend.port}") as channel:
        transcoder = Transcoder(services, channel, options=Options(max_body_bytes=LARGEST))
        # The router answers for the life span, of which a transcoder knows nothing.
        app = Router(default=transcoder, redirect_slashes=False)
        listener = HttpListener(app, bound, grace=1)
        await listener.start()
        yield address_of(bound)
        await listener.stop()


@pytest_asyncio.fixture(scope="module", name="theirs")
async def _theirs(backend: Backend) -> AsyncIterator[Address]:
    limit = {"max_request_body_size": LARGEST}
    async with envoy(echo.IMAGE, [echo.RULES], backend.port, **limit) as address:
        yield address


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_ours(case: Case, ours: Address, backend: Backend) -> None:
    """Ours calls the method with the message that the standards say, or refuses the request."""
    assert await outcome(case, ours, backend, is_exact=True) == complete(case.ours)


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
async def test_envoy(case: Case, theirs: Address, backend: Backend) -> None:
    """Envoy does the same, but for the differences that are named."""
    assert await outcome(case, theirs, backend) == complete(case.envoy)


def test_every_difference_has_a_reason() -> None:
    """A case where both differ names a reason, one where they agree none, and no reason is idle."""
    differ = {case.name for case in CASES if case.envoy != case.ours}
    explained = {case.name for case in CASES if case.because}
    assert differ == explained
    assert {case.because for case in CASES if case.because} == set(DIFFERENCES)


@pytest.mark.parametrize("reason", DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_reason_fits_in_a_table(reason: str) -> None:
    """A reason is a sentence, or some, without what would end the cell of a table in Markdown."""
    assert reason.endswith(".")
    assert not set(reason) & {"|", "\n"}


def test_no_case_is_there_twice() -> None:
    """The name of a case is its own."""
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


PARTS = {
    ("title", '{"title":"x"}'): '"x"',
    ("title", ""): '""',
    ("copies", '{"copies":5}'): '"5"',
    ("mood", ""): '"MOOD_UNSPECIFIED"',
    ("printed", '{"printed":"2020-01-01T00:00:00Z"}'): '"2020-01-01T00:00:00Z"',
    ("printed", ""): "null",
    ("shelf", '{"shelf":{"name":"x"}}'): '{"name":"x","theme":"","shelfCode":""}',
    ("shelf", ""): "null",
    ("tags", '{"tags":["x"]}'): '["x"]',
    ("tags", ""): "[]",
    ("shelves", '{"shelves":[{}]}'): '[{"name":"","theme":"","shelfCode":""}]',
    ("by-name", '{"byName":{"k":{}}}'): '{"k":{"name":"","theme":"","shelfCode":""}}',
    ("by-name", ""): "{}",
}


@pytest.mark.parametrize(("part", "body"), PARTS)
async def test_a_part_of_the_response(part: str, body: str, ours: Address) -> None:
    """response_body answers with that field alone, also where it has its default."""
    case = send(f"/v1/parts/{part}", body, 200)
    answer = await asyncio.to_thread(ask, ours, case)
    assert (answer.status, json.loads(answer.body)) == (200, json.loads(PARTS[part, body]))


async def test_envoy_has_no_parts_of_responses(backend: Backend) -> None:
    """Envoy does not start for a response_body of another type than HttpBody."""
    with pytest.raises(RuntimeError, match='"response_body" is not supported yet'):
        async with envoy(echo.IMAGE, [echo.PARTS], backend.port):
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an HTTP server answered."""

    status: int
    media_type: str
    body: bytes


async def outcome(
    case: Case, address: Address, backend: Backend, *, is_exact: bool = False
) -> Outcome:
    """Send the request of `case` to `address` and return what came of it.

    `is_exact` demands the JSON of protobuf's own library, or any of the same meaning will do.
    """
    calls = backend.handler.calls
    calls.clear()
    answer = await asyncio.to_thread(ask, address, case)
    if answer.status != 200:
        assert not calls or answer.status == 500
        return answer.status
    (call,) = calls
    if call.method in echo.CONTENT:
        return Content(method=call.method, media_type=answer.media_type, data=answer.body)
    if case.method != "HEAD":
        told = json.loads(answer.body)
        if told != call.message and not is_exact:
            told = echo.complete(call.method, told)
        assert told == call.message
    return Seen(method=call.method, message=call.message)


def complete(expected: Outcome) -> Outcome:
    """Return `expected` with all that goes without saying in a message."""
    if not isinstance(expected, Seen):
        return expected
    message = echo.complete(expected.method, expected.message)
    return Seen(method=expected.method, message=message)


def ask(address: Address, case: Case) -> Answer:
    """Send the request of `case` as it is written, and return the answer."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=GUARD)
    try:
        connection.putrequest(case.method, case.target, skip_accept_encoding=True)
        for name, value in case.headers:
            connection.putheader(name, value)
        if case.body is not None:
            connection.putheader("Content-Length", str(len(case.body)))
        connection.endheaders(case.body)
        response = connection.getresponse()
        media_type = response.headers.get("Content-Type", "")
        return Answer(status=response.status, media_type=media_type, body=response.read())
    finally:
        connection.close()
