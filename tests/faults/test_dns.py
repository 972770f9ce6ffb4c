"""DNS is slow, silent or wrong, or its answers change: what the resolver makes of it.

Each scene asks the real getaddrinfo in a network namespace, with an /etc/resolv.conf and an
/etc/hosts of its own.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from sidecar.auth_api.dns.resolver import LookUps
from tests.dns_server import AAAA, A, Query
from tests.faults import resolving
from tests.faults.namespaces import enter_with_dns
from tests.faults.resolving import NAME
from tests.patience import HANG
from tests.sidecar_process import printed, run

ONE, OTHER = ["192.0.2.1"], ["192.0.2.2"]


class Outcome:
    """The outcome of a scene: the answers of the resolver, the queries that came, counters."""

    def __init__(self, outcome: Mapping[str, Any]) -> None:
        self.answers: list[list[str]] = outcome["answers"]
        self.queries = [Query(*query) for query in outcome["queries"]]
        self.look_ups = LookUps(**outcome["look_ups"])


Play: TypeAlias = Callable[[str], Awaitable[Outcome]]


@pytest_asyncio.fixture(name="play")
async def _open_namespace(tmp_path: Path) -> Play:
    """Give what plays a scene to the end of its process, in a network namespace of its own."""
    enter = await enter_with_dns(tmp_path)

    async def play(scene: str) -> Outcome:
        end = await run(*enter, sys.executable, "-m", "tests.faults.resolving", scene)
        return Outcome(json.loads(printed(end)))

    return play


def queries_of(*names: str, over_tcp: bool = False) -> list[Query]:
    """Return the queries of one look-up, which asks for these names."""
    return [Query(name, kind, over_tcp) for name in names for kind in (A, AAAA)]


async def test_a_late_reply_is_one_for_all(play: Play) -> None:
    """A server that takes 40 ms gets one look-up of 32 calls, and all have its answer."""
    late = await play("late")
    assert late.answers == [["192.0.2.1", "2001:db8::1"]] * 32
    assert late.queries == queries_of(NAME)
    assert late.look_ups == LookUps(started=1, finished=1)


async def test_a_silent_server_keeps_no_process_alive(play: Play) -> None:
    """A process ends at once while its look-up waits, which would be for 150 s and more."""
    async with asyncio.timeout(HANG):
        never = await play("never")
    assert never.look_ups == LookUps(started=1)


async def test_a_lost_reply_costs_no_more_than_a_second(play: Play) -> None:
    """While a look-up waits for a reply that is lost, a second one has the answer for all."""
    lost = await play("lost")
    assert lost.answers == [ONE, ONE]
    assert lost.look_ups == LookUps(started=2, finished=1, hung=1)


async def test_a_changed_address_is_used(play: Play) -> None:
    """The first call after the answer is no longer fresh has it refreshed for the next ones."""
    changed = await play("changed")
    assert changed.answers == [ONE, ONE, OTHER]
    assert changed.look_ups == LookUps(started=2, finished=2)


async def test_an_address_that_changed_in_a_quiet_time_is_used_at_once(play: Play) -> None:
    """The first call after a quiet time waits for the refresh, and has the new address."""
    moved = await play("moved")
    assert moved.answers == [ONE, OTHER]
    assert moved.look_ups == LookUps(started=2, finished=2)


async def test_a_truncated_reply_is_asked_for_by_tcp(play: Play) -> None:
    """More addresses than a datagram holds all come, over TCP."""
    truncated = await play("truncated")
    assert truncated.answers == [sorted(resolving.MANY.addresses)]
    assert set(queries_of(NAME, over_tcp=True)) <= set(truncated.queries)


@pytest.mark.parametrize(
    ("scene", "cause"),
    [
        ("unknown", "EAI_NONAME"),
        ("without_address", "EAI_NODATA"),
        ("failing", "EAI_AGAIN"),
        ("refused", "EAI_AGAIN"),
        ("truncated_without_tcp", "EAI_AGAIN"),
    ],
)
async def test_the_name_of_each_failure(play: Play, scene: str, cause: str) -> None:
    """NXDOMAIN, a name without addresses, SERVFAIL and no server differ as they do for glibc."""
    failed = await play(scene)
    assert failed.answers == [[cause]]
    assert failed.look_ups == LookUps(started=1, finished=1, failed=1, is_failing=True)


async def test_the_search_list_counts(play: Play) -> None:
    """A short name is completed as /etc/resolv.conf says."""
    short = await play("search_list")
    assert (short.answers, short.queries) == ([ONE], queries_of("auth-api.svc.test"))


async def test_the_hosts_file_counts(play: Play) -> None:
    """A name in /etc/hosts asks no server."""
    in_hosts = await play("hosts_file")
    assert (in_hosts.answers, in_hosts.queries) == ([["192.0.2.9"]], [])
