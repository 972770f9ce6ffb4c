"""Tests of the histograms and of the measurement of the event loop."""

import asyncio
import time

from prometheus_client import CollectorRegistry, generate_latest

from sidecar.telemetry.metrics import loop_lag
from sidecar.telemetry.metrics.series import BUCKETS, MAX_CHILDREN, Series
from tests.scraped import Scrape


def series(registry: CollectorRegistry) -> Series:
    """Return a histogram of two labels."""
    return Series("some_seconds", "Some.", ("a", "b"), registry)


def page_of(registry: CollectorRegistry) -> Scrape:
    """Return what `registry` has observed."""
    return Scrape.of(generate_latest(registry).decode())


def test_values_become_labels() -> None:
    """Numbers are written as texts, None as an empty one; equal values are one series."""
    registry = CollectorRegistry()
    some = series(registry)
    for values in ((200, "x"), (200, "x"), (None, "x")):
        some.observe(0.002, *values)
    page = page_of(registry)
    assert page.value("some_seconds_count", a="200", b="x") == 2
    assert page.value("some_seconds_count", a="", b="x") == 1
    assert page.value("some_seconds_bucket", a="200", le="0.001") == 0
    assert page.value("some_seconds_bucket", a="200", le="0.0025") == 2
    assert (BUCKETS[0], BUCKETS[-1]) == (0.001, 10.0)


def test_a_series_begins_with_0() -> None:
    """Expected values show 0 observations before the first one, so that it is an increase."""
    registry = CollectorRegistry()
    some = series(registry)
    some.begin(None, "x")
    assert page_of(registry).value("some_seconds_count", a="", b="x") == 0
    some.observe(0.1, None, "x")
    assert page_of(registry).value("some_seconds_count", a="", b="x") == 1


def test_the_number_of_series_is_bounded() -> None:
    """Beyond the limit new values are one series, and the earlier ones go on."""
    registry = CollectorRegistry()
    some = series(registry)
    for number in range(2 * MAX_CHILDREN):
        some.observe(0.1, number, "x")
    some.observe(0.1, 0, "x")
    page = page_of(registry)
    counts = [one for one in page.series if one[0] == "some_seconds_count"]
    assert len(counts) == MAX_CHILDREN + 1
    assert page.value("some_seconds_count", a="0") == 2
    assert page.value("some_seconds_count", a="other", b="other") == MAX_CHILDREN
    assert len(some._children) == MAX_CHILDREN


async def test_a_late_loop_is_measured() -> None:
    """A loop that is blocked shows a lag as long as that; afterwards nothing is measured."""
    lags: list[float] = []
    measured = asyncio.Event()

    def observe(seconds: float) -> None:
        lags.append(seconds)
        measured.set()

    with loop_lag.measured(observe):
        time.sleep(2 * loop_lag.INTERVAL)  # noqa: ASYNC251 it blocks the loop
        await measured.wait()
        assert lags[0] >= 0.9 * loop_lag.INTERVAL
        measured.clear()
        await measured.wait()
    count = len(lags)
    await asyncio.sleep(1.5 * loop_lag.INTERVAL)
    assert len(lags) == count
