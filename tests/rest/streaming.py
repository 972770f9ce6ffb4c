"""The REST application over a real socket, with a service of streams behind the interceptors."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.api.http_pb2 import HttpRule
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.applications import Starlette

from sidecar import logs
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener import HttpListener
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.call_span import CallSpan
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.process import sockets
from sidecar.rest import app as rest_app
from sidecar.rest.access_log import AccessLog
from sidecar.rest.problem_documents import Renderer
from sidecar.settings.types import Address
from sidecar.spans import Tracer
from sidecar.transcoding import Options, Transcoder
from tests.faults.conditions import eventually
from tests.faults.wire import reset
from tests.transcoding.library import descriptor, method, post, service
from tests.transcoding.serving import handler_of
from tests.ways import PUBLIC_URL

SERVICE = service(
    method("Watch", HttpRule(get="/v1/watch/{name}"), streams="server"),
    method("Search", post("/v1/search"), streams="server"),
    method("Read", HttpRule(get="/v1/files/{name}"), gives="google.api.HttpBody", streams="server"),
    method("Open", post("/v1/shelves")),
    method("Feed", post("/v1/feed"), streams="client"),
)
Receipt = GetMessageClass(descriptor("Receipt", of=SERVICE))
HttpBody = GetMessageClass(SERVICE.methods_by_name["Read"].output_type)
# As large as a chunk that sockets like.
PIECE = b"x" * 65_536
LARGE = PIECE.decode()
ENDLESS = frozenset({"endless", "stubborn"})


class Service:
    """The handler of every method. The name in the request says what it does.

    "two" yields two messages; "fail" fails after two, "fail at once" before one, and "deny" ends
    with PERMISSION_DENIED; "wait" waits after one, "hold" before one; "stubborn" waits after each,
    and goes on when it is cancelled; "endless" never stops. A unary method answers at once.
    """

    def __init__(self) -> None:
        self.waiting = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)
        self.release = asyncio.Event()
        self.written = 0

    def handle(self, request: Any, context: Any) -> Any:
        """Return the behavior that the method wants."""
        if request.name == "unary":
            return self._answer()
        return self._stream(request.name, context)

    async def _answer(self) -> Message:
        return Receipt(name="unary")

    async def _stream(self, name: str, context: Any) -> AsyncIterator[Message]:
        is_content = "files" in dict(context.invocation_metadata()).get("x-kind", "")
        try:
            if name == "fail at once":
                raise ValueError("canary")
            if name == "hold":
                self.waiting.release()
                await self.release.wait()
            for number in range(2 if name not in ENDLESS else 2**30):
                self.written += 1
                if is_content:
                    yield HttpBody(content_type="text/x", data=PIECE)
                else:
                    yield Receipt(name=LARGE if name == "endless" else str(number))
                if name == "stubborn":
                    self.waiting.release()
                    with suppress(asyncio.CancelledError):
                        await self.release.wait()
                if name == "wait":
                    self.waiting.release()
                    await self.release.wait()
            if name == "fail":
                raise ValueError("canary")
            if name == "deny":
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "canary")
        finally:
            self.left.release()


@dataclass(frozen=True)
class Client:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        """Return the header of the response."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """Return the next chunk of the response; the last one is empty."""
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self) -> list[bytes]:
        """Return all chunks of a response that ends well, its header left out.

        Messages that are ready together are in one chunk.
        """
        await self.head()
        chunks = [await self.chunk()]
        while chunks[-1]:
            chunks.append(await self.chunk())
        return chunks[:-1]

    async def lines(self) -> list[bytes]:
        """Return the lines of a response that ends well."""
        return b"".join(await self.chunks()).splitlines()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A listener, and what is behind it."""

    service: Service
    admission: Admission
    listener: HttpListener
    address: Address
    clients: list[Client] = field(default_factory=list)

    async def connect(self, request: bytes, tls: ssl.SSLContext | None = None) -> Client:
        """Connect, and send a request. The connection is reset with the end of the scene."""
        host, port = self.address.host, self.address.port
        client = Client(*await asyncio.open_connection(host, port, ssl=tls))
        self.clients.append(client)
        client.writer.write(request)
        return client

    @property
    def connections(self) -> set[Any]:
        """The connections that there are."""
        return self.listener._state.connections

    async def is_unread(self) -> None:
        """Wait until the one connection takes no more, because its client does not read."""
        (connection,) = self.connections
        await eventually(lambda: not connection.transport.writable.is_set())

    async def is_idle(self) -> None:
        """Wait until nothing is in flight."""
        await eventually(lambda: not self.admission.counts.streams)


@asynccontextmanager
async def serving(
    *,
    calls: int = 8,
    streams: int = 8,
    tracer: Tracer | None = None,
    observe: logs.Observe | None = None,
    tls: ssl.SSLContext | None = None,
    **limits: float,
) -> AsyncIterator[Scene]:
    """Serve, at most so many calls and streams at once, as the process wires the parts."""
    handlers = Service()
    admission = Admission(calls, streams=streams)
    spans = (CallSpan(),) if tracer else ()
    channel = InProcessChannel(interceptors=(*spans, ErrorBoundary(PUBLIC_URL), admission))
    channel.add_generic_rpc_handlers((handler_of(handlers.handle, SERVICE),))
    options = Options(metadata_headers=frozenset({"x-kind", "last-event-id"}))
    renderer = Renderer(PUBLIC_URL)
    app = Starlette()  # without the pages and the description, which take long to make
    app.router.default = Transcoder(
        [SERVICE], channel, options=options, render_error=renderer.render
    )
    shedding = LoadShedding(admission.is_full, rest_app.serialize(admission.overloaded, PUBLIC_URL))
    chosen: Any = {"linger": 0.05, **limits}
    with closing(sockets.listen(Address("127.0.0.1", 0))) as bound:
        listener = HttpListener(
            AccessLog(app, renderer, 0, tracer=tracer, observe=observe),
            bound,
            grace=20,
            limits=Limits(**chosen),
            tls=tls,
            load_shedding=shedding,
        )
        await listener.start()
        scene = Scene(
            service=handlers,
            admission=admission,
            listener=listener,
            address=sockets.address_of(bound),
        )
        try:
            yield scene
        finally:
            for client in scene.clients:
                reset(client.writer)
            listener.cut(0)
            await listener.stop()
            await channel.close()


def ask(
    path: str, *fields: bytes, method: str = "GET", version: str = "1.1", body: bytes = b""
) -> bytes:
    """Return a request of `path`, for the service of which x-kind is its path."""
    head = [f"{method} {path} HTTP/{version}".encode(), b"Host: a", b"X-Kind: " + path.encode()]
    if body:
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, *fields, b"", b""]) + body
