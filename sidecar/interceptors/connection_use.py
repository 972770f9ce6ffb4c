"""An interceptor that records how clients use their connections, for a server that closes some.

gRPC core keeps a connection whose client makes no call, or does not read its responses, and it
keeps every response until it is read.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NoReturn, TypeAlias, cast
from urllib.parse import unquote

import grpc

from sidecar.interceptors.handlers import Behavior, Context, Continuation, Handler, rewrap

# The IP address and the port of a client.
Peer: TypeAlias = tuple[str, int]


@lru_cache(maxsize=1024)  # a connection has many calls
def peer_of(name: str) -> Peer:
    """Return the peer that gRPC names: `ipv4:127.0.0.1:1`, `ipv6:%5B::1%5D:1`.

    All clients of a Unix socket have one name and no address: `("", 0)`.
    """
    host, _, port = unquote(name).partition(":")[2].rpartition(":")
    return host.strip("[]"), int(port or 0)


class ConnectionUse(grpc.aio.ServerInterceptor):
    """When each connection was last used by a call, and which responses are not read.

    It must be the first interceptor, so that it sees all that others send.
    """

    def __init__(self) -> None:
        self._used: dict[Peer, float] = {}  # time of the last begin or end of a call
        self._calls: dict[Peer, int] = {}  # calls and streams whose handler or response is not done
        self._busy: dict[Peer, int] = {}  # those in flight: their message has arrived
        # The connection and the time of each response that is not sent, the oldest first. A call
        # sends one at a time.
        self._unread: dict[asyncio.Task[Any], tuple[Peer, float]] = {}

    @property
    def known(self) -> int:
        """The number of remembered connections: those open at the last `idle`, or used since."""
        return len(self._used)

    def unread(self, *, before: float, capacity: int) -> set[Peer]:
        """Return the connections with a response that has not been read since `before`.

        If more than `capacity` responses are unread, also return those with the oldest ones.
        """
        excess = len(self._unread) - capacity
        peers = set()
        for number, (peer, since) in enumerate(self._unread.values()):
            if number >= excess and since > before:
                break
            peers.add(peer)
        return peers

    def idle(self, peers: Collection[Peer], count: int) -> Sequence[Peer]:
        """Return the `count` connections of `peers` without a call for the longest time.

        `peers` are all open connections; others are forgotten. A connection that is seen for
        the first time counts as used now. Those with a call in flight are left out. A stream
        is not one, because it may be open for ever; nor is a call whose message is to come.
        """
        now = asyncio.get_running_loop().time()
        self._used = {peer: self._used.get(peer, now) for peer in peers}
        candidates = (peer for peer in self._used if peer not in self._busy)
        return sorted(candidates, key=self._used.__getitem__)[:count]

    def unused(self, peers: Collection[Peer]) -> set[Peer]:
        """Return the connections of `peers` without a call or a stream."""
        return {peer for peer in peers if peer not in self._calls}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, which records its use of the connection."""
        handler = await continuation(handler_call_details)
        return handler and rewrap(handler, self._wrap)

    def _wrap(self, behavior: Behavior, handler: Handler) -> Behavior:
        is_stream = bool(handler.response_streaming)

        async def recorded(request: Any, context: Context) -> Any:
            task = cast("asyncio.Task[Any]", asyncio.current_task())
            call = _Call(use=self, peer=peer_of(context.peer()), task=task, is_stream=is_stream)
            self._count(self._calls, call.peer, 1)
            task.add_done_callback(partial(self._ended, call.peer))
            observed = cast("Context", _Observed(context, call))
            self.touch(call.peer)
            try:
                return await behavior(request, observed)
            finally:
                self.count_in_flight(call.peer, -call.in_flight)
                # grpc.aio sends what the handler returns, in the same task.
                self.sending(task, call.peer)

        return recorded

    def touch(self, peer: Peer) -> float:
        """Record that a call of `peer` begins or ends now, and return the time."""
        self._used[peer] = now = asyncio.get_running_loop().time()
        return now

    def count_in_flight(self, peer: Peer, change: int) -> None:
        """Add `change` to the calls in flight of `peer`."""
        self._count(self._busy, peer, change)

    def sending(self, task: "asyncio.Task[Any]", peer: Peer) -> None:
        """Count a response of the call that `task` runs, until `sent`."""
        self._unread[task] = peer, self.touch(peer)

    def sent(self, task: "asyncio.Task[Any]") -> None:
        """Forget the response of `task`, if there is one."""
        self._unread.pop(task, None)

    def _ended(self, peer: Peer, task: "asyncio.Task[Any]") -> None:
        self.sent(task)
        self._count(self._calls, peer, -1)

    @staticmethod
    def _count(counts: dict[Peer, int], peer: Peer, change: int) -> None:
        count = counts.get(peer, 0) + change
        if count:
            counts[peer] = count
        else:
            counts.pop(peer, None)


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    """One call, whose context and handler report to `use`."""

    use: ConnectionUse
    peer: Peer
    task: "asyncio.Task[Any]"
    is_stream: bool
    in_flight: int = 0

    def read(self) -> None:
        """Record that the message has arrived. From now on the call is in flight."""
        self.in_flight = int(not self.is_stream)
        self.use.count_in_flight(self.peer, self.in_flight)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Record that a message or a status is being sent in the context."""
        self.use.sending(self.task, self.peer)
        try:
            yield
        finally:
            self.use.sent(self.task)


class _Observed:
    """The context of a call, which reports to it."""

    def __init__(self, context: Context, call: _Call) -> None:
        self._context = context
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the next message of the request, or EOF."""
        message = await self._context.read()
        if message is not grpc.aio.EOF:
            self._call.read()
        return message

    async def write(self, message: Any) -> None:
        """Send `message`."""
        with self._call.sending():
            await self._context.write(message)

    async def abort(self, *status: Any) -> NoReturn:
        """Send the status of a failed call. Raises AbortError."""
        with self._call.sending():
            await self._context.abort(*status)
