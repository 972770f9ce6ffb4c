"""The metrics of one sidecar: its histograms, its sources, and its page."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from starlette.routing import Route

from sidecar.metrics import loop_lag
from sidecar.metrics.durations import Durations
from sidecar.metrics.families import to_metrics
from sidecar.metrics.page import Collect, Page
from sidecar.metrics.series import Series
from sidecar.metrics.sources import Source


class Metrics:
    """Feed `durations`, and `add` the sources of further readings."""

    def __init__(self) -> None:
        # A registry of its own: two sidecars in one process have two.
        self._registry = CollectorRegistry()
        self._sources: list[Source] = []
        self.durations = Durations(self._registry)
        self._loop_lag = Series(
            "karmo_sidecar_loop_lag_seconds",
            "How late the event loop ran a timer.",
            (),
            self._registry,
        )
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def add(self, source: Source) -> None:
        """Read `source` for each scrape."""
        self._sources.append(source)

    @contextmanager
    def measuring_loop(self) -> Iterator[None]:
        """Measure the lag of the running loop in the context."""
        with loop_lag.measured(self._loop_lag.observe):
            yield

    def route(self) -> Route:
        """Return the route of the page."""
        return Page(self.snapshot).route()

    def snapshot(self) -> Collect:
        """Read the sources, in the event loop; the rest is done in the thread that renders."""
        readings = [reading for source in self._sources for reading in source()]

        def collect() -> Iterator[Metric]:
            yield from to_metrics(readings)
            yield from self._registry.collect()

        return collect
