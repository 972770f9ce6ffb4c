"""The exporter of OpenTelemetry by OTLP/HTTP, which says by `Delivery` how it fares."""

from collections.abc import Mapping, Sequence

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from requests.adapters import HTTPAdapter

from sidecar.telemetry.tracing.delivery import Delivery


class Exporter(SpanExporter):
    """Sends spans to `endpoint`, with a second try where OTLP permits one."""

    def __init__(self, endpoint: str, delivery: Delivery) -> None:
        self._delivery = delivery
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(delivery))
        self._exporter = OTLPSpanExporter(endpoint, session=session)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send `spans`, which takes OTEL_EXPORTER_OTLP_TIMEOUT at most."""
        before = self._delivery.failures
        result = self._exporter.export(spans)
        if result is SpanExportResult.FAILURE:
            if self._delivery.failures == before:
                self._delivery.failed("no request")  # they are too large, or cannot be encoded
            self._delivery.lost(len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # it has no annotation


class _Adapter(HTTPAdapter):
    """Sends each request, and reports its outcome."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__()
        self._delivery = delivery

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send `request`. Raises what requests raises."""
        try:
            response = super().send(request, stream, timeout, verify, cert, proxies)
        except Exception as error:
            self._delivery.failed(type(error).__name__)
            raise
        if response.ok:
            self._delivery.succeeded()
        else:
            self._delivery.failed(f"status {response.status_code}")
        return response
