"""Traces of the whole process, as a collector receives them over OTLP/HTTP."""

import asyncio
import base64
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from signal import SIGTERM
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from grpc.aio import AioRpcError
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.faults.conditions import eventually
from tests.faults.wire import held_port
from tests.patience import HANG
from tests.sidecar_process import ROOT, Sidecar, log_lines, serving
from tests.telemetry.tracing.collector import Collector, Span, needs_the_extra, resource_of
from tests.upstream import Upstream, answer

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{CALLER}-{flags}" for flags in ("01", "00"))
METHOD = "karmo.auth.v1.TokenService/ExchangeToken"
ROUTE = "POST /v1/oauth/token"
FORM = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}

pytestmark = pytest.mark.usefixtures("_extra", "measured")


@pytest.fixture(scope="module")
def _extra() -> None:
    needs_the_extra()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A sidecar between a scripted auth-api and a collector.

    The log has `before` lines of other tests.
    """

    before: int = 0
    sidecar: Sidecar
    upstream: Upstream
    collector: Collector
    rest: httpx2.AsyncClient
    channel: grpc.aio.Channel

    async def post(self, headers: Mapping[str, str] | None = None, **form: str) -> httpx2.Response:
        """Send a token request by REST."""
        return await self.rest.post("/v1/oauth/token", data=FORM | form, headers=headers)

    async def call(self, *metadata: tuple[str, str]) -> Any:
        """Send a token request by gRPC, with credentials in the message unless in `metadata`."""
        fields = FORM
        if "authorization" in dict(metadata):
            fields = {"grant_type": FORM["grant_type"]}
        stub = TokenServiceStub(self.channel)
        return await stub.ExchangeToken(
            ExchangeTokenRequest(**fields), metadata=metadata, timeout=HANG
        )

    def sent_upstream(self) -> list[str]:
        """Return the traceparent of each request to the auth-api."""
        found = [re.search(rb"(?i)\r\ntraceparent: (\S+)", data) for data in self.upstream.requests]
        return [match[1].decode() for match in found if match]

    def lines(self) -> list[dict[str, Any]]:
        """Return the records of the log so far."""
        return log_lines("".join(self.sidecar.log.seen[self.before :]))

    async def lines_of(self, message: str, *, count: int = 1) -> list[dict[str, Any]]:
        """Wait for `count` records with `message`; return all of them so far."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["message"] == message]

        await eventually(lambda: len(found()) >= count)
        return found()


@asynccontextmanager
async def scene(variables: Mapping[str, str] | None = None, **flags: str) -> AsyncIterator[Scene]:
    """Run a sidecar with OTEL_* `variables` on top of those that send spans at once."""
    async with Collector() as collector, Upstream() as upstream:
        url = flags.pop("auth_api_token_url", upstream.url)
        env = {**collector.variables, **(variables or {})}
        async with (
            serving("serve", env=env, cwd=ROOT, auth_api_token_url=url, **flags) as sidecar,
            httpx2.AsyncClient(
                base_url=f"http://{sidecar.addresses['rest']}", timeout=HANG, trust_env=False
            ) as rest,
            grpc.aio.insecure_channel(sidecar.addresses["grpc"]) as channel,
        ):
            yield Scene(
                sidecar=sidecar,
                upstream=upstream,
                collector=collector,
                rest=rest,
                channel=channel,
            )


@pytest_asyncio.fixture(scope="module", name="_shared")
async def _run_shared() -> AsyncIterator[Scene]:
    async with scene() as shared:
        yield shared


@pytest_asyncio.fixture(name="ours")
async def _clear(_shared: Scene) -> Scene:
    """Return the shared scene, without spans, lines and requests of the tests before."""
    marker = str(uuid.uuid4())
    headers = {"traceparent": UNSAMPLED, "X-Request-Id": marker}
    await _shared.rest.get("/problems", headers=headers)
    await _shared.sidecar.log.find(marker)  # the lines of the tests before stand above it
    _shared.upstream.reset()
    _shared.collector.requests.clear()
    return replace(_shared, before=len(_shared.sidecar.log.seen))


def traceparent_of(span: Span) -> str:
    """Return what the next server must receive."""
    # The flag "random" of level 2 says nothing of sampling.
    return f"00-{span.trace_id}-{span.span_id}-"


