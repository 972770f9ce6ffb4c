"""The metrics of one sidecar: its histograms, its counts, and its page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from starlette.routing import Route

from sidecar.telemetry.counts import Counts
from sidecar.telemetry.metrics import loop_lag
from sidecar.telemetry.metrics.durations import Durations
from sidecar.telemetry.metrics.families import to_metrics
from sidecar.telemetry.metrics.page import Collect, Page
from sidecar.telemetry.metrics.readings import readings_of
from sidecar.telemetry.metrics.series import Series


class Metrics:
    """Feed `durations`, and serve the route."""

    def __init__(self) -> None:
        # A registry of its own: two sidecars in one process have two.
        self._registry = CollectorRegistry()
        self.durations = Durations(self._registry)
        self._loop_lag = Series(
            "karmo_sidecar_loop_lag_seconds",
            "How late the event loop ran a timer.",
            (),
            self._registry,
        )
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    @contextmanager
    def measuring_loop(self) -> Iterator[None]:
        """Measure the lag of the running loop in the context."""
        with loop_lag.measured(self._loop_lag.observe):
            yield

    def route(self, read: Callable[[], Counts]) -> Route:
        """Return the route of the page. `read` returns the counts of now."""
        return Page(lambda: self.collect(read())).route()

    def collect(self, counts: Counts) -> Collect:
        """Return a function that returns all metrics, with `counts`, for a thread to call."""

        def collect() -> Iterator[Metric]:
            yield from to_metrics(readings_of(counts))
            yield from self._registry.collect()

        return collect
