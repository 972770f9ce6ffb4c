"""Tests of the errors of the Python client, and of its retries."""

import copy
import pickle
from collections.abc import Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

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


def with_details(*details: ErrorInfo) -> tuple[str, bytes]:
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


@every_kind
@pytest.mark.parametrize("body", [b"", b"\xff"], ids=["no token", "no message"])
async def test_a_response_without_a_token(kind: Kind, body: bytes) -> None:
    """A response without a token is an error like any other."""

    async def reply(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return body

    handler = grpc.method_handlers_generic_handler(
        "karmo.auth.v1.TokenService", {"ExchangeToken": grpc.unary_unary_rpc_method_handler(reply)}
    )
    async with serving([handler]) as address:
        error = await failure_of(kind, address)
    assert str(error) == "INTERNAL: The response has no token."


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
