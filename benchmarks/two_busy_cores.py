"""How much slower a calculation is while another one runs on the other core.

The two cores of a machine may share caches, a memory bus or, as virtual ones, a real core. Then
work that has nothing in common takes more CPU time on both at once. What two replicas cost more
than one is compared with this.
"""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

# Runs on the cores in its arguments. It allocates and reads small objects, as a server in Python
# does, and prints its CPU time in seconds.
_CALCULATION = """
import os, sys, time
if sys.argv[1:]:
    os.sched_setaffinity(0, map(int, sys.argv[1:]))
start = time.process_time()
kept = {}
for number in range(1_000_000):
    kept[number & 1023] = (number, str(number & 63))
print(time.process_time() - start)
"""


async def slowdown(pair: Sequence[AbstractSet[int]]) -> float:
    """Return the CPU time of a calculation on both of `pair` at once, as a multiple of one alone.

    Each of `pair` are the cores of one calculation.
    """
    alone = [await _cpu_time(cores) for cores in pair]
    both = await asyncio.gather(*map(_cpu_time, pair))
    return statistics.mean(both) / statistics.mean(alone)


async def _cpu_time(cores: AbstractSet[int]) -> float:
    """Return the CPU time of the calculation on `cores`, in seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CALCULATION, *map(str, cores), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return float(output)
