"""The auth-api answers slowly, without end, or with what nobody asked for.

Rows U9, U10, U11, U14, U15, U16 and U19 of the fault matrix, as far as they are about
the whole process; each form of a bad answer has its case in tests/test_auth_api.py.
"""

import asyncio
import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.faults import scripted
from tests.faults.conditions import no_secret, recovers
from tests.faults.upstream_scene import (
    BAD,
    BOTH,
    LOST,
    SENT,
    TIMEOUT,
    Scene,
    Told,
    open_scene,
)
from tests.faults.wire import LOOPBACK, drip
from tests.upstream import TOKEN, Script, answer

GOOD = answer(200, TOKEN)
HEAD, _, BODY = GOOD.partition(b"\r\n\r\n")
STACK = "canary-stack-5f0e"

# Without end


def drips_body(interval: float) -> Script:
    """Send the head at once, and the body one byte at a time."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n\r\n")
        await drip(writer, BODY, interval)

    return script


# A flood without end shares the loop with the calls that it must not stop.
BRIEF = {"auth_api_try_timeout": "800ms"}


@pytest.mark.parametrize("script", [scripted.drips(GOOD, 0.1), drips_body(0.1)])
async def test_u09_slow_drip(script: Script) -> None:
    """A byte in each tenth of a second, of 80 and more, does not prolong the time of one try."""
    async with open_scene() as scene:
        scene.upstream.script = script
        outcomes = await asyncio.gather(*(scene.fails(way, TIMEOUT) for way in BOTH))
        for outcome in outcomes:
            assert 800 <= (await scene.line_of(outcome))["upstream_ms"] < 8000
        await scene.works_in_full()


ENDLESS: dict[str, tuple[Script, Told]] = {
    "body": (scripted.endless(), BAD),
    "header fields": (scripted.endless(b"X-A: b\r\n" * 512, head=b"HTTP/1.1 200 OK\r\n"), LOST),
}


@pytest.mark.parametrize(("script", "told"), ENDLESS.values(), ids=ENDLESS)
async def test_u10_endless_answer(script: Script, told: Told) -> None:
    """Twenty answers without end leave neither memory, more than 8 MiB, nor descriptors behind."""
    async with open_scene(**BRIEF) as scene, recovers(scene.works_in_full):
        scene.upstream.script = script
        for way in BOTH * 10:
            await scene.fails(way, told)


BOMB = gzip.compress(bytes(32 * 1024 * 1024))
CODED: dict[str, tuple[bytes, str]] = {
    "a gzip bomb": (BOMB, "gzip"),
    "members of nothing": (gzip.compress(b"") * 2000, "gzip"),
    "Brotli": (b"\x5b\xff\xff\xff", "br"),
    "Zstandard": (b"\x28\xb5\x2f\xfd", "zstd"),
    "ten times": (BOMB, ", ".join(["gzip"] * 10)),
}


async def test_u11_content_codings() -> None:
    """No body is decoded, for none was to be coded: 32 MiB of zeros stay 32 KiB."""
    async with open_scene() as scene, recovers(scene.works_in_full):
        for data, coding in CODED.values():
            scene.upstream.reply = answer(200, data, Content_Encoding=coding)
            for way in BOTH:
                line = await scene.line_of(await scene.fails(way, BAD))
                assert line["upstream_fault"] == "a body in a coding that was not asked for"
        asked = [b"accept-encoding: identity" in sent.lower() for sent in scene.upstream.requests]
        assert all(asked)


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_u15_endless_interim_answers(status: int) -> None:
    """Interim answers without end cost one try's time, in which other calls are served."""
    interim = b"HTTP/1.1 %d Interim\r\n\r\n" % status
    async with open_scene(**BRIEF) as scene:
        scene.upstream.script = scripted.endless(interim, head=b"")
        call = asyncio.create_task(scene.fails("grpc", TIMEOUT))
        await scene.upstream.received.wait()
        scene.upstream.reset()
        await scene.works()
        assert 800 <= (await scene.line_of(await call))["upstream_ms"] < 8000
        await scene.works_in_full()


# What is not for callers


async def metadata_of_a_call(scene: Scene) -> str:
    """Return what a gRPC call receives beside its message, as a text."""
    stub = TokenServiceStub(scene.house.channels["grpc"])
    call: Any = stub.ExchangeToken(ExchangeTokenRequest(**SENT.fields), timeout=20)
    code = await call.code()
    told = [*await call.initial_metadata(), *await call.trailing_metadata()]
    return f"{code} {told}"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
async def test_u14_no_header_field_is_passed_on(status: int) -> None:
    """Whatever the auth-api tells by header fields, callers read none of its texts."""
    fields = ("Set_Cookie", "X_Secret", "Server", "Via", "WWW_Authenticate", "X_Request_Id")
    async with open_scene() as scene:
        told = dict.fromkeys(fields, f"a={STACK}")
        scene.upstream.reply = answer(status, TOKEN, **told)
        outcome = await scene.ask("form")
        assert STACK not in f"{outcome} {await metadata_of_a_call(scene)}"
        names = {name.lower().replace("_", "-") for name in fields[:4]}
        assert not names & set(outcome.headers)


MAGIC = "http://169.254.169.254/latest/meta-data/"


@contextmanager
def connections() -> Iterator[list[str]]:
    """Give the hosts that this process connects to by TCP meanwhile."""
    hosts: list[str] = []
    _LISTS.append(hosts)
    yield hosts
    _LISTS.remove(hosts)


_LISTS: list[list[str]] = []


def _notice(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        for hosts in _LISTS:
            hosts.append(arguments[1][0])


sys.addaudithook(_notice)  # it cannot be taken away; without a list it does nothing


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_u16_redirects(status: int) -> None:
    """The address that gives a cloud's credentials away is not connected to, nor any other."""
    async with open_scene() as scene:
        scene.upstream.reply = answer(status, TOKEN, Location=MAGIC)
        with connections() as hosts:
            for way in BOTH:
                await scene.fails(way, BAD)
        assert hosts
        assert set(hosts) == {LOOPBACK}
        assert len(scene.upstream.requests) == len(BOTH)
        await scene.works_in_full()


# Where time is not the point, so much of it that no busy machine exceeds it.
PATIENT = {
    "auth_api_connect_timeout": "5s",
    "auth_api_try_timeout": "10s",
    "auth_api_timeout": "15s",
}


async def test_u19_every_status() -> None:
    """Whatever its status, an answer full of secrets becomes a problem that tells none of them."""
    understood = {400, 401, 403, 409, 422, 429, 503, 504}
    leak = {"error_description": STACK, "detail": STACK, "title": STACK, "stack": [STACK]}
    async with open_scene(**PATIENT) as scene:
        for status in range(201, 600):
            scene.upstream.reply = answer(status, {**TOKEN, **leak}, "application/problem+json")
            rest, over_grpc = [await scene.ask(way) for way in BOTH]
            assert rest.status == (status if status in understood else 502), status
            assert rest.problem
            assert over_grpc.problem
            assert rest.problem["karmoCode"] == over_grpc.problem["karmoCode"], status
            no_secret(f"{rest} {over_grpc}", STACK, str(TOKEN["access_token"]))
        no_secret(scene.log.text, STACK)
        await scene.works_in_full()
