"""Work that may never end, in a thread that the end of the process does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def run(work: Callable[[], T]) -> T:
    """Return what `work` does, or raise what it raises.

    A read of a file, for one, may never end where that is on a mount whose other side
    is gone. The threads of the event loop are waited for.
    """
    done: Future[T] = Future()

    def work_and_settle() -> None:
        done.set_running_or_notify_cancel()  # which keeps it from being cancelled later
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 it is raised where it is awaited
            done.set_exception(error)

    threading.Thread(target=work_and_settle, daemon=True).start()
    return await asyncio.wrap_future(done)
