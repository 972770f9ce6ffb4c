"""The SDK of OpenTelemetry with its exporter by OTLP/HTTP, configured by OTEL_* variables."""

import logging
import uuid
from collections.abc import Callable
from importlib.metadata import version

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sidecar.spans import Tracer
from sidecar.telemetry.tracing.delivery import Delivery, SeldomHandler
from sidecar.telemetry.tracing.exporter import Exporter
from sidecar.telemetry.tracing.tracer import OtelTracer


def start(endpoint: str) -> tuple[Tracer, Callable[[], None]]:
    """Return a tracer whose spans are sent to `endpoint`, and the function that ends it.

    Spans wait in a bounded queue and are sent by a daemon thread of the SDK. The global
    tracer provider is not set, so no other library makes spans. Raises ValueError for
    variables that the SDK does not accept.
    """
    # The end of the process must not wait for the collector: `setup` bounds that.
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    exporter = Exporter(endpoint, Delivery(endpoint))
    _quieten()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracer(provider.get_tracer("sidecar", _version())), provider.shutdown


def _version() -> str:
    return version("karmo-sidecar")


def _resource() -> Resource:
    """Return what the spans say of this process: our defaults, below OTEL_* variables.

    The detectors of the SDK are not asked: one of them sends the command line, which may have
    a secret in a URL.
    """
    ours = {
        "service.name": "karmo-sidecar",
        "service.version": _version(),
        "service.instance.id": str(uuid.uuid4()),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": version("opentelemetry-sdk"),
    }
    return Resource(ours).merge(OTELResourceDetector().detect())


def _quieten() -> None:
    """Let the libraries' own lines pass seldom, and those of the exporter never.

    `Delivery` says what the exporter says, with the fault and without a line per batch.
    """
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [SeldomHandler()]
    logger.propagate = False
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
