"""Token source for asyncio."""

import asyncio
import copy
from typing import Self

import grpc

from karmo_auth_client._errors import ExchangeError, to_error
from karmo_auth_client._source import CHANNEL_OPTIONS, METHOD, Credentials, Source, to_token
from karmo_auth_client._token import Token


class AsyncTokenSource(Source):
    """Keeps an access token, for all tasks of an event loop.

    `target` is the address of the service, such as `127.0.0.1:50051`. The connection uses TLS
    with gRPC's root certificates, or with `channel_credentials`; `plaintext` turns TLS off.
    `timeout` is in seconds and limits one exchange, retries included. `clock` returns seconds
    that never go back.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _channel: grpc.aio.Channel | None = None
    _exchange: "grpc.aio.UnaryUnaryMultiCallable[Credentials, Token | ExchangeError]"
    _refresh: asyncio.Task[Token | ExchangeError] | None = None

    async def get(self) -> Token:
        """Return the kept token, or a new one. Raises ExchangeError.

        Within the last minute of the token, the first call begins a refresh, and none waits
        for it. Without a usable token, all wait for the same exchange, at most `timeout`.
        A caller that is cancelled does not cancel the exchange.
        """
        self._check_process()
        self._check_open()
        self._check_loop()
        now = self._clock()
        if (self._refresh is None or self._refresh.done()) and self._kept.is_due(now):
            self._refresh = asyncio.create_task(self._run(self._begin(), now))
        token = self._kept.usable(now)
        if token is not None:
            return token
        assert self._refresh is not None  # noqa: S101 an expired token is always due
        outcome = await asyncio.shield(self._refresh)
        if isinstance(outcome, ExchangeError):
            raise copy.copy(outcome)  # each caller has a traceback of its own
        return outcome

    async def close(self) -> None:
        """End the connection. A task that waits in `get` gets an ExchangeError."""
        if self._is_forked():
            return
        self._is_closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("the token source belongs to the event loop that used it first")

    def _begin(self) -> "grpc.aio.UnaryUnaryCall[Credentials, Token | ExchangeError]":
        """Start the call here and not in the task, so that `close` finds it in every case."""
        if self._channel is None:
            self._channel = self._open()
            self._exchange = self._channel.unary_unary(
                METHOD, request_serializer=Credentials.reveal, response_deserializer=to_token
            )
        return self._exchange(self._credentials, timeout=self._timeout)

    async def _run(
        self,
        call: "grpc.aio.UnaryUnaryCall[Credentials, Token | ExchangeError]",
        requested_at: float,
    ) -> Token | ExchangeError:
        """Wait for the end of a call, and record its outcome."""
        try:
            outcome = await call
        except grpc.aio.AioRpcError as error:
            outcome = to_error(error.code(), error.details(), error.trailing_metadata())
        except asyncio.CancelledError:
            # By `close`, or at the end of the loop: the service did not fail.
            return ExchangeError(
                code=grpc.StatusCode.CANCELLED, detail="The token source was closed."
            )
        self._kept.record(outcome, requested_at=requested_at, now=self._clock())
        return outcome

    def _open(self) -> grpc.aio.Channel:
        tls = self._tls()
        if tls is None:
            return grpc.aio.insecure_channel(self._target, CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self._target, tls, CHANNEL_OPTIONS)