async def test_a_rest_call(ours: Scene) -> None:
    """Request, RPC and try are spans one below the other, in the caller's trace."""
    response = await ours.post({"traceparent": SAMPLED, "tracestate": "a=1,b=2"})
    assert response.status_code == 200
    spans = await ours.collector.wait_for(3)
    client, rpc, server = spans
    (line,) = await ours.lines_of("call")
    sent = ours.upstream.requests[0]
    assert [span.trace_id for span in spans] == [TRACE] * 3 == [line["trace_id"]] * 3
    assert [span.state for span in spans] == ["a=1,b=2"] * 3
    assert [span.is_error for span in spans] == [False] * 3
    assert (server.parent_id, rpc.parent_id, client.parent_id) == (
        CALLER,
        server.span_id,
        rpc.span_id,
    )
    assert f"traceparent: {traceparent_of(client)}01\r\n".encode() in sent
    assert b"tracestate: a=1,b=2\r\n" in sent
    assert (server.name, server.kind, server.attributes) == (
        ROUTE,
        "server",
        {
            "http.request.method": "POST",
            "url.scheme": "http",
            "http.route": "/v1/oauth/token",
            "http.response.status_code": 200,
        },
    )
    assert (rpc.name, rpc.kind, rpc.attributes) == (
        METHOD,
        "internal",
        {"rpc.system.name": "grpc", "rpc.method": METHOD, "rpc.response.status_code": "OK"},
    )
    port = int(ours.upstream.url.split(":")[2].split("/")[0])
    assert (client.name, client.kind, client.attributes) == (
        "POST",
        "client",
        {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "server.address": "127.0.0.1",
            "server.port": port,
            "url.full": ours.upstream.url,
        },
    )


async def test_a_grpc_call(ours: Scene) -> None:
    """The call is the server span; without a context it begins a trace, which the log names."""
    await ours.call()
    client, server = await ours.collector.wait_for(2)
    (line,) = await ours.lines_of("call")
    (sent,) = ours.sent_upstream()
    await ours.call(("traceparent", SAMPLED), ("tracestate", "a=1"))
    below = (await ours.collector.wait_for(4))[3]
    assert (server.name, server.kind, server.parent_id) == (METHOD, "server", "")
    assert server.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }
    assert client.parent_id == server.span_id
    assert client.trace_id == server.trace_id == line["trace_id"]
    assert sent.startswith(traceparent_of(client))
    assert int(sent[-2:], 16) & 1
    assert (below.trace_id, below.parent_id, below.state) == (TRACE, CALLER, "a=1")


async def test_a_second_try() -> None:
    """Each try has its own span, with the fault; the failed call is an error."""
    with held_port() as port:
        url = f"http://127.0.0.1:{port}/token"
        async with scene(auth_api_token_url=url) as ours:
            assert (await ours.post()).status_code == 503
            first, second, rpc, server = await ours.collector.wait_for(4)
    assert [span.kind for span in (first, second)] == ["client"] * 2
    assert [span.parent_id for span in (first, second)] == [rpc.span_id] * 2
    assert [span.attributes["error.type"] for span in (first, second)] == ["refused"] * 2
    resends = [span.attributes.get("http.request.resend_count") for span in (first, second)]
    assert resends == [None, 1]
    assert all(span.is_error for span in (first, second, rpc, server))
    assert rpc.attributes["rpc.response.status_code"] == "UNAVAILABLE"
    assert server.attributes["http.response.status_code"] == 503
    for span in (rpc, server):
        assert span.attributes["error.type"] == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize(
    ("reply", "status", "client_error", "server_error"),
    [
        (answer(401, {"error": "invalid_client"}), 401, "401", None),
        (answer(500, b""), 502, "bad_error", "UPSTREAM_BAD_ANSWER"),
        (answer(200, b"{"), 502, "bad_json", "UPSTREAM_BAD_ANSWER"),
    ],
    ids=["wrong secret", "upstream fails", "upstream babbles"],
)
async def test_a_failed_call(
    reply: bytes, status: int, client_error: str, server_error: str | None, ours: Scene
) -> None:
    """4xx is an error of the client span alone; 5xx and faults are errors of every span."""
    ours.upstream.reply = reply
    response = await ours.post()
    client, rpc, server = await ours.collector.wait_for(3)
    assert response.status_code == server.attributes["http.response.status_code"] == status
    assert (client.is_error, client.attributes["error.type"]) == (True, client_error)
    for span in (rpc, server):
        assert span.is_error is (server_error is not None)
        assert span.attributes.get("error.type") == server_error
    assert server.attributes["karmo.reason"] == (server_error or "INVALID_CLIENT")


