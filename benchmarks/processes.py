"""CPU time and memory of the processes of one system."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import psutil


def children() -> AbstractSet[int]:
    """Return the ids of the processes that this process started and that still run."""
    return {process.pid for process in psutil.Process().children()}


class Processes:
    """Some processes, with all that they started."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._roots = [psutil.Process(process_id) for process_id in ids]

    def cpu(self) -> float:
        """Return their CPU time so far in seconds, in user mode and in the kernel."""
        times = (process.cpu_times() for process in self._all())
        return sum(time.user + time.system for time in times)

    def rss(self) -> int:
        """Return their resident memory in bytes. Shared pages count in each process."""
        return sum(process.memory_info().rss for process in self._all())

    def move(self, cores: AbstractSet[int]) -> None:
        """Run all of them on `cores` from now on, or where they are if it is empty.

        Threads other than the first stay where they are.
        """
        if cores:
            for process in self._all():
                process.cpu_affinity([*cores])

    def _all(self) -> Iterable[psutil.Process]:
        for root in self._roots:
            yield root
            yield from root.children(recursive=True)
