"""Rates of systems that take turns, and their rows of a table."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks import load
from sidecar.settings.types import Address

ENVOY = "Envoy"
OURS = ("ours", "divided")
COLUMNS = " ".join(f"{name:>7}" for name in (*OURS, ENVOY))


async def rates(
    systems: Mapping[str, Address], request: bytes, *, rounds: int, seconds: float
) -> Mapping[str, Sequence[float]]:
    """Return the responses a second of each system, by round; each round lasts `seconds`."""
    by_name: dict[str, list[float]] = {name: [] for name in systems}
    for address in systems.values():
        await load.rate(address, request, seconds=seconds / 2)
    for _ in range(rounds):
        for name, address in systems.items():
            by_name[name].append(await load.rate(address, request, seconds=seconds))
    return by_name


def row(by_name: Mapping[str, Sequence[float]], *, unit: int = 1) -> str:
    """Return the medians of OURS and ENVOY, and the ratios to ENVOY, if it was measured.

    `unit` is what a response counts for.
    """
    medians = " ".join(f"{statistics.median(found) * unit:7.0f}" for found in by_name.values())
    theirs = by_name.get(ENVOY)
    if theirs is None:
        return f"{medians}       -   (Envoy is not installed)"
    return f"{medians}   {'; '.join(_ratios(by_name[name], theirs) for name in OURS)}"


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the smallest, the median and the greatest ratio of a round."""
    found = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = (min(found), statistics.median(found), max(found))
    return ", ".join(f"{ratio:.2f}" for ratio in spread)
