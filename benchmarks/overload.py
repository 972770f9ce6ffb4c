"""Measures overload: what becomes of the calls that are let in when many more come.

`make overload` runs it, in about a minute. There are two limits that a sidecar meets: the
calls at once, where the auth-api takes its time, as one does that hashes secrets; and
its own core, where the auth-api does not.
"""

import argparse
import asyncio
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import uvloop

from tests.sidecar_process import serving, started

BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"
REQUEST = (
    b"POST /v1/oauth/token HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
LOADS = (0.7, 1.0, 2.0, 3.0, 5.0)
CONNECTIONS = 900
MANY = "1000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A limit to be met, and how: seconds that an answer takes, calls at once, callers."""

    name: str
    latency: float
    in_flight: int
    callers: int


CASES = (
    Case(name="limited by calls at once", latency=0.1, in_flight=16, callers=16),
    Case(name="limited by its core", latency=0.0, in_flight=32, callers=8),
)


@dataclass(slots=True)
class Outcomes:
    """The seconds that answers took, by their status, and the calls that nobody could send."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    unsent: int = 0

    def percentile(self, status: int, percent: int) -> float:
        """Return below how many milliseconds so many of a hundred answers were."""
        values = self.seconds.get(status, [])
        return statistics.quantiles(values, n=100)[percent - 1] * 1000 if values[1:] else 0.0


class Caller(asyncio.Protocol):
    """A connection that is kept. It costs little, for it shares the machine with what it loads."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        """Send one request."""
        self._start = perf_counter()
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Tell the answer, once it is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        if end and len(body) == int(length):
            self._received = b""
            self._load.add(self, int(head[9:12]), perf_counter() - self._start)


class Load:
    """Sends requests over its connections, and keeps the outcomes."""

    def __init__(self) -> None:
        self.outcomes = Outcomes()
        self._idle: list[Caller] = []
        self._goes_on_until = 0.0

    async def connect(self, host: str, port: int) -> None:
        """Open all connections."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, caller = await loop.create_connection(lambda: Caller(self), host, port)
            self._idle.append(caller)

    def add(self, caller: Caller, status: int, seconds: float) -> None:
        """Add an outcome; the caller is idle again, or goes on."""
        self.outcomes.seconds.setdefault(status, []).append(seconds)
        if perf_counter() < self._goes_on_until:
            caller.send()
        else:
            self._idle.append(caller)

    async def circle(self, callers: int, seconds: float) -> Outcomes:
        """Let each of so many callers send again as soon as it is answered."""
        self.outcomes = Outcomes()
        self._goes_on_until = perf_counter() + seconds
        for _ in range(callers):
            self._idle.pop().send()
        await asyncio.sleep(seconds)
        while len(self._idle) < CONNECTIONS:  # noqa: ASYNC110 each has an answer to come
            await asyncio.sleep(0.01)
        return self.outcomes

    async def offer(self, rate: float, seconds: float) -> tuple[Outcomes, float]:
        """Send `rate` requests a second, whatever becomes of those before.

        Returns what was answered by then, and how long it took.
        """
        self.outcomes = Outcomes()
        start = perf_counter()
        for number in range(int(rate * seconds)):
            wait = start + number / rate - perf_counter()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)
            if self._idle:
                self._idle.pop().send()
            else:
                self.outcomes.unsent += 1
        took, outcomes = perf_counter() - start, self.outcomes
        self.outcomes = Outcomes()
        await asyncio.sleep(min(seconds, 1))
        return outcomes, took

    def close(self) -> None:
        """Close all that is idle."""
        for caller in self._idle:
            caller.transport.close()


async def measure(case: Case, loads: Sequence[float], seconds: float) -> None:
    """Print the table of `case`, a row for each of `loads`."""
    program = (sys.executable, "-m", "benchmarks.auth_api", str(case.latency))
    async with started(*program) as auth_api:
        address = (await auth_api.log.find("listening")).split()[-1]
        async with serving(
            "serve",
            auth_api_token_url=f"http://{address}/token",
            max_in_flight=str(case.in_flight),
            max_client_calls=MANY,
            max_client_failures=MANY,
            max_address_failures=MANY,
            # Connections wait for their turn without a word.
            header_timeout="100s",
            request_timeout="110s",
            drain_timeout="120s",
            termination_grace="130s",
            lame_duck="0s",
        ) as sidecar:
            host, _, port = sidecar.addresses["rest"].rpartition(":")
            load = Load()
            await load.connect(host, int(port))
            await load.circle(case.callers, seconds / 4)
            alone = await load.circle(case.callers, seconds)
            capacity = len(alone.seconds[200]) / seconds
            print(f"{case.name}: {capacity:.0f}/s by {case.callers} callers in turn")
            print("  load  offered/s  goodput/s     p50 ms  p99 ms  refused/s  p99 ms  others")
            for times in loads:
                outcomes, took = await load.offer(times * capacity, seconds)
                print(_row(times, capacity, took, outcomes))
            load.close()


def _row(times: float, capacity: float, took: float, outcomes: Outcomes) -> str:
    counts = Counter({status: len(values) for status, values in outcomes.seconds.items()})
    good, refused = counts.pop(200, 0) / took, counts.pop(503, 0) / took
    return (
        f"{times:5.1f}x {times * capacity:9.0f} {good:10.0f} {good / capacity:4.0%}"
        f" {outcomes.percentile(200, 50):7.0f} {outcomes.percentile(200, 99):7.0f}"
        f" {refused:10.0f} {outcomes.percentile(503, 99):7.1f}"
        f" {counts.total() + outcomes.unsent:7}"
    )


async def run(cases: int, loads: Sequence[float], seconds: float) -> None:
    """Print the tables of the first `cases`."""
    for case in CASES[:cases]:
        await measure(case, loads, seconds)


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load lasts")
    parser.add_argument(
        "--cases", type=int, default=len(CASES), help="measure only so many of the tables"
    )
    parser.add_argument(
        "--loads", type=float, nargs="+", default=LOADS, help="multiples of the capacity"
    )
    arguments = parser.parse_args()
    uvloop.run(run(arguments.cases, arguments.loads, arguments.seconds))


if __name__ == "__main__":
    main()
