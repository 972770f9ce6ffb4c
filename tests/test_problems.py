"""Tests of problems: the catalogue, and the gRPC status of a problem."""

import operator
import re
from collections import Counter
from collections.abc import Mapping

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, DebugInfo, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import example, given
from hypothesis import strategies as st
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import (
    CATALOGUE,
    Definition,
    FieldError,
    Problem,
    ProblemError,
    Reason,
    find_detail,
    nearest,
    to_status,
)
from tests.properties import any_text, many
from tests.ways import PUBLIC_URL

REQUEST_ID = "4a1b0c6e-2f0d-4a53-8d2e-0f6c7b9a1d3e"
# RFC 6749 section 5.2: %x20-21 / %x23-5B / %x5D-7E
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")

# Callers compare these. None ever changes, and none is ever given to another problem. A
# release adds the lines of its new problems.
FROZEN = (
    ("INVALID_REQUEST", 1, "40010001", "invalid-request"),
    ("UNSUPPORTED_GRANT_TYPE", 2, "40010002", "unsupported-grant-type"),
    ("INVALID_SCOPE", 3, "40010003", "invalid-scope"),
    ("UNAUTHORIZED_CLIENT", 4, "40020001", "unauthorized-client"),
    ("INVALID_CLIENT", 5, "40120001", "invalid-client"),
    ("ACCESS_DENIED", 6, "40320001", "access-denied"),
    ("NOT_FOUND", 7, "40400001", "not-found"),
    ("RESOURCE_NOT_FOUND", 8, "40430001", "resource-not-found"),
    ("METHOD_NOT_ALLOWED", 9, "40500001", "method-not-allowed"),
    ("CONFLICT", 10, "40930001", "conflict"),
    ("CONTENT_TOO_LARGE", 11, "41300001", "content-too-large"),
    ("UNSUPPORTED_MEDIA_TYPE", 12, "41500001", "unsupported-media-type"),
    ("UNPROCESSABLE_CONTENT", 13, "42230001", "unprocessable-content"),
    ("TOO_MANY_REQUESTS", 14, "42930001", "too-many-requests"),
    ("INTERNAL", 15, "50090001", "internal-error"),
    ("UPSTREAM_BAD_ANSWER", 16, "50230001", "upstream-bad-answer"),
    ("UPSTREAM_CONNECTION_LOST", 17, "50230002", "upstream-connection-lost"),
    ("UPSTREAM_UNAVAILABLE", 18, "50330001", "upstream-unavailable"),
    ("UPSTREAM_TIMEOUT", 19, "50430001", "upstream-timeout"),
    ("SERVICE_STOPPING", 20, "50390001", "service-stopping"),
    ("REQUEST_TIMEOUT", 21, "40800001", "request-timeout"),
    ("URI_TOO_LONG", 22, "41400001", "uri-too-long"),
    ("HEADER_FIELDS_TOO_LARGE", 23, "43100001", "header-fields-too-large"),
    ("OVERLOADED", 24, "50390002", "service-overloaded"),
    ("TOO_MANY_ATTEMPTS", 25, "42920001", "too-many-attempts"),
    ("NOT_IMPLEMENTED", 26, "50100001", "not-implemented"),
)
every_definition = pytest.mark.parametrize(
    "entry", CATALOGUE.values(), ids=lambda entry: entry.name
)


def status_of(problem: Problem, public_url: str = PUBLIC_URL) -> Status:
    """Return the status of `problem`."""
    return to_status(problem, request_id=REQUEST_ID, public_url=public_url)


def details_of(problem: Problem) -> pb.ProblemDetails:
    """Return the problem details in the status of `problem`."""
    details = find_detail(status_of(problem), pb.ProblemDetails)
    assert details is not None
    return details


# The catalogue


def test_the_catalogue_keeps_its_promises() -> None:
    """Numbers, karmoCodes and slugs of released problems stay; a new problem breaks nothing."""
    assert set(FROZEN) <= identities()


