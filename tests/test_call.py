"""Tests of the identity of a call: which values of a caller are kept, which replaced."""

import re
import uuid
from collections.abc import Mapping

import pytest

from sidecar.call import Call, current_call

CANARY = "canary-91c3"
ID = "4a1b0c6e-2f0d-4a53-8d2e-0f6c7b9a1d3e"
UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("sent", [ID, ID.upper(), "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_is_kept(sent: str) -> None:
    """A UUID of the caller is the id of the call, unchanged."""
    assert Call.of(request_id=sent, traceparent=None).request_id == sent


NO_IDS = {
    "none": None,
    "empty": "",
    "text": "abc",
    "without hyphens": ID.replace("-", ""),
    "too short": ID[:-1],
    "too long": ID + "0",
    "braces": f"{{{ID}}}",
    "urn": f"urn:uuid:{ID}",
    "a line end": ID + "\n",
    "a space": " " + ID,
    "no hexadecimal": ID[:-1] + "g",
    "digits outside of ASCII": ID[:-1] + "٣",
    "two": f"{ID}, {ID}",
}


@pytest.mark.parametrize("sent", NO_IDS.values(), ids=NO_IDS)
def test_another_id_is_replaced(sent: str | None) -> None:
    """An id that is not a UUID is replaced by a new one, which differs each time."""
    ids = {Call.of(request_id=sent, traceparent=None).request_id for _ in range(2)}
    assert len(ids) == 2
    assert all(UUID.fullmatch(request_id) for request_id in ids)


TRACES: Mapping[str, tuple[str | None, str | None]] = {
    "right": (TRACE, TRACE),
    "not sampled": (TRACE[:-2] + "00", TRACE[:-2] + "00"),
    "none": (None, None),
    "empty": ("", None),
    "upper case": (TRACE.upper(), None),
    "another version": ("01" + TRACE[2:], None),
    "the forbidden version": ("ff" + TRACE[2:], None),
    "trace id of zeros": ("00-" + "0" * 32 + TRACE[35:], None),
    "parent id of zeros": (TRACE[:36] + "0" * 16 + "-01", None),
    "more at the end": (TRACE + "-00", None),
    "too short": (TRACE[:-1], None),
    "a line end": (TRACE + "\n", None),
    "text": (CANARY, None),
}


@pytest.mark.parametrize(("sent", "kept"), TRACES.values(), ids=TRACES)
def test_traceparent(sent: str | None, kept: str | None) -> None:
    """A valid traceparent (W3C Trace Context) is kept, any other text is dropped."""
    assert Call.of(request_id=None, traceparent=sent).traceparent == kept


def test_new_ids_are_uuids() -> None:
    """A new id is a valid id."""
    request_id = current_call().request_id
    assert str(uuid.UUID(request_id)) == request_id
    assert Call.of(request_id=request_id, traceparent=None).request_id == request_id


def test_trace_id() -> None:
    """The trace id is that of a valid traceparent; without one there is none."""
    assert Call.of(request_id=None, traceparent=TRACE).trace_id == TRACE.split("-")[1]
    assert Call.of(request_id=None, traceparent=f"{TRACE}-x").trace_id is None
    assert Call.of(request_id=None, traceparent=None).trace_id is None


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ((), None),
        ((("tracestate", "a=1"),), "a=1"),
        ((("tracestate", "a=1"), ("tracestate", "b=2")), "a=1,b=2"),
    ],
)
def test_tracestate(fields: tuple[tuple[str, str], ...], state: str | None) -> None:
    """Several fields are one list, in their order (RFC 9110 section 5.3)."""
    assert Call.received(fields, "", trusted_proxies=0).tracestate == state
