"""Token source for threads."""

import copy
from dataclasses import dataclass
from typing import Any, Self, cast

import grpc

from karmo_auth_client._errors import ExchangeError, to_error
from karmo_auth_client._source import CHANNEL_OPTIONS, METHOD, Credentials, Source, to_token
from karmo_auth_client._token import Token


@dataclass(frozen=True, slots=True, eq=False)
class _Refresh:
    """A call in flight. It belongs to no thread: any may wait for its end, and none cancels it."""

    call: Any  # a grpc.Call and grpc.Future in one, for which grpc has no public name
    requested_at: float

    def outcome(self) -> Token | ExchangeError:
        """Wait for the end, and return the token or the error."""
        code = cast("grpc.StatusCode", self.call.code())
        if code is grpc.StatusCode.OK:
            # None is the result of a call without a message.
            return cast("Token | ExchangeError | None", self.call.result()) or to_token(None)
        return to_error(code, self.call.details(), self.call.trailing_metadata())


class TokenSource(Source):
    """Keeps an access token, for all threads of a process.

    `target` is the address of the service, such as `127.0.0.1:50051`. The connection uses TLS
    with gRPC's root certificates, or with `channel_credentials`; `plaintext` turns TLS off.
    `timeout` is in seconds and limits one exchange, retries included. `clock` returns seconds
    that never go back.
    """

    _channel: grpc.Channel | None = None
    _exchange: "grpc.UnaryUnaryMultiCallable[Credentials, Token | ExchangeError]"
    _refresh: _Refresh | None = None

    def get(self) -> Token:
        """Return the kept token, or a new one. Raises ExchangeError.

        Within the last minute of the token, the first call begins a refresh, and none waits
        for it. Without a usable token, all wait for the same exchange, at most `timeout`.
        """
        self._check_process()
        with self._lock:
            self._check_open()
            token, refresh = self._look(self._clock())
        if token is not None:
            return token
        assert refresh is not None  # noqa: S101 an expired token is always due
        outcome = refresh.outcome()
        self._settle(refresh)  # gRPC wakes this thread before it calls back
        if isinstance(outcome, ExchangeError):
            raise copy.copy(outcome)  # each caller has a traceback of its own
        return outcome

    def close(self) -> None:
        """End the connection. A thread that waits in `get` gets an ExchangeError."""
        if self._is_forked():
            return
        with self._lock:
            self._is_closed = True
            self._refresh = None
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self, now: float) -> tuple[Token | None, _Refresh | None]:
        """Return the usable token, and the refresh in flight, which begins here if it is due."""
        refresh = self._refresh
        if refresh is None and self._kept.is_due(now):
            refresh = self._begin(now)
        return self._kept.usable(now), refresh

    def _begin(self, now: float) -> _Refresh:
        if self._channel is None:
            self._channel = self._open()
            self._exchange = self._channel.unary_unary(
                METHOD, request_serializer=Credentials.reveal, response_deserializer=to_token
            )
        refresh = _Refresh(self._exchange.future(self._credentials, timeout=self._timeout), now)
        self._refresh = refresh
        # gRPC calls it in a thread of its own, or here if the call has ended.
        refresh.call.add_done_callback(lambda _: self._settle(refresh))
        return refresh

    def _open(self) -> grpc.Channel:
        tls = self._tls()
        if tls is None:
            return grpc.insecure_channel(self._target, CHANNEL_OPTIONS)
        return grpc.secure_channel(self._target, tls, CHANNEL_OPTIONS)

    def _settle(self, refresh: _Refresh) -> None:
        """Record the outcome of a call that has ended, once."""
        with self._lock:
            if self._refresh is not refresh:
                return
            self._refresh = None  # first: whatever is raised below, the next `get` tries anew
            now = self._clock()
            self._kept.record(refresh.outcome(), requested_at=refresh.requested_at, now=now)
