"""Blocking work in a daemon thread, whose caller may be cancelled at any time."""

import asyncio
import threading

import pytest

from sidecar.process import daemon_thread


async def test_a_caller_that_leaves_before_the_thread_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine the caller may be cancelled first; the thread ends in peace then."""
    threads: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        threads.append(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        task = asyncio.create_task(daemon_thread.run(lambda: None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    (thread,) = threads
    thread.run()
    assert task.cancelled()
