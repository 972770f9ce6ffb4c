"""Handlers of the signals that platforms, terminals and log rotation send.

| signal | sent by | effect |
|---|---|---|
| SIGTERM, SIGQUIT | platforms | begins the drain; a further one ends the current phase |
| SIGPWR | LXC, to stop a container | as SIGTERM |
| SIGINT | Ctrl-C | begins the drain without the lame duck; a further one ends the current phase |
| SIGHUP | a terminal that closes | as SIGINT, if standard input is a terminal |
| SIGUSR1 | a person, log rotation | the state of the process as a line in the log |
| SIGHUP, SIGUSR2, SIGALRM | log rotation, timers | none, but a line in the log |
| SIGPIPE, SIGXFSZ, SIGTTIN, SIGTTOU | the system, as a read or write fails | none |
| SIGWINCH, SIGCHLD, SIGURG | terminals, the system | none: that is the default of the system |
| SIGTSTP, SIGSTOP, SIGCONT | Ctrl-Z, debuggers, a freezer | the default: stops, and goes on later |

A signal after `POST /drain` is a first one. The read or write that causes a signal fails without
it too. A line for it could cause the next one.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

from sidecar import logs
from sidecar.process.drain import Drain

_STOP = (signal.SIGTERM, signal.SIGQUIT, signal.SIGPWR)
_LOGGED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTIN, signal.SIGTTOU)
_HANDLED = (*_STOP, signal.SIGINT, signal.SIGHUP, *_LOGGED)


def catch(drain: Drain) -> None:
    """Install the handlers, which control `drain`, on the running event loop."""
    loop = asyncio.get_running_loop()
    for number, handler in _handlers(drain, has_terminal=_has_terminal()):
        loop.add_signal_handler(number, handler)


def prepare(leave: Callable[[int, object], object]) -> None:
    """Until `catch`, call `leave` on signals that stop the process; ignore the others.

    `catch` does not change `_IGNORED`.
    """
    ignored = {*_IGNORED, *_LOGGED} | (set() if _has_terminal() else {signal.SIGHUP})
    for number in (*_HANDLED, *_IGNORED):
        signal.signal(number, signal.SIG_IGN if number in ignored else leave)


def show_by(show: Callable[[], None]) -> None:
    """From now on call `show` on SIGUSR1. After `catch`, on the same loop."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show)


def ignore() -> None:
    """Ignore all these signals, so that a process that has shut down keeps its status."""
    for number in _HANDLED:
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
    for number in _LOGGED:
        yield number, _log_only(number.name)


def _log_only(name: str) -> Callable[[], None]:
    def write() -> None:
        logs.event("signal ignored", signal=name)

    return write