@pytest.mark.parametrize("column", range(4), ids=["name", "number", "karmoCode", "slug"])
def test_nothing_names_two_problems(column: int) -> None:
    """A name, number, karmoCode or slug belongs to one problem, also a new one."""
    counted = Counter(line[column] for line in identities() | set(FROZEN))
    assert counted.most_common(1)[0][1] == 1


def identities() -> set[tuple[str, int, str, str]]:
    """Return what identifies each problem of the catalogue."""
    return {
        (entry.name, entry.reason, entry.karmo_code, entry.slug) for entry in CATALOGUE.values()
    }


def test_every_reason_has_a_definition() -> None:
    """Every value of the enum has a definition, except the one that is never sent."""
    assert set(CATALOGUE) == set(pb.ProblemReason.values()) - {pb.PROBLEM_REASON_UNSPECIFIED}
    assert all(reason == entry.reason for reason, entry in CATALOGUE.items())


def test_the_catalogue_is_fixed() -> None:
    """The catalogue cannot be changed at run time."""
    with pytest.raises(TypeError):
        CATALOGUE[pb.PROBLEM_REASON_UNSPECIFIED] = CATALOGUE[pb.PROBLEM_REASON_INTERNAL]  # type: ignore[index] # this must fail


@every_definition
def test_definition(entry: Definition) -> None:
    """Every definition is complete and consistent."""
    assert re.fullmatch("[0-9]{8}", entry.karmo_code)
    assert entry.karmo_code[:3] == str(entry.http_status)
    assert re.fullmatch("[a-z]+(-[a-z]+)*", entry.slug)
    assert re.fullmatch("[A-Z]+(_[A-Z]+)*", entry.name)
    assert len(entry.name) <= 63  # AIP-193, of ErrorInfo.reason
    assert 400 <= entry.http_status <= 599
    assert entry.grpc_code in set(Code.values()) - {Code.OK}
    assert re.fullmatch("[a-z_]+", entry.oauth_error)
    assert 0 <= entry.retry_after_seconds <= 60
    for text in (entry.title, entry.meaning, entry.remedy):
        assert text
        assert text == text.strip()
        assert DESCRIPTION.fullmatch(text)


@every_definition
def test_the_texts_of_a_definition_are_never_cut(entry: Definition) -> None:
    """The texts fit into a status uncut, also meaning and remedy as one detail."""
    for text in (entry.remedy, entry.explanation):
        details = details_of(Problem(reason=entry.reason, detail=text))
        assert (details.title, details.detail, details.error_description) == (
            entry.title,
            text,
            text,
        )


# The status


def test_status_of_a_whole_problem() -> None:
    """A problem with all members becomes five details of different types."""
    errors = (
        FieldError(detail="grant_type is missing.", pointer="/grant_type"),
        FieldError(detail="no", pointer="/a/b~1c"),
        FieldError(detail="whole", pointer=""),
    )
    problem = Problem(
        reason=pb.PROBLEM_REASON_INVALID_REQUEST,
        detail="grant_type is missing.",
        errors=errors,
        retry_after=7,
    )
    expected = pb.ProblemDetails(
        type="https://api.example.test/problems/invalid-request",
        title="Invalid request",
        status=400,
        detail="grant_type is missing.",
        instance=f"urn:uuid:{REQUEST_ID}",
        karmo_code="40010001",
        karmo_errors=[pb.FieldError(detail=e.detail, pointer=e.pointer) for e in errors],
        error="invalid_request",
        error_description="grant_type is missing.",
    )
    assert status_of(problem) == status(
        Code.INVALID_ARGUMENT,
        "grant_type is missing.",
        expected,
        ErrorInfo(
            reason="INVALID_REQUEST",
            domain="karmo.auth.v1",
            metadata={"karmoCode": "40010001", "oauthError": "invalid_request"},
        ),
        BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field="grant_type", description="grant_type is missing."),
                BadRequest.FieldViolation(field="a.b~1c", description="no"),
                BadRequest.FieldViolation(field="", description="whole"),
            ]
        ),
        RetryInfo(retry_delay=Duration(seconds=7)),
        RequestInfo(request_id=REQUEST_ID),
    )


