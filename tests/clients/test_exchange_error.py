"""Tests of the errors of the Python client, and of its retries."""

import asyncio
import copy
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from karmo.auth.v1.token_service_pb2 import ExchangeTokenResponse

from karmo_auth_client import ExchangeError, TokenSource, Violation
from tests.clients.sources import (
    SECRET,
    Abort,
    Kind,
    Scripted,
    client_of,
    every_kind,
    issued,
    serving,
)
from tests.patience import HANG
from tests.sidecar_process import ROOT, printed, run
from tests.upstream import answer
from tests.ways import Deployment

UNAVAILABLE = Abort(grpc.StatusCode.UNAVAILABLE, "", ("grpc-retry-pushback-ms", "1"))
DETAILS = "grpc-status-details-bin"


async def failure_of(kind: Kind, target: str) -> ExchangeError:
    """Return the error of an exchange with the service at `target`."""
    async with client_of(kind, target) as client:
        with pytest.raises(ExchangeError) as failure:
            await client.get()
    return failure.value


@every_kind
async def test_a_wrong_secret(kind: Kind, deployment: Deployment) -> None:
    """The error has the members of the problem, and the request id of the log."""
    deployment.upstream.reply = answer(401, {"error": "invalid_client"})
    error = await failure_of(kind, str(deployment.addresses.grpc))
    assert (error.code, error.http_status) == (grpc.StatusCode.UNAUTHENTICATED, 401)
    assert (error.reason, error.karmo_code) == ("INVALID_CLIENT", "40120001")
    assert error.detail.startswith("The client is unknown, or its secret is wrong.")
    assert (error.violations, error.retry_delay) == ((), None)
    assert error.request_id
    assert error.request_id.encode() in deployment.upstream.requests[0]
    assert str(error) == (
        f"UNAUTHENTICATED INVALID_CLIENT 40120001: {error.detail} (request id {error.request_id})"
    )


@every_kind
async def test_fields_at_fault(kind: Kind, deployment: Deployment) -> None:
    """The error names the field, with a text for people."""
    source = kind(str(deployment.addresses.grpc), "é", SECRET, plaintext=True, timeout=HANG)
    async with client_of(kind, "") as client:
        client.source = source
        with pytest.raises(ExchangeError) as failure:
            await client.get()
        await client.close()
    (violation,) = failure.value.violations
    assert violation.field == "client_id"
    assert "printable ASCII" in violation.text
    assert failure.value.http_status == 400


async def test_a_delay(deployment: Deployment) -> None:
    """The error has the delay that the auth-api asks for; such a call is not repeated."""
    deployment.upstream.reply = answer(429, Retry_After="7")
    error = await failure_of(TokenSource, str(deployment.addresses.grpc))
    assert (error.code, error.retry_delay) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 7.0)
    assert len(deployment.upstream.requests) == 1


def with_details(*details: Message) -> tuple[str, bytes]:
    """Return the metadata of a status with `details`."""
    status = Status()
    for detail in details:
        status.details.add().Pack(detail)
    return DETAILS, status.SerializeToString()


def unreadable() -> tuple[str, bytes]:
    """Return the metadata of a status with a detail that is not a message."""
    status = Status.FromString(with_details(ErrorInfo(reason="X"))[1])
    status.details[0].value = b"\xff"
    return DETAILS, status.SerializeToString()


BARE = {
    "nothing": (Abort(grpc.StatusCode.NOT_FOUND), "NOT_FOUND: NOT_FOUND"),
    "a message": (Abort(grpc.StatusCode.NOT_FOUND, "no road"), "NOT_FOUND: no road"),
    "no status": (
        Abort(grpc.StatusCode.NOT_FOUND, "no road", (DETAILS, b"\xff")),
        "NOT_FOUND: no road",
    ),
    "no detail": (Abort(grpc.StatusCode.NOT_FOUND, "no road", unreadable()), "NOT_FOUND: no road"),
    "some details": (
        Abort(grpc.StatusCode.NOT_FOUND, "no road", with_details(ErrorInfo(reason="SOME"))),
        "NOT_FOUND SOME: no road",
    ),
}


@every_kind
@pytest.mark.parametrize(("outcome", "text"), BARE.values(), ids=BARE)
async def test_a_status_without_details(kind: Kind, outcome: Abort, text: str) -> None:
    """A status without readable details gives the same error, with its code and message."""
    async with serving(Scripted(outcome)) as address:
        error = await failure_of(kind, address)
    assert str(error) == text
    assert (error.karmo_code, error.http_status, error.request_id) == (None, None, None)


DELAYS: dict[str, tuple[Duration, float]] = {
    "seconds and nanoseconds": (Duration(seconds=2, nanos=500_000_000), 2.5),
    "too long for a timedelta": (Duration(seconds=10**15), 86_400.0),
    "the longest": (Duration(seconds=2**63 - 1, nanos=2**31 - 1), 86_400.0),
    "negative": (Duration(seconds=-5), 0.0),
    "the most negative": (Duration(seconds=-(2**63), nanos=-(2**31)), 0.0),
}


