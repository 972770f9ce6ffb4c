"""The status of a failed call, and the HTTP status that each code stands for."""

from collections.abc import Mapping

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError, Metadata

from sidecar.transcoding.status import HTTP_STATUS, read_status

NOT_FOUND = grpc.StatusCode.NOT_FOUND
DETAILS = "grpc-status-details-bin"

# google/rpc/code.proto
TOLD = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


def test_http_status() -> None:
    """Every code has the HTTP status that google.rpc.Code gives it."""
    assert {Code.Name(code): status for code, status in HTTP_STATUS.items()} == TOLD
    assert set(HTTP_STATUS) == set(Code.values())


def test_http_status_is_fixed() -> None:
    """Nobody changes the table at run time."""
    with pytest.raises(TypeError):
        HTTP_STATUS[Code.OK] = 500  # type: ignore[index] # that is the point


def failed(details: str | None, *trailing: tuple[str, str | bytes]) -> AioRpcError:
    """Return the error of a call that ended with NOT_FOUND."""
    return AioRpcError(NOT_FOUND, Metadata(), Metadata(*trailing), details)


def status(code: int = 5, message: str = "none such") -> Status:
    """Return a status with a detail."""
    packed = Packed()
    packed.Pack(ErrorInfo(reason="NONE_SUCH", domain="library.test"))
    return Status(code=code, message=message, details=[packed])


def test_details_are_read() -> None:
    """A rich status is read with all its details."""
    error = failed("none such", ("a", "b"), (DETAILS, status().SerializeToString()))
    assert read_status(error) == status()


BARE: Mapping[str, tuple[AioRpcError, str]] = {
    "no details": (failed("none such"), "none such"),
    "no message": (failed(""), ""),
    "no message at all": (failed(None), ""),
    "other metadata": (failed("none such", ("a", "b"), ("b-bin", b"\xff")), "none such"),
    "another code": (
        failed("none such", (DETAILS, status(code=13).SerializeToString())),
        "none such",
    ),
    "another message": (
        failed("none such", (DETAILS, status(message="x").SerializeToString())),
        "none such",
    ),
    "empty": (failed("none such", (DETAILS, b"")), "none such"),
    "not a status": (failed("none such", (DETAILS, b"\xff\xff")), "none such"),
    "cut": (failed("none such", (DETAILS, status().SerializeToString()[:-3])), "none such"),
}


@pytest.mark.parametrize(("error", "message"), BARE.values(), ids=BARE)
def test_bare_status(error: AioRpcError, message: str) -> None:
    """Without details, or with ones that cannot be believed or read, code and message remain."""
    assert read_status(error) == Status(code=5, message=message)


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_code(code: grpc.StatusCode) -> None:
    """Every code of gRPC is told by its number."""
    assert read_status(AioRpcError(code, Metadata(), Metadata(), "x")).code == code.value[0]
