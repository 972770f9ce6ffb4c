"""Calls at every stage, which a sidecar has in hand when it is told to stop.

What belongs here: how far each call has come, and what its caller gets in the end. A token, a
problem and the whole of a page are answers; the end of a connection is none.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc
import trustme
from hyperframe.frame import DataFrame, SettingsFrame

from tests.faults.bad_http2 import BadClient, connected
from tests.faults.http2_abuse import call, head, message
from tests.faults.wire import host_and_port
from tests.raw_http import FORM, GUARD, Received, next_answer
from tests.upstream import Hold
from tests.ways import basic

_BODY = b"grant_type=client_credentials"
_AUTHORIZATION = basic().encode()
_HEAD = b"\r\n".join(
    (
        b"POST /v1/oauth/token HTTP/1.1",
        b"Host: sidecar.test",
        b"Authorization: " + _AUTHORIZATION,
        b"Content-Length: %d" % len(_BODY),
        FORM,
        b"",
        b"",
    )
)
WHOLE = _HEAD + _BODY
UNREAD = "an answer that is not read"
# What a client of REST has sent. The auth-api holds the whole call.
SENT: Mapping[str, bytes] = {
    "half a head": _HEAD[:60],
    "half a body": _HEAD + _BODY[:9],
    "whole": WHOLE,
    UNREAD: b"GET /openapi.json HTTP/1.1\r\nHost: sidecar.test\r\n\r\n",
    "nothing": b"",
}
# Without it gRPC core closes the connection after 10 s (RFC 9113 section 6.5.3).
_ACKNOWLEDGED = SettingsFrame(0, flags=["ACK"]).serialize()
HALF_A_MESSAGE = _ACKNOWLEDGED + head() + DataFrame(1, message()[:9]).serialize()
WHOLE_CALL = _ACKNOWLEDGED + call()


@dataclass(slots=True)
class InHand:
    """The connections of callers to one sidecar, by how far their calls have come."""

    address: str
    tls: ssl.SSLContext | None
    stack: AsyncExitStack
    rest: list[tuple[str, asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    grpc: list[BadClient] = field(default_factory=list)

    async def open_rest(self, stage: str) -> None:
        """Open a connection, and send what a call of `stage` has sent."""
        reader, writer = await asyncio.open_connection(*host_and_port(self.address), ssl=self.tls)
        self.stack.callback(writer.close)
        writer.write(SENT[stage])
        await writer.drain()
        self.rest.append((stage, reader, writer))

    def send_late(self) -> None:
        """Send a whole call on each connection that has sent nothing yet."""
        for stage, _, writer in self.rest:
            if stage == "nothing":
                writer.write(WHOLE)

    async def outcomes(self) -> list[str]:
        """Return what each caller got: a status and the kind of problem, if there is one."""
        rest = [_by_rest(reader, writer) for _, reader, writer in self.rest]
        return await asyncio.gather(*rest, *map(_by_grpc, self.grpc))


@asynccontextmanager
async def in_hand(
    addresses: Mapping[str, str], hold: Hold, *, tls: ssl.SSLContext | None = None, count: int = 1
) -> AsyncIterator[InHand]:
    """Open `count` calls at each stage, over TLS for REST alone if `tls` is given.

    When the context is entered the auth-api holds those that are whole.
    """
    async with AsyncExitStack() as stack:
        opened = InHand(addresses["rest"], tls, stack)
        for stage in (*SENT,) * count:
            await opened.open_rest(stage)
        for sent in (HALF_A_MESSAGE, WHOLE_CALL) * (0 if tls else count):
            client = await stack.enter_async_context(connected(addresses["grpc"]))
            await client.send(sent)
            opened.grpc.append(client)
        await hold.wait_for(count * (1 if tls else 2))
        yield opened


async def _by_rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    try:
        async with asyncio.timeout(GUARD):
            answer = await next_answer(reader)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        return f"none: {type(error).__name__}"
    finally:
        # As clients do after an answer with `Connection: close`.
        writer.close()
    return f"{answer.status} {_slug(answer)}".strip()


def _slug(answer: Received) -> str:
    with suppress(ValueError, KeyError):
        return str(json.loads(answer.body)["type"]).rpartition("/")[2]
    return ""


async def _by_grpc(client: BadClient) -> str:
    answer = await client.answered()
    name = next((code.name for code in grpc.StatusCode if code.value[0] == answer.code), None)
    return (
        str(name) if name == "OK" or "grpc-status-details-bin" in answer.fields else f"none: {name}"
    )


def tls_files() -> tuple[Mapping[str, bytes], ssl.SSLContext]:
    """Return the certificate and key of a server, and the context of its clients."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return {"tls.crt": chain, "tls.key": leaf.private_key_pem.bytes()}, context
