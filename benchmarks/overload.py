"""Measures overload: what becomes of the calls that are let in when five times too many come.

`make bench` runs it, in about half a minute. The auth-api of this benchmark takes a
tenth of a second for each answer, as one that hashes secrets does, so that the
capacity is what the limit of calls in flight makes it.
"""

import argparse
import asyncio
import statistics
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter

import uvloop

from tests.process import serving
from tests.upstream import TOKEN, Upstream, answer

LATENCY = 0.1  # seconds that the auth-api takes
IN_FLIGHT = 16
CAPACITY = IN_FLIGHT / LATENCY
BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"
REQUEST = (
    b"POST /v1/oauth/token HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
LOADS = (0.7, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The seconds that answers took, by their status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def add(self, status: int, seconds: float) -> None:
        """Add one answer."""
        self.seconds.setdefault(status, []).append(seconds)

    def percentile(self, status: int, percent: int) -> float:
        """Return below how many milliseconds so many of a hundred answers were."""
        values = self.seconds.get(status, [])
        return statistics.quantiles(values, n=100)[percent - 1] * 1000 if values[1:] else 0.0


class Pool:
    """Kept connections to the sidecar, as many as there are requests at once."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, outcomes: Outcomes) -> None:
        """Send one request and add its answer."""
        start = perf_counter()
        reader, writer = await self._take()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields[b"content-length"]))
        outcomes.add(int(head.split()[1]), perf_counter() - start)
        self._idle.append((reader, writer))

    async def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)

    def close(self) -> None:
        """Close all."""
        for _, writer in self._idle:
            writer.close()


async def offer(pool: Pool, rate: float, seconds: float) -> Outcomes:
    """Send `rate` requests a second, whatever becomes of those before."""
    outcomes = Outcomes()
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(start + number / rate - perf_counter())
            group.create_task(pool.send(outcomes))
    return outcomes


async def slowly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a token, after the time that a hash takes."""
    await asyncio.sleep(LATENCY)
    writer.write(answer(200, TOKEN))
    await writer.drain()


async def measure(seconds: float) -> None:
    """Print one row for each load."""
    async with Upstream() as upstream:
        upstream.script = slowly
        async with serving(
            "serve",
            auth_api_token_url=upstream.url,
            max_in_flight=str(IN_FLIGHT),
            max_client_calls="1000000",
            max_client_failures="1000000",
        ) as sidecar:
            host, _, port = sidecar.addresses["rest"].rpartition(":")
            pool = Pool(host, int(port))
            await offer(pool, CAPACITY / 2, 1.0)
            print(f"capacity {CAPACITY:.0f}/s: {IN_FLIGHT} calls at once of {LATENCY:g} s each")
            print("   load  offered/s  goodput/s  p50 ms  p99 ms  refused  p50 ms  p99 ms  others")
            for times in LOADS:
                outcomes = await offer(pool, times * CAPACITY, seconds)
                print(_row(times, seconds, outcomes))
                await asyncio.sleep(LATENCY * 2)
            pool.close()


def _row(times: float, seconds: float, outcomes: Outcomes) -> str:
    counts = Counter({status: len(values) for status, values in outcomes.seconds.items()})
    good, refused = counts.pop(200, 0), counts.pop(503, 0)
    return (
        f"{times:6.1f}x {times * CAPACITY:10.0f} {good / seconds:10.0f}"
        f" {outcomes.percentile(200, 50):7.0f} {outcomes.percentile(200, 99):7.0f}"
        f" {refused:8} {outcomes.percentile(503, 50):7.1f} {outcomes.percentile(503, 99):7.1f}"
        f" {counts.total():7}"
    )


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load lasts")
    uvloop.run(measure(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
