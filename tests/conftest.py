"""Shared fixtures: one sidecar with a scripted upstream, which each test finds reset."""

import gc
import os
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


@pytest.fixture(scope="module")
def unmeasured() -> Iterator[None]:
    """Let coverage not measure a module of cases whose every line other modules reach too.

    Measuring doubles the time that such cases take. The report still demands 100 %.
    """
    coverage = Coverage.current()
    if coverage is None:
        yield
        return
    coverage.stop()
    yield
    coverage.start()


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
