"""Tests of the log lines about the store of shared counts."""

from sidecar.exchange.shared_counts.report import INTERVAL, Report
from tests.auth_api.clock import Clock
from tests.recorded import recorded


def test_a_failure_is_reported_once_and_then_seldom() -> None:
    """A line at the first success, one of each fault in an interval, one when it works again."""
    clock = Clock()
    report = Report("redis.test:6379", clock)
    with recorded() as log:
        report.succeeded()
        states = [report.fault]
        for fault in ("timeout", "timeout", "full", "timeout", "full"):
            report.failed(fault)
        clock.pass_(INTERVAL)
        report.failed("full")
        states.append(report.fault)
        report.succeeded()
        report.succeeded()
        states.append(report.fault)
    assert states == [None, "full", None]
    lines = [
        (line["level"], line["message"], line["server"], line.get("fault")) for line in log.entries
    ]
    assert lines == [
        ("info", "wrong secrets shared", "redis.test:6379", None),
        ("warning", "wrong secrets not shared", "redis.test:6379", "timeout"),
        ("warning", "wrong secrets not shared", "redis.test:6379", "full"),
        ("warning", "wrong secrets not shared", "redis.test:6379", "full"),
        ("info", "wrong secrets shared again", "redis.test:6379", None),
    ]


def test_a_store_that_fails_now_and_then() -> None:
    """However often it changes, there is one pair of lines for each interval."""
    report = Report("redis.test:6379", Clock())
    with recorded() as log:
        for _ in range(9):
            report.failed("timeout")
            report.succeeded()
    assert len(log.entries) == 2
