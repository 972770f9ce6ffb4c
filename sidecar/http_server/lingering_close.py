"""A transport that ends well: what was written last is read, or given up in bounded time."""

import asyncio
from contextlib import suppress
from typing import Any

# How long a connection is read from after its last answer, so that the answer is not
# lost with the reset that unread data causes; in seconds.
LINGER = 1.0


class LingeringTransport:
    """A transport that ends a connection only after its peer could read the last answer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timers: tuple[asyncio.TimerHandle, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more will be written."""
        return bool(self._timers) or self._transport.is_closing()

    def close(self) -> None:
        """Write what is left and the end, read on for a moment, and then close.

        A peer that does not even read is given up.
        """
        if self.is_closing():
            return
        later = asyncio.get_running_loop().call_later
        self._timers = (
            later(LINGER, self._transport.close),
            later(10 * LINGER, self._transport.abort),
        )
        if self._transport.can_write_eof():
            self._end_writing()
        else:
            self._transport.close()  # by TLS an end of one direction cannot be told

    def _end_writing(self) -> None:
        try:
            self._transport.write_eof()
        except OSError:  # the peer has reset, which the loop is still to tell
            self._transport.abort()
            return
        with suppress(RuntimeError):  # it was not paused
            self._transport.resume_reading()

    def forget(self) -> None:
        """Give the timers back: the connection is gone."""
        for timer in self._timers:
            timer.cancel()