async def test_a_caller_that_gives_up(ours: Scene) -> None:
    """A try that nobody waits for any more ends as cancelled."""
    ours.upstream.script = ours.upstream.hang
    call = asyncio.create_task(ours.call())
    await ours.upstream.received.wait()
    call.cancel()
    client, server = await ours.collector.wait_for(2)
    assert client.attributes["error.type"] == "cancelled"
    assert server.attributes["rpc.response.status_code"] == "CANCELLED"
    assert (client.is_error, server.is_error) == (True, False)


async def test_unsampled(ours: Scene) -> None:
    """What the caller does not sample is not exported, but passed on, and the log names it."""
    assert (await ours.post({"traceparent": UNSAMPLED})).status_code == 200
    await ours.call(("traceparent", UNSAMPLED))
    assert (await ours.post({"traceparent": SAMPLED})).status_code == 200
    spans = await ours.collector.wait_for(3)
    passed_on = ours.sent_upstream()
    lines = await ours.lines_of("call", count=3)
    assert len(spans) == 3  # those of the last call
    assert [line[:36] for line in passed_on] == [f"00-{TRACE}-"] * 3
    assert [line[-2:] for line in passed_on] == ["00", "00", "01"]
    assert [line["trace_id"] for line in lines] == [TRACE] * 3


async def test_requests_that_are_no_calls(ours: Scene) -> None:
    """Unknown paths and methods leave no text of the caller; health checks leave nothing."""
    empty: Callable[[bytes], bytes] = bytes
    await ours.channel.unary_unary("/grpc.health.v1.Health/Check", empty)(b"")
    await ours.rest.get("/canary?canary=1")
    await ours.rest.request("BREW", "/v1/oauth/token")
    await ours.rest.request("BREW", "/problems")
    with pytest.raises(AioRpcError):
        await ours.channel.unary_unary("/canary/Canary", empty)(b"")
    await ours.rest.get("/problems")
    spans = await ours.collector.wait_for(5)
    assert {span.name for span in spans} == {
        "GET",
        "HTTP /v1/oauth/token",
        "HTTP /problems",
        "grpc",
        "GET /problems",
    }
    assert b"canary" not in b"".join(ours.collector.requests)
    brew = next(span for span in spans if span.name == "HTTP /v1/oauth/token")
    assert brew.attributes["http.request.method"] == "_OTHER"
    assert brew.attributes["http.route"] == "/v1/oauth/token"  # though it is 405
    unknown = next(span for span in spans if span.name == "grpc")
    assert unknown.attributes["rpc.method"] == "_OTHER"
    assert unknown.attributes["rpc.response.status_code"] == "UNIMPLEMENTED"


async def test_no_canary() -> None:
    """Nothing of credentials, tokens, identifiers or other text of a caller is exported."""
    secret = base64.b64encode(b"canary-id:canary-secret").decode()
    headers = {
        "User-Agent": "canary",
        "X-Forwarded-For": "203.0.113.9",
        "Baggage": "canary=canary",
        "Tracestate": "canary",
        "X-Canary": "canary",
    }
    form = {"client_id": "canary-id", "client_secret": "canary-secret"}
    async with Upstream() as upstream:
        url = f"{upstream.url}?canary=canary"
        async with scene(auth_api_token_url=url, trusted_proxies="1") as ours:
            for reply in (
                answer(200, {"access_token": "canary", "token_type": "Bearer", "expires_in": 9}),
                answer(401, {"error": "invalid_client", "error_description": "canary"}),
                answer(500, b"canary"),
            ):
                upstream.reply = reply
                await ours.post(headers, **form)
                metadata = [(name.lower(), value) for name, value in headers.items()]
                with_header = (*metadata, ("authorization", f"Basic {secret}"))
                for sent in (metadata, with_header):
                    await asyncio.gather(ours.call(*sent), return_exceptions=True)
            spans = await ours.collector.wait_for(21)
    received = b"".join(ours.collector.requests)
    assert {span.kind for span in spans} == {"server", "internal", "client"}
    for needle in (b"canary", secret.encode(), b"203.0.113.9", b"partner"):
        assert needle not in received


