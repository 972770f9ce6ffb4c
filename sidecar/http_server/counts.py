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
    TOO_MANY_CONNECTIONS_OF_ADDRESS = "too_many_connections_of_address"


class Drop(StrEnum):
    """Why a listener ends a connection without a response.

    The first five are what a connection waited for when it was ended for a new one.
    """

    HANDSHAKE = "handshake"
    # No byte of a request has come.
    IDLE = "idle"
    # Part of a request has come.
    INCOMPLETE = "incomplete"
    # The client does not read. After the request timeout its connection is ended in any case.
    UNREAD = "unread"
    # The last response is written, and the client has not closed the connection yet.
    ENDING = "ending"
    # It was the longest waiting one of an address with too many connections.
    ADDRESS = "address"
    # It was new, and there were twice as many as the limit, of which none waited.
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerCounts:
    """The connections of a listener now, and what it has refused so far.

    `idle` are those of the `open` connections that wait for their clients, `opening` those in
    the TLS handshake. `refused` are requests and `dropped` connections, both by their reason.
    `shed` are requests beyond the limit of calls in flight.
    """

    open: int
    idle: int
    opening: int
    refused: Mapping[Refusal, int]
    dropped: Mapping[Drop, int]
    shed: int
