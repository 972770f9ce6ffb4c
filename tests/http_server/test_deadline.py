"""A deadline that moves: it is called at its last time, whatever the times before."""

import pytest

from sidecar.http_server.deadline import Deadline
from tests.virtual_time import VirtualLoop

MOVES = {
    "once": ([(0, 5)], 5),
    "later": ([(0, 5), (4, 9)], 9),
    "later, again and again": ([(0, 5), (4, 9), (8, 13), (12, 17)], 17),
    "sooner": ([(0, 9), (1, 5)], 5),
    "sooner, then later": ([(0, 9), (1, 5), (2, 7)], 7),
    "away, and set anew": ([(0, 5), (1, None), (2, 7)], 7),
    "away": ([(0, 5), (1, None)], None),
}


@pytest.mark.parametrize(("moves", "end"), MOVES.values(), ids=MOVES)
def test_a_deadline_that_moves(moves: list[tuple[int, int | None]], end: int | None) -> None:
    """It is called once, at the time that was set last, and not at all if there is none."""
    calls: list[float] = []
    with VirtualLoop() as loop:
        start = loop.time()
        deadlines: list[Deadline] = []
        loop.call_soon(
            lambda: deadlines.append(Deadline(lambda: calls.append(loop.time() - start)))
        )
        loop.settle()
        for at, time in moves:
            loop.advance(start + at - loop.time())
            deadlines[0].set(None if time is None else start + time)
        loop.advance(30)
    assert calls == ([] if end is None else [pytest.approx(end)])


def test_a_deadline_that_is_cancelled() -> None:
    """Nothing is called, and the timer is released."""
    calls: list[None] = []
    with VirtualLoop() as loop:
        deadlines: list[Deadline] = []
        loop.call_soon(lambda: deadlines.append(Deadline(lambda: calls.append(None))))
        loop.settle()
        deadlines[0].set(loop.time() + 5)
        deadlines[0].cancel()
        loop.advance(30)
    assert calls == []
