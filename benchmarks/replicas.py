"""Measures one and two replicas of the sidecar behind haproxy: `python -m benchmarks.replicas`.

`make replicas` runs it, in about a minute. It needs haproxy, and wrk for its best figures.
haproxy, the auth-api and the load generator take CPU time too, so two replicas on two cores are
compared with one replica that shares one core with all of them. docs/scaling.md explains the
rows and columns.
"""

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks import loaders, peer_systems
from benchmarks.load import Load
from benchmarks.peer_report import machine
from benchmarks.processes import Processes, children
from benchmarks.systems import on_cores, split_cores
from benchmarks.token_request import FORM
from benchmarks.two_busy_cores import slowdown
from sidecar.settings.types import Address
from tests.faults.front import balanced
from tests.faults.wire import host_and_port
from tests.sidecar_process import SIDECAR, Sidecar, serving

CONNECTIONS = 32
# A replica has a core, and the rest another one; all share a core; all share two cores.
OWN, ONE, TWO = "one, own core", "one, one core", "two, two cores"
_MEBIBYTE = 1024 * 1024
_MANY = "1000000"  # a limit that no load reaches
# The sidecar with a cheap reader of its log, which passes one line on. It is no child of the
# sidecar, so that its CPU time is not counted as that of the sidecar.
_PROGRAM = (
    "bash",
    "-c",
    """exec "$0" "$@" > >(exec 3<&0; grep --line-buffered '"message": "serving"' <&3 &)""",
    *SIDECAR,
)
_HEAD = "replicas        req/s  p50 ms  p99 ms  sidecar  haproxy  auth-api  load  cores  other  MiB"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Replicas, the haproxy in front of them, and where requests go.

    `cores` are those of haproxy, the auth-api and the load generator.
    """

    cores: AbstractSet[int]
    address: Address
    replicas: Sequence[Processes]
    haproxy: Processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The outcome of one load. CPU times are in microseconds per request."""

    rate: float  # requests a second
    p50_ms: float
    p99_ms: float
    sidecar: float
    haproxy: float
    auth_api: float
    load: float  # the load generator
    cores: float  # that the sidecars had
    other: float  # cores that everything else on this machine had: near 0 if it is quiet
    mib: float  # resident memory of one replica

    def row(self, name: str) -> str:
        """Return a row of the table."""
        return (
            f"{name:14} {self.rate:7,.0f} {self.p50_ms:7.1f} {self.p99_ms:7.1f}"
            f" {self.sidecar:8,.0f} {self.haproxy:8,.0f} {self.auth_api:9,.0f} {self.load:5,.0f}"
            f" {self.cores:6.2f} {self.other:6.2f} {self.mib:4.0f}"
        )


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="loads of each arrangement")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    arguments = parser.parse_args()
    if not shutil.which("haproxy", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin"))):
        sys.exit("haproxy is not installed")
    uvloop.run(_run(arguments.rounds, arguments.seconds))


async def _run(rounds: int, seconds: float) -> None:
    """Load each arrangement once in each round, and print the medians."""
    by_protocol, loader = loaders.choose(seconds)
    load = partial(by_protocol[FORM.protocol], connections=CONNECTIONS, seconds=seconds)
    print(f"{machine()}; {CONNECTIONS} connections, medians of {rounds} rounds of {seconds:g} s")
    print(loader)
    figures: dict[str, list[Figures]] = {OWN: [], ONE: [], TWO: []}
    slowdowns = []
    async with _started() as (auth_api, arrangements):
        for one in chain.from_iterable(arrangements.values()):
            await loaders.ours(one.address, FORM, connections=1, seconds=seconds / 4)
        for number, name in product(range(rounds), arrangements):
            # Each replica alone in turn, because processes differ a little.
            chosen = arrangements[name][number % len(arrangements[name])]
            auth_api.move(chosen.cores)
            with on_cores(chosen.cores):
                figures[name].append(await _figures(load, chosen, auth_api))
            slowdowns.append(await slowdown(split_cores()))
    print(_HEAD)
    for name, seen in figures.items():
        print(_medians(seen).row(name))
    for name in (ONE, OWN):
        print(f"{TWO} : {name} = {_comparison(figures[name], figures[TWO])}")
    print(f"a calculation on each core at once: {statistics.median(slowdowns) - 1:+.1%} CPU")


@asynccontextmanager
async def _started() -> AsyncIterator[tuple[Processes, Mapping[str, Sequence[Arrangement]]]]:
    """Start everything, and give the auth-api and the arrangements by name."""
    pair = split_cores()
    async with AsyncExitStack() as stack:
        before = children()
        address = await stack.enter_async_context(peer_systems.auth_api())
        auth_api = Processes(children() - before)
        replicas = []
        for cores in pair:
            with on_cores(cores):
                replicas.append(await stack.enter_async_context(_replica(address)))

        async def behind(replicas: Sequence[Sidecar], cores: AbstractSet[int]) -> Arrangement:
            with on_cores(cores):  # which haproxy inherits
                return await stack.enter_async_context(_behind(replicas, cores))

        own = [await behind([one], pair[1 - n]) for n, one in enumerate(replicas)]
        shared = [await behind([one], pair[n]) for n, one in enumerate(replicas)]
        yield auth_api, {OWN: own, ONE: shared, TWO: [await behind(replicas, pair[0] | pair[1])]}


def _replica(auth_api: Address) -> AbstractAsyncContextManager[Sidecar]:
    return serving(
        "serve",
        program=_PROGRAM,
        auth_api_token_url=f"http://{auth_api.host}:{auth_api.port}/v1/oauth/token",
        trusted_proxies="1",
        max_in_flight="1000",
        max_client_calls=_MANY,
        max_client_failures=_MANY,
        max_address_failures=_MANY,
    )


@asynccontextmanager
async def _behind(
    replicas: Sequence[Sidecar], cores: AbstractSet[int]
) -> AsyncIterator[Arrangement]:
    """Run haproxy in front of `replicas`."""
    before = children()
    with tempfile.TemporaryDirectory() as folder:
        async with balanced(Path(folder), [one.addresses for one in replicas]) as addresses:
            haproxy = Processes(children() - before)
            processes = [Processes([one.pid]) for one in replicas]
            yield Arrangement(cores, Address(*host_and_port(addresses["rest"])), processes, haproxy)


async def _figures(
    load: "partial[Coroutine[Any, Any, Load]]", arrangement: Arrangement, auth_api: Processes
) -> Figures:
    """Return the figures of one load."""

    def cpu() -> Sequence[float]:
        sidecars = sum(one.cpu() for one in arrangement.replicas)
        return sidecars, arrangement.haproxy.cpu(), auth_api.cpu(), _own_cpu(), _busy()

    before = cpu()
    outcome = await load(arrangement.address, FORM)
    spent = [end - start for start, end in zip(before, cpu(), strict=True)]
    each = [seconds / outcome.requests * 1e6 for seconds in spent]
    return Figures(
        rate=outcome.rate,
        p50_ms=outcome.p50 * 1e3,
        p99_ms=outcome.p99 * 1e3,
        sidecar=each[0],
        haproxy=each[1],
        auth_api=each[2],
        load=each[3],
        cores=each[0] * outcome.rate / 1e6,
        other=max(0.0, each[4] - sum(each[:4])) * outcome.rate / 1e6,
        mib=max(one.rss() for one in arrangement.replicas) / _MEBIBYTE,
    )


def _own_cpu() -> float:
    """Return the CPU time of this process, and of its children that have ended, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _busy() -> float:
    """Return the CPU time that all processes of this machine have used, in seconds."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def _medians(figures: Sequence[Figures]) -> Figures:
    names = Figures.__dataclass_fields__
    return Figures(
        **{name: statistics.median(getattr(one, name) for one in figures) for name in names}
    )


def _comparison(one: Sequence[Figures], two: Sequence[Figures]) -> str:
    pairs = list(zip(one, two, strict=True))
    rate = statistics.median(double.rate / single.rate for single, double in pairs)
    cpu = statistics.median(double.sidecar / single.sidecar for single, double in pairs)
    return f"{rate:.2f} times the requests, {cpu - 1:+.1%} CPU of the sidecar a request"


if __name__ == "__main__":
    main()
