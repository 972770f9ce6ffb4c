"""The auth-api moves, DNS dies and certificates are replaced, under load; prints what it took.

`python -m tests.faults.moving SECONDS` runs in a network of its own, where /etc/resolv.conf names
127.0.0.1. DNS is dead for SECONDS.
"""

import asyncio
import json
import ssl
import sys
from collections import Counter

import trustme
import uvloop

from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.call import Call, entered
from sidecar.problems import ProblemError
from sidecar.secret import Secret
from tests.auth_api.transport.server import Request, Server
from tests.dns_server import SERVFAIL, DnsServer, Reply
from tests.faults.conditions import eventually
from tests.upstream import TOKEN, answer

NAME = "auth-api.test"
OLD, NEW = "127.0.0.1", "127.0.0.2"
CREDENTIALS = ClientCredentials(
    client_id=Secret("partner"), client_secret=Secret("secret"), authorization=None, encoded=()
)
AT_ONCE, PAUSE = 8, 0.01
TIMEOUTS = Timeouts(connect=20, one_try=25, total=26)
REPLY = answer(200, TOKEN, Connection="keep-alive")
# Longer than a connection is used.
FOLLOWED = 120.0


async def give_token(request: Request) -> bool:
    """Answer with a token."""
    return await request.send(REPLY)


def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of an auth-api with a certificate of `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    return context


def client_tls(*authorities: trustme.CA) -> ssl.SSLContext:
    """Return the context of a client that trusts these authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        authority.configure_trust(context)
    return context


class Load:
    """Callers that exchange one call after the other until `is_over`. `outcomes` are counted."""

    def __init__(self, api: AuthApi) -> None:
        self._api = api
        self.is_over = False
        self.outcomes: Counter[str] = Counter()

    async def run(self) -> None:
        """Call until it is over."""
        await asyncio.gather(*(self._one() for _ in range(AT_ONCE)))

    async def _one(self) -> None:
        while not self.is_over:
            with entered(Call.of(request_id=None, traceparent=None)) as call:
                try:
                    await self._api.exchange(CREDENTIALS, deadline=None)
                except ProblemError:
                    self.outcomes[str(call.notes["upstream_fault"])] += 1
                else:
                    self.outcomes["token"] += 1
            await asyncio.sleep(PAUSE)


async def main(seconds: float) -> None:
    """Run and print."""
    authorities = [trustme.CA(), trustme.CA()]
    contexts = [client_tls(authorities[0])]
    script = {NAME: [Reply(addresses=[OLD])]}
    old = Server(give_token, server_tls(authorities[0]), host=OLD)
    async with DnsServer(script).serving("127.0.0.1", 53), old:
        new = Server(give_token, server_tls(authorities[1]), host=NEW, port=old.port)
        url = f"https://{NAME}:{old.port}/token"
        async with new, AuthApi(url, TIMEOUTS, tls=lambda: contexts[-1]) as api:
            load = Load(api)
            running = asyncio.create_task(load.run())
            await eventually(lambda: len(old.requests) > 100)
            # The trusted certificates are replaced.
            contexts.append(client_tls(*authorities))
            await eventually(lambda: api.counts.connections.closed["replaced"] > 0)
            # The auth-api moves. Its other certificate is of the other authority.
            script[NAME] = [Reply(addresses=[NEW])]
            await eventually(lambda: old.ended == old.connections, within=FOLLOWED)
            # DNS dies, and certificates are replaced while it is dead.
            script[NAME] = [Reply(code=SERVFAIL)]
            await asyncio.sleep(seconds)
            opened = new.connections
            contexts.append(client_tls(authorities[1]))
            await eventually(lambda: new.connections > opened)
            load.is_over = True
            await running
            counters = api.counts
    print(  # noqa: T201 its only output
        json.dumps(
            {
                "outcomes": load.outcomes,
                "requests": [len(old.requests), len(new.requests)],
                "failed_look_ups": counters.look_ups.failed,
                "replaced": counters.connections.closed["replaced"],
                "resent": counters.connections.resent,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1])))
