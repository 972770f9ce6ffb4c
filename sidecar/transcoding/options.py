"""What differs between the users of a transcoder."""

from dataclasses import dataclass

from sidecar.transcoding import metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a transcoder. Raises ValueError for headers that must not be passed on.

    `metadata_headers` names, in lower case, the request headers that become
    metadata. Nothing else of the headers reaches the service, which may trust
    its metadata.
    `response_headers` names the metadata, initial and trailing, that becomes
    headers of the answer. Nothing else does, for it may be meant for services.
    `ignore_unknown` passes over parameters and JSON members that no field has, as
    RFC 6749 section 3.2 demands of a token endpoint, and over names in JSON that
    no enum has, as clients need that are ahead of a service.
    `ignore_duplicates` lets the last value count of a singular field that is
    given several, for clients that were written for a gateway which does.
    `ignore_accept` answers in JSON whatever the client accepts, as RFC 9110
    section 12.4.1 allows, for clients whose Accept field does not mean it.
    `max_body_bytes` is the largest request body that is read. Reading JSON keeps
    the event loop busy, for a second or two a MiB at the worst, so that the
    default is less than what a gRPC server takes.
    """

    metadata_headers: frozenset[str] = frozenset()
    response_headers: frozenset[str] = frozenset()
    ignore_unknown: bool = False
    ignore_duplicates: bool = False
    ignore_accept: bool = False
    max_body_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        metadata.check_names(self.metadata_headers | self.response_headers)
