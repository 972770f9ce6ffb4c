"""Options of a transcoder."""

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.transcoding import metadata
from sidecar.transcoding.protojson.json_format import DEFAULT, JsonFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a transcoder. Raises ValueError for a forbidden header or a missing one.

    `metadata_headers`: request headers, in lower case, that become metadata. No other header
    reaches the service, which may trust its metadata. With `last-event-id` here the service
    must continue after that event, because the ids of its streams do.
    `response_headers`: metadata, initial and trailing, that becomes response headers. No other
    metadata does, because it may be meant for services only.
    `ignore_unknown`: skip parameters and JSON members that name no field, as RFC 6749 section
    3.2 demands of a token endpoint. Also skip unknown enum names in JSON, for clients that are
    ahead of a service.
    `ignore_duplicates`: use the last of several values of a singular field, for clients that
    were written for a gateway that does so.
    `ignore_accept`: respond in JSON whatever the client accepts, as RFC 9110 section 12.4.1
    allows, for clients whose Accept field does not mean it.
    `max_body_bytes`: the largest request body, in bytes; a larger one is answered with 413.
    Reading JSON blocks the event loop for one to two seconds per MiB at worst, so the default
    is less than what a gRPC server accepts.
    `unserved_methods`: the full names of methods to leave out, such as library.v1.Library.Watch.
    Requests for them are answered with 501. It is for methods whose rules cannot be served: without
    it SchemaError is raised for them, and no method is served.
    `json_format`: the format of the JSON in responses. Errors do not follow it.
    `gzip_min_bytes`: compress JSON of at least this many bytes for clients that accept gzip. None:
    never. A response is compressed only if the service sends `cache-control` without no-store and
    no-transform, so `response_headers` must name that. Streams, the content of HttpBody and errors
    are not compressed.
    """

    metadata_headers: frozenset[str] = frozenset()
    response_headers: frozenset[str] = frozenset()
    ignore_unknown: bool = False
    ignore_duplicates: bool = False
    ignore_accept: bool = False
    max_body_bytes: int = 1024 * 1024
    unserved_methods: frozenset[str] = frozenset()
    json_format: JsonFormat = DEFAULT
    gzip_min_bytes: int | None = None

    def __post_init__(self) -> None:
        metadata.check_names(self.metadata_headers | self.response_headers)
        if self.gzip_min_bytes is not None and "cache-control" not in self.response_headers:
            raise ValueError("gzip_min_bytes needs cache-control among the response_headers.")


def unserved_by(options: Iterable[Options]) -> frozenset[str]:
    """Return the full names of the methods that any of `options` leaves out."""
    return frozenset().union(*(each.unserved_methods for each in options))
