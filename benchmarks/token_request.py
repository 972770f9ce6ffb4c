"""The request for a token, in each form that the systems take."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest

_CREDENTIALS = {"client_id": "partner", "client_secret": "secret"}
_GRANT = {"grant_type": "client_credentials"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One request: `fields` are HTTP header fields; of a gRPC call `body` is the message."""

    protocol: str
    path: str
    body: bytes
    fields: Mapping[str, str] = field(default_factory=dict)

    def http1(self) -> bytes:
        """Return the bytes of the request in HTTP/1.1."""
        fields = {"Host": "localhost", "Content-Length": str(len(self.body)), **self.fields}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


FORM = TokenRequest(
    protocol="HTTP",
    path="/v1/oauth/token",
    body=b"grant_type=client_credentials",
    fields={
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"Basic {b64encode(b'partner:secret').decode()}",
    },
)
JSON = TokenRequest(
    protocol="HTTP",
    path="/v1/oauth/token",
    body=json.dumps({**_GRANT, **_CREDENTIALS}).encode(),
    fields={"Content-Type": "application/json"},
)
GRPC = TokenRequest(
    protocol="gRPC",
    path="/karmo.auth.v1.TokenService/ExchangeToken",
    body=ExchangeTokenRequest(**_GRANT, **_CREDENTIALS).SerializeToString(),
)
