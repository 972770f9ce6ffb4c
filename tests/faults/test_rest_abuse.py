"""Rows R of the matrix that need a whole sidecar: smuggling behind real proxies, crowds, aborts.

What one connection may do is in tests/test_http_front.py, what a head may be in
tests/test_request_head.py.
"""

import asyncio
import re
import resource
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
import trustme

from sidecar.setting_types import Address
from tests.faults.conditions import Margin, eventually, no_secret, recovers
from tests.faults.front import haproxy, nginx
from tests.process import Sidecar, serving
from tests.raw_http import FORM, answer_to, request, sent
from tests.recorded import Log, recorded
from tests.test_tls import Mount, leaf_of, pair, trust
from tests.upstream import Upstream
from tests.ways import House

BODY = b"grant_type=client_credentials&client_id=partner&client_secret=canary-secret"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
STATUS_LINE = re.compile(rb"^HTTP/1\.1 \d{3} ", re.MULTILINE)
HEAD = b"POST /v1/oauth/token HTTP/1.1\r\nHost: sidecar.test\r\n"
FRONTS = ("directly", "nginx", "haproxy")


def good(*headers: bytes) -> bytes:
    """Return a token request."""
    return request(headers=(FORM, *headers), body=BODY)


def address_of(text: str) -> Address:
    """Return the address that `text` is."""
    host, _, port = text.rpartition(":")
    return Address(host, int(port))


# Smuggling


def hidden_behind(head: bytes, before: bytes = b"") -> bytes:
    """Return a request whose end is another one for who reads its length in another way."""
    return (
        HEAD + head.replace(b"{length}", b"%d" % len(before + HIDDEN)) + b"\r\n" + before + HIDDEN
    )


SMUGGLED: Mapping[str, bytes] = MappingProxyType(
    {
        "CL.TE": hidden_behind(
            b"Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"
        ),
        "TE.CL": hidden_behind(
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"33\r\n" + b"x" * 51 + b"\r\n"
        ),
        "two lengths": hidden_behind(b"Content-Length: 0\r\nContent-Length: {length}\r\n"),
        "a list of lengths": hidden_behind(b"Content-Length: 0, {length}\r\n"),
        "a signed length": hidden_behind(b"Content-Length: +{length}\r\n"),
        "TE with a space before the colon": hidden_behind(
            b"Content-Length: {length}\r\nTransfer-Encoding : chunked\r\n", b"0\r\n\r\n"
        ),
        "TE with a tab": hidden_behind(
            b"Content-Length: {length}\r\nTransfer-Encoding:\tchunked\r\n", b"0\r\n\r\n"
        ),
        "TE folded": hidden_behind(
            b"Content-Length: {length}\r\nTransfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"
        ),
        "TE of another name": hidden_behind(
            b"Content-Length: {length}\r\nTransfer-Encoding: xchunked\r\n", b"0\r\n\r\n"
        ),
        "TE twice": hidden_behind(
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: {length}\r\n",
            b"0\r\n\r\n",
        ),
        "TE behind a bare line feed": hidden_behind(
            b"Content-Length: {length}\r\nX: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"
        ),
        "a chunk that ends with a bare line feed": hidden_behind(
            b"Transfer-Encoding: chunked\r\n", b"1\nx\n0\n\n"
        ),
        "a chunk of a size with a sign": hidden_behind(
            b"Transfer-Encoding: chunked\r\n", b"+0\r\n\r\n"
        ),
        "a length in HTTP/1.0 with TE": (
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN
        ),
        "a NUL in a field": hidden_behind(b"X: \0\r\nContent-Length: {length}\r\n"),
    }
)


# What a front may read as two requests, and then sends as two: the sidecar reads what it sent.
FORGIVEN = {"a chunk that ends with a bare line feed"}


@asynccontextmanager
async def reached(front: str, rest: Address, folder: Path) -> AsyncIterator[Address]:
    """Give where the sidecar at `rest` is reached by that front."""
    async with AsyncExitStack() as stack:
        if front == "nginx":
            yield address_of(await stack.enter_async_context(nginx(folder, [str(rest)])))
        elif front == "haproxy":
            made = await stack.enter_async_context(haproxy(folder, [(str(rest), None)]))
            yield address_of(made.address)
        else:
            yield rest


async def everything(address: Address, data: bytes) -> bytes:
    """Send `data`, all of it and no more, and return all that comes back."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(data)
            writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def is_served(address: Address, log: Log) -> bool:
    """Whether the next client gets the answer to its own request, which the log knows too."""
    identity = str(uuid.uuid4())
    received = await answer_to(address, good(b"X-Request-Id: " + identity.encode()))
    line = await log.access_line(identity)
    own = received.headers.get("x-request-id") == identity
    return own and received.status == 200 and line["status"] == 200


@pytest.mark.parametrize("front", FRONTS)
async def test_r05_nothing_is_smuggled(house: House, tmp_path: Path, front: str) -> None:
    """Whatever is hidden in a body, no front and the sidecar read it in two ways."""
    async with reached(front, house.addresses.rest, tmp_path) as address:
        for name, data in SMUGGLED.items():
            if front != "directly" and name in FORGIVEN:
                continue
            with recorded() as log:
                answered = await everything(address, data)
                assert await is_served(address, log), name
            methods = [entry["method"] for entry in log.entries if "method" in entry]
            assert "GET" not in methods, name
            assert len(STATUS_LINE.findall(answered)) <= 1, name
            if front == "directly":
                assert answered.startswith(b"HTTP/1.1 400 "), name
                assert b"application/problem+json" in answered, name


# Crowds


def files_allowed() -> int:
    """Return how many files this process may have open, as many as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return max(soft, wanted)


