"""Common parts of both token sources: their settings, the gRPC method, and what it returns."""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn, SupportsIndex

import grpc
from google.protobuf.message import DecodeError

from karmo_auth_client._errors import ExchangeError
from karmo_auth_client._token import KeptToken, Token
from karmo_auth_client.generated.karmo.auth.v1.token_service_pb2 import (
    DESCRIPTOR,
    ExchangeTokenRequest,
    ExchangeTokenResponse,
)

_SERVICE = DESCRIPTOR.services_by_name["TokenService"]
METHOD = f"/{_SERVICE.full_name}/{_SERVICE.methods_by_name['ExchangeToken'].name}"
# gRPC itself obeys the delay that the service asks for (`grpc-retry-pushback-ms`). Without
# one, it waits for a random part of these times, which bridge the restart of the service.
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "backoffMultiplier": 3,
    "maxBackoff": "2s",
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG = {
    "methodConfig": [{"name": [{"service": _SERVICE.full_name}], "retryPolicy": _RETRY_POLICY}]
}
CHANNEL_OPTIONS = (("grpc.service_config", json.dumps(_SERVICE_CONFIG)),)


class Credentials:
    """The request of a client. Only `reveal` returns it; `repr` masks the secret.

    gRPC gets it in place of a message, which would show all of its fields in the local variables
    of gRPC. A traceback may print them.
    """

    __slots__ = ("_client_id", "_request")

    def __init__(self, client_id: str, client_secret: str) -> None:
        self._client_id = client_id
        self._request = ExchangeTokenRequest(
            grant_type="client_credentials", client_id=client_id, client_secret=client_secret
        ).SerializeToString()

    def reveal(self) -> bytes:
        """Return the request message, serialized."""
        return self._request

    def __repr__(self) -> str:
        return f"client_id={self._client_id!r}, client_secret='***'"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("credentials cannot be pickled or copied")


def to_token(response: bytes) -> Token | ExchangeError:
    """Return the token in a response message, or the error of a response that has none."""
    message = ExchangeTokenResponse()
    try:
        message.MergeFromString(response)
    except DecodeError:
        message.Clear()
    if not message.access_token:
        return ExchangeError(code=grpc.StatusCode.INTERNAL, detail="The response has no token.")
    return Token(message.access_token, message.token_type, message.expires_in)


class Source:
    """Settings and state of a token source.

    It connects with the first `get`, so that it may be constructed before a fork, or without
    an event loop.
    """

    def __init__(
        self,
        target: str,
        client_id: str,
        client_secret: str,
        *,
        plaintext: bool = False,
        channel_credentials: grpc.ChannelCredentials | None = None,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if plaintext and channel_credentials is not None:
            raise ValueError("plaintext excludes channel_credentials")
        self._target = target
        self._plaintext = plaintext
        self._channel_credentials = channel_credentials
        self._timeout = timeout
        self._clock = clock
        self._credentials = Credentials(client_id, client_secret)
        self._kept = KeptToken()
        self._is_closed = False
        self._lock = threading.Lock()  # for TokenSource only
        self._process: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r}, {self._credentials!r})"

    def _check_usable(self) -> None:
        """Raise RuntimeError after `close`, and in a process that forked after the first use.

        gRPC does not work there, and a lock may be held for ever.
        """
        if self._is_closed:
            raise RuntimeError("the token source is closed")
        if self._process is None:
            self._process = os.getpid()
        if self._process != os.getpid():
            raise RuntimeError(
                "the token source was used before the fork of this process: "
                "use it only after the fork, or construct one here"
            )

    def _tls(self) -> grpc.ChannelCredentials | None:
        """Return what the channel is made with: None without TLS."""
        if self._plaintext:
            return None
        return self._channel_credentials or grpc.ssl_channel_credentials()
