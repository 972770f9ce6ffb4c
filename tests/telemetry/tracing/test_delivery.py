"""Tests of the log lines about the delivery of spans."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sidecar.telemetry.tracing.delivery import INTERVAL, Delivery, SeldomHandler
from tests.auth_api.clock import Clock
from tests.recorded import recorded
from tests.telemetry.tracing.collector import needs_the_extra


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test sets."""
    return Clock()


def test_a_lasting_failure(clock: Clock) -> None:
    """The first failure has a line, the next line comes after the interval, with the loss."""
    delivery = Delivery("http://user:canary@a:1/b?canary", clock)
    with recorded() as log:
        for _ in range(100):
            delivery.failed("ConnectionError")
            delivery.lost(3)
        clock.pass_(INTERVAL)
        delivery.failed("status 500")
        assert [(line["fault"], line["lost_spans"]) for line in log.entries] == [
            ("ConnectionError", 0),
            ("status 500", 300),
        ]
        assert {line["endpoint"] for line in log.entries} == {"http://a:1/b"}


def test_a_failure_that_ends(clock: Clock) -> None:
    """Only the end of a reported failure is reported, and flapping stays quiet."""
    delivery = Delivery("http://a:1", clock)
    with recorded() as log:
        for _ in range(100):
            delivery.succeeded()
            delivery.failed("ConnectionError")
            delivery.lost(1)
            delivery.succeeded()
        clock.pass_(INTERVAL)
        delivery.failed("ReadTimeout")
        assert [(line["message"], line["lost_spans"]) for line in log.entries] == [
            ("traces not sent", 0),
            ("traces sent again", 1),
            ("traces not sent", 99),
        ]


def test_spans_that_make_no_request(clock: Clock) -> None:
    """Spans that are given up before a request are reported and counted too."""
    needs_the_extra()
    from sidecar.telemetry.tracing.exporter import Exporter  # noqa: PLC0415 it needs the extra

    exporter = Exporter("http://127.0.0.1:9", Delivery("http://127.0.0.1:9", clock))
    exporter.shutdown()
    with recorded() as log:
        exporter.export(())
        faults = [line["fault"] for line in log.entries if line["message"] == "traces not sent"]
    assert faults == ["no request"]


@contextmanager
def handled(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Let only `handler` have the records of `logger`."""
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def test_a_message_of_the_library(clock: Clock) -> None:
    """Each kind passes once in an interval, without its arguments."""
    logger, handler = logging.getLogger("tests.library"), SeldomHandler(clock)
    with recorded() as log, handled(logger, handler):
        for number in range(10):
            logger.warning("one of %s", f"canary-{number}")
            logger.warning("another of %s", f"canary-{number}")
        clock.pass_(INTERVAL)
        logger.warning("one of %s", "canary")
        messages = [line["message"] for line in log.entries]
        assert messages == ["one of %s", "another of %s", "one of %s"]


def test_messages_without_a_template(clock: Clock) -> None:
    """However many kinds there are, a bounded number is remembered."""
    handler = SeldomHandler(clock)
    logger = logging.getLogger("tests.library")
    with recorded(), handled(logger, handler):
        for number in range(1000):
            logger.warning(f"number {number}")  # noqa: G004 as a library may do
    assert len(handler._next) <= 100
