"""Checks of a problem: everything that each protocol must send with it."""

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from karmo.problem.v1.problem_details_pb2 import ProblemDetails

from sidecar.problems import find_detail
from tests.contract.expected import ExpectedProblem
from tests.openapi.described import check_problem
from tests.ways import Outcome

PROBLEM_JSON = "application/problem+json"
CHALLENGE = 'Basic realm="partners-api", charset="UTF-8", error="invalid_client"'
INSTANCE = re.compile("urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# RFC 6749 section 5.2: %x20-21 / %x23-5B / %x5D-7E
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
MAX_STATUS_BYTES = 4096


def check(outcome: Outcome, expected: ExpectedProblem, content_type: str = PROBLEM_JSON) -> None:
    """Assert that `outcome` is the problem, with all that its protocol must send."""
    assert outcome.problem is not None
    check_document(outcome.problem, expected)
    if outcome.details is None:
        _check_rest(outcome, expected, content_type)
    else:
        _check_grpc(outcome, outcome.details, expected)


def check_document(document: Mapping[str, Any], expected: ExpectedProblem) -> None:
    """Assert that the problem document (RFC 9457) has the expected members and no other."""
    members = dict(document)
    detail, description = members.pop("detail", ""), members.pop("error_description", "")
    errors = members.pop("karmoErrors", [])
    assert INSTANCE.fullmatch(members.pop("instance"))
    assert members == {
        "type": expected.type,
        "title": expected.title,
        "status": expected.status,
        "karmoCode": expected.karmo_code,
        "error": expected.error,
    }
    assert detail == (detail or None if expected.detail is None else expected.detail)
    assert DESCRIPTION.fullmatch(description)
    assert len(description) == len(detail)
    assert description == detail or not DESCRIPTION.fullmatch(detail)
    assert all(error.keys() == {"detail", "pointer"} and error["detail"] for error in errors)
    assert tuple(error["pointer"] for error in errors) == expected.pointers


def _check_rest(outcome: Outcome, expected: ExpectedProblem, content_type: str) -> None:
    assert outcome.problem is not None
    headers = outcome.headers
    assert outcome.status == expected.status
    assert headers["content-type"] == content_type
    assert headers["vary"] == "Accept"
    assert headers["content-language"] == "en"
    assert headers["cache-control"] == "no-store"
    assert headers["pragma"] == "no-cache"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"] == _request_id(outcome.problem)
    assert headers.get("www-authenticate") == (CHALLENGE if expected.status == 401 else None)
    assert headers.get("retry-after") == (str(expected.retry) if expected.retry else None)
    assert not {"server", "set-cookie", "location"} & {name.lower() for name in headers}
    check_problem(expected.status, headers, outcome.problem)


def _check_grpc(outcome: Outcome, details: Status, expected: ExpectedProblem) -> None:
    assert outcome.problem is not None
    assert outcome.code is expected.code
    assert details.code == expected.code.value[0]
    assert details.message == outcome.problem.get("detail", expected.title)
    assert details.ByteSize() < MAX_STATUS_BYTES
    wanted: list[type[Message]] = [ProblemDetails, ErrorInfo, RequestInfo]
    wanted += [BadRequest] if expected.pointers else []
    wanted += [RetryInfo] if expected.retry else []
    assert sorted(packed.TypeName() for packed in details.details) == sorted(
        kind.DESCRIPTOR.full_name for kind in wanted
    )
    assert find_detail(details, RequestInfo) == RequestInfo(request_id=_request_id(outcome.problem))
    assert find_detail(details, ErrorInfo) == ErrorInfo(
        reason=expected.reason,
        domain="karmo.auth.v1",
        metadata={"karmoCode": expected.karmo_code, "oauthError": expected.error},
    )
    retry = find_detail(details, RetryInfo)
    assert (retry and retry.retry_delay.seconds) == expected.retry
    bad_request = find_detail(details, BadRequest) or BadRequest()
    assert [(fault.field, fault.description) for fault in bad_request.field_violations] == [
        (error["pointer"][1:].replace("/", "."), error["detail"])
        for error in outcome.problem.get("karmoErrors", [])
    ]


def _request_id(problem: Mapping[str, Any]) -> str:
    return str(problem["instance"]).removeprefix("urn:uuid:")
