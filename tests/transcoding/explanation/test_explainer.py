"""Tests of explanations: they say of every request what a transcoder does with it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from sidecar.in_process import InProcessChannel
from sidecar.transcoding import (
    JsonFormat,
    Options,
    RequestError,
    SchemaError,
    Transcoder,
    Violation,
    strict_json,
)
from sidecar.transcoding.errors import MethodNotAllowedError, Violations
from sidecar.transcoding.explanation.bindings import Binding
from sidecar.transcoding.explanation.explainer import Explainer, Explanation
from sidecar.transcoding.explanation.http_request import HttpRequest
from sidecar.transcoding.protojson.location import Location
from sidecar.transcoding.protojson.reader import JsonReader
from tests.properties import many
from tests.transcoding import echo
from tests.transcoding.asgi import Exchange
from tests.transcoding.cases.case import JSON, Case
from tests.transcoding.library import method, post, service
from tests.transcoding.test_envoy import CASES

SERVICES = [echo.find_service(name) for name in (echo.RULES, echo.PARTS)]
OPTIONS = (
    Options(metadata_headers=frozenset({"x-tag", "x-data-bin"})),
    Options(
        ignore_unknown=True,
        ignore_duplicates=True,
        ignore_accept=True,
        # The format of responses does not matter for requests.
        json_format=JsonFormat(
            enum_numbers=True, proto_names=True, omit_defaults=True, int64_numbers=True
        ),
    ),
)
EXPLAINERS = {options: Explainer(dict.fromkeys(SERVICES, options)) for options in OPTIONS}
EXPLAINER = EXPLAINERS[OPTIONS[0]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a transcoder did with a request; for a call `message` is JSON.

    `route` is the template of the rule that took it.
    """

    route: str | None = None
    status: int | None = None
    detail: str = ""
    violations: tuple[Violation, ...] = ()
    method: str = ""
    message: object = None


class Server:
    """A transcoder with `options`, in front of a service in process that answers every call."""

    def __init__(self, options: Options) -> None:
        self._handler = echo.Echo()
        self._errors: list[RequestError | Status] = []
        channel = InProcessChannel()
        channel.add_generic_rpc_handlers((self._handler,))
        self._transcoder = Transcoder(SERVICES, channel, options=options, render_error=self._render)

    async def serve(self, case: Case) -> Verdict:
        """Return what the transcoder does with the request of `case`."""
        self._handler.calls.clear()
        self._errors.clear()
        answer = await exchange_of(case).run(self._transcoder)
        taken = Verdict(route=answer.scope.get("transcoding.route"))
        if self._handler.calls:
            (call,) = self._handler.calls
            return replace(taken, method=call.method, message=call.message)
        match self._errors:
            case [MethodNotAllowedError() as error]:  # the path has a template, but no rule
                return Verdict(status=error.status, detail=error.detail)
            case [RequestError() as error]:
                return replace(
                    taken, status=error.status, detail=error.detail, violations=error.violations
                )
            case [Status()]:  # no error of a request: Fail was called, and failed
                return replace(taken, method="Fail")
        return Verdict(status=answer.status)  # OPTIONS

    def _render(self, _request: Request, error: RequestError | Status) -> Response:
        self._errors.append(error)
        return Response()


SERVERS = {options: Server(options) for options in OPTIONS}


def exchange_of(case: Case) -> Exchange:
    """Return the request of `case` as a server delivers it."""
    path, _, query = case.target.partition("?")
    length = [("Content-Length", str(len(case.body)))] if case.body else []
    return Exchange(
        method=case.method,
        path=path,
        query=query.encode(),
        headers=[*case.headers, *length],
        chunks=(case.body or b"",),
    )


def told(explanation: Explanation) -> Verdict:
    """Return the verdict in an explanation. Its message is made of the bindings alone."""
    rule = explanation.rule
    route = rule.template.text if rule else None
    if explanation.status is None:
        assert rule
        message = rebuilt(explanation.bindings, rule.method)
        return Verdict(route=route, method=rule.method.name, message=message)
    return Verdict(
        route=route,
        status=explanation.status,
        detail=explanation.detail,
        violations=explanation.violations,
    )


