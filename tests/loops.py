"""Decorators that run a test on asyncio's loop, which can skip time, and on uvloop."""

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
    """Run `test` on uvloop only, as the product does."""
    return on_each_loop(test, ["uvloop"])


def on_skipping_loop(test: Test) -> Callable[..., None]:
    """Run `test` on asyncio's loop only, which can skip time."""
    return on_each_loop(test, ["asyncio"])


def on_each_loop(test: Test, loops: Iterable[str] = LOOPS) -> Callable[..., None]:
    """Run `test` once on each loop, always a new one. Its other arguments are fixtures.

    It fails with TimeoutError after `GUARD` seconds, even if its loop is blocked.
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
    """Interrupt the context after `GUARD` seconds. By a signal, because the loop may be blocked."""
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
    if fired:  # it was raised in a callback, after which the loop went on
        raise TimeoutError(_TOO_LONG)


_TOO_LONG = f"the test must end within {GUARD:g} s"
