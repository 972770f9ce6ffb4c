"""Header fields of a request as gRPC metadata, and the deadline among them.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sidecar.transcoding.errors import Fault, MalformedRequestError

Headers = Iterable[tuple[bytes, bytes]]

# Timeout = TimeoutValue TimeoutUnit: at most 8 digits, and a unit.
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Mapping[bytes, float] = MappingProxyType(
    {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
)
# The longest timeout that can be written is 11,000 years, which ends a call of grpcio at once.
_DAY = 86_400.0
# ASCII-Value = 1*( %x20-%x7E ); an empty field has nothing to pass on but its presence.
_VALUE = re.compile(rb"[\x20-\x7e]*")


def to_metadata(headers: Headers, allowed: frozenset[bytes]) -> tuple[tuple[str, str], ...]:
    """Return the fields whose names are in `allowed`, in their order, repeated ones included.

    Raises MalformedRequestError for a value that metadata cannot carry.
    """
    passed = [(name, value) for name, value in headers if name in allowed]
    faults = [_fault(name) for name, value in passed if not _VALUE.fullmatch(value)]
    if faults:
        raise MalformedRequestError.of(faults)
    return tuple((name.decode(), value.decode()) for name, value in passed)


def read_timeout(headers: Headers) -> float | None:
    """Return the seconds that `grpc-timeout` allows, a day at most, or None without that field.

    Raises MalformedRequestError when it is malformed or repeated.
    """
    values = [value for name, value in headers if name == b"grpc-timeout"]
    if not values:
        return None
    found = _TIMEOUT.fullmatch(values[0])
    if found is None or len(values) > 1:
        detail = "grpc-timeout must be given once, as up to 8 digits and one of H M S m u n."
        raise MalformedRequestError.of([Fault(detail=detail)])
    return min(int(found[1]) * _SECONDS[found[2]], _DAY)


def _fault(name: bytes) -> Fault:
    return Fault(detail=f"The header {name.decode()} must hold printable ASCII characters only.")
