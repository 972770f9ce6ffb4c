"""The auth-api answers slowly, without end, or with what nobody asked for.

Rows U9, U10, U11, U14, U15, U16 and U19 of the fault matrix, as far as they are about
the whole process; each form of a bad answer has its case in tests/auth_api/test_client.py.
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
from tests.faults.upstream_scene import BAD, BOTH, LOST, SENT, TIMEOUT, TRY, Scene, Told, skip
from tests.faults.wire import LOOPBACK
from tests.upstream import TOKEN, Script, answer

pytestmark = pytest.mark.unmeasured

GOOD = answer(200, TOKEN)
HEAD, _, BODY = GOOD.partition(b"\r\n\r\n")
STACK = "canary-stack-5f0e"

# Without end


@pytest.mark.parametrize("whole", [HEAD, BODY], ids=["head", "body"])
async def test_u09_slow_drip(scene: Scene, whole: bytes) -> None:
    """Bytes that come one by one do not prolong the time of one try, in the head or the body."""
    came, late = asyncio.Semaphore(0), asyncio.Event()

    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD[: GOOD.index(whole) + 1])
        came.release()
        await late.wait()
        writer.write(GOOD[GOOD.index(whole) + 1 :][:1])
        came.release()
        await reader.read()

    scene.upstream.script = drips
    calls = [asyncio.create_task(scene.fails(way, TIMEOUT)) for way in BOTH]
    for seconds in (TRY - 1, 1):
        for _ in BOTH:
            await came.acquire()
        skip(seconds)
        late.set()
    await asyncio.gather(*calls)
    await scene.works_in_full()


ENDLESS: dict[str, tuple[Script, Told]] = {
    "body": (scripted.endless(), BAD),
    "header fields": (scripted.endless(b"X-A: b\r\n" * 512, head=b"HTTP/1.1 200 OK\r\n"), LOST),
}


@pytest.mark.parametrize(("script", "told"), ENDLESS.values(), ids=ENDLESS)
async def test_u10_endless_answer(scene: Scene, script: Script, told: Told) -> None:
    """Twenty answers without end leave neither memory, more than 8 MiB, nor descriptors behind."""
    async with recovers(scene.works_in_full):
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


async def test_u11_content_codings(scene: Scene) -> None:
    """No body is decoded, for none was to be coded: 32 MiB of zeros stay 32 KiB."""
    async with recovers(scene.works_in_full):
        for data, coding in CODED.values():
            scene.upstream.reply = answer(200, data, Content_Encoding=coding)
            for way in BOTH:
                line = await scene.line_of(await scene.fails(way, BAD))
                assert line["upstream_fault"] == "content_encoding"
        asked = [b"accept-encoding: identity" in sent.lower() for sent in scene.upstream.requests]
        assert all(asked)


async def test_u15_endless_interim_answers(scene: Scene) -> None:
    """Interim answers without end are given up at their limit."""
    scene.upstream.script = scripted.endless(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 64, head=b"")
    for way in BOTH:
        outcome = await scene.fails(way, LOST)
        assert (await scene.line_of(outcome))["upstream_fault"] == "bad_http"
    await scene.works_in_full()


# What is not for callers


async def metadata_of_a_call(scene: Scene) -> str:
    """Return what a gRPC call receives beside its message, as a text."""
    stub = TokenServiceStub(scene.deployment.channels["grpc"])
    call: Any = stub.ExchangeToken(ExchangeTokenRequest(**SENT.fields), timeout=20)
    code = await call.code()
    told = [*await call.initial_metadata(), *await call.trailing_metadata()]
    return f"{code} {told}"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
async def test_u14_no_header_field_is_passed_on(scene: Scene, status: int) -> None:
    """Whatever the auth-api tells by header fields, callers read none of its texts."""
    fields = ("Set_Cookie", "X_Secret", "Server", "Via", "WWW_Authenticate", "X_Request_Id")
    scene.upstream.reply = answer(status, TOKEN, **dict.fromkeys(fields, f"a={STACK}"))
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
async def test_u16_redirects(scene: Scene, status: int) -> None:
    """The address that gives a cloud's credentials away is not connected to, nor any other."""
    scene.upstream.reply = answer(status, TOKEN, Location=MAGIC)
    with connections() as hosts:
        for way in BOTH:
            await scene.fails(way, BAD)
    assert hosts
    assert set(hosts) == {LOOPBACK}
    assert len(scene.upstream.requests) == len(BOTH)


async def test_u19_every_status(scene: Scene) -> None:
    """Whatever its status, an answer full of secrets becomes a problem that tells none of them."""
    understood = {400, 401, 403, 409, 422, 429, 503, 504}
    leak = {"error_description": STACK, "detail": STACK, "title": STACK, "stack": [STACK]}
    for status in sorted({*range(201, 600, 7), *understood}):
        scene.upstream.reply = answer(status, {**TOKEN, **leak}, "application/problem+json")
        rest, over_grpc = [await scene.ask(way) for way in BOTH]
        assert rest.status == (status if status in understood else 502), status
        assert rest.problem
        assert over_grpc.problem
        assert rest.problem["karmoCode"] == over_grpc.problem["karmoCode"], status
        no_secret(f"{rest} {over_grpc}", STACK, str(TOKEN["access_token"]))
    no_secret(scene.log.text, STACK)
    await scene.works_in_full()
