"""Tests of explanations as text."""

from dataclasses import replace

import pytest
from google.api.http_pb2 import HttpRule

from sidecar.transcoding import Options, Violation
from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.explanation.bindings import Binding
from sidecar.transcoding.explanation.explainer import Explainer, Explanation
from sidecar.transcoding.explanation.http_request import HttpRequest
from sidecar.transcoding.explanation.nearest import Near
from sidecar.transcoding.explanation.report import describe, list_routes
from sidecar.transcoding.rules import read_rules
from tests.transcoding.library import method, post, service

LIBRARY = service(
    method("Get", HttpRule(get="/v1/shelves/{name}", response_body="shelf")),
    method("Do", post("/v1/shelves")),
    method("Set", HttpRule(put="/v1/receipts", body="shelf"), takes="Receipt"),
    method("Any", HttpRule(custom={"kind": "*", "path": "/v1/any"})),
)
RULES = read_rules([LIBRARY], SchemaViolations())


def test_list_routes() -> None:
    """Each rule has a line with all of its parts, and each page one after them."""
    pages = [("GET, HEAD", "/docs")]
    assert list(list_routes(RULES, pages)) == [
        "METHOD     PATH                SERVED BY               BODY   RESPONSE",
        "GET        /v1/shelves/{name}  library.v1.Library/Get  -      shelf",
        "POST       /v1/shelves         library.v1.Library/Do   *      *",
        "PUT        /v1/receipts        library.v1.Library/Set  shelf  *",
        "*          /v1/any             library.v1.Library/Any  -      *",
        "GET, HEAD  /docs               page                    -      -",
    ]


@pytest.mark.parametrize(
    ("streams", "cells"),
    [
        ("server", "-     stream of shelf"),
        ("client", "stream of -  501"),
        ("client server", "stream of -  501"),
    ],
)
def test_a_stream_is_listed_as_one(streams: str, cells: str) -> None:
    """A stream is shown as one; with a stream of requests the response is 501."""
    library = service(method("Watch", streams=streams))
    rule = replace(RULES[0], method=library.methods_by_name["Watch"])
    assert list(list_routes([rule]))[1].endswith(f"library.v1.Library/Watch  {cells}")


def test_what_is_not_served_is_listed_as_such() -> None:
    """The response of a method that is left out, or that takes a stream, is 501."""
    left_out = replace(RULES[1], is_served=False)
    feed = replace(RULES[1], method=service(method("Feed", streams="client")).methods[0])
    lines = list(list_routes([left_out, feed]))[1:]
    assert lines[0].endswith("library.v1.Library/Do    *            501")
    assert lines[1].endswith("library.v1.Library/Feed  stream of *  501")


def test_no_route() -> None:
    """Without routes there is only the head of the table."""
    assert list(list_routes([])) == ["METHOD  PATH  SERVED BY  BODY  RESPONSE"]


async def test_a_call() -> None:
    """A call is described by its rule, its values and its metadata."""
    options = Options(
        metadata_headers=frozenset({"x-request-id", "x-data-bin"}), ignore_unknown=True
    )
    request = HttpRequest(
        method="POST",
        target="/v1/shelves?nope=1",
        headers=(
            ("Content-Type", "application/json"),
            ("X-Request-Id", "v"),
            ("X-Data-Bin", "AAE="),
            ("grpc-timeout", "1H"),
        ),
        body='{"name":"é","theme":"\\u009b\\n","more":1}'.encode(),
    )
    explanation = await Explainer({LIBRARY: options}).explain(request)
    assert list(describe(replace(explanation, timeout=1.5))) == [
        "result    the method would be called; the service can still refuse the values",
        "rule      POST /v1/shelves, body: *",
        "method    library.v1.Library/Do",
        'field     name = "é" from the body',
        r'field     theme = "\u009b\n" from the body',
        "metadata  x-request-id: v",
        "metadata  x-data-bin: ***",
        "timeout   1.5 s",
        "ignored   nope in the query must be the name of a field.",
        "ignored   The body has a member that is not the name of a field. (/more)",
    ]


def test_a_refusal() -> None:
    """A refusal has a line for each violation, or its detail if there is none."""
    refusal = Explanation(
        rule=RULES[1],
        status=400,
        detail="One. Two.",
        violations=(
            Violation(detail="One.", pointer="/a"),
            Violation(detail="Two.", parameter="b"),
            Violation(detail="Three.", pointer=""),
        ),
    )
    assert list(describe(refusal)) == [
        "result    refused: 400 Bad Request",
        "rule      POST /v1/shelves, body: *",
        "method    library.v1.Library/Do",
        "reason    One. (/a)",
        "reason    Two.",
        "reason    Three.",
    ]


@pytest.mark.parametrize(
    ("status", "phrase"), [(413, "Content Too Large"), (499, "Client Closed Request")]
)
def test_a_status_has_the_phrase_of_its_problem(status: int, phrase: str) -> None:
    """The phrase of a status is the title that the problem has, with every version of Python."""
    lines = list(describe(Explanation(rule=None, status=status)))
    assert lines == [f"result    refused: {status} {phrase}"]


def test_a_path_that_no_rule_serves() -> None:
    """The near rules follow the reason."""
    nearest = (Near(rule=RULES[0], difference="the path is in another case"),)
    explanation = Explanation(rule=None, status=404, detail="No.", nearest=nearest)
    assert list(describe(explanation)) == [
        "result    refused: 404 Not Found",
        "reason    No.",
        "nearest   GET /v1/shelves/{name} (the path is in another case)",
    ]


def test_a_response_without_a_call() -> None:
    """What is answered without a call is no refusal."""
    explanation = Explanation(rule=None, status=204, headers={"Allow": "GET"})
    assert list(describe(explanation)) == [
        "result    answered without a call: 204 No Content",
        "header    Allow: GET",
    ]


def test_a_message_that_is_one_value() -> None:
    """A message without fields of its own is shown whole."""
    bindings = (Binding(field="", value=[1], source="body"),)
    explanation = Explanation(rule=RULES[1], status=None, bindings=bindings)
    assert "field     message = [1] from the body" in list(describe(explanation))
