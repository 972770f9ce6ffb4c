"""Shared fixtures: one sidecar with a scripted upstream, which each test finds reset."""

import gc
import os
import sys
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager

import pytest
import pytest_asyncio
from coverage import Coverage

from tests.ways import WAYS, Deployment, Way, open_deployment

# By these coverage measures the Python processes that a process starts.
_COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Start three workers for two cores under `-n auto`: tests also wait for other processes."""
    cores = yield
    return cores * 3 // 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected: nearly all that is made then stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let coverage not measure random examples, nor the cases that are marked as `unmeasured`.

    Measuring doubles their time, and 100 % that depended on random examples would be luck. Only
    the trace function of this thread is removed: other threads are measured all the time.
    """
    trace = sys.gettrace()
    is_paused = any(map(item.get_closest_marker, ("hypothesis", "unmeasured")))
    if not is_paused or Coverage.current() is None:
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)


@pytest.fixture(scope="session", autouse=True)
def _coverage() -> Mapping[str, str]:
    """Let coverage not measure the processes of tests, because that adds a third to a start."""
    return {name: os.environ.pop(name) for name in _COVERAGE if name in os.environ}


@pytest.fixture(scope="module")
def measured(_coverage: Mapping[str, str]) -> Iterator[None]:
    """Let coverage measure the processes of a module that tests what runs in a process only."""
    with _measuring(_coverage):
        yield


@pytest.fixture
def measured_once(_coverage: Mapping[str, str]) -> Iterator[None]:
    """Let coverage measure the processes of one test, in a module that starts many more."""
    with _measuring(_coverage):
        yield


@contextmanager
def _measuring(variables: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    yield
    for name in variables:
        del os.environ[name]


@pytest_asyncio.fixture(scope="session", name="_deployment")
async def _open_deployment() -> AsyncIterator[Deployment]:
    async with open_deployment() as deployment:
        yield deployment


@pytest.fixture
def deployment(_deployment: Deployment) -> Deployment:
    """Return the shared sidecar, with its upstream reset."""
    _deployment.upstream.reset()
    return _deployment


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, deployment: Deployment) -> Way:
    """Return each way into the sidecar in turn."""
    return deployment.ways[request.param]


@pytest.fixture
def request_id() -> str:
    """Return a new request id."""
    return str(uuid.uuid4())
