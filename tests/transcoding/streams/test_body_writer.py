"""Tests of the parts of a streamed body: which pieces are sent together, and when."""

from time import monotonic

import pytest
from starlette.types import Message

from sidecar.transcoding.streams.body_writer import MAX_DELAY, MAX_HELD, BodyWriter


class Wire:
    """What was sent: the content of each part, and whether the last one ended the body."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.is_ended = False

    async def send(self, message: Message) -> None:
        """Take a part, as an ASGI server does."""
        assert not self.is_ended
        self.parts.append(message["body"])
        self.is_ended = not message["more_body"]


async def test_pieces_are_sent_with_the_flush() -> None:
    """Pieces are held until a flush, and a flush without pieces sends nothing."""
    wire = Wire()
    body = BodyWriter(wire.send)
    await body.flush()
    before = monotonic()
    await body.write(b"1")
    await body.write(b"2")
    is_in_time = monotonic() - before < MAX_DELAY
    assert not wire.parts or not is_in_time
    await body.flush()
    assert b"".join(wire.parts) == b"12"
    assert len(wire.parts) == 1 or not is_in_time
    assert not wire.is_ended


@pytest.mark.parametrize("size", [MAX_HELD - 1, MAX_HELD, 3 * MAX_HELD])
async def test_many_bytes_are_sent_at_once(size: int) -> None:
    """A part is sent as soon as it has 16 KiB."""
    wire = Wire()
    body = BodyWriter(wire.send)
    await body.write(b"x")
    await body.write(b"x" * (size - 1))
    assert (sum(map(len, wire.parts)) == size) or size < MAX_HELD


async def test_a_piece_is_not_held_for_long() -> None:
    """Pieces are sent with one that comes 5 ms later, also if the service never waits."""
    wire = Wire()
    body = BodyWriter(wire.send)
    await body.write(b"1")
    start = monotonic()
    while monotonic() - start < MAX_DELAY:  # a service that blocks the event loop
        pass
    await body.write(b"2")
    assert b"".join(wire.parts) == b"12"


@pytest.mark.parametrize("pieces", [[], [b"1"], [b"1", b"2"]], ids=len)
async def test_the_end(pieces: list[bytes]) -> None:
    """The end comes after all pieces, in a part with those that are held."""
    wire = Wire()
    body = BodyWriter(wire.send)
    for piece in pieces:
        await body.write(piece)
    await body.end(b"]")
    assert wire.is_ended
    assert b"".join(wire.parts) == b"".join(pieces) + b"]"
    assert wire.parts[-1].endswith(b"]")
