"""Handlers of the signals that platforms, terminals and log rotation send.

| signal | sent by | effect |
|---|---|---|
| SIGTERM, SIGQUIT | platforms | begins the drain; a further one ends the current phase |
| SIGINT | a person at a terminal | begins the drain without the lame duck |
| SIGHUP | a terminal that closes | as SIGINT, if standard input is a terminal |
| SIGHUP, SIGUSR1, SIGUSR2 | log rotation | none, but a line in the log |
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

from sidecar import logs
from sidecar.process.drain import Drain

_STOP = (signal.SIGTERM, signal.SIGQUIT)
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
_ALL = (*_STOP, signal.SIGINT, signal.SIGHUP, *_IGNORED)


def catch(drain: Drain) -> None:
    """Install the handlers, which control `drain`, on the running event loop."""
    loop = asyncio.get_running_loop()
    for number, handler in _handlers(drain, has_terminal=_has_terminal()):
        loop.add_signal_handler(number, handler)


def prepare(leave: Callable[[int, object], object]) -> None:
    """Until `catch`, call `leave` on signals that stop the process; ignore the others."""
    has_terminal = _has_terminal()
    for number in _ALL:
        is_ignored = number in _IGNORED or (number == signal.SIGHUP and not has_terminal)
        signal.signal(number, signal.SIG_IGN if is_ignored else leave)


def ignore() -> None:
    """Ignore all these signals, so that a process that has shut down keeps its status."""
    for number in _ALL:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def stop_handler(name: str, stop: Callable[[], None]) -> Callable[[], None]:
    """Return a handler that logs `name` as the source of the request, and calls `stop`."""

    def handler() -> None:
        logs.event("stop requested", by=name)
        stop()

    return handler


def _has_terminal() -> bool:
    """Whether standard input is a terminal, which may close."""
    return os.isatty(0)


def _handlers(
    drain: Drain, *, has_terminal: bool
) -> Iterator[tuple[signal.Signals, Callable[[], None]]]:
    for number in _STOP:
        yield number, stop_handler(number.name, drain.hasten)
    yield signal.SIGINT, stop_handler("SIGINT", drain.interrupt)
    hang_up = stop_handler("SIGHUP", drain.interrupt) if has_terminal else _log_only("SIGHUP")
    yield signal.SIGHUP, hang_up
    for number in _IGNORED:
        yield number, _log_only(number.name)


def _log_only(name: str) -> Callable[[], None]:
    def write() -> None:
        logs.event("signal ignored", signal=name)

    return write
