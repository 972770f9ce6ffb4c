"""The stage of an incident: its sidecars, their callers, and what is scraped of them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.alerts.recording import Recording
from tests.faults.upstream_scene import BOTH
from tests.upstream import TOKEN, Script, Upstream, answer
from tests.ways import Deployment, Outcome, Sent, Way, basic

GRANT = {"grant_type": "client_credentials"}
WRONG = answer(401, {"error": "invalid_client"})
_WRONG_SECRET = "a-wrong-secret"
# Scrapes before a fault and during one: with tests.alerts.recording.STEP a quarter of an hour.
BEFORE, DURING = 4, 9


@dataclass(slots=True)
class Stage:
    """The sidecars of an incident, by instance: their admin listeners, and the ways into them."""

    recording: Recording = field(default_factory=Recording)
    admins: dict[str, object] = field(default_factory=dict)
    ways: dict[str, Mapping[str, Way]] = field(default_factory=dict)

    def add(self, deployment: Deployment, instance: str = "a") -> None:
        """Add a sidecar that runs in this process."""
        self.admins[instance] = deployment.addresses.admin
        self.ways[instance] = deployment.ways

    async def call(self, sent: Sent, each: int = 4) -> list[Outcome]:
        """Send so many equal calls at once, by each protocol, to each sidecar."""
        calls = [ways[way](sent) for ways in self.ways.values() for way in BOTH * each]
        return await asyncio.gather(*calls)

    async def scrapes(self, count: int, sent: Sent | None = None) -> None:
        """Scrape so often, each time after calls."""
        for _ in range(count):
            await self.call(sent or some_client())
            await self.recording.take(self.admins)


Incident = Callable[[Stage, Path], Awaitable[None]]
_numbers = itertools.count()


def some_client() -> Sent:
    """Return a good request of a client that has sent none before."""
    return Sent(fields=GRANT, authorization=(basic(f"partner-{next(_numbers)}"),))


def with_wrong_secret(client: str | None = None, address: str | None = None) -> Sent:
    """Return a request that `knows_its_clients` refuses, of a new client by default."""
    name = client or f"partner-{next(_numbers)}"
    fields = GRANT | {"client_id": name, "client_secret": _WRONG_SECRET}
    return Sent(fields=fields, address=address)


def knows_its_clients(upstream: Upstream) -> Script:
    """Return a script of `upstream` that refuses `with_wrong_secret` and gives others a token."""

    async def judge(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_wrong = _WRONG_SECRET.encode() in upstream.requests[-1]
        writer.write(WRONG if is_wrong else answer(200, TOKEN))
        await writer.drain()

    return judge
