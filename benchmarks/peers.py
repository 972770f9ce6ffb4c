"""Measures the sidecar beside its peers: `python -m benchmarks.peers`; `make bench` runs it.

Every system exchanges credentials for a token at an auth-api that answers at once. In each
round each system is loaded once; a figure is the median of the rounds. docs/performance.md
explains the columns.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from benchmarks import base_commit, loaders, peer_systems
from benchmarks.peer_report import Figures, Report, Run, machine, markdown
from benchmarks.peer_systems import DIRECT, SYSTEMS, System
from benchmarks.processes import Processes, children
from benchmarks.systems import on_cores, split_cores
from benchmarks.unavailable import UnavailableError
from sidecar.settings.types import Address
from tests.sidecar_process import ROOT, ToolError

CONNECTIONS = 32
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Running:
    """A system that serves."""

    system: System
    address: Address
    processes: Processes


@dataclass(frozen=True, slots=True)
class Bench:
    """How each system is loaded."""

    seconds: float
    by_protocol: Mapping[str, loaders.Loader]

    async def check(self, running: Running) -> None:
        """Warm it up. Our loader raises an error that names the system if an answer is wrong."""
        request, seconds = running.system.request, self.seconds / 4
        try:
            await loaders.ours(running.address, request, connections=1, seconds=seconds)
        except (ValueError, ConnectionError) as error:
            error.add_note(f"from: {running.system.name}")
            raise

    async def load(self, running: Running) -> Figures:
        """Return the figures of one round."""
        request, processes = running.system.request, running.processes
        loader = self.by_protocol[request.protocol]
        before = processes.cpu()
        load = await loader(running.address, request, connections=CONNECTIONS, seconds=self.seconds)
        cpu = processes.cpu() - before
        rss = processes.rss()
        single = await loader(running.address, request, connections=1, seconds=self.seconds / 4)
        return Figures(
            rate=load.rate,
            cpu_us=cpu / load.requests * 1e6,
            p50_ms=load.p50 * 1e3,
            p99_ms=load.p99 * 1e3,
            single_us=single.p50 * 1e6,
            rss_mib=rss / _MEBIBYTE,
        )


def main() -> None:
    """Do what the arguments say, and print the table."""
    arguments = _arguments()
    if not arguments.markdown:
        arguments.output.write_text(json.dumps(_report(arguments), indent=2) + "\n")
    print(markdown(json.loads(arguments.output.read_text())))


def _report(arguments: argparse.Namespace) -> Report:
    try:
        return uvloop.run(_measure(arguments))
    except ToolError as error:
        sys.exit(f"A command failed:\n{error}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="loads of each system")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load")
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="only systems whose names hold a NAME"
    )
    parser.add_argument("--base", metavar="COMMIT", help="measure the sidecar of COMMIT too")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "bench.json", help="file of the figures"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="measure nothing; print the table of that file"
    )
    return parser.parse_args()


async def _measure(arguments: argparse.Namespace) -> Report:
    measured, measuring = split_cores()
    by_protocol, loader = loaders.choose(arguments.seconds)
    bench = Bench(arguments.seconds, by_protocol)
    async with AsyncExitStack() as stack:
        systems = await _systems(stack, arguments)
        stack.enter_context(on_cores(measuring))
        auth_api = await stack.enter_async_context(peer_systems.auth_api())
        with on_cores(measured):  # which the processes of the systems inherit
            running, left_out = await _start(stack, systems, auth_api)
        rounds = await _rounds(bench, running, arguments.rounds)
    return Report(
        run=Run(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=machine(),
            commit=await base_commit.short_name("HEAD"),
            loader=loader,
            connections=CONNECTIONS,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            pinned=bool(measured),
        ),
        systems=rounds,
        left_out=left_out,
    )


async def _start(
    stack: AsyncExitStack, systems: Sequence[System], auth_api: Address
) -> tuple[Sequence[Running], dict[str, str]]:
    """Start the systems; return those that run, and why others cannot."""
    running, left_out = [], {}
    for system in systems:
        try:
            running.append(await stack.enter_async_context(_started(system, auth_api)))
        except UnavailableError as error:
            left_out[system.name] = str(error)
    return running, left_out


async def _systems(stack: AsyncExitStack, arguments: argparse.Namespace) -> Sequence[System]:
    systems: Sequence[System] = SYSTEMS
    if arguments.base:
        base = await stack.enter_async_context(base_commit.checked_out(arguments.base))
        systems = (*SYSTEMS[:2], *peer_systems.of_base(base), *SYSTEMS[2:])
    wanted = arguments.systems or [""]
    return [DIRECT, *(one for one in systems if any(name in one.name for name in wanted))]


@asynccontextmanager
async def _started(system: System, auth_api: Address) -> AsyncIterator[Running]:
    before = children()
    async with system.start(auth_api) as address:
        yield Running(system, address, Processes(children() - before))


async def _rounds(
    bench: Bench, running: Sequence[Running], rounds: int
) -> dict[str, list[Figures]]:
    """Return the figures of each system by round. The systems take turns."""
    for one in running:
        await bench.check(one)
    figures: dict[str, list[Figures]] = {one.system.name: [] for one in running}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for one in running:
            figures[one.system.name].append(await bench.load(one))
    return figures


if __name__ == "__main__":
    main()
