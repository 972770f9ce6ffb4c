"""A transport for peers that read late, or that are gone.

Its close does not destroy the last response (RFC 9112 section 9.6).
"""

import asyncio
import fcntl
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import cast

# A peer that does not read is aborted after this many times the linger time.
_ABORT_AFTER = 10
# At this many unsent bytes the protocol must pause. It is asyncio's default for TCP; its default
# for TLS is eight times as much.
_MAX_UNSENT = 64 * 1024
# Seconds between two looks at a connection from which nothing is read.
LOOK_INTERVAL = 5.0
# How often the bytes that a peer has not taken are counted within its time limit.
_COUNTS = 10


class LingeringTransport:
    """Wraps a transport: `close` ends the writing, and reads on for `linger` seconds.

    `writable` is set unless the peer does not read what was written. A peer that takes nothing
    for too long, and one that goes away while nothing is read from it, are noticed.
    """

    def __init__(self, transport: asyncio.Transport, linger: float) -> None:
        transport.set_write_buffer_limits(_MAX_UNSENT)
        self.writable = asyncio.Event()
        self.writable.set()
        self._transport = transport
        self._linger = linger
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self._next_count: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._peer_has_ended = False

    @property
    def socket(self) -> socket.socket:
        """The socket of the connection."""
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    def write(self, data: bytes) -> None:
        """Write `data`, unless nothing more will be written."""
        if not self.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`. If the peer goes away meanwhile, abort."""
        if not self.is_closing():  # then reading must go on
            self._is_reading = False
            self._transport.pause_reading()
            self._look_later()

    def resume_reading(self) -> None:
        """Read again after `pause_reading`."""
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether nothing more will be written."""
        return bool(self._timers) or self._transport.is_closing()

    def close(self, *, resets: bool = False) -> None:
        """Write the rest and the end of the stream, read on for a while, and then close.

        The connection of a peer that does not read is aborted. `resets`: that of any peer is
        reset instead.
        """
        if self.is_closing():
            return
        if resets:
            self._reset()
            return
        later = asyncio.get_running_loop().call_later
        self._timers = (
            later(self._linger, self._transport.close),
            later(_ABORT_AFTER * self._linger, self._transport.abort),
        )
        if self._transport.can_write_eof() and not self._peer_has_ended:
            self._end_writing()
        else:
            self._transport.close()  # TLS cannot end one direction alone

    def close_if_unsent(self) -> bool:
        """Close if responses are not sent yet. Returns whether there are any.

        For a client that has ended its direction: asyncio would wait for ever until it reads.
        """
        if self._transport.get_write_buffer_size() == 0:
            return False
        self.close()
        return True

    def abort_when_gone(self) -> None:
        """Abort once a peer that has ended its side resets, or answers no TCP probe.

        Looks every `LOOK_INTERVAL` seconds until the transport is closing.
        """
        self._peer_has_ended = True
        self._look()

    def _look(self) -> None:
        """Abort if the peer is gone: while the loop does not read, it does not notice."""
        if self.is_closing() or (self._is_reading and not self._peer_has_ended):
            return
        if _is_gone(self.socket.fileno()):
            self._transport.abort()
        else:
            self._look_later()

    def _look_later(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(LOOK_INTERVAL, self._look)

    def expect_reader(self, seconds: float, give_up: Callable[[], None]) -> None:
        """Clear `writable`; call `give_up` once the peer has taken nothing for `seconds`.

        `stop_expecting` ends this. A peer may be slow: each time it takes something, it has
        `seconds` again.
        """
        self.writable.clear()
        loop = asyncio.get_running_loop()

        def count(unsent: int, end: float) -> None:
            left, now = self._count_unsent(), loop.time()
            if left < unsent:
                end = now + seconds
            if now < end:
                at = min(now + seconds / _COUNTS, end)
                self._next_count = loop.call_at(at, count, left, end)
            else:
                give_up()

        count(self._count_unsent(), loop.time() + seconds)

    def _count_unsent(self) -> int:
        """Return how many bytes were written that the peer's system has not taken."""
        kept = fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4))  # tcp(7), unix(7)
        return self._transport.get_write_buffer_size() + int.from_bytes(kept, sys.byteorder)

    def stop_expecting(self) -> None:
        """Set `writable` again: the peer reads, or need not."""
        self.writable.set()
        if self._next_count is not None:
            self._next_count.cancel()
        self._next_count = None

    def _reset(self) -> None:
        # Without time to linger, closing sends RST (socket(7)).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _end_writing(self) -> None:
        try:
            self._transport.write_eof()
        except OSError:  # the peer has reset the connection, and the loop does not know yet
            self._transport.abort()
            return
        self.resume_reading()

    def forget(self) -> None:
        """Cancel the timers: the connection is gone."""
        self.stop_expecting()
        for timer in (*self._timers, self._next_look):
            if timer is not None:
                timer.cancel()


def _is_gone(descriptor: int) -> bool:
    """Return whether both directions of a connection have ended (POLLERR, POLLHUP of poll(2))."""
    poll = select.poll()
    poll.register(descriptor, 0)  # the system always reports these two
    return bool(poll.poll(0))