def test_status_of_a_bare_problem() -> None:
    """A problem with an empty detail is described by its definition, without a detail."""
    expected = pb.ProblemDetails(
        type="https://api.example.test/problems/invalid-client",
        title="Client authentication failed",
        status=401,
        instance=f"urn:uuid:{REQUEST_ID}",
        karmo_code="40120001",
        error="invalid_client",
    )
    assert status_of(Problem(reason=pb.PROBLEM_REASON_INVALID_CLIENT, detail="")) == status(
        Code.UNAUTHENTICATED,
        "Client authentication failed",
        expected,
        ErrorInfo(
            reason="INVALID_CLIENT",
            domain="karmo.auth.v1",
            metadata={"karmoCode": "40120001", "oauthError": "invalid_client"},
        ),
        RequestInfo(request_id=REQUEST_ID),
    )


@every_definition
def test_a_problem_without_a_detail_is_explained(entry: Definition) -> None:
    """The detail of a problem that has none is what the catalogue says of it."""
    assert details_of(Problem(reason=entry.reason)).detail == f"{entry.meaning} {entry.remedy}"


def test_status_of_a_problem_of_the_upstream() -> None:
    """Members of an upstream problem replace those of the definition."""
    problem = Problem(
        reason=pb.PROBLEM_REASON_CONFLICT,
        detail="",
        type="https://auth.example.test/taken",
        title="Taken",
        status=409,
        karmo_code="40999999",
        oauth_error="slow_down",
    )
    assert details_of(problem) == pb.ProblemDetails(
        type="https://auth.example.test/taken",
        title="Taken",
        status=409,
        instance=f"urn:uuid:{REQUEST_ID}",
        karmo_code="40999999",
        error="slow_down",
    )
    info = find_detail(status_of(problem), ErrorInfo)
    assert info is not None
    assert info.reason == "CONFLICT"
    assert info.metadata == {"karmoCode": "40999999", "oauthError": "slow_down"}


def status(code: int, message: str, *details: Message) -> Status:
    """Return a status with `details`, in order."""
    result = Status(code=code, message=message)
    for detail in details:
        result.details.add().Pack(detail)
    return result


RETRIES: Mapping[str, tuple[Reason, int | None, int | None]] = {
    "by the definition": (pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, None, 1),
    "by the problem": (pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, 30, 30),
    "not this time": (pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, 0, None),
    "never": (pb.PROBLEM_REASON_INVALID_REQUEST, None, None),
}


@pytest.mark.parametrize(("reason", "sent", "expected"), RETRIES.values(), ids=RETRIES)
def test_retry(reason: Reason, sent: int | None, expected: int | None) -> None:
    """RetryInfo has the delay of the problem, else that of the definition, if there is one."""
    retry = find_detail(status_of(Problem(reason=reason, retry_after=sent)), RetryInfo)
    assert (retry and retry.retry_delay.seconds) == expected


def test_names_in_json() -> None:
    """A document has the names of the contract, and no unset member."""
    details = details_of(
        Problem(
            reason=pb.PROBLEM_REASON_INVALID_REQUEST,
            detail="No.",
            errors=(FieldError(detail="No.", pointer="/client_id"),),
        )
    )
    assert json_format.MessageToDict(details) == {
        "type": "https://api.example.test/problems/invalid-request",
        "title": "Invalid request",
        "status": 400,
        "detail": "No.",
        "instance": f"urn:uuid:{REQUEST_ID}",
        "karmoCode": "40010001",
        "karmoErrors": [{"detail": "No.", "pointer": "/client_id"}],
        "error": "invalid_request",
        "error_description": "No.",
    }


