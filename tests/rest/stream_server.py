"""A process that serves streams, as tests/rest/streaming.py does, until its input ends.

It prints its address; for each line of its input it prints the number of open streams.
"""

import asyncio
import logging
import sys

import uvloop

from tests.rest.streaming import serving


async def main() -> None:
    """Serve."""
    async with serving(streams=64) as scene:
        print(scene.address, flush=True)  # noqa: T201 the parent reads it
        while await asyncio.to_thread(sys.stdin.readline):
            print(scene.admission.counts.streams, flush=True)  # noqa: T201 as above


if __name__ == "__main__":
    logging.disable()  # streams that fail on purpose have a line each
    uvloop.run(main())