def rebuilt(bindings: Sequence[Binding], method_: MethodDescriptor) -> object:
    """Return the message that has the values of `bindings`, as JSON."""
    tree: Any = {}
    for binding in bindings:
        *parents, leaf = binding.field.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = binding.value
    value = strict_json.parse(json.dumps(tree.get("", tree)).encode())
    violations = Violations()
    read = JsonReader().message(method_.input_type)(value, Location(), violations)
    assert violations == []
    return echo.to_json(
        read if isinstance(read, Message) else GetMessageClass(method_.input_type)(**read)
    )


def requested(case: Case) -> HttpRequest:
    """Return the request of a case. Raises ValueError if a command line cannot have it."""
    return HttpRequest(
        method=case.method, target=case.target, headers=case.headers, body=case.body or b""
    )


async def compare(case: Case, options: Options) -> None:
    """Assert that the explanation of a request is what a transcoder does with it."""
    explanation = await EXPLAINERS[options].explain(requested(case))
    verdict = await SERVERS[options].serve(case)
    shown = told(explanation)
    if verdict.method == "Fail":
        shown = replace(shown, message=None)
    assert shown == verdict


def is_possible(case: Case) -> bool:
    """Whether a command line can have the request of a case."""
    try:
        requested(case)
    except ValueError:
        return False
    return True


POSSIBLE = [case for case in CASES if is_possible(case)]


@pytest.mark.parametrize("options", OPTIONS, ids=["strict", "lenient"])
async def test_every_case_is_explained(options: Options) -> None:
    """Status, violations and message of each case are those of a transcoder that serves it."""
    assert len(POSSIBLE) > 0.95 * len(CASES)
    for case in POSSIBLE:
        await compare(case, options)


some = st.sampled_from(POSSIBLE)
suffixes = st.sampled_from(["", "/", "//", ":archive", ":x", "/a", "?name=a&nope=%", "&theme=b"])
fields = st.lists(
    st.sampled_from(
        [("Content-Type", JSON), ("Accept", "text/html"), ("X-Tag", "a"), ("X-Data-Bin", "!")]
    ),
    max_size=2,
)


@settings(many, max_examples=150)
@given(some, some, some, suffixes, fields, st.sampled_from(OPTIONS))
def test_a_random_request_is_explained(
    one: Case,
    other: Case,
    third: Case,
    suffix: str,
    headers: list[tuple[str, str]],
    options: Options,
) -> None:
    """The same is true of the method of a case with the path of another and the body of a third."""
    case = replace(
        one,
        target=other.target + suffix,
        headers=(*third.headers, *headers),
        body=third.body,
    )
    asyncio.run(compare(case, options))


def request(line: str, body: str = "", **headers: str) -> HttpRequest:
    """Return a request by method and target, with a body in JSON if there is one."""
    method_, target = line.split(" ")
    own = {"Content-Type": JSON} if body else {}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest(
        method=method_, target=target, headers=tuple((own | named).items()), body=body.encode()
    )


async def test_a_call() -> None:
    """A call has its rule, each value with its source, its metadata and its timeout."""
    explanation = await EXPLAINER.explain(
        request("PATCH /v1/shelves/a%20b", '{"theme":"t"}', X_Tag="canary", grpc_timeout="5S")
    )
    assert explanation.rule
    assert explanation.rule.method.name == "UpdateShelf"
    assert explanation.bindings == (
        Binding(field="name", value="a b", source="path"),
        Binding(field="theme", value="t", source="body"),
    )
    assert explanation.metadata == (("x-tag", "***"),)
    assert explanation.call is not None
    assert explanation.call.metadata == (("x-tag", "canary"),)
    assert explanation.timeout == pytest.approx(5, abs=1)
    assert not explanation.is_refused


