"""Exchanges as fast as they go, with a client and a server in this process; prints what it took.

`python -m tests.faults.sustaining COUNT`
"""

import asyncio
import json
import sys
from collections import deque

import psutil
import uvloop

from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.problems import ProblemError
from sidecar.secret import Secret
from tests.faults.scripted import KeepAlive

CREDENTIALS = ClientCredentials(
    client_id=Secret("partner"), client_secret=Secret("secret"), authorization=None, encoded=()
)
AT_ONCE = 32
TIMEOUTS = Timeouts(connect=20, one_try=25, total=26)


async def exchange(api: AuthApi, count: int) -> int:
    """Exchange `count` times, one after the other; return how many failed."""
    failed = 0
    for _ in range(count):
        try:
            await api.exchange(CREDENTIALS, deadline=None)
        except ProblemError:
            failed += 1
    return failed


async def main(count: int) -> None:
    """Run and print."""
    process = psutil.Process()
    async with KeepAlive(60) as server, AuthApi(server.url, TIMEOUTS) as api:
        await asyncio.gather(*(exchange(api, 20) for _ in range(AT_ONCE)))
        before = (process.memory_info().rss, process.num_fds())
        server.requests = deque(maxlen=1)  # else they would be what grows
        failed = sum(
            await asyncio.gather(*(exchange(api, count // AT_ONCE) for _ in range(AT_ONCE)))
        )
        after = (process.memory_info().rss, process.num_fds())
        connections = server.connections
    print(  # noqa: T201 its only output
        json.dumps(
            {
                "failed": failed,
                "connections": connections,
                "grown": after[0] - before[0],
                "descriptors": after[1] - before[1],
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
