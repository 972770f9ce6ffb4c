"""Requests hidden in others (row R5 of the fault matrix), straight and through real proxies.

Whoever hides a request lets a proxy and the server behind it disagree on where one
ends. Then the server answers one more than the proxy asked for, and somebody else
is given that answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from sidecar.settings.types import Address
from tests.faults.abused import abused, answers_to, exchange, identity
from tests.faults.front import haproxy, nginx
from tests.faults.wire import host_and_port, reset
from tests.raw_http import Received, answer_to, next_answer

CLOSE = b"Connection: close"
# What is given to one client, to be sent at once, around the request that it hides.
Attack = Callable[[bytes], bytes]
# What runs a proxy, with its files in a folder, before the address of REST.
Front = Callable[[Path, str], AbstractAsyncContextManager[str]]


def head(*fields: bytes, line: bytes = b"POST /v1/oauth/token HTTP/1.1") -> bytes:
    """Return a head with a Host field."""
    told = (line, b"Host: sidecar.test", b"Content-Type: text/plain", *fields)
    return b"\r\n".join(told) + b"\r\n\r\n"


def by_length(*fields: bytes, line: bytes = b"POST /v1/oauth/token HTTP/1.1") -> Attack:
    """Hide a request in a body by its length; `fields` may say that the body ends before it."""

    def attack(hidden: bytes) -> bytes:
        body = b"0\r\n\r\n" + hidden
        return head(b"Content-Length: %d" % len(body), *fields, line=line) + body

    return attack


def by_chunk(*fields: bytes, line: bytes = b"POST /v1/oauth/token HTTP/1.1") -> Attack:
    """Hide a request in a chunk; `fields` may say that the body ends before it."""

    def attack(hidden: bytes) -> bytes:
        chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
        return head(b"Transfer-Encoding: chunked", *fields, line=line) + chunk

    return attack


def behind(start: bytes) -> Attack:
    """Hide a request behind something that is no request, or no end of one."""
    return lambda hidden: start + hidden


CHUNKED = head(b"Transfer-Encoding: chunked")
# Each with the status that a client is answered who sends it straight.
ATTACKS: Mapping[str, tuple[Attack, int]] = {
    "length and coding": (by_length(b"Transfer-Encoding: chunked"), 400),
    "coding and length": (by_chunk(b"Content-Length: 4"), 400),
    "length and unknown coding": (by_length(b"Transfer-Encoding: xchunked"), 400),
    "length and coding in a list": (by_length(b"Transfer-Encoding: chunked, identity"), 400),
    "length and coding behind another": (by_length(b"Transfer-Encoding: x, chunked"), 400),
    "length and two codings": (
        by_length(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked"),
        400,
    ),
    "length and coding, a space before the colon": (by_length(b"Transfer-Encoding : chunked"), 400),
    "length and coding, a tab before the colon": (by_length(b"Transfer-Encoding\t: chunked"), 400),
    "length and coding, a vertical tab": (by_length(b"Transfer-Encoding: \x0bchunked"), 400),
    "length and coding, NUL": (by_length(b"Transfer-Encoding: chunked\x00"), 400),
    "length and coding, folded": (by_length(b"Transfer-Encoding:", b" chunked"), 400),
    "length and coding in a folded line": (
        by_length(b"X: x", b"\tTransfer-Encoding: chunked"),
        400,
    ),
    "length and coding behind a bare LF": (by_length(b"X: x\nTransfer-Encoding: chunked"), 400),
    "length and coding behind a bare CR": (by_length(b"X: x\rTransfer-Encoding: chunked"), 400),
    "length and coding of HTTP/1.0": (
        by_length(b"Transfer-Encoding: chunked", line=b"POST /v1/oauth/token HTTP/1.0"),
        400,
    ),
    "coding of HTTP/1.0": (by_chunk(line=b"POST /v1/oauth/token HTTP/1.0"), 400),
    "two codings": (by_chunk(b"Transfer-Encoding: identity"), 400),
    "two lengths": (by_length(b"Content-Length: 0"), 400),
    "a list of lengths": (behind(head(b"Content-Length: 0, 500")), 400),
    "a length with a sign": (behind(head(b"Content-Length: +0")), 400),
    "a hexadecimal length": (behind(head(b"Content-Length: 0x0")), 400),
    "a length in a name with a space": (behind(head(b"Content-Length : 0")), 400),
    "a size with a sign": (behind(CHUNKED + b"+0\r\n\r\n"), 400),
    "a hexadecimal size": (behind(CHUNKED + b"0x0\r\n\r\n"), 400),
    "a size of 2^64": (behind(CHUNKED + b"1" + b"0" * 20 + b"\r\n\r\n"), 400),
    "a chunk without its end": (behind(CHUNKED + b"1\r\nxx0\r\n\r\n"), 400),
    "an extension with a bare LF": (behind(CHUNKED + b"0;\n\r\n\r\n"), 400),
    "an extension with a bare CR": (behind(CHUNKED + b"0;\r0\r\n\r\n"), 400),
    "trailers that end with a bare LF": (behind(CHUNKED + b"0\r\n\n"), 400),
    "a trailer behind a bare LF": (
        behind(CHUNKED + b"0\r\nX: y\nContent-Length: 5\r\n\r\n"),
        400,
    ),
    "a bare LF for the end": (behind(b"POST / HTTP/1.1\r\nHost: a\r\n\n"), 400),
    "HTTP/0.9": (behind(b"GET /\r\n"), 400),
    "no host": (behind(b"POST / HTTP/1.1\r\n\r\n"), 400),
    "two hosts": (behind(head(b"Host: b", b"Content-Length: 0")), 400),
    "a control character": (behind(head(b"X: \x00", b"Content-Length: 0")), 400),
    "a length of another media type": (by_length(), 415),
    "a chunk of another media type": (by_chunk(), 415),
    "a length that is asked about": (by_length(b"Expect: 100-continue"), 415),
    "a length on another path": (by_length(line=b"POST /elsewhere HTTP/1.1"), 404),
    "a length of GET": (by_length(line=b"GET /v1/oauth/token HTTP/1.1"), 405),
    "a chunk of GET": (by_chunk(line=b"GET /v1/oauth/token HTTP/1.1"), 405),
    "a length with an upgrade": (by_length(b"Connection: Upgrade", b"Upgrade: h2c"), 415),
}


def names_in(answers: list[Received]) -> set[str]:
    """Return the request ids of the answers."""
    return {received.headers.get("x-request-id", "") for received in answers}


async def test_r05_straight() -> None:
    """What is read in two ways is refused, and what is a body is no request, whatever it holds."""
    hidden = {name: identity() for name in ATTACKS}
    async with abused() as scene:
        found = {
            name: await answers_to(
                scene.rest, attack(exchange(CLOSE, request_id=hidden[name])), ends=True
            )
            for name, (attack, _) in ATTACKS.items()
        }
        await scene.good()
        assert len(scene.upstream.requests) == 1
        log = "".join(scene.sidecar.log.seen)
    statuses = {name: [received.status for received in answers] for name, answers in found.items()}
    assert statuses == {name: [status] for name, (_, status) in ATTACKS.items()}
    assert [name for name, identity in hidden.items() if identity.decode() in log] == []


@asynccontextmanager
async def _haproxy(folder: Path, rest: str) -> AsyncIterator[str]:
    # "always": whatever an attack leaves on a connection meets the next client.
    async with haproxy(folder, [(rest, None)], reuse="always") as front:
        yield front.address


@asynccontextmanager
async def _nginx(folder: Path, rest: str) -> AsyncIterator[str]:
    async with nginx(folder, [rest]) as address:
        yield address


@pytest.mark.soak
@pytest.mark.parametrize("front", [_haproxy, _nginx], ids=["haproxy", "nginx"])
async def test_r05_behind_a_proxy(tmp_path: Path, front: Front) -> None:
    """Through a proxy no request is served that the proxy did not see, and each has its answer."""
    hidden = {name: identity() for name in ATTACKS}
    async with abused(header_timeout="1s", request_timeout="2s") as scene:
        async with front(tmp_path, scene.sidecar.addresses["rest"]) as opened:
            address = Address(*host_and_port(opened))
            told = await asyncio.gather(
                *(attacked(address, ATTACKS[name][0], hidden[name]) for name in ATTACKS)
            )
        await scene.good()
        log = "".join(scene.sidecar.log.seen)
    for answered, name in zip(told, hidden.values(), strict=True):
        # The proxy may read two requests where there are two; then both are answered.
        assert name.decode() not in log or name.decode() in answered


async def attacked(address: Address, attack: Attack, name: bytes) -> set[str]:
    """Attack, and return the ids in the answers; clients who come then must get their own."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    answers: list[Received] = []
    try:
        writer.write(attack(exchange(request_id=name)))
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            async with asyncio.timeout(1):  # some proxies wait for more, which does not come
                while True:
                    answers.append(await next_answer(reader))
        for _ in range(3):
            mine = identity()
            received = await answer_to(address, exchange(CLOSE, request_id=mine))
            assert (received.status, names_in([received])) == (200, {mine.decode()})
    finally:
        reset(writer)
    return names_in(answers)