async def test_the_query_is_a_source() -> None:
    """A value of the query is told as such, and one of the path even if it is a default."""
    explanation = await EXPLAINER.explain(request("GET /v1/files?theme=t"))
    assert explanation.bindings == (
        Binding(field="name", value="", source="path"),
        Binding(field="theme", value="t", source="query"),
    )


async def test_what_options_allow_is_ignored() -> None:
    """A violation that only the options of the service allow is listed, and does not refuse."""
    explanation = await EXPLAINERS[OPTIONS[1]].explain(
        request("PUT /v1/shelves/a?nope=1", '{"theme":"t","more":1}')
    )
    assert explanation.status is None
    assert [(each.parameter, each.pointer) for each in explanation.ignored] == [
        ("nope", None),
        (None, "/more"),
    ]


async def test_repeated_parameters_are_ignored() -> None:
    """A value that a later one replaces is listed as ignored."""
    explanation = await EXPLAINERS[OPTIONS[1]].explain(request("GET /v1/files?theme=a&theme=b"))
    assert explanation.bindings[-1].value == "b"
    (ignored,) = explanation.ignored
    assert ignored.detail == "theme in the query must be given once only."


async def test_what_is_refused_is_not_ignored() -> None:
    """A violation is listed once: as a reason, or as ignored."""
    explanation = await EXPLAINERS[OPTIONS[1]].explain(
        request("PUT /v1/shelves/a?theme=1", '{"theme":1,"more":1}')
    )
    assert [each.pointer for each in explanation.violations] == [None, "/theme"]
    assert [each.pointer for each in explanation.ignored] == ["/more"]


@pytest.mark.parametrize(
    ("line", "status", "allow", "is_refused"),
    [
        ("DELETE /v1/shelves", 405, "GET, HEAD, POST, OPTIONS", True),
        ("OPTIONS /v1/shelves", 204, "GET, HEAD, POST, OPTIONS", False),
    ],
)
async def test_other_methods(line: str, status: int, allow: str, is_refused: bool) -> None:
    """405 and the response to OPTIONS name the methods; only the first is a refusal."""
    explanation = await EXPLAINER.explain(request(line))
    assert (explanation.status, explanation.rule) == (status, None)
    assert explanation.headers == {"Allow": allow}
    assert explanation.is_refused is is_refused


async def test_a_deadline_that_has_passed() -> None:
    """A timeout of nothing is refused before the call, with the status of its gRPC code."""
    explanation = await EXPLAINER.explain(request("GET /v1/shelves", grpc_timeout="0n"))
    assert (explanation.status, explanation.rule is not None) == (504, True)
    assert explanation.detail == "The gRPC status is DEADLINE_EXCEEDED."


async def test_an_unknown_path_has_near_rules() -> None:
    """Only for a path that no rule serves are there near rules."""
    explanation = await EXPLAINER.explain(request("GET /v1/scalars/int32/"))
    assert explanation.status == 404
    assert explanation.nearest
    assert (await EXPLAINER.explain(request("GET /v1/shelves"))).nearest == ()
    assert (await EXPLAINER.explain(request("GET /v1/shelves/%zz"))).nearest == ()


async def test_methods_that_are_not_served() -> None:
    """A request of a method that is not served has its rule, not one for more paths."""
    library = service(
        method("Get", HttpRule(get="/{name=**}")),
        method("Feed", HttpRule(get="/v1/feed"), streams="client"),
        method("Bad", HttpRule(get="/v1/{nope}:bad")),
        method("Same", HttpRule(get="/{theme=**}"), streams="client"),
    )
    bad = f"{library.full_name}.Bad"
    explainer = Explainer({library: Options(unserved_methods=frozenset({bad}))})
    for line, name in (("GET /v1/feed", "Feed"), ("GET /v1/a:bad", "Bad")):
        explanation = await explainer.explain(request(line))
        assert (explanation.status, explanation.bindings) == (501, ())
        assert explanation.rule is not None
        assert explanation.rule.method.name == name
    # Not Same, whose requests another rule serves.
    assert [rule.method.name for rule in explainer.rules] == ["Get", "Feed", "Bad"]


