"""Tests of parity (R52): every way gives the same outcome, for any request and answer."""

import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sidecar.problems import find_detail
from tests.contract.checks import check
from tests.contract.expected import ExpectedProblem
from tests.contract.requests import basic_of, header, post
from tests.properties import any_text, many, vschar
from tests.upstream import TOKEN, answer
from tests.ways import Deployment, Outcome, Sent, basic

by_every_way = settings(
    many,
    max_examples=50,
    # One sidecar serves all examples; `outcomes_of` resets its upstream.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Requests

# Texts that every protocol can carry: a protobuf message has no lone surrogate.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
visible = st.text(vschar, min_size=1, max_size=40)
value = st.one_of(visible, text, st.sampled_from(["", "partner", "secret", "client_credentials"]))
grant_type = st.one_of(st.just("client_credentials"), value)


def _pair(encode: Any) -> st.SearchStrategy[str]:
    return st.builds(lambda a, b: basic(encode(a), encode(b)), visible, visible)


# Metadata and header fields both carry printable ASCII without white space around it.
authorization = st.one_of(
    _pair(str),
    _pair(quote_plus),
    _pair(lambda half: quote(half, safe="")),
    _pair(lambda half: "".join(f"%{ord(c):02x}" for c in half)),
    st.binary(max_size=40).map(basic_of),
    st.binary(max_size=40).map(basic_of).map(lambda whole: whole.rstrip("=")),
    st.text(string.ascii_letters + string.digits + "+/=-_ ", max_size=40).map("Basic {}".format),
    st.text(vschar, max_size=60),
    st.sampled_from(["Bearer abc", "Negotiate", basic("partner", "")]),
).map(str.strip)
good = st.one_of(
    st.just(header(basic())),
    _pair(quote_plus).map(header),
    st.builds(lambda a, b: post(client_id=a, client_secret=b), visible, visible),
)
any_sent = st.builds(
    Sent,
    fields=st.fixed_dictionaries(
        {}, optional={"grant_type": grant_type, "client_id": value, "client_secret": value}
    ),
    authorization=st.lists(authorization, max_size=2).map(tuple),
)
requests = good | authorization.map(header) | any_sent

# Answers

words = st.one_of(any_text, st.sampled_from(["", "No 'partner'", "No 'secret'", "x" * 999]))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
field_errors = st.lists(
    st.fixed_dictionaries({"detail": words, "pointer": words.map("/{}".format)}) | anything,
    max_size=20,
)
error = st.sampled_from(["invalid_client", "unauthorized_client", "invalid_scope", "their_own"])
code = st.from_regex("[0-9]{8}", fullmatch=True)
problem_members: Mapping[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["about:blank", "urn:x:y", "/relative"]) | anything,
    "title": words,
    "status": anything,
    "detail": words,
    "instance": words,
    "karmoErrors": field_errors,
    "error": error | anything,
    "error_description": anything,
    "extension": anything,
}
token_members: Mapping[str, st.SearchStrategy[Any]] = {
    "access_token": visible | anything,
    "token_type": st.sampled_from(["Bearer", "bearer", "DPoP"]) | anything,
    "expires_in": st.integers(-1, 2**31) | st.floats(0, 9) | anything,
    "extension": anything,
}
JSON, PROBLEM_JSON = "application/json", "application/problem+json"
UNDERSTOOD = st.sampled_from([400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504, 599])
any_status = UNDERSTOOD | st.sampled_from([103, 200, 201, 204, 206, 301, 304, 307, 405, 499])
any_type = st.sampled_from([JSON, PROBLEM_JSON, "text/html", f"{JSON};charset=x", ""])
delay = st.sampled_from(["", "7", "999", "-1", "Fri, 31 Dec 2038 23:59:59 GMT"])


def _answer(status: int, body: object, kind: str, seconds: str) -> bytes:
    return answer(status, body, kind, Retry_After=seconds)


relayed = st.fixed_dictionaries({"karmoCode": code}, optional=problem_members)
plain = st.fixed_dictionaries({}, optional=problem_members)
issued = st.fixed_dictionaries({}, optional=token_members).map(lambda changed: {**TOKEN, **changed})
replies = st.one_of(
    st.builds(_answer, UNDERSTOOD, relayed, st.just(PROBLEM_JSON), delay),
    st.builds(_answer, UNDERSTOOD, plain, st.just(JSON), delay),
    st.builds(_answer, st.just(200), issued, st.just(JSON), delay),
    st.builds(_answer, any_status, relayed | anything | st.binary(max_size=99), any_type, delay),
)


async def outcomes_of(deployment: Deployment, sent: Sent, reply: bytes) -> Mapping[str, Outcome]:
    """Send one request by every way, each with the same answer of the auth-api."""
    deployment.upstream.reset()
    deployment.upstream.reply = reply
    outcomes = {name: await way(sent) for name, way in deployment.ways.items()}
    assert len(deployment.upstream.requests) in (0, len(deployment.ways))
    return outcomes


def assert_same(outcomes: Mapping[str, Outcome]) -> None:
    """Assert that all outcomes are the same token, or the same problem, complete by protocol."""
    by_grpc = outcomes["grpc"]
    event("token" if by_grpc.problem is None else f"problem {by_grpc.problem['karmoCode'][:3]}")
    for outcome in outcomes.values():
        assert outcome.token == by_grpc.token
        if by_grpc.problem is not None:
            check(outcome, _expected(by_grpc, by_grpc.problem))
            assert _texts(outcome) == _texts(by_grpc)


def _expected(outcome: Outcome, problem: Mapping[str, Any]) -> ExpectedProblem:
    """Return the problem of the gRPC outcome, which the other ways must match."""
    assert outcome.details is not None
    assert outcome.code is not None
    info = find_detail(outcome.details, ErrorInfo)
    retry = find_detail(outcome.details, RetryInfo)
    return ExpectedProblem(
        status=problem["status"],
        karmo_code=problem["karmoCode"],
        error=problem["error"],
        code=outcome.code,
        reason=info.reason if info else "",
        title=problem["title"],
        type=problem["type"],
        detail=problem.get("detail", ""),
        pointers=tuple(error["pointer"] for error in problem.get("karmoErrors", ())),
        retry=retry.retry_delay.seconds if retry else None,
    )


def _texts(outcome: Outcome) -> Mapping[str, Any]:
    return {name: text for name, text in (outcome.problem or {}).items() if name != "instance"}


@by_every_way
@given(requests)
async def test_the_same_request(deployment: Deployment, sent: Sent) -> None:
    """Any request has the same outcome by every way."""
    assert_same(await outcomes_of(deployment, sent, answer(200, TOKEN)))


@by_every_way
@given(good, replies)
async def test_the_same_answer(deployment: Deployment, sent: Sent, reply: bytes) -> None:
    """Any answer of the auth-api has the same outcome by every way."""
    assert_same(await outcomes_of(deployment, sent, reply))


@pytest.mark.soak
@settings(by_every_way, max_examples=20_000)
@given(requests)
async def test_a_hundred_thousand_requests(deployment: Deployment, sent: Sent) -> None:
    """The same, for 20,000 requests that are sent in five ways."""
    assert_same(await outcomes_of(deployment, sent, answer(200, TOKEN)))


@pytest.mark.soak
@settings(by_every_way, max_examples=1500)
@given(good, replies)
async def test_the_same_answer_for_long(deployment: Deployment, sent: Sent, reply: bytes) -> None:
    """Many more answers of the auth-api have the same outcome by every way."""
    assert_same(await outcomes_of(deployment, sent, reply))
