"""What operators see of streams of responses: spans and durations."""

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from sidecar.telemetry.metrics.durations import Durations
from tests.faults.conditions import eventually
from tests.faults.wire import reset
from tests.rest.streaming import ask, serving
from tests.scraped import Scrape
from tests.telemetry.tracing.collector import needs_the_extra

# By the name in the request: its status, the code of the RPC, and the error of either span.
SEEN: Mapping[str, tuple[int, str, str | None]] = {
    "/v1/watch/two": (200, "OK", None),
    "/v1/watch/fail": (200, "INTERNAL", "INTERNAL"),
    "/v1/files/fail": (200, "INTERNAL", "INTERNAL"),
    "/v1/watch/fail at once": (500, "INTERNAL", "INTERNAL"),
    "/v1/watch/deny": (200, "PERMISSION_DENIED", None),
    "/v1/watch/wait": (200, "CANCELLED", None),
}


@pytest.mark.parametrize("path", SEEN)
async def test_spans_of_a_stream(path: str) -> None:
    """A stream that fails in band is an error in both of its spans, though its status is 200."""
    needs_the_extra()
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 of the extra
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415 as above
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415 as above
        InMemorySpanExporter,
    )

    from sidecar.telemetry.tracing.tracer import OtelTracer  # noqa: PLC0415 as above

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with serving(tracer=OtelTracer(provider.get_tracer("test"))) as scene:
        client = await scene.connect(ask(path.replace(" ", "%20")))
        await client.head()
        if path.endswith("wait"):
            await client.chunk()
            reset(client.writer)
        await eventually(lambda: len(spans.get_finished_spans()) == 2)
    status, code, error = SEEN[path]
    ended = spans.get_finished_spans()
    attributes = {name: value for span in ended for name, value in (span.attributes or {}).items()}
    assert attributes["http.response.status_code"] == status
    assert attributes["rpc.response.status_code"] == code
    assert [span.status.status_code is StatusCode.ERROR for span in ended] == [bool(error)] * 2
    assert [(span.attributes or {}).get("error.type") for span in ended] == [error] * 2


@pytest.mark.parametrize("path", SEEN)
async def test_durations_of_a_stream(path: str) -> None:
    """The histogram has a stream when it ends, with the reason of its failure beside its 200."""
    registry = CollectorRegistry()
    observed: list[Mapping[str, Any]] = []
    durations = Durations(registry)

    def observe(notes: Mapping[str, Any], seconds: float) -> None:
        durations.observe_rest(notes, seconds)
        observed.append(notes)

    async with serving(observe=observe) as scene:
        client = await scene.connect(ask(path.replace(" ", "%20")))
        await client.head()
        if path.endswith("wait"):
            await client.chunk()
            assert observed == []
            reset(client.writer)
        await eventually(lambda: bool(observed))
    status, _, error = SEEN[path]
    labels = {
        "http_request_method": "GET",
        "http_route": path.rpartition("/")[0] + "/{name}",
        "http_response_status_code": str(status),
        "error_type": "ACCESS_DENIED" if path.endswith("deny") else error or "",
    }
    page = Scrape.of(generate_latest(registry).decode())
    assert page.value("http_server_request_duration_seconds_count", **labels) == 1
