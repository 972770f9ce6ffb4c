"""The gRPC servicer of the token exchange. REST requests are transcoded into its calls."""

import asyncio

import grpc
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceServicer

from sidecar.auth_api.client import AuthApi
from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.call import current_call
from sidecar.exchange.client_hash import ClientHash
from sidecar.exchange.credentials import TokenRequest, check, find_client_id
from sidecar.exchange.throttle import Throttle
from sidecar.problems import ProblemError
from sidecar.secret import Secret

Context = grpc.aio.ServicerContext[ExchangeTokenRequest, ExchangeTokenResponse]


class TokenService(TokenServiceServicer):
    """`karmo.auth.v1.TokenService`: exchanges credentials through `auth_api`.

    `throttle` limits the exchanges. `hashes` names the clients in the log. The methods raise
    ProblemError.
    """

    def __init__(
        self, auth_api: AuthApi, throttle: Throttle, hashes: ClientHash | None = None
    ) -> None:
        self.auth_api = auth_api
        self.throttle = throttle
        self._hashes = hashes or ClientHash()

    async def ExchangeToken(  # noqa: N802 the name of the RPC
        self, request: ExchangeTokenRequest, context: Context
    ) -> ExchangeTokenResponse:
        """Return an access token for the credentials in `request` or in its metadata."""
        metadata = context.invocation_metadata() or ()
        credentials = self._check(TokenRequest.received(request, metadata))
        with self.throttle.attempt(current_call().address, credentials):
            token = await self.auth_api.exchange(credentials, deadline=_deadline(context))
        return ExchangeTokenResponse(
            access_token=token.access_token.reveal(),
            token_type="Bearer",  # noqa: S106 RFC 6750 section 4, not a secret
            expires_in=token.expires_in,
        )

    def _check(self, request: TokenRequest) -> ClientCredentials:
        """Return the credentials in `request`, and name its client in the access line."""
        try:
            credentials = check(request, must_decode=self.auth_api.must_decode)
        except ProblemError:
            self._name(find_client_id(request))
            raise
        self._name(credentials.client_id)
        return credentials

    def _name(self, client_id: Secret[str]) -> None:
        if client_id.reveal():
            current_call().note(client=self._hashes.of(client_id.reveal()))


def _deadline(context: Context) -> float | None:
    remaining: float | None = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining
