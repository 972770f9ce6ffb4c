"""The groups of signals, and what they do while the process starts.

It imports little, because `__main__` calls it before the imports that take time. `signals` says
what each signal does later.
"""

import os
import signal
from collections.abc import Callable

STOP = (signal.SIGTERM, signal.SIGQUIT, signal.SIGPWR)
LOGGED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
# A read or write that causes one of these fails without it too. A line could cause the next one.
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTIN, signal.SIGTTOU)
# The signals for which a serving process has a handler.
HANDLED = (*STOP, signal.SIGINT, signal.SIGHUP, *LOGGED)


def prepare(leave: Callable[[int, object], object]) -> None:
    """Until `signals.catch`, call `leave` on signals that stop the process; ignore the others.

    The first process of a container does not receive a signal without a handler. `leave` gets
    the number of the signal.
    """
    ignored = {*IGNORED, *LOGGED} | (set() if has_terminal() else {signal.SIGHUP})
    for number in (*HANDLED, *IGNORED):
        signal.signal(number, signal.SIG_IGN if number in ignored else leave)


def has_terminal() -> bool:
    """Return whether standard input is a terminal, which may close."""
    return os.isatty(0)