async def test_what_the_variables_change() -> None:
    """Service name, resource, headers and sampler are those of the variables."""
    variables = {
        "OTEL_SERVICE_NAME": "token-exchange",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=5",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
    }
    async with scene(variables) as ours:
        await ours.post()
        await ours.post({"traceparent": SAMPLED})
        assert len(await ours.collector.wait_for(3)) == 3
        assert [line[-2:] for line in ours.sent_upstream()][1] == "01"
        assert not int(ours.sent_upstream()[0][-2:], 16) & 1
    data = ours.collector.requests[0]
    assert b"\r\nx-key: 5\r\n" in data
    resource = resource_of(data)
    assert resource["service.name"] == "token-exchange"
    assert resource["deployment.environment.name"] == "test"
    assert {"service.version", "service.instance.id", "telemetry.sdk.version"} <= resource.keys()


async def test_the_last_spans() -> None:
    """Spans that wait at the end are sent before the process ends."""
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    async with scene(variables) as ours:
        await ours.post()
        assert ours.collector.requests == []
    assert len(ours.collector.spans) == 3


# The collector fails


@pytest.mark.parametrize(("status", "retried"), [(500, False), (503, True)])
async def test_a_collector_that_answers_an_error(status: int, *, retried: bool) -> None:
    """Calls are served; one line says the fault, and one that spans arrive again."""
    # With a trusted proxy there is no line about clients that share an address.
    async with scene({"OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}, trusted_proxies="1") as ours:
        good, ours.collector.reply = ours.collector.reply, answer(status, b"canary")
        for _ in range(5):
            assert (await ours.post()).status_code == 200
            await ours.collector.next_request()
        ours.collector.reply = good
        await ours.post()
        await ours.sidecar.log.find("traces sent again")
        (line,) = await ours.lines_of("traces not sent")
        (again,) = await ours.lines_of("traces sent again")
        others = [line["message"] for line in ours.lines() if line["logger"] != "sidecar.access"]
    assert line["fault"] == f"status {status}"
    assert line["endpoint"] == f"{ours.collector.url}/v1/traces"
    assert line["level"] == "warning"
    assert again["lost_spans"] >= (0 if retried else 3)
    assert others == ["traces on", "serving", "traces not sent", "traces sent again"]


@pytest.mark.timing("the process waits for no answer of the collector, however slow it is")
@pytest.mark.parametrize("is_there", [False, True], ids=["refuses", "hangs"])
async def test_a_collector_that_cannot_be_reached(*, is_there: bool) -> None:
    """Calls are served, few lines are written, and the end does not wait for the collector."""
    hanging = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        hanging.set()
        await reader.read()

    with held_port() as port:
        variables = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
        if not is_there:
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        # A try takes longer than the test waits for the end.
        variables["OTEL_EXPORTER_OTLP_TIMEOUT"] = "600"
        async with scene(variables) as ours:
            ours.collector.script = hang
            for _ in range(20):
                assert (await ours.post()).status_code == 200
            if is_there:
                await hanging.wait()
            else:
                (line,) = await ours.lines_of("traces not sent")
                assert (line["fault"], line["lost_spans"]) == ("ConnectionError", 0)
            for _ in range(20):
                assert (await ours.post()).status_code == 200
            ours.sidecar.signal(SIGTERM)
            async with asyncio.timeout(20):
                end = await ours.sidecar.ended()
    foreign = [line for line in log_lines(end.stdout) if line["logger"].startswith("opentel")]
    assert [line["message"] for line in foreign] == ["Queue full, dropping %s."]
    messages = [line["message"] for line in log_lines(end.stdout)]
    assert messages.count("traces not sent") == (0 if is_there else 1)
    assert messages.count("traces lost") == 1
    assert messages.count("call") == 40
    assert (end.status, end.stderr) == (0, "")
