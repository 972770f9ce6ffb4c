"""Blocking work in a daemon thread that shutdown does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def run(work: Callable[[], T]) -> T:
    """Return the result of `work`, or raise its exception.

    For example, a read of a file on a mount whose server is gone may block for ever.
    Shutdown waits for the threads of the event loop's executor, but not for this one.
    """
    done: Future[T] = Future()
    # It cannot be cancelled from here on. In the thread this would come too late for a caller
    # that is cancelled at once.
    done.set_running_or_notify_cancel()

    def work_and_settle() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 it is raised where it is awaited
            done.set_exception(error)

    threading.Thread(target=work_and_settle, daemon=True).start()
    return await asyncio.wrap_future(done)
