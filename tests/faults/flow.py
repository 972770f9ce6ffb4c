"""What the chaos proxy does to connections, as values."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

CHUNK = 65536
# With a limited bandwidth, how many pieces are sent in a second: so smooth is the flow.
_PIECES_PER_SECOND = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What happens to the bytes of one direction. By default they pass as they are.

    Offsets and limits count the bytes of the direction since the connection was made.
    """

    # Seconds before each piece, and up to how many more, by chance.
    latency: float = 0.0
    jitter: float = 0.0
    # Bytes per second.
    bandwidth: int | None = None
    # The largest piece that is sent at once, in bytes.
    piece: int = CHUNK
    # The offset of a byte that is sent with all its bits inverted.
    corrupt_at: int | None = None
    # After so many bytes both sides get FIN, or RST.
    end_after: int | None = None
    reset_after: int | None = None
    # Nothing passes, neither bytes nor the end of them, and nothing is closed.
    is_silent: bool = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` in the pieces that are sent at once."""
        size = self.piece
        if self.bandwidth is not None:
            size = min(size, max(1, self.bandwidth // _PIECES_PER_SECOND))
        for start in range(0, len(data), size):
            yield data[start : start + size]

    def delay(self, size: int, chance: random.Random) -> float:
        """Return the seconds to wait before a piece of so many bytes."""
        sending = size / self.bandwidth if self.bandwidth else 0.0
        return self.latency + chance.uniform(0, self.jitter) + sending

    def spoil(self, piece: bytes, offset: int) -> bytes:
        """Return `piece`, which starts at `offset`, with the one byte inverted if it is in it."""
        if self.corrupt_at is None or not 0 <= self.corrupt_at - offset < len(piece):
            return piece
        at = self.corrupt_at - offset
        return piece[:at] + bytes((piece[at] ^ 0xFF,)) + piece[at + 1 :]

    def room(self, offset: int) -> int | None:
        """Return how many more bytes may pass after `offset`, or None if any number may."""
        limits = [limit for limit in (self.end_after, self.reset_after) if limit is not None]
        return max(0, min(limits) - offset) if limits else None

    @property
    def ends_by_reset(self) -> bool:
        """Whether the limit that is met first is the one that ends by RST."""
        if self.reset_after is None:
            return False
        return self.end_after is None or self.reset_after <= self.end_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to connections: upstream, which is to the target, and downstream.

    `share` is the part of the connections that it happens to, from 0 to 1. A
    connection draws its lot once, so that a larger share takes in a smaller one.
    """

    up: Flow = field(default_factory=Flow)
    down: Flow = field(default_factory=Flow)
    share: float = 1.0


SILENT = Fault(up=Flow(is_silent=True), down=Flow(is_silent=True))
