"""A writer of the body of a stream, which joins pieces that are ready together to one part.

A part costs more than a piece: HTTP/1 frames it, the system sends it, and the client wakes up.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeAlias

# Takes an ASGI event.
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

# Pieces are held up to this many bytes, and for this many seconds.
MAX_HELD = 16 * 1024
MAX_DELAY = 0.005


class BodyWriter:
    """Sends the pieces of a body by `send` (ASGI).

    It holds pieces until `flush` or `end`, or until a `write` after which they have 16 KiB, or the
    first of them is 5 ms old.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held = bytearray()
        self._since = 0.0  # time of the first held piece, by the monotonic clock

    async def write(self, piece: bytes) -> None:
        """Hold `piece`, or send it with the pieces before it."""
        now = monotonic()
        if not self._held:
            self._since = now
        self._held += piece
        if len(self._held) >= MAX_HELD or now - self._since >= MAX_DELAY:
            await self.flush()

    async def flush(self) -> None:
        """Send the pieces that are held, if there are any."""
        if self._held:
            await self._send_part(is_last=False)

    async def end(self, piece: bytes = b"") -> None:
        """Send the pieces that are held, then `piece` and the end of the body."""
        self._held += piece
        await self._send_part(is_last=True)

    async def _send_part(self, *, is_last: bool) -> None:
        part, self._held = bytes(self._held), bytearray()
        await self._send({"type": "http.response.body", "body": part, "more_body": not is_last})
