"""The counts of one listener, and the names of what it refuses and drops."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Refusal(StrEnum):
    """Why a listener refuses a request before it is a call."""

    REQUEST_LINE = "request_line"
    TARGET_TOO_LONG = "target_too_long"
    HEADER_TOO_LARGE = "header_too_large"
    TOO_MANY_FIELDS = "too_many_fields"
    FIELD_LINE = "field_line"
    HOST = "host"
    LENGTH = "length"
    TRANSFER_ENCODING = "transfer_encoding"
    BAD_HTTP = "bad_http"
    TOO_MANY_CHUNKS = "too_many_chunks"
    HEADER_TIMEOUT = "header_timeout"
    BODY_TIMEOUT = "body_timeout"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    STOPPING = "stopping"


class Drop(StrEnum):
    """Why a listener ends a connection without a response."""

    # The longest waiting one makes room for a new one.
    EVICTED = "evicted"
    # It is new, and there are twice as many as the limit.
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerCounts:
    """The connections of a listener now, and what it has refused so far.

    `idle` are those of the `open` connections that have no complete request, `opening` those in
    the TLS handshake. `refused` are requests and `dropped` connections, both by their reason.
    `shed` are requests beyond the limit of calls in flight.
    """

    open: int
    idle: int
    opening: int
    refused: Mapping[Refusal, int]
    dropped: Mapping[Drop, int]
    shed: int
