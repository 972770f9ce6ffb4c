"""Problem documents: what they tell of a request and of a call that failed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import DoubleValue, Int64Value
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, DebugInfo, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from sidecar.transcoding.default_renderer import render
from sidecar.transcoding.errors import (
    ContentTooLargeError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotServedError,
    PathNotFoundError,
    RequestError,
    UnsupportedMediaTypeError,
    Violation,
)
from tests.properties import any_text, many
from tests.transcoding import library

JSON, PROBLEM = "application/json", "application/problem+json"
TYPE = "type.googleapis.com"


def answer(error: RequestError | Status, *accept: str) -> Response:
    """Return the answer to a client that sent these Accept fields."""
    headers = [(b"accept", value.encode()) for value in accept]
    return render(Request({"type": "http", "headers": headers}), error)


def document(error: RequestError | Status) -> dict[str, Any]:
    """Return the members of the problem document of `error`."""
    members: dict[str, Any] = json.loads(bytes(answer(error).body))
    return members


def failed(*details: Message | Packed, code: int = Code.UNAVAILABLE, message: str = "") -> Status:
    """Return a status with these details, packed if they are not yet."""
    status = Status(code=code, message=message)
    for detail in details:
        if isinstance(detail, Packed):
            status.details.append(detail)
        else:
            status.details.add().Pack(detail)
    return status


# Requests


def test_problem_of_a_request() -> None:
    """A request that is no call is told by its status, its detail and where its faults are."""
    violations = [
        Violation(detail="The field a must be a string.", pointer="/a/0~1"),
        Violation(detail="The body is wrong.", pointer=""),
        Violation(detail="The parameter b is unknown.", parameter="b"),
        Violation(detail="The header c is wrong."),
    ]
    response = answer(MalformedRequestError("Four things.", violations=violations))
    assert bytes(response.body).decode() == (
        '{"title":"Bad Request","status":400,"detail":"Four things.","errors":['
        '{"detail":"The field a must be a string.","pointer":"/a/0~1"},'
        '{"detail":"The body is wrong.","pointer":""},'
        '{"detail":"The parameter b is unknown.","parameter":"b"},'
        '{"detail":"The header c is wrong."}]}'
    )
    assert response.status_code == 400
    assert dict(response.headers) == {
        "vary": "Accept",
        "content-length": str(len(response.body)),
        "content-type": PROBLEM,
    }


REQUESTS: Mapping[str, tuple[RequestError, str, Mapping[str, str]]] = {
    "path": (PathNotFoundError(), "Not Found", {}),
    "method": (MethodNotAllowedError("GET", template="/a"), "Method Not Allowed", {"allow": "GET"}),
    "accept": (NotAcceptableError(JSON), "Not Acceptable", {}),
    "size": (ContentTooLargeError(1, is_last=True), "Content Too Large", {"connection": "close"}),
    "media type": (
        UnsupportedMediaTypeError("Send JSON.", headers={"Accept": JSON}),
        "Unsupported Media Type",
        {"accept": JSON},
    ),
    "fault": (MalformedRequestError("Send JSON."), "Bad Request", {}),
    "stream": (NotServedError(takes_stream=True), "Not Implemented", {}),
}


@pytest.mark.parametrize(("error", "title", "headers"), REQUESTS.values(), ids=REQUESTS)
def test_request(error: RequestError, title: str, headers: Mapping[str, str]) -> None:
    """Every error has the title of its status, no list without faults, and its own headers."""
    assert document(error) == {"title": title, "status": error.status, "detail": error.detail}
    response = answer(error)
    assert response.status_code == error.status
    assert response.headers["vary"] == "Accept"
    told = ("allow", "accept", "connection", "retry-after", "www-authenticate")
    assert {name: response.headers[name] for name in told if name in response.headers} == headers


# Calls

TITLES: Mapping[str, tuple[int, str]] = {
    "CANCELLED": (499, "Client Closed Request"),
    "UNKNOWN": (500, "Internal Server Error"),
    "INVALID_ARGUMENT": (400, "Bad Request"),
    "DEADLINE_EXCEEDED": (504, "Gateway Timeout"),
    "NOT_FOUND": (404, "Not Found"),
    "ALREADY_EXISTS": (409, "Conflict"),
    "PERMISSION_DENIED": (403, "Forbidden"),
    "RESOURCE_EXHAUSTED": (429, "Too Many Requests"),
    "FAILED_PRECONDITION": (400, "Bad Request"),
    "ABORTED": (409, "Conflict"),
    "OUT_OF_RANGE": (400, "Bad Request"),
    "UNIMPLEMENTED": (501, "Not Implemented"),
    "INTERNAL": (500, "Internal Server Error"),
    "UNAVAILABLE": (503, "Service Unavailable"),
    "DATA_LOSS": (500, "Internal Server Error"),
    "UNAUTHENTICATED": (401, "Unauthorized"),
}


# gRPC puts the text of exceptions and the addresses of hosts into their messages.
NOT_FOR_CLIENTS = {"UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAVAILABLE"}


@pytest.mark.parametrize("code", TITLES)
def test_code(code: str) -> None:
    """Every code is told by its name, and with its message where that is meant for clients."""
    status, title = TITLES[code]
    error = failed(code=Code.Value(code), message="It is so.")
    detail = {} if code in NOT_FOR_CLIENTS else {"detail": "It is so."}
    response = answer(error)
    assert response.status_code == status
    assert document(error) == {"title": title, "status": status, "code": code, **detail}
    assert sorted(response.headers) == ["content-length", "content-type", "vary"]


def test_every_code_has_a_title() -> None:
    """No code was forgotten above but OK, which is no failure."""
    assert set(TITLES) == set(Code.keys()) - {"OK"}


@pytest.mark.parametrize("code", [17, 99, -1, 2**31 - 1])
def test_code_that_is_not_known(code: int) -> None:
    """A code that nobody knows is UNKNOWN."""
    told = {"title": "Internal Server Error", "status": 500, "code": "UNKNOWN"}
    assert document(failed(code=code)) == told


def test_problem_of_a_call() -> None:
    """A status is told with its details, in their order, each with its type."""
    bad = BadRequest(field_violations=[BadRequest.FieldViolation(field="a.b", description="é")])
    error = failed(
        ErrorInfo(reason="NONE_SUCH", domain="library.test", metadata={"a": "b"}),
        bad,
        Int64Value(value=2**60),
        code=Code.NOT_FOUND,
        message="Kein Büchlein.",
    )
    response = answer(error)
    assert json.loads(bytes(response.body)) == {
        "title": "Not Found",
        "status": 404,
        "code": "NOT_FOUND",
        "detail": "Kein Büchlein.",
        "details": [
            {
                "@type": f"{TYPE}/google.rpc.ErrorInfo",
                "reason": "NONE_SUCH",
                "domain": "library.test",
                "metadata": {"a": "b"},
            },
            {
                "@type": f"{TYPE}/google.rpc.BadRequest",
                "fieldViolations": [{"field": "a.b", "description": "é"}],
            },
            {"@type": f"{TYPE}/google.protobuf.Int64Value", "value": str(2**60)},
        ],
    }
    assert "Büchlein" in bytes(response.body).decode()


def nested(count: int) -> Packed:
    """Return an Any in an Any, and so on."""
    made = Packed()
    made.Pack(ErrorInfo(reason="X"))
    for _ in range(count):
        outer = Packed()
        outer.Pack(made)
        made = outer
    return made


INFO = ErrorInfo(reason="X").SerializeToString()
NOT_TOLD: Mapping[str, Message] = {
    "empty": Packed(),
    "no type": Packed(value=INFO),
    "unknown type": Packed(type_url=f"{TYPE}/library.v1.Unknown", value=INFO),
    "no name of a type": Packed(type_url=f"{TYPE}/", value=INFO),
    "cut": Packed(type_url=f"{TYPE}/google.rpc.ErrorInfo", value=INFO[:-1]),
    "not of its type": Packed(type_url=f"{TYPE}/google.rpc.ErrorInfo", value=b"\xff"),
    "not a number": Value(number_value=float("nan")),
    "not a number in a field": Struct(fields={"a": Value(number_value=float("inf"))}),
    "no time": Timestamp(seconds=2**62),
    "no duration in a field": RetryInfo(retry_delay=Duration(seconds=2**62)),
    "unknown in an Any": Packed(
        type_url=f"{TYPE}/google.protobuf.Any",
        value=Packed(type_url="x/y.Z", value=b"x").SerializeToString(),
    ),
    "without end": nested(5000),
    "debugging": DebugInfo(stack_entries=["canary"], detail="canary"),
    "debugging elsewhere": Packed(
        type_url="x.test/google.rpc.DebugInfo", value=DebugInfo(detail="x").SerializeToString()
    ),
}


@pytest.mark.parametrize("detail", NOT_TOLD.values(), ids=NOT_TOLD)
def test_detail_that_is_not_told(detail: Message) -> None:
    """What cannot be read, or is not for clients, is left out, alone."""
    known = {"@type": f"{TYPE}/google.rpc.ErrorInfo", "reason": "X"}
    before, after = ErrorInfo(reason="X"), ErrorInfo(reason="X")
    assert document(failed(before, detail, after))["details"] == [known, known]
    assert "details" not in document(failed(detail))


def test_details_up_to_the_depth_of_json() -> None:
    """A detail that nests too deeply for the whole document is left out, alone."""
    known = {"@type": f"{TYPE}/google.rpc.ErrorInfo", "reason": "X"}
    written = []
    for count in range(245, 260):  # the serializer stops at 255 levels
        error = failed(ErrorInfo(reason="X"), nested(count), ErrorInfo(reason="X"))
        details = document(error)["details"]
        assert (details[0], details[-1]) == (known, known)
        written.append(len(details) == 3)
    assert (written[0], written[-1]) == (True, False)
    assert written == sorted(written, reverse=True)


def test_detail_of_a_pool_of_its_own() -> None:
    """A type that the descriptors of the service have is told, in whichever pool they are."""
    pool = library.service().file.pool
    detail = Packed(type_url=f"{TYPE}/library.v1.Note", value=b"\x0a\x01a")
    request = Request({"type": "http", "headers": []})
    response = render(request, failed(detail, ErrorInfo(reason="X")), pools=(pool,))
    assert json.loads(bytes(response.body))["details"] == [
        {"@type": f"{TYPE}/library.v1.Note", "text": "a"},
        {"@type": f"{TYPE}/google.rpc.ErrorInfo", "reason": "X"},
    ]


def test_detail_with_text_that_is_not_utf8() -> None:
    """Text of proto2 may be any bytes, which JSON cannot hold: the detail is left out."""
    file = FileDescriptorProto(name="old.proto", package="old.v1", syntax="proto2")
    kind = FieldDescriptorProto.TYPE_STRING
    file.message_type.add(name="Old").field.add(name="text", number=1, type=kind, label=1)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    detail = Packed(type_url=f"{TYPE}/old.v1.Old", value=b"\x0a\x02\xff\xfe")
    response = render(Request({"type": "http", "headers": []}), failed(detail), pools=(pool,))
    assert "details" not in json.loads(bytes(response.body))


def test_details_that_have_a_json_of_their_own() -> None:
    """A well-known type is told by its value, and a number that JSON lacks by its name."""
    told = document(failed(DoubleValue(value=float("nan")), Duration(seconds=1), nested(1)))
    assert told["details"] == [
        {"@type": f"{TYPE}/google.protobuf.DoubleValue", "value": "NaN"},
        {"@type": f"{TYPE}/google.protobuf.Duration", "value": "1s"},
        {
            "@type": f"{TYPE}/google.protobuf.Any",
            "value": {"@type": f"{TYPE}/google.rpc.ErrorInfo", "reason": "X"},
        },
    ]


# Headers


def retry(seconds: int = 0, nanos: int = 0) -> RetryInfo:
    """Return the detail that asks to wait so long."""
    return RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))


BROKEN_RETRY = Packed(type_url=f"{TYPE}/google.rpc.RetryInfo", value=b"\xff")
DELAYS: Mapping[str, tuple[Sequence[Message], str | None]] = {
    "whole": ([retry(30)], "30"),
    "more than whole": ([retry(1, 1)], "2"),
    "a nanosecond": ([retry(0, 1)], "1"),
    "almost whole": ([retry(1, 999_999_999)], "2"),
    "none": ([retry()], "0"),
    "negative": ([retry(-1, -500_000_000)], "0"),
    "a bit negative": ([retry(0, -1)], "0"),
    "most": ([retry(315_576_000_000)], "315576000000"),
    "no delay": ([RetryInfo()], None),
    "no details": ([], None),
    "others": ([ErrorInfo(reason="X"), Duration(seconds=5)], None),
    "after others": ([ErrorInfo(reason="X"), retry(5)], "5"),
    "the longest": ([retry(5), retry(7), retry(6), RetryInfo()], "7"),
    "broken": ([BROKEN_RETRY], None),
    "after a broken one": ([BROKEN_RETRY, retry(5)], "5"),
}


@pytest.mark.parametrize(("details", "delay"), DELAYS.values(), ids=DELAYS)
def test_retry_after(details: Sequence[Message], delay: str | None) -> None:
    """RetryInfo is told in whole seconds, rounded up, and never as a time that is over."""
    assert answer(failed(*details)).headers.get("retry-after") == delay


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ((), PROBLEM),
        (("*/*",), PROBLEM),
        ((PROBLEM,), PROBLEM),
        ((JSON,), JSON),
        (("text/html", f"{JSON};q=0.1"), JSON),
        ((f"{JSON}, {PROBLEM};q=0.1",), PROBLEM),
        (("text/html",), PROBLEM),
    ],
)
@pytest.mark.parametrize("error", [PathNotFoundError(), failed()], ids=["request", "call"])
def test_media_type(error: RequestError | Status, accept: Sequence[str], media_type: str) -> None:
    """The same document is called JSON for a client that names that and not problem+json."""
    response = answer(error, *accept)
    assert response.headers["content-type"] == media_type
    assert response.headers["vary"] == "Accept"
    assert response.body == answer(error).body


@many
@given(st.integers(-(2**31), 2**31 - 1), any_text, st.lists(st.tuples(any_text, st.binary())))
def test_any_status(code: int, text: str, details: Sequence[tuple[str, bytes]]) -> None:
    """Whatever a service sends, the answer is a document of an error."""
    status = Status(code=code or 2, message=legible(text))
    is_for_clients = code in Code.values() and Code.Name(code) not in NOT_FOR_CLIENTS
    for url, value in details:
        status.details.add(type_url=legible(url), value=value)
    told = document(status)
    assert told["status"] == answer(status).status_code >= 400
    assert told.get("detail", "") == (status.message if code and is_for_clients else "")


def legible(text: str) -> str:
    """Return `text` without what protobuf does not take: lone surrogates."""
    return text.encode(errors="ignore").decode()
