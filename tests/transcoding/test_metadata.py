"""Metadata: which header fields pass, and how the deadline is read."""

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.errors import Fault, MalformedRequestError
from sidecar.transcoding.metadata import read_timeout, to_metadata
from tests.properties import many

Headers = Sequence[tuple[bytes, bytes]]
ALLOWED = frozenset({b"authorization", b"x-request-id"})


def test_only_allowed_fields_pass() -> None:
    """The fields that are named pass in their order, repeated ones included, and no other."""
    headers = [
        (b"host", b"api.example.test"),
        (b"x-request-id", b"1"),
        (b"authorization", b"Basic YTpi"),
        (b"cookie", b"secret"),
        (b"x-request-id", b" ~"),
        (b"grpc-timeout", b"1S"),
        (b"x-request-id-bin", b"\xff"),
        (b"connection", b"close"),
    ]
    assert to_metadata(headers, ALLOWED) == (
        ("x-request-id", "1"),
        ("authorization", "Basic YTpi"),
        ("x-request-id", " ~"),
    )


def test_nothing_passes_by_default() -> None:
    """Without an allow-list there is no metadata."""
    assert to_metadata([(b"authorization", b"x"), (b"x", b"\xff")], frozenset()) == ()


def test_an_empty_value_passes() -> None:
    """A field without a value is passed on as such."""
    assert to_metadata([(b"authorization", b"")], ALLOWED) == (("authorization", ""),)


@pytest.mark.parametrize(
    "value",
    [b"\xe9", "é".encode(), b"a\x00", b"a\tb", b"a\nb", b"a\r", b"\x7f", b"\x1b[0m"],
    ids=ascii,
)
def test_value_that_metadata_cannot_carry(value: bytes) -> None:
    """A value outside of printable ASCII is a fault of the header, and is not quoted."""
    headers = [(b"authorization", b"canary" + value), (b"x-request-id", value), (b"x", value)]
    with pytest.raises(MalformedRequestError) as raised:
        to_metadata(headers, ALLOWED)
    assert raised.value.faults == (
        Fault(detail="The header authorization must hold printable ASCII characters only."),
        Fault(detail="The header x-request-id must hold printable ASCII characters only."),
    )


@many
@given(st.lists(st.tuples(st.sampled_from([*ALLOWED, b"x"]), st.binary())))
def test_any_values(headers: Headers) -> None:
    """Any bytes at all pass as they are, or are faults."""
    try:
        passed = to_metadata(headers, ALLOWED)
    except MalformedRequestError:
        assert any(re.search(rb"[^ -~]", value) for name, value in headers if name in ALLOWED)
    else:
        sent = [(name.encode(), value.encode()) for name, value in passed]
        assert sent == [pair for pair in headers if pair[0] in ALLOWED]


TIMEOUTS: Mapping[bytes, float] = {
    b"1H": 3600.0,
    b"2M": 120.0,
    b"3S": 3.0,
    b"4m": 0.004,
    b"5u": 0.000005,
    b"6n": 0.000000006,
    b"0S": 0.0,
    b"00000001S": 1.0,
    b"86400S": 86400.0,
    b"00000024H": 86400.0,
    # More than a day is a day: grpcio cannot add the longest to the present.
    b"86401S": 86400.0,
    b"99999999H": 86400.0,
}
NO_TIMEOUTS = (
    b"",
    b"S",
    b"1",
    b"1s",
    b"1h",
    b"1D",
    b"1ms",
    b"-1S",
    b"+1S",
    b"1.5S",
    b"1_0S",
    b"1e3S",
    b"100000000S",
    b"9" * 5000 + b"S",
    b" 1S",
    b"1S ",
    b"1 S",
    b"1S\n",
    b"1S,2S",
    b"\xd9\xa1S",
    b"infS",
    b"nanS",
    b"canary",
)


@pytest.mark.parametrize(("value", "seconds"), TIMEOUTS.items(), ids=ascii)
def test_timeout(value: bytes, seconds: float) -> None:
    """A timeout is at most 8 digits and a unit, and read in seconds."""
    headers = [(b"x", b"y"), (b"grpc-timeout", value)]
    assert read_timeout(headers) == pytest.approx(seconds, rel=1e-12)


def test_no_timeout() -> None:
    """Without the field there is no timeout."""
    assert read_timeout([(b"x-grpc-timeout", b"1S"), (b"timeout", b"1S")]) is None


TIMEOUT_FAULT = Fault(
    detail="grpc-timeout must be given once, as up to 8 digits and one of H M S m u n."
)


@pytest.mark.parametrize("value", NO_TIMEOUTS, ids=lambda value: ascii(value[:12]))
def test_malformed_timeout(value: bytes) -> None:
    """Anything else is a fault, and is not quoted."""
    with pytest.raises(MalformedRequestError) as raised:
        read_timeout([(b"grpc-timeout", value)])
    assert raised.value.faults == (TIMEOUT_FAULT,)


def test_repeated_timeout() -> None:
    """Two timeouts are a fault, even equal ones."""
    with pytest.raises(MalformedRequestError) as raised:
        read_timeout([(b"grpc-timeout", b"1S"), (b"grpc-timeout", b"1S")])
    assert raised.value.faults == (TIMEOUT_FAULT,)
