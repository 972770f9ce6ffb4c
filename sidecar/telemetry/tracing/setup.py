"""Turns tracing on as the standard OTEL_* variables say, and ends it.

The packages of OpenTelemetry are imported only if tracing is on.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from sidecar import logs
from sidecar.process import daemon_thread
from sidecar.spans import Endpoint, Tracer

_DEFAULT_ENDPOINT = "http://localhost:4318"


class Tracing:
    """The tracer, if tracing is on, and the end of the export.

    `shut_down` sends the spans that wait, which may take any time.
    """

    def __init__(self, tracer: Tracer | None, shut_down: Callable[[], None]) -> None:
        self.tracer = tracer
        self._shut_down = shut_down
        self._ending: asyncio.Task[None] | None = None
        self._begun_at = 0.0

    def finish(self) -> None:
        """Begin to send the spans that wait, in a thread. No call may follow."""
        if self.tracer is not None and self._ending is None:
            self._begun_at = asyncio.get_running_loop().time()
            self._ending = asyncio.create_task(daemon_thread.run(self._shut_down))

    async def finished(self, within: float) -> None:
        """Wait until the spans are sent, until `within` seconds after `finish` at most."""
        self.finish()
        if self._ending is None:
            return
        try:
            async with asyncio.timeout_at(self._begun_at + within):
                await self._ending
        except TimeoutError:
            logs.warning("traces lost", reason="the collector was too slow at the end")
        except Exception as error:  # noqa: BLE001 the shutdown must go on
            logs.failure("traces lost", error)


def start(environ: Mapping[str, str] = os.environ) -> Tracing:
    """Return tracing as `environ` says: on only if an exporter or an endpoint is set.

    If it cannot be on, one line says why, and the sidecar serves without it.
    """
    off = Tracing(None, lambda: None)
    if not _is_wanted(environ):
        return off
    endpoint = _endpoint_of(environ)
    fault = _fault_of(environ, endpoint)
    if fault is None:
        try:
            from sidecar.telemetry.tracing import provider  # noqa: PLC0415 it brings OpenTelemetry

            tracing = Tracing(*provider.start(endpoint))
        except ModuleNotFoundError:
            fault = "the extra otel is not installed"
        except Exception as error:  # noqa: BLE001 its text may quote a variable
            fault = f"a variable is wrong: {type(error).__name__}"
        else:
            logs.event("traces on", endpoint=Endpoint.of(endpoint).url)
            return tracing
    logs.warning("traces off", reason=fault)
    return off


def _is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether OTEL_TRACES_EXPORTER, or without it an endpoint, asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(environ.get(name) for name in endpoints)


def _endpoint_of(environ: Mapping[str, str]) -> str:
    """Return the URL for traces: its own variable has no path added, the common one has."""
    own = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT_ENDPOINT
    return own or f"{base.removesuffix('/')}/v1/traces"


def _fault_of(environ: Mapping[str, str], endpoint: str) -> str | None:
    """Return why the variables cannot be obeyed, or None. The reason quotes no value."""
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in ("", "otlp"):
        return "OTEL_TRACES_EXPORTER must be otlp or none"
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((environ[name] for name in names if environ.get(name)), "http/protobuf")
    if protocol.strip().lower() != "http/protobuf":
        return "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"
    with suppress(ValueError):
        parts = urlsplit(endpoint)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return None
    return "OTEL_EXPORTER_OTLP_ENDPOINT must be an http:// or https:// URL"