DETAILS: Mapping[str, tuple[str, str, str]] = {
    "ASCII": ("a 'b'", "a 'b'", "a 'b'"),
    "what section 5.2 leaves out": ('"a\\b"', '"a\\b"', "'a/b'"),
    "line ends": ("a\r\nb\t\0", "a\r\nb\t\0", "a??b??"),
    "letters outside of ASCII": ("é€", "é€", "??"),
    "lone surrogate": ("a\ud800", "a?", "a?"),
    "400 bytes": ("x" * 400, "x" * 400, "x" * 400),
    "401 bytes": ("x" * 401, "x" * 397 + "...", "x" * 397 + "..."),
    "cut within a character": ("x" * 396 + "éé€", "x" * 396 + "...", "x" * 396 + "..."),
}


@pytest.mark.parametrize(("detail", "expected", "description"), DETAILS.values(), ids=DETAILS)
def test_detail(detail: str, expected: str, description: str) -> None:
    """A detail is cut to its size, and repeated in the characters that OAuth allows."""
    carrier = status_of(Problem(reason=pb.PROBLEM_REASON_INTERNAL, detail=detail))
    details = find_detail(carrier, pb.ProblemDetails)
    assert details is not None
    assert (carrier.message, details.detail) == (expected, expected)
    assert details.error_description == description


def test_title_is_cut() -> None:
    """A title of the upstream is cut to 100 bytes."""
    details = details_of(Problem(reason=pb.PROBLEM_REASON_CONFLICT, title="x" * 101))
    assert details.title == "x" * 97 + "..."


def errors_of(*details: str) -> list[str]:
    """Return the details of the field errors that are kept."""
    errors = tuple(FieldError(detail=detail, pointer="/p") for detail in details)
    kept = details_of(Problem(reason=pb.PROBLEM_REASON_INVALID_REQUEST, errors=errors))
    return [error.detail for error in kept.karmo_errors]


def test_errors_are_limited_in_number() -> None:
    """The first 16 field errors are kept."""
    details = [str(number) for number in range(20)]
    assert errors_of(*details) == details[:16]


def test_errors_are_limited_in_size() -> None:
    """Field errors are kept up to 700 bytes together; a long one is cut to 200 bytes."""
    assert errors_of("x" * 200, "y" * 201) == ["x" * 200, "y" * 197 + "..."]
    assert errors_of(*["x" * 200] * 4) == ["x" * 200] * 3
    assert errors_of("x" * 5000, "y") == ["x" * 197 + "...", "y"]


def test_a_lone_surrogate_in_an_error() -> None:
    """Characters of an upstream text that UTF-8 cannot encode are replaced."""
    assert errors_of("a\ud800") == ["a?"]


def after(start: str, length: int) -> st.SearchStrategy[str]:
    """Return texts of `start` and at most `length` visible characters."""
    visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
    return st.text(visible, max_size=length).map(start.__add__)


long_text = st.builds(operator.mul, any_text, st.integers(0, 300))
# Other texts are short: the reader of the auth-api's answers limits them.
problems = st.builds(
    Problem,
    reason=st.sampled_from(sorted(CATALOGUE)),
    detail=st.none() | long_text,
    errors=st.lists(
        st.builds(FieldError, detail=long_text, pointer=st.text(max_size=100)), max_size=40
    ).map(tuple),
    retry_after=st.none() | st.integers(0, 60),
    type=st.none() | after("https://", 192),
    title=st.none() | long_text,
    status=st.none() | st.integers(400, 599),
    karmo_code=st.none() | st.from_regex("[0-9]{8}", fullmatch=True),
    oauth_error=st.none() | after("e", 63),
)
FULL = Problem(
    reason=pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST,
    detail="€" * 1000,
    errors=(FieldError(detail="x" * 30, pointer="/" + "y" * 4),) * 100,
    retry_after=60,
    type="https://" + "x" * 192,
    title="é" * 1000,
    oauth_error="e" * 64,
)


@many
@given(problems, after("https://", 112))
@example(FULL, "https://" + "x" * 112)
def test_every_status_is_small_and_well_formed(problem: Problem, public_url: str) -> None:
    """The status of every problem is under 4 KiB and valid for OAuth clients."""
    carrier = status_of(problem, public_url)
    details = find_detail(carrier, pb.ProblemDetails)
    assert details is not None
    assert carrier.ByteSize() < 4096
    assert DESCRIPTION.fullmatch(details.error_description)
    assert carrier.message == (details.detail or details.title)
    assert len({packed.type_url for packed in carrier.details}) == len(carrier.details)
    assert len(details.karmo_errors) <= 16


