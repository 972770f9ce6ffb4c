"""A collector that speaks OTLP/HTTP, and what it has received."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Self

from tests.faults.conditions import GUARD
from tests.sidecar_process import go_without
from tests.upstream import answer, read_request

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KINDS = {1: "internal", 2: "server", 3: "client"}
# So that nobody waits for a batch.
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as it was received. Ids are hexadecimal, and empty if absent."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    is_error: bool
    attributes: Mapping[str, Any]


def needs_the_extra() -> None:
    """Skip the calling test, or fail it under CI=true, if the extra `otel` is not installed."""
    # The name of a missing parent package raises.
    has_it = find_spec("opentelemetry") and find_spec("opentelemetry.exporter")
    if not has_it or find_spec("opentelemetry.sdk") is None:
        go_without("the extra otel is not installed")


class Collector:
    """A collector that listens inside its context; `requests` are head and body of each.

    It answers with `reply`, or as `script` does.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.reply = answer(200, b"", "application/x-protobuf")
        self.script: Script | None = None
        self._more = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            data = await read_request(reader)
            async with self._more:
                self.requests.append(data)
                self._more.notify_all()
            if self.script is not None:
                await self.script(reader, writer)
            writer.write(self.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sidecar has ended
        finally:
            writer.close()

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of a sidecar that sends its spans here at once."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, **QUICK}

    async def wait_for(self, count: int) -> list[Span]:
        """Wait until there are `count` spans, and return all in the order of their end."""
        async with asyncio.timeout(GUARD), self._more:
            await self._more.wait_for(lambda: len(self.spans) >= count)
        return self.spans

    async def next_request(self) -> None:
        """Wait for one more request."""
        async with asyncio.timeout(GUARD), self._more:
            await self._more.wait()

    @property
    def spans(self) -> list[Span]:
        """The spans so far."""
        return [span for data in self.requests for span in parsed(data)]


def parsed(data: bytes) -> Iterator[Span]:
    """Yield the spans of one request."""
    for _, span in _export(data):
        yield Span(
            name=span.name,
            kind=KINDS[span.kind],
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            state=span.trace_state,
            is_error=span.status.code == 2,
            attributes=_attributes(span.attributes),
        )


def resource_of(data: bytes) -> Mapping[str, Any]:
    """Return the attributes of the process that sent a request with one resource."""
    resource, _ = next(_export(data))
    return _attributes(resource.attributes)


def _export(data: bytes) -> Iterator[tuple[Any, Any]]:
    """Yield each span of a request with its resource. Its form is OTLP/HTTP in protobuf."""
    from opentelemetry.proto.collector.trace.v1 import (  # noqa: PLC0415 in the extra
        trace_service_pb2,
    )

    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/traces HTTP/1.1\r\n")
    assert b"content-type: application/x-protobuf" in head.lower()
    for resource in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield resource.resource, span


def _attributes(pairs: Any) -> Mapping[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
