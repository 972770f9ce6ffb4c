"""The figures of a comparison as JSON, and as a table in Markdown."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import TypedDict


class Figures(TypedDict):
    """The figures of one system in one round."""

    rate: float  # requests a second
    cpu_us: float  # of all its processes, a request
    p50_ms: float
    p99_ms: float
    single_us: float  # p50 of one connection
    rss_mib: float  # of all its processes


class Run(TypedDict):
    """The conditions of a run."""

    date: str
    machine: str
    commit: str
    loader: str
    connections: int
    rounds: int
    seconds: float
    pinned: bool


class Report(TypedDict):
    """A whole run. `systems` holds the rounds of each; the first is the auth-api itself."""

    run: Run
    systems: dict[str, list[Figures]]
    left_out: dict[str, str]  # reasons, by system


_COLUMNS = ("system", "req/s", "CPU us", "p50 ms", "p99 ms", "added us", "RSS MiB")
_NONE = "-"


def markdown(report: Report) -> str:
    """Return the conditions, the table, and which systems were left out and why."""
    rows = [_COLUMNS, *_rows(report["systems"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_line(_padded(row, widths)) for row in (rows[0], rule, *rows[1:])]
    missing = [f"Left out: {name}: {reason}." for name, reason in report["left_out"].items()]
    return "\n".join([_conditions(report["run"]), "", *lines, "", *missing]).rstrip()


def _conditions(run: Run) -> str:
    pinned = "each system on one core" if run["pinned"] else "not pinned to cores"
    return (
        f"{run['date']}, commit {run['commit']}, {run['machine']}; {pinned};\n"
        f"{run['connections']} connections, medians of {run['rounds']} rounds of"
        f" {run['seconds']:g} s; {run['loader']}"
    )


def _rows(systems: Mapping[str, Sequence[Figures]]) -> Sequence[Sequence[str]]:
    direct = next(iter(systems.values()))
    return [_row(name, rounds, direct) for name, rounds in systems.items()]


def _row(name: str, rounds: Sequence[Figures], direct: Sequence[Figures]) -> Sequence[str]:
    added = [one["single_us"] - bare["single_us"] for one, bare in zip(rounds, direct, strict=True)]
    rss = statistics.median(one["rss_mib"] for one in rounds)
    # The processes of the auth-api belong to no system.
    own = [f"{statistics.median(one['cpu_us'] for one in rounds):,.0f}", f"{rss:.0f}"]
    cpu, memory = own if rss else [_NONE, _NONE]
    return (
        name,
        f"{statistics.median(one['rate'] for one in rounds):,.0f}",
        cpu,
        f"{statistics.median(one['p50_ms'] for one in rounds):.2f}",
        f"{statistics.median(one['p99_ms'] for one in rounds):.2f}",
        f"{statistics.median(added):,.0f}" if rss else _NONE,
        memory,
    )


def _padded(row: Sequence[str], widths: Sequence[int]) -> Sequence[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    """Return the kind of this machine, without its name."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"
