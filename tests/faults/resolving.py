"""Scenes of the resolver before a DNS server, each in a process and a network of its own.

`python -m tests.faults.resolving SCENE` prints its outcome as JSON. There /etc/resolv.conf names
127.0.0.1, where the scene serves, and /etc/hosts is `HOSTS`.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from types import MappingProxyType
from typing import TypeAlias

import uvloop

from sidecar.auth_api.dns.look_up import LookUpError
from sidecar.auth_api.dns.resolver import FRESH, HUNG, QUIET, Resolver
from tests.auth_api.clock import Clock
from tests.dns_server import SERVFAIL, DnsServer, Reply
from tests.faults.conditions import eventually
from tests.patience import HANG

NAME, PORT = "auth-api.test", 8443
HOSTS = "192.0.2.9 in-hosts.test\n"
# glibc waits for as long as it can, so that no scene ends because it gives up.
RESOLV_CONF = "nameserver 127.0.0.1\nsearch svc.test\noptions timeout:30 attempts:5\n"
ONE, OTHER = Reply(addresses=["192.0.2.1"]), Reply(addresses=["192.0.2.2"])
MANY = Reply(addresses=[f"192.0.2.{number}" for number in range(1, 101)], is_truncated=True)
# Open until the process ends: once they are closed the system refuses the queries.
SILENT: list[socket.socket] = []
Outcome: TypeAlias = Mapping[str, object]


class Scene:
    """A DNS server and a resolver, whose clock stands still."""

    def __init__(self, *replies: Reply | None, name: str = NAME) -> None:
        self.dns = DnsServer({name: replies} if replies else {})
        self.clock = Clock()
        self.resolver = Resolver(stale=60, refresh_wait=HANG, now=self.clock)

    @asynccontextmanager
    async def serving(self, *, over_tcp: bool = True) -> AsyncIterator[None]:
        """Serve DNS while the context is open."""
        async with self.dns.serving("127.0.0.1", 53, over_tcp=over_tcp):
            yield

    async def resolve(self, name: str = NAME) -> Sequence[str]:
        """Return the IP addresses of a name in order, or the name of the error."""
        try:
            return sorted(address.host for address in await self.resolver.resolve(name, PORT))
        except LookUpError as error:
            return [error.cause_name]

    def outcome(self, *answers: Sequence[str]) -> Outcome:
        """Return the outcome of the scene with the answers of the resolver."""
        return {
            "answers": answers,
            "queries": sorted(self.dns.queries),
            "look_ups": asdict(self.resolver.look_ups),
        }


async def late() -> Outcome:
    """Let 32 calls ask at once a server that replies after 40 ms."""
    scene = Scene(Reply(addresses=["192.0.2.1", "2001:db8::1"], delay=0.04))
    async with scene.serving():
        return scene.outcome(*await asyncio.gather(*(scene.resolve() for _ in range(32))))


async def never() -> Outcome:
    """End while a look-up waits for a server that never replies."""
    scene = Scene()
    silent = socket.socket(type=socket.SOCK_DGRAM)
    SILENT.append(silent)
    silent.bind(("127.0.0.1", 53))
    call = asyncio.create_task(scene.resolve())
    await asyncio.to_thread(silent.recv, 512)
    call.cancel()
    return scene.outcome()


async def lost() -> Outcome:
    """Let a second look-up begin while the first waits for a reply that is lost."""
    scene = Scene(None, ONE)
    async with scene.serving():
        first = asyncio.create_task(scene.resolve())
        await eventually(lambda: len(scene.dns.queries) == 2)  # of both types
        scene.clock.pass_(HUNG)
        return scene.outcome(await scene.resolve(), await first)


async def changed() -> Outcome:
    """Let the address change."""
    scene = Scene(ONE, OTHER)
    async with scene.serving():
        answers = [await scene.resolve()]
        scene.clock.pass_(FRESH)
        answers.append(await scene.resolve())
        await eventually(lambda: scene.resolver.look_ups.finished == 2)
        return scene.outcome(*answers, await scene.resolve())


async def moved() -> Outcome:
    """Let the address change in a quiet time."""
    scene = Scene(ONE, OTHER)
    async with scene.serving():
        first = await scene.resolve()
        scene.clock.pass_(QUIET)
        return scene.outcome(first, await scene.resolve())


async def truncated() -> Outcome:
    """Reply with more addresses than there is room for over UDP."""
    scene = Scene(MANY)
    async with scene.serving():
        return scene.outcome(await scene.resolve())


async def truncated_without_tcp() -> Outcome:
    """Reply so where nobody listens on TCP."""
    scene = Scene(MANY)
    async with scene.serving(over_tcp=False):
        return scene.outcome(await scene.resolve())


async def unknown() -> Outcome:
    """Ask for a name that does not exist."""
    scene = Scene()
    async with scene.serving():
        return scene.outcome(await scene.resolve())


async def without_address() -> Outcome:
    """Ask for a name that has no address."""
    scene = Scene(Reply())
    async with scene.serving():
        return scene.outcome(await scene.resolve())


async def failing() -> Outcome:
    """Ask a server that fails."""
    scene = Scene(Reply(code=SERVFAIL))
    async with scene.serving():
        return scene.outcome(await scene.resolve())


async def refused() -> Outcome:
    """Ask where no server is."""
    scene = Scene()
    return scene.outcome(await scene.resolve())


async def search_list() -> Outcome:
    """Ask for a short name that the search list completes."""
    scene = Scene(ONE, name="auth-api.svc.test")
    async with scene.serving():
        return scene.outcome(await scene.resolve("auth-api"))


async def hosts_file() -> Outcome:
    """Ask for a name in the hosts file."""
    scene = Scene()
    async with scene.serving():
        return scene.outcome(await scene.resolve("in-hosts.test"))


SCENES: Mapping[str, Callable[[], Awaitable[Outcome]]] = MappingProxyType(
    {
        scene.__name__: scene
        for scene in (
            late,
            never,
            lost,
            changed,
            moved,
            truncated,
            truncated_without_tcp,
            unknown,
            without_address,
            failing,
            refused,
            search_list,
            hosts_file,
        )
    }
)


async def main(scene: str) -> None:
    """Play a scene and print its outcome."""
    json.dump(await SCENES[scene](), sys.stdout)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