async def test_header_values_are_masked() -> None:
    """Any header may hold a secret, so only the values of a few are shown as metadata."""
    shown = {"accept-language": "da", "traceparent": "00-a-b-01", "x-request-id": "r"}
    masked = ("authorization", "cookie", "x-api-key", "x-tag", "x-data-bin")
    library = service(method("Do", post("/v1")))
    explainer = Explainer({library: Options(metadata_headers=frozenset({*shown, *masked}))})
    explanation = await explainer.explain(
        request("POST /v1", "{}", **shown, **dict.fromkeys(masked, "canary99"))
    )
    assert dict(explanation.metadata) == {**shown, **dict.fromkeys(masked, "***")}


async def test_the_application_around_the_transcoder() -> None:
    """A request that another route of the application takes has no rule, though one matches."""

    async def show(_request: Request) -> Response:
        return PlainTextResponse("a page")

    library = service(method("Do", HttpRule(get="/{name=**}")))
    explainer = Explainer(
        {library: Options()},
        mount=lambda transcoder: Router([Route("/page", show)], default=transcoder),
    )
    page = await explainer.explain(request("GET /page"))
    assert (page.status, page.rule, page.headers, page.is_refused) == (200, None, {}, False)
    call = await explainer.explain(request("GET /other"))
    assert (call.status, call.rule) == (None, explainer.rules[0])


STREAMS = service(
    method("Watch", HttpRule(get="/v1/watch/{name}"), streams="server"),
    method("Feed", post("/v1/feed"), streams="client"),
    method("Talk", HttpRule(get="/v1/talk/{name}"), streams="client server"),
    method("Again", HttpRule(get="/v1/watch/{theme}"), streams="client"),  # never reached
    method("Get", HttpRule(get="/v1/{name=**}")),
    method("Do", HttpRule(post="/v1/{name=**}", body="*")),
)


@pytest.mark.parametrize(
    ("line", "accept", "taken_by", "status"),
    [
        ("GET /v1/watch/a", "", "Watch", None),
        ("HEAD /v1/watch/a", "", "Watch", None),
        ("GET /v1/watch/a", "text/event-stream", "Watch", None),
        ("GET /v1/watch/a", "text/html", "Watch", 406),
        ("GET /v1/watch/a?nope=1", "", "Watch", 400),
        ("POST /v1/feed", "", "Feed", 501),
        ("GET /v1/feed", "", "Get", None),
        ("GET /v1/talk/a", "text/event-stream", "Talk", 501),
        ("POST /v1/talk/a", "", "Do", None),
        ("DELETE /v1/feed", "", None, 405),
    ],
)
async def test_streams(line: str, accept: str, taken_by: str | None, status: int | None) -> None:
    """A stream of responses is called; one of requests keeps its route, and is refused by it."""
    explanation = await Explainer({STREAMS: Options()}).explain(request(line, accept=accept))
    rule = explanation.rule
    assert (rule and rule.method.name, explanation.status) == (taken_by, status)
    if status == 501:
        assert explanation.detail == "This method takes a stream of requests. Call it by gRPC."


async def test_all_routes_are_there() -> None:
    """The rules are all that take requests, also to refuse them; and they can be near a path."""
    explainer = Explainer({STREAMS: Options()})
    names = [rule.method.name for rule in explainer.rules]
    assert names == ["Watch", "Get", "Do", "Feed", "Talk"]
    alone = Explainer({service(method("Feed", post("/v1/feed"), streams="client")): Options()})
    explanation = await alone.explain(request("POST /v1/feed/"))
    assert [near.rule.method.name for near in explanation.nearest] == ["Feed"]


def test_a_wrong_schema() -> None:
    """Rules that cannot be served are an error, as for the transcoder."""
    with pytest.raises(SchemaError, match="nope"):
        Explainer({service(method("Do", post("/v1/{nope}"))): Options()})
