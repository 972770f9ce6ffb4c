"""Tests of W3C Trace Context: which state of a caller is kept."""

import pytest

from tests.recorded import recorded

pytest.importorskip("opentelemetry.trace")
from opentelemetry.trace import get_current_span

from sidecar.telemetry.tracing import trace_context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LONG = ",".join(f"k{number}=v" for number in range(33))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (None, None),
        ("", None),
        ("a=1", "a=1"),
        ("a=1 , b@c=2 3,", "a=1,b@c=2 3"),
        ("1a@b=x", "1a@b=x"),
        (LONG.rpartition(",")[0], LONG.rpartition(",")[0]),
        (LONG, None),
        ("a=1,a=2", None),
        ("a=1,A=2", None),
        ("a=1,b", None),
        ("a=1,b=", None),
        ("a=1,b=c=d", None),
        ("a=1,b=\x7f", None),
        ("a=" + "x" * 257, None),
        ("a" * 257 + "=1", None),
    ],
)
def test_tracestate(sent: str | None, kept: str | None) -> None:
    """A valid state is kept in its order; another is dropped as a whole, without a line."""
    with recorded() as log:
        context = get_current_span(trace_context.read(PARENT, sent)).get_span_context()
        headers = trace_context.write(context)
        assert log.lines == []
    assert headers == {"traceparent": PARENT, **({"tracestate": kept} if kept else {})}


def test_no_parent() -> None:
    """Without a context of the caller there is no parent, whatever state it sent."""
    context = get_current_span(trace_context.read(None, "a=1")).get_span_context()
    assert not context.is_valid
