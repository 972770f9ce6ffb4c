"""Metadata as the receiving side of an RPC sees it."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import grpc

Received: TypeAlias = tuple[tuple[str, str | bytes], ...]
Metadata: TypeAlias = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]

# Header-Name and ASCII-Value of gRPC over HTTP/2:
# https://github.com/grpc/grpc/blob/v1.76.0/doc/PROTOCOL-HTTP2.md#requests
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")


class _Metadatum(NamedTuple):
    key: str
    value: str | bytes


def receive(metadata: Metadata | None) -> Received:
    """Return `metadata` as the receiver sees it: the values of one key together, in order.

    Raises InternalError for characters that HTTP/2 cannot carry, and TypeError for a
    value of the wrong type, such as text under a -bin key.
    """
    if not metadata:
        return ()
    received: dict[str, list[_Metadatum]] = {}
    for key, value in metadata:
        item = _Metadatum(key, _receive_value(key, value))
        received.setdefault(key, []).append(item)
    return tuple(chain.from_iterable(received.values()))


def _receive_value(key: str, value: str | bytes) -> str | bytes:
    legal = bool(_KEY.fullmatch(key))
    if not key.endswith("-bin"):
        value = value if isinstance(value, str) else value.decode("latin-1")
        legal = legal and bool(_TEXT.fullmatch(value))
    elif not isinstance(value, bytes):
        raise TypeError(f"metadata {key!r} must be bytes")
    if not legal:
        raise grpc.aio.InternalError(f"metadata {key!r} has characters that cannot be sent")
    return value
