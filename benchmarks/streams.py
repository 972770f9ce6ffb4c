"""Measures streams of responses: messages a second in each framing, beside Envoy.

`make bench` runs it, in about half a minute. What is compared and how is in docs/transcoding.md.
"""

import argparse
import asyncio
import http.client
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import uvloop

from benchmarks import load, sample, turns
from benchmarks.systems import (
    envoys_system,
    on_cores,
    our_divided_system,
    our_system,
    split_cores,
)
from sidecar.settings.types import Address
from tests.sidecar_process import BIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """A framing: how to ask us for it, how to configure Envoy, and how to read its messages."""

    accept: str
    envoy: Mapping[str, bool]
    read: Callable[[bytes], Sequence[Any]]


def _read_lines(body: bytes) -> Sequence[Any]:
    return [json.loads(line) for line in body.splitlines()]


def _read_events(body: bytes) -> Sequence[Any]:
    lines = (line.partition(b": ") for line in body.splitlines())
    return [json.loads(value) for name, _, value in lines if name == b"data"]


_LINES = MappingProxyType({"stream_newline_delimited": True})
FRAMINGS: Mapping[str, Framing] = MappingProxyType(
    {
        "array": Framing(accept="application/json", envoy=MappingProxyType({}), read=json.loads),
        "lines": Framing(accept="application/x-ndjson", envoy=_LINES, read=_read_lines),
        "events": Framing(
            accept="text/event-stream",
            envoy=MappingProxyType({**_LINES, "stream_sse_style_delimited": True}),
            read=_read_events,
        ),
    }
)


def main() -> None:
    """Run what the arguments say and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=0.8, help="how long each time")
    parser.add_argument("--messages", type=int, default=100, help="messages of a stream")
    arguments = parser.parse_args()
    uvloop.run(_compare(arguments.messages, arguments.rounds, arguments.seconds))


async def _compare(messages: int, rounds: int, seconds: float) -> None:
    measured, _ = split_cores()
    pinned = "each system on one core" if measured else "not pinned to cores"
    print(f"\nStreams of {messages} messages, {load.CONNECTIONS} connections, {pinned};")
    print("messages a second\n")
    print(f"{'framing':>11} {turns.COLUMNS}   to Envoy: ours (min, median, max), and divided")
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(our_system(measured))
        divided = await stack.enter_async_context(our_divided_system(measured))
        for name, framing in FRAMINGS.items():
            alone = {"ours": ours, "divided": divided}
            async with _with_envoy(alone, measured, framing) as systems:
                rates = await _rates(systems, framing, messages, rounds, seconds)
            print(f"{name:>11} {turns.row(rates, unit=messages)}")


@asynccontextmanager
async def _with_envoy(
    systems: Mapping[str, Address], cores: AbstractSet[int], framing: Framing
) -> AsyncIterator[Mapping[str, Address]]:
    """Yield `systems`, with an Envoy that has this framing if it is installed."""
    if not shutil.which("envoy", path=str(BIN)):
        yield systems
        return
    async with envoys_system(cores, framing.envoy) as envoy:
        yield {**systems, turns.ENVOY: envoy}


async def _rates(
    systems: Mapping[str, Address], framing: Framing, messages: int, rounds: int, seconds: float
) -> Mapping[str, Sequence[float]]:
    path = f"/v1/watch/{messages}"
    for address in systems.values():
        await asyncio.to_thread(_check, address, path, framing, messages)
    request = load.get(path, framing.accept)
    _, measuring = split_cores()
    with on_cores(measuring):
        return await turns.rates(systems, request, rounds=rounds, seconds=seconds)


def _check(address: Address, path: str, framing: Framing, messages: int) -> None:
    """Raise AssertionError unless the stream at `address` has the volumes of the sample."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    connection.request("GET", path, headers={"Accept": framing.accept})
    response = connection.getresponse()
    expected = json.loads(sample.body_of(messages))["volumes"]
    if response.status != 200 or framing.read(response.read()) != expected:
        raise AssertionError(f"{address} does not stream the volumes")
    connection.close()


if __name__ == "__main__":
    main()
