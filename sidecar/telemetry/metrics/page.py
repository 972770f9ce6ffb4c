"""The page of metrics: rendered in a thread beside the event loop, at a bounded rate.

A scrape waits for the next rendering and shares it with all that wait by then. So a scraper
that asks often, or one that does not read, takes no time from calls.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.process import daemon_thread
from sidecar.transcoding import media_type

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"
CONTENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        TEXT: f"{TEXT}; version=0.0.4; charset=utf-8",
        OPENMETRICS: f"{OPENMETRICS}; version=1.0.0; charset=utf-8",
    }
)
# Seconds between the end of a rendering and the next one.
PAUSE = 0.5
# Scrapes of one format that wait, at most. Connections must be left for the probes.
MAX_WAITING = 8
# A thread holds the interpreter for up to 5 ms. So a page is rendered in pieces of so many
# samples, with a pause in seconds after each, in which the event loop runs.
_PIECE, _BREATH = 50, 0.0005
_END = b"# EOF\n"

Collect = Callable[[], Iterable[Metric]]


class Page:
    """The page at `/metrics`.

    `snapshot` is called in the event loop. It returns a function that returns the metrics, and
    that is called in a thread.
    """

    def __init__(self, snapshot: Callable[[], Collect]) -> None:
        self._snapshot = snapshot
        self._turn = asyncio.Lock()
        self._next_turn = 0.0
        # Renderings that have not begun, by media type, and how many scrapes wait for each.
        self._due: dict[str, asyncio.Task[bytes]] = {}
        self._waiting: dict[str, int] = {}

    def route(self) -> Route:
        """Return the route of the page."""

        async def metrics(request: Request) -> Response:
            chosen = media_type.prefer(request.headers.getlist("accept"), (TEXT, OPENMETRICS))
            kind = chosen or TEXT
            headers = {
                "Content-Type": CONTENT_TYPES[kind],
                "Cache-Control": "no-store",
                "Vary": "Accept",
            }
            return Response(await self.scrape(kind), headers=headers)

        return Route("/metrics", metrics)

    async def scrape(self, kind: str) -> bytes:
        """Return the page of now as the media type `kind`. Raises HTTPException if too many wait.

        No page is older than the request for it.
        """
        if self._waiting.get(kind, 0) >= MAX_WAITING:
            detail = f"There must not be more than {MAX_WAITING} scrapes at once."
            raise HTTPException(503, detail, headers={"Retry-After": "1"})
        if kind not in self._due:
            self._due[kind] = asyncio.create_task(self._render(kind))
        self._waiting[kind] = self._waiting.get(kind, 0) + 1
        try:
            return await asyncio.shield(self._due[kind])
        finally:
            self._waiting[kind] -= 1

    async def _render(self, kind: str) -> bytes:
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(self._next_turn - loop.time())
            del self._due[kind]  # what comes from here on gets the next page
            try:
                return await daemon_thread.run(partial(render, self._snapshot(), kind))
            finally:
                self._next_turn = loop.time() + PAUSE


def render(collect: Collect, kind: str) -> bytes:
    """Return the metrics of `collect` as the media type `kind`, in pieces with pauses."""
    parts = []
    for metric in collect():
        for start in range(0, max(1, len(metric.samples)), _PIECE):
            piece = Metric(metric.name, metric.documentation, metric.type)
            piece.samples = metric.samples[start : start + _PIECE]
            text = _encode(piece, kind)
            parts.append(_without_head(text) if start else text)
            time.sleep(_BREATH)
    return b"".join(parts) + (_END if kind == OPENMETRICS else b"")


class _One(Collector):
    """A registry of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        yield self._metric


def _encode(metric: Metric, kind: str) -> bytes:
    one = _One(metric)
    if kind == OPENMETRICS:
        text: bytes = openmetrics.generate_latest(one, version="1.0.0")  # type: ignore[no-untyped-call] # it has no annotations
        return text.removesuffix(_END)
    return generate_latest(one)


def _without_head(text: bytes) -> bytes:
    """Return `text` without its lines of HELP and TYPE, which come first."""
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"# "))