# Reasons for statuses and errors of other servers


NEAREST: Mapping[tuple[int, str | None], Reason] = {
    (400, None): pb.PROBLEM_REASON_INVALID_REQUEST,
    (400, "invalid_request"): pb.PROBLEM_REASON_INVALID_REQUEST,
    (400, "unsupported_grant_type"): pb.PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE,
    (400, "invalid_scope"): pb.PROBLEM_REASON_INVALID_SCOPE,
    (400, "unauthorized_client"): pb.PROBLEM_REASON_UNAUTHORIZED_CLIENT,
    (400, "invalid_client"): pb.PROBLEM_REASON_INVALID_CLIENT,
    (400, "access_denied"): pb.PROBLEM_REASON_INVALID_REQUEST,
    (400, "unknown"): pb.PROBLEM_REASON_INVALID_REQUEST,
    (400, ""): pb.PROBLEM_REASON_INVALID_REQUEST,
    (401, None): pb.PROBLEM_REASON_INVALID_CLIENT,
    (401, "invalid_request"): pb.PROBLEM_REASON_INVALID_CLIENT,
    (402, None): pb.PROBLEM_REASON_INVALID_REQUEST,
    (403, None): pb.PROBLEM_REASON_ACCESS_DENIED,
    (403, "invalid_client"): pb.PROBLEM_REASON_INVALID_CLIENT,
    (403, "unauthorized_client"): pb.PROBLEM_REASON_ACCESS_DENIED,
    (404, None): pb.PROBLEM_REASON_NOT_FOUND,
    (405, None): pb.PROBLEM_REASON_METHOD_NOT_ALLOWED,
    (409, None): pb.PROBLEM_REASON_CONFLICT,
    (413, None): pb.PROBLEM_REASON_CONTENT_TOO_LARGE,
    (415, None): pb.PROBLEM_REASON_UNSUPPORTED_MEDIA_TYPE,
    (418, None): pb.PROBLEM_REASON_INVALID_REQUEST,
    (422, None): pb.PROBLEM_REASON_UNPROCESSABLE_CONTENT,
    (429, None): pb.PROBLEM_REASON_TOO_MANY_REQUESTS,
    (499, None): pb.PROBLEM_REASON_INTERNAL,
    (500, None): pb.PROBLEM_REASON_INTERNAL,
    (500, "invalid_client"): pb.PROBLEM_REASON_INVALID_CLIENT,
    (501, None): pb.PROBLEM_REASON_NOT_IMPLEMENTED,
    (502, None): pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER,
    (503, None): pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE,
    (504, None): pb.PROBLEM_REASON_UPSTREAM_TIMEOUT,
    (599, "server_error"): pb.PROBLEM_REASON_INTERNAL,
}


@pytest.mark.parametrize(("error", "reason"), NEAREST.items(), ids=str)
def test_nearest(error: tuple[int, str | None], reason: Reason) -> None:
    """A status and an OAuth error of another server have the expected reason."""
    assert nearest(*error) == reason


def test_find_detail() -> None:
    """A detail is found by its type; a missing one is None."""
    carrier = status(Code.INTERNAL, "", RequestInfo(request_id="1"), DebugInfo(detail="x"))
    assert find_detail(carrier, DebugInfo) == DebugInfo(detail="x")
    assert find_detail(carrier, ErrorInfo) is None


def test_the_text_of_the_exception_is_the_reason() -> None:
    """The text of the exception is its reason, and shows no text of the problem."""
    error = ProblemError(Problem(reason=pb.PROBLEM_REASON_CONFLICT, detail="canary"))
    assert str(error) == "CONFLICT"
    assert "canary" not in repr(error)
    assert error.problem.definition.name == "CONFLICT"
