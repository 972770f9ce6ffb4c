"""The API of this product: its services, how they are transcoded, and examples of their calls."""

from collections.abc import Mapping

from google.protobuf.descriptor import ServiceDescriptor
from karmo.auth.v1 import token_service_pb2

from sidecar.exchange import examples
from sidecar.rest.openapi import Examples
from sidecar.transcoding import Options

# The largest body of a REST request, and the largest message of a gRPC call.
MAX_REQUEST_BYTES = 16 * 1024
_TOKEN_SERVICE = token_service_pb2.DESCRIPTOR.services_by_name["TokenService"]
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
    _TOKEN_SERVICE.methods_by_name["ExchangeToken"].full_name: Examples(
        requests=examples.REQUESTS, response=examples.RESPONSE, problems=examples.PROBLEMS
    ),
}
