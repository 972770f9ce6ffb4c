"""Examples of the exchange for the description of the API: requests, a response, problems."""

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse

from sidecar.auth_api.client_credentials import GRANT_TYPE, ClientCredentials
from sidecar.auth_api.response import Response, interpret
from sidecar.exchange.credentials import TokenRequest, find_problem
from sidecar.problems import Problem, Reason
from sidecar.secret import Secret

_ID, _SECRET = Secret("demo-partner"), Secret("demo-secret")
# By the way of authentication. A Basic header is no part of the message.
REQUESTS: Mapping[str, Message] = MappingProxyType(
    {
        "HTTP Basic authentication": ExchangeTokenRequest(grant_type=GRANT_TYPE),
        "Credentials in the body": ExchangeTokenRequest(
            grant_type=GRANT_TYPE, client_id=_ID.reveal(), client_secret=_SECRET.reveal()
        ),
    }
)
RESPONSE: Message = ExchangeTokenResponse(
    access_token="eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJwYXJ0bmVycy1hcGkifQ.c2lnbmF0dXJl",  # noqa: S106 no token
    token_type="Bearer",  # noqa: S106 RFC 6750 section 4, not a secret
    expires_in=3600,
)


def _refusal(grant_type: str) -> Problem | None:
    """Return the problem of a request with `grant_type`."""
    return find_problem(
        TokenRequest(grant_type=grant_type, client_id=_ID, client_secret=_SECRET, authorization=())
    )


def _rejection() -> object:
    """Return the problem of a wrong secret."""
    response = Response(
        status=401,
        content_type="application/json",
        retry_after="",
        has_challenge=True,
        body=Secret(b'{"error":"invalid_client"}'),
    )
    sent = ClientCredentials(client_id=_ID, client_secret=_SECRET, authorization=None, encoded=())
    return interpret(response, sent)


# The problems whose detail is not the text of the catalogue, made by the code that gives them.
PROBLEMS: Mapping[Reason, Problem] = MappingProxyType(
    {
        problem.reason: problem
        for problem in (_refusal(""), _refusal("password"), _rejection())
        if isinstance(problem, Problem)
    }
)
