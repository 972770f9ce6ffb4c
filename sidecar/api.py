"""The API of this product: its services, how they are transcoded, and what its pages show."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType

from google.protobuf.descriptor import ServiceDescriptor
from karmo.auth.v1 import token_service_pb2

from sidecar.exchange import examples
from sidecar.exchange.credentials import find_refusal
from sidecar.http_server.http1 import request_head
from sidecar.rest.openapi import Examples
from sidecar.rest.pages import samples
from sidecar.rest.pages.reference import Limit
from sidecar.rest.pages.samples import Sample
from sidecar.settings.model import Settings
from sidecar.transcoding import Options

# The largest body of a REST request, and the largest message of a gRPC call.
MAX_REQUEST_BYTES = 16 * 1024
_TOKEN_SERVICE = token_service_pb2.DESCRIPTOR.services_by_name["TokenService"]
_EXCHANGE_TOKEN = _TOKEN_SERVICE.methods_by_name["ExchangeToken"]
# The services of the API, with the options of the transcoder for each.
SERVICES: Mapping[ServiceDescriptor, Options] = {
    _TOKEN_SERVICE: Options(
        metadata_headers=frozenset({"authorization", "traceparent", "x-request-id"}),
        ignore_unknown=True,  # RFC 6749 section 3.2
        # OAuth libraries send Accept fields that their users did not choose.
        ignore_accept=True,
        max_body_bytes=MAX_REQUEST_BYTES,
    ),
}
# The examples in the description of the API, by the full name of their method.
EXAMPLES: Mapping[str, Examples] = {
    _EXCHANGE_TOKEN.full_name: Examples(
        requests=examples.REQUESTS, response=examples.RESPONSE, problems=examples.PROBLEMS
    ),
}


# What finds the problem of a call that its method refuses without asking the auth-api, by the full
# name of the method.
CHECKS = MappingProxyType({_EXCHANGE_TOKEN.full_name: find_refusal})


def read_samples() -> Sequence[Sample]:
    """Return the programs in the reference."""
    return samples.read(files("sidecar.rest").joinpath("samples"))


def limits_of(settings: Settings) -> Sequence[Limit]:
    """Return the limits that a partner can meet."""
    one_client = "of one client from one IP address"
    for_client = "429 for that client from that IP address"
    rows = (
        ("Time for the head of a request", f"{settings.header_timeout:g} s", "408"),
        ("Time for the whole request", f"{settings.request_timeout:g} s", "408"),
        (
            "Idle time of a connection",
            f"{settings.rest_keep_alive:g} s",
            "the connection is closed",
        ),
        ("Request line: method and URL", _size(request_head.MAX_LINE_BYTES), "414"),
        (
            "Header fields",
            f"{request_head.MAX_FIELDS}, together {_size(request_head.MAX_BYTES)}",
            "431",
        ),
        ("Body", _size(MAX_REQUEST_BYTES), "413"),
        (
            f"Wrong secrets {one_client}",
            f"{settings.max_client_failures:,} per minute",
            for_client,
        ),
        (
            "Wrong secrets from one IP address",
            f"{settings.max_address_failures:,} per minute",
            "429 for all clients from that IP address",
        ),
        (f"Requests {one_client}", f"{settings.max_client_calls:,} per minute", for_client),
    )
    return [Limit(name=name, value=value, beyond=beyond) for name, value, beyond in rows]


def _size(count: int) -> str:
    return f"{count // 1024} KiB"
