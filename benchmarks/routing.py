"""Measures the router: many rules, and paths that might take long."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter

from google.api.http_pb2 import HttpRule

from sidecar.transcoding.errors import PathNotFoundError, SchemaViolations
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import Rule, read_rules
from tests.transcoding import library


def best(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of three runs, which others disturbed least."""
    times = []
    for _ in range(3):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


def measure(sizes: Sequence[int]) -> None:
    """Print how long routers of these sizes take, and what long paths take."""
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
    router, violations = Router[int](), SchemaViolations()
    method = library.method("Get", HttpRule(get=template))
    for rule in read_rules([library.service(method)], violations):
        router.add(rule, 0)
    violations.check()
    return f"{best(lambda: _search(router, path)) * 1e3:8.2f} ms"


def _told_of_router(size: int) -> str:
    rules = _rules(size)
    start = perf_counter()
    router = Router[int]()
    for number, rule in enumerate(rules):
        router.add(rule, number)
    made = perf_counter() - start
    paths = [_path(number) for number in range(size)]
    found = best(lambda: [router.find("GET", path) for path in paths]) / size
    return f"{made * 1e3:8.1f} ms {found * 1e6:8.2f} us"


_TEMPLATES = ("", "/{name}", "/{name}/themes/{theme}", "/files/{name=**}:check")
_ENDS = ("", "/a", "/a/themes/b", "/files/a/b/c:check")


def _rules(size: int) -> Sequence[Rule]:
    templates = (f"/v1/things{number // 4}{_TEMPLATES[number % 4]}" for number in range(size))
    methods = (
        library.method(f"Get{number}", HttpRule(get=template))
        for number, template in enumerate(templates)
    )
    violations = SchemaViolations()
    rules = read_rules([library.service(*methods)], violations)
    violations.check()
    return rules


def _path(number: int) -> str:
    return f"/v1/things{number // 4}{_ENDS[number % 4]}"


def _search(router: Router[int], path: str) -> None:
    with suppress(PathNotFoundError):
        router.find("GET", path)
