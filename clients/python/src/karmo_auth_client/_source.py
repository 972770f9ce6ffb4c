"""Common parts of both token sources: their settings, the gRPC method, and what it returns."""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, SupportsIndex

import grpc

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
    of gRPC. A traceback may print them. For the same reason the constructor raises nothing:
    `check` does, when no frame has the plain secret any more.
    """

    __slots__ = ("_client_id", "_fault", "_request")

    def __init__(self, client_id: str, client_secret: str) -> None:
        self._client_id = client_id
        self._request = b""
        self._fault = _fault_in(client_id=client_id, client_secret=client_secret)
        if self._fault is None:
            self._request = ExchangeTokenRequest(
                grant_type="client_credentials", client_id=client_id, client_secret=client_secret
            ).SerializeToString()

    def check(self) -> None:
        """Raise ValueError if a value cannot be sent. The error does not have the value."""
        if self._fault is not None:
            raise ValueError(self._fault)

    def reveal(self) -> bytes:
        """Return the request message, serialized."""
        return self._request

    def __repr__(self) -> str:
        client_id = getattr(self, "_client_id", None)  # None in a half-made object
        return f"client_id={client_id!r}, client_secret='***'"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("credentials cannot be pickled or copied")


def _fault_in(**values: object) -> str | None:
    """Return what is wrong with one of `values`, without the value; None if nothing is.

    An error of `str.encode` would have the value.
    """
    for name, value in values.items():
        if not isinstance(value, str):
            return f"{name} must be a str"
        if any("\ud800" <= char <= "\udfff" for char in value):
            return f"{name} must not have surrogates: UTF-8 cannot encode them"
    return None


def to_token(response: bytes | None) -> Token | ExchangeError:
    """Return the token in a response message, or the error of a response without a usable one.

    gRPC calls it, so that no object of gRPC holds a plain token, which its `repr` may show.
    """
    message = ExchangeTokenResponse()
    with suppress(Exception):  # in pure Python, protobuf raises more than DecodeError
        message = ExchangeTokenResponse.FromString(response or b"")
    if not (message.access_token and message.token_type):
        return _malformed("The response has no token.")
    if message.expires_in < 1:
        return _malformed(f"The token in the response has {message.expires_in} s to live.")
    return Token(message.access_token, message.token_type, message.expires_in)


def _malformed(detail: str) -> ExchangeError:
    return ExchangeError(code=grpc.StatusCode.INTERNAL, detail=detail)


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
        self._credentials = Credentials(client_id, client_secret)
        del client_secret  # no traceback shows it from here on
        self._target = target
        self._credentials.check()
        if plaintext and channel_credentials is not None:
            raise ValueError("plaintext excludes channel_credentials")
        self._plaintext = plaintext
        self._channel_credentials = channel_credentials
        self._timeout = timeout
        self._clock = clock
        self._kept = KeptToken()
        self._is_closed = False
        # For TokenSource only. The end of a call takes it too, maybe while the call begins.
        self._lock = threading.RLock()
        self._process: int | None = None

    def __repr__(self) -> str:
        # A traceback of the constructor may show a half-made object.
        target, credentials = (getattr(self, name, None) for name in ("_target", "_credentials"))
        return f"{type(self).__name__}({target!r}, {credentials!r})"

    def _is_forked(self) -> bool:
        """Whether this process forked after the first use.

        gRPC does not work there, and a lock may be held for ever.
        """
        return self._process not in (None, os.getpid())

    def _check_process(self) -> None:
        """Raise RuntimeError in a process that forked after the first use."""
        if self._is_forked():
            raise RuntimeError(
                "the token source was used before the fork of this process: "
                "use it only after the fork, or construct one here"
            )
        self._process = os.getpid()

    def _check_open(self) -> None:
        """Raise RuntimeError after `close`."""
        if self._is_closed:
            raise RuntimeError("the token source is closed")

    def _tls(self) -> grpc.ChannelCredentials | None:
        """Return what the channel is made with: None without TLS."""
        if self._plaintext:
            return None
        return self._channel_credentials or grpc.ssl_channel_credentials()
