"""Tests that run on each event loop: asyncio's, which can skip time, and uvloop, the product's."""

import asyncio
import inspect
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, MappingProxyType
from typing import Any, TypeAlias

import pytest
import uvloop

from tests.virtual_time import SkippingLoop

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = MappingProxyType(
    {"asyncio": SkippingLoop, "uvloop": uvloop.new_event_loop}
)
# How long a test may take before it fails, in seconds.
GUARD = 60.0


Test: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


def on_uvloop(test: Test) -> Callable[..., None]:
    """Let `test` run as on each loop, but on that of the product alone."""
    return on_each_loop(test, ["uvloop"])


def on_skipping_loop(test: Test) -> Callable[..., None]:
    """Let `test` run as on each loop, but on asyncio's alone, which can skip time."""
    return on_each_loop(test, ["asyncio"])


def on_each_loop(test: Test, loops: Iterable[str] = LOOPS) -> Callable[..., None]:
    """Let `test` run once on each loop, which is its own. Its other arguments are fixtures.

    It fails with TimeoutError after `GUARD` seconds, also if its loop turns no more.
    """

    def on_loop(loop: str, **arguments: Any) -> None:
        with _guard(), asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**arguments))

    own = list(inspect.signature(test).parameters.values())
    loop = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    on_loop.__dict__["__signature__"] = inspect.Signature([*own, loop])
    on_loop.__name__ = test.__name__
    on_loop.__doc__ = test.__doc__
    decorated: Callable[..., None] = pytest.mark.parametrize("loop", loops)(on_loop)
    return decorated


@contextmanager
def _guard() -> Iterator[None]:
    """Interrupt whatever runs after `GUARD` seconds, by a signal, for a loop may be stuck."""
    fired: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        fired.append(number)
        raise TimeoutError(_TOO_LONG)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, GUARD)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if fired:  # in a callback, whose loop went on
        raise TimeoutError(_TOO_LONG)


_TOO_LONG = f"the test must end within {GUARD:g} s"