@asynccontextmanager
async def alone(
    flags: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[tuple[Sidecar, Address]]:
    """Run a sidecar in a process of its own; give it and where its REST is."""
    async with (
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url, **cast("Any", flags)) as sidecar,
    ):
        yield sidecar, address_of(sidecar.addresses["rest"])


async def test_r01_silent_connections_shut_nobody_out() -> None:
    """Two thousand connections that say nothing, twice what is let in, stop no good client."""
    if files_allowed() < 4096:
        pytest.skip("this process may not have 2,000 connections open")
    async with (
        alone() as (sidecar, address),
        recovers(lambda: answer_to(address, good()), pid=sidecar.pid, margin=Margin(descriptors=8)),
    ):
        silent = []
        try:
            for _ in range(2000):
                silent.append(await asyncio.open_connection(address.host, address.port))
                if len(silent) % 100 == 0:
                    assert (await answer_to(address, good())).status == 200
        finally:
            for _, writer in silent:
                writer.close()


async def test_r03_a_flood_of_fields_takes_no_memory() -> None:
    """Twenty clients that never end their header are refused at its limit, not at their end."""
    async with (
        alone() as (sidecar, address),
        recovers(lambda: answer_to(address, good()), pid=sidecar.pid),
    ):
        flood = HEAD + b"X-Long: " + b"x" * 10 * 1024 * 1024
        for _ in range(20):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(flood)
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
            writer.close()


async def test_r12_aborts_at_each_byte() -> None:
    """A client that resets after any byte of its request leaves nothing behind, also no secret."""
    data = good()
    async with alone() as (sidecar, address):
        async with recovers(
            lambda: answer_to(address, good()), pid=sidecar.pid, margin=Margin(descriptors=4)
        ):
            for end in range(1, len(data) + 1):
                async with sent(address, data[:end], resets=True):
                    pass
        await eventually(lambda: len(sidecar.log.seen) > 2)
        no_secret("".join(sidecar.log.seen), "canary-secret")


async def test_r12_a_thousand_aborts_while_waiting() -> None:
    """Clients that reset while the auth-api works are let go at once: no place stays taken."""
    async with (
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url, max_in_flight="10") as sidecar,
    ):
        address = address_of(sidecar.addresses["rest"])
        async with recovers(
            lambda: answer_to(address, good()), pid=sidecar.pid, margin=Margin(descriptors=8)
        ):
            upstream.script = upstream.hang
            for _ in range(100):
                waiting = [asyncio.create_task(abort(address)) for _ in range(10)]
                await asyncio.gather(*waiting)
            upstream.reset()
            # Were one of ten places still taken by each, none would be left.
            statuses = [(await answer_to(address, good())).status for _ in range(10)]
            assert statuses[-1] == 200


async def abort(address: Address) -> None:
    """Send a request and reset the connection."""
    async with sent(address, good(), resets=True):
        await asyncio.sleep(0)


# TLS


async def test_r17_who_may_not_speak_is_refused(tmp_path: Path) -> None:
    """Old versions, clients without a certificate, and those of another authority get nothing."""
    authority, foreign = trustme.CA(), trustme.CA()
    folder = Mount(tmp_path, pair(leaf_of(authority)) | trust(authority)).folder
    flags = {
        "rest_tls_certificate": str(folder / "tls.crt"),
        "rest_tls_key": str(folder / "tls.key"),
        "rest_tls_client_ca": str(folder / "ca.crt"),
    }
    async with alone(flags) as (sidecar, address):
        right = context_of(authority, authority)
        for refused in (
            context_of(authority, None),
            context_of(authority, foreign),
            bounded(context_of(authority, authority)),
        ):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await first_line(address, refused)
        assert (await first_line(address, right)).startswith(b"HTTP/1.1 200 ")
        assert all('"level": "error"' not in line for line in sidecar.log.seen)


def context_of(authority: trustme.CA, own: trustme.CA | None) -> ssl.SSLContext:
    """Return a context of a client that trusts `authority`, with a certificate of `own`."""
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    if own is not None:
        leaf_of(own).configure_cert(context)
    return context


def bounded(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return `context`, which then knows no suite that the sidecar takes."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("NULL-SHA256:@SECLEVEL=0")
    return context


async def first_line(address: Address, context: ssl.SSLContext) -> bytes:
    """Return the status line of a good request by TLS."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
        try:
            writer.write(good())
            await writer.drain()
            return await reader.readuntil(b"\r\n")
        finally:
            writer.close()
