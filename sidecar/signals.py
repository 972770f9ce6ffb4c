"""What the signals of the system do: the wishes of whoever runs the process."""

import asyncio
import signal
from collections.abc import Callable

from sidecar import logs
from sidecar.drain import Drain


def catch(drain: Drain) -> None:
    """Begin to drain at the first signal; let each further one hasten it.

    SIGINT is what a person sends, whose calls nobody routes.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, obey("SIGTERM", drain.hasten))
    loop.add_signal_handler(signal.SIGINT, obey("SIGINT", drain.interrupt))


def ignore() -> None:
    """Let no signal spoil the status of a process that has done what signals ask for."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def obey(name: str, wish: Callable[[], None]) -> Callable[[], None]:
    """Return what fulfils `wish`, and writes who had it."""

    def fulfil() -> None:
        logs.event("told to stop", by=name)
        wish()

    return fulfil
