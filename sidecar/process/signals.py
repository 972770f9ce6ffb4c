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
| SIGWINCH, SIGCHLD, SIGURG | terminals, the system | none: the default of the system |
| SIGTSTP, SIGSTOP, SIGCONT | Ctrl-Z, debuggers | stops, and goes on: the default of the system |

A signal after `POST /drain` is a first one. While the process starts, the signals that begin the
drain end it at once, and the others have no effect (`startup_signals`).
"""

import asyncio
import signal
from collections.abc import Callable, Iterator

from sidecar import logs
from sidecar.process import startup_signals
from sidecar.process.drain import Drain
from sidecar.process.startup_signals import HANDLED, LOGGED, STOP


def catch(drain: Drain) -> None:
    """Install the handlers, which control `drain`, on the running event loop."""
    loop = asyncio.get_running_loop()
    for number, handler in _handlers(drain, has_terminal=startup_signals.has_terminal()):
        loop.add_signal_handler(number, handler)


def show_by(show: Callable[[], None]) -> None:
    """From now on call `show` on SIGUSR1. After `catch`, on the same loop."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show)


def ignore() -> None:
    """Ignore all these signals, so that a process that has shut down keeps its status."""
    for number in HANDLED:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def stop_handler(name: str, stop: Callable[[], None]) -> Callable[[], None]:
    """Return a handler that logs `name` as the source of the request, and calls `stop`."""

    def handler() -> None:
        logs.event("stop requested", by=name)
        stop()

    return handler


def _handlers(
    drain: Drain, *, has_terminal: bool
) -> Iterator[tuple[signal.Signals, Callable[[], None]]]:
    for number in STOP:
        yield number, stop_handler(number.name, drain.hasten)
    yield signal.SIGINT, stop_handler("SIGINT", drain.interrupt)
    hang_up = stop_handler("SIGHUP", drain.interrupt) if has_terminal else _log_only("SIGHUP")
    yield signal.SIGHUP, hang_up
    for number in LOGGED:
        yield number, _log_only(number.name)


def _log_only(name: str) -> Callable[[], None]:
    def write() -> None:
        logs.event("signal ignored", signal=name)

    return write
