"""Caller's side of an in-process RPC: its status, its deadline and its cancellation."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import grpc
from grpc import StatusCode

from sidecar import logs
from sidecar.in_process.metadata import Received

Callback: TypeAlias = Callable[[Any], None]

_CANCELLED = (StatusCode.CANCELLED, "Locally cancelled by application!")
_EXPIRED = (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


class Call(grpc.aio.Call):
    """Caller's side of an RPC, which ends for the caller once it has a status code.

    `timeout` is in seconds; None means no deadline.
    """

    def __init__(self, timeout: float | None) -> None:
        self.task: asyncio.Task[None] | None = None
        self.initial: Received = ()
        self._loop = asyncio.get_running_loop()
        self._code: StatusCode | None = None
        self._details = ""
        self._trailing: Received = ()
        self._response: Any = None
        self._cancelled_here = False
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[Callback] = []
        # Not the clock of the loop: uvloop does not advance it while a callback runs.
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None and timeout > 0:
            self._timer = self._loop.call_later(timeout, self._expire)
        elif timeout is not None:
            self._expire()

    def cancel(self) -> bool:
        if self.done():
            return False
        self._cancelled_here = True
        self.initial = ()
        self._end_early(*_CANCELLED)
        return True

    def cancelled(self) -> bool:
        return self._code is StatusCode.CANCELLED

    def done(self) -> bool:
        return self._code is not None

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_done_callback(self, callback: Callback) -> None:
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._wait()
        return grpc.aio.Metadata(*self.initial)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._wait()
        return grpc.aio.Metadata(*self._trailing)

    async def code(self) -> StatusCode:
        await self._wait()
        return cast("StatusCode", self._code)

    async def details(self) -> str:
        await self._wait()
        return self._details

    def begin(self, initial: Received) -> None:
        """Take the initial metadata, which the handler sends at most once."""
        self.initial = initial

    def finish(
        self, code: StatusCode, details: str, trailing: Received = (), response: Any = None
    ) -> None:
        """Set the outcome of the handler, unless the RPC has ended for the caller."""
        if self.done():
            return
        if self.time_remaining() == 0:
            # A busy loop runs the timer late.
            self._settle(*_EXPIRED)
        else:
            self._trailing = trailing
            self._response = response
            self._settle(code, details)

    def _expire(self) -> None:
        self._end_early(*_EXPIRED)

    def _end_early(self, code: StatusCode, details: str) -> None:
        self._settle(code, details)
        if self.task is not None:
            self.task.cancel()

    def _settle(self, code: StatusCode, details: str) -> None:
        self._code = code
        self._details = details if code is not StatusCode.OK else ""
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        run_callbacks(self._callbacks, self)

    def _raise_for_status(self) -> None:
        """Raise the error of an RPC that has ended, unless its code is OK."""
        if self._cancelled_here:
            raise asyncio.CancelledError
        if self._code is not StatusCode.OK:
            raise grpc.aio.AioRpcError(
                cast("StatusCode", self._code),
                grpc.aio.Metadata(*self.initial),
                grpc.aio.Metadata(*self._trailing),
                self._details,
            )

    async def _wait(self) -> None:
        while not self.done():
            await self._change()

    async def _change(self) -> None:
        """Wait for the next `_wake`."""
        # One future for each waiter: cancelling a waiter cancels the future it awaits.
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def run_callbacks(callbacks: Iterable[Callback], side: object) -> None:
    """Run `callbacks` with `side`, for which the call has ended, up to the first that fails."""
    try:
        for callback in callbacks:
            callback(side)
    except Exception as error:  # noqa: BLE001 - a callback cannot fail the RPC
        logs.failure("a callback of a call failed", error)
