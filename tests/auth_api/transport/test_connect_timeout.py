"""The connect timeout on virtual time: what a late event loop takes from it comes back."""

import asyncio
from collections.abc import Iterator

import pytest

from sidecar.auth_api.transport.connect_timeout import IO_TURN, LateLoopError, connect_timeout
from tests.virtual_time import VirtualLoop


@pytest.fixture(name="loop")
def _loop() -> Iterator[VirtualLoop]:
    """Give a loop on virtual time."""
    with VirtualLoop() as loop:
        yield loop


class Wait:
    """A block that waits for `end`, with a timeout of 10 s."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.end = loop.create_future()
        self.task = loop.create_task(self._run())
        loop.settle()

    async def _run(self) -> None:
        async with connect_timeout(10.0):
            await self.end


def be_late(loop: VirtualLoop, seconds: float) -> None:
    """Let the clock pass `seconds` without a turn of the loop."""
    loop._now += seconds
    loop.settle()


def test_a_block_that_ends(loop: VirtualLoop) -> None:
    """Nothing is left of the timeout of a block that ends in time."""
    wait = Wait(loop)
    loop.advance(9.9)
    wait.end.set_result(None)
    loop.advance(60.0)
    wait.task.result()


def test_it_passes(loop: VirtualLoop) -> None:
    """A block that does not end is cancelled after its time and a turn for I/O."""
    wait = Wait(loop)
    loop.advance(10.0)
    assert not wait.task.done()
    loop.advance(IO_TURN)
    with pytest.raises(TimeoutError):
        wait.task.result()


def test_a_late_loop_gives_its_delay_back(loop: VirtualLoop) -> None:
    """A block may take so much longer as the loop was late."""
    wait = Wait(loop)
    be_late(loop, 14.0)
    loop.advance(3.9)
    assert not wait.task.done()
    wait.end.set_result(None)
    loop.settle()
    wait.task.result()


@pytest.mark.parametrize(("late", "error"), [(14.0, TimeoutError), (16.0, LateLoopError)])
def test_a_very_late_loop(loop: VirtualLoop, late: float, error: type[Exception]) -> None:
    """A timeout says nothing about the other side if the loop was late by more than half of it."""
    wait = Wait(loop)
    be_late(loop, late)
    loop.advance(10.0)
    with pytest.raises(error):
        wait.task.result()


def test_a_cancelled_block(loop: VirtualLoop) -> None:
    """A cancellation is no timeout."""
    wait = Wait(loop)
    wait.task.cancel()
    loop.settle()
    with pytest.raises(asyncio.CancelledError):
        wait.task.result()