@every_kind
@pytest.mark.parametrize(("delay", "seconds"), DELAYS.values(), ids=DELAYS)
async def test_any_delay(kind: Kind, delay: Duration, seconds: float) -> None:
    """A delay is from 0 to a day, whatever the service sends, and the next `get` tries anew."""
    details = with_details(RetryInfo(retry_delay=delay))
    service = Scripted(Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "", details), issued())
    async with serving(service) as address, client_of(kind, address) as client:
        with pytest.raises(ExchangeError) as failure:
            await client.get()
        assert failure.value.retry_delay == seconds
        assert (await client.get()).access_token == "the.access.token"


@every_kind
async def test_unavailable_is_tried_again(kind: Kind) -> None:
    """After UNAVAILABLE the call is repeated, and the token of a later attempt is returned."""
    service = Scripted(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, issued())
    async with serving(service) as address, client_of(kind, address) as client:
        assert (await client.get()).access_token == "the.access.token"
    assert service.calls == 4


@every_kind
async def test_the_number_of_tries_is_limited(kind: Kind) -> None:
    """The fourth UNAVAILABLE is raised."""
    service = Scripted(*[UNAVAILABLE] * 5)
    async with serving(service) as address:
        error = await failure_of(kind, address)
    assert (error.code, service.calls) == (grpc.StatusCode.UNAVAILABLE, 4)


def answering(*messages: bytes, release: asyncio.Event | None = None) -> grpc.GenericRpcHandler:
    """Return a service that answers every call with `messages` and the status OK.

    It waits for `release`, if there is one.
    """

    async def reply(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        if release is not None:
            await release.wait()
        for message in messages:
            yield message

    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(reply)
    return grpc.method_handlers_generic_handler(
        "karmo.auth.v1.TokenService", {"ExchangeToken": method}
    )


NO_TOKEN = "INTERNAL: The response has no token."
MALFORMED: dict[str, tuple[Sequence[bytes], str]] = {
    "no response": ([], NO_TOKEN),
    "an empty response": ([b""], NO_TOKEN),
    "no message": ([b"\xff"], NO_TOKEN),
    "an empty token": ([issued("").SerializeToString()], NO_TOKEN),
    "no type": (
        [ExchangeTokenResponse(access_token="a", expires_in=1).SerializeToString()],
        NO_TOKEN,
    ),
    "no lifetime": (
        [issued(expires_in=0).SerializeToString()],
        "INTERNAL: The token in the response has 0 s to live.",
    ),
    "a negative lifetime": (
        [issued(expires_in=-5).SerializeToString()],
        "INTERNAL: The token in the response has -5 s to live.",
    ),
}


@every_kind
@pytest.mark.parametrize(("messages", "text"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_response(kind: Kind, messages: Sequence[bytes], text: str) -> None:
    """A response without a usable token is an error like any other."""
    async with serving([answering(*messages)]) as address:
        error = await failure_of(kind, address)
    assert str(error) == text


@every_kind
async def test_one_malformed_response_for_all_who_wait(kind: Kind) -> None:
    """Each caller gets an exception of its own, also if gRPC has one object for all of them."""
    loop, asked, release = asyncio.get_running_loop(), asyncio.Semaphore(0), asyncio.Event()

    def clock() -> float:  # each `get` reads it before it waits
        loop.call_soon_threadsafe(asked.release)
        return 0.0

    handler = answering(b"", release=release)
    async with serving([handler]) as address, client_of(kind, address, clock=clock) as client:
        waiting = [asyncio.create_task(client.get()) for _ in range(3)]
        for _ in waiting:
            await asked.acquire()
        release.set()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(error) for error in errors} == {NO_TOKEN}
    assert len({id(error) for error in errors}) == 3


PURE = """
import grpc
from google.protobuf.internal.api_implementation import Type
from karmo_auth_client._errors import to_error
from karmo_auth_client._source import to_token
details = bytes.fromhex({details!r})
print(Type())
print(to_token(b"\\n\\1\\xff"))
print(to_error(grpc.StatusCode.NOT_FOUND, "no road", [("grpc-status-details-bin", details)]))
"""


async def test_no_utf8_in_pure_python() -> None:
    """Without its C code, protobuf raises another error for what is not UTF-8."""
    status = Status.FromString(with_details(ErrorInfo(reason="X"))[1])
    status.details[0].value = b"\n\1\xff"
    script = PURE.format(details=status.SerializeToString().hex())
    env = {
        "PYTHONPATH": str(ROOT / "clients/python/src"),
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    }
    said = printed(await run(sys.executable, "-c", script, env=env))
    assert said.splitlines() == ["python", NO_TOKEN, "NOT_FOUND: no road"]


COPIED: dict[str, Callable[[ExchangeError], ExchangeError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 our own
}


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED)
def test_an_error_can_be_copied(make: Callable[[ExchangeError], ExchangeError]) -> None:
    """A copied or pickled error has all members, so that it can leave a process of a pool."""
    error = ExchangeError(
        code=grpc.StatusCode.ABORTED,
        detail="text",
        violations=(Violation("client_id", "wrong"),),
        retry_delay=1.5,
    )
    error.add_note("a note")
    copied = make(error)
    assert repr(copied) == repr(error)
    assert copied is not error
