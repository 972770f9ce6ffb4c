"""Response to a request whose method has a stream of responses."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sidecar.transcoding import media_type
from sidecar.transcoding.cancellation import Responses, StreamCall
from sidecar.transcoding.errors import (
    ClientDisconnectedError,
    MalformedRequestError,
    RequestError,
    ResponseError,
    Violation,
)
from sidecar.transcoding.protojson import writer as json_writer
from sidecar.transcoding.responses import ResponseWriter
from sidecar.transcoding.status import read_status
from sidecar.transcoding.streams.body_writer import BodyWriter
from sidecar.transcoding.streams.framing import Framing, framing_of

Render: TypeAlias = Callable[[Request, RequestError | Status], Response]

# Seconds without a message after which a keep-alive is sent, if the framing has one. Proxies
# often end a connection that is silent for 30 or 60 s.
KEEP_ALIVE = 15.0
_NUMBER = re.compile("[0-9]{1,18}")
# The key of the scope under which the sidecar's HTTP server has a function: once called, a client
# that ends its side has left. With other servers it always has.
_STREAM = "sidecar.stream"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamer:
    """Responds to calls of one method with a stream of responses.

    `writer` writes each message, and `render_error` the problem of a stream that fails. If
    `resumes`, the service gets Last-Event-ID and continues after that event, and so do the ids.
    """

    writer: ResponseWriter
    render_error: Render
    resumes: bool

    def check_last_id(self, request: Request, chosen: str | None) -> None:
        """Raise MalformedRequestError for a Last-Event-ID after which the ids could not go on.

        The service would continue after it, and the ids would begin again. An empty one is none.
        In a media type `chosen` without ids the field is the service's alone.
        """
        if not self.resumes or not framing_of(chosen).is_numbered:
            return
        first, *others = request.headers.getlist("Last-Event-ID") or [""]
        if others or (first and not _NUMBER.fullmatch(first)):
            detail = "Last-Event-ID must be given once, as up to 18 digits."
            raise MalformedRequestError.of([Violation(detail=detail)])

    async def respond(self, call: StreamCall, request: Request, chosen: str | None) -> Response:
        """Return the response to `call` in the media type `chosen`; None stands for content.

        It is returned as soon as there is a message or the status: without a message a plain
        response, else a StreamResponse. Raises grpc.aio.AioRpcError if the call fails before
        its first message, ResponseError if that one cannot be sent, and ClientDisconnectedError.
        """
        request.scope.get(_STREAM, bool)()
        responses = Responses(call, request)
        try:
            message = await responses.read()
            first = None if message is None else self.writer.write(message, chosen)
        except BaseException:
            responses.close()
            raise
        framing = framing_of(chosen)
        if first is None:
            responses.close()
            response, content_type = Response(framing.empty), chosen
        else:
            resumes = self.resumes and framing.is_numbered
            last_id = request.headers.get("Last-Event-ID") if resumes else None
            number = _number_after(last_id)
            stream = _Stream(responses, request, first.content, number, framing)
            response, content_type = StreamResponse(self, stream), first.content_type
        response.headers.update(framing.headers)
        if content_type is not None:
            # Set here, because Starlette's own argument would add a charset to text.
            response.headers["Content-Type"] = content_type
        return response


@dataclass(frozen=True, slots=True)
class _Stream:
    """A call that has had its first message, whose content is `first`.

    `first_number` is that of the first event.
    """

    responses: Responses
    request: Request
    first: bytes
    first_number: int
    framing: Framing


def _number_after(last_event_id: str | None) -> int:
    """Return the number of the event after the one whose id a client sent; 1 without an id.

    The id is one that `Streamer.check_last_id` has let through.
    """
    return int(last_event_id or 0) + 1


class StreamResponse(Response):
    """The response to a call that has had its first message.

    The scope holds the number of messages so far as `transcoding.messages`, and in the end the
    name of the status code as `transcoding.code`: CANCELLED if the client has left, and INTERNAL
    if the stream cannot be sent.
    """

    def __init__(self, streamer: Streamer, stream: _Stream) -> None:
        # Without the constructor of Response, which takes the whole body and gives its length.
        self.status_code = 200
        self.init_headers()
        self._streamer = streamer
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the stream watches the client
        """Send the response (ASGI). A failed stream of content is left without its end."""
        scope["transcoding.messages"], scope["transcoding.code"] = 0, "CANCELLED"
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(head)
            body = BodyWriter(send)
            if scope["method"] == "HEAD":
                await body.end()
            else:
                await self._send_body(scope, body)
        finally:
            self._stream.responses.close()

    async def _send_body(self, scope: Scope, body: BodyWriter) -> None:
        status = Status()
        try:
            await self._send_items(scope, body)
        except (ClientDisconnectedError, OSError):  # OSError: the same, in servers of ASGI 2.4
            return
        except grpc.aio.AioRpcError as error:
            status = read_status(error)
        except ResponseError as error:
            _LOG.error("a response at %s cannot be sent: %s", scope["transcoding.route"], error)
            status = Status(code=code_pb2.INTERNAL)
        except Exception:  # noqa: BLE001 - a fault of ours; its text must not leave the process
            _LOG.exception("a stream at %s failed", scope["transcoding.route"])
            status = Status(code=code_pb2.INTERNAL)
        scope["transcoding.code"] = code_pb2.Code.Name(status.code)
        if status.code != code_pb2.OK:
            await self._send_failure(status, body)

    async def _send_items(self, scope: Scope, body: BodyWriter) -> None:
        """Send every message, and the end of the body."""
        stream, framing = self._stream, self._stream.framing
        # Held back until more comes after it, so that a stream that fails lacks a piece.
        is_held = framing.failure is None
        number = stream.first_number
        piece = framing.item(number, stream.first)
        while True:
            scope["transcoding.messages"] += 1
            if not is_held:
                await body.write(piece)
                piece = b""
            message = await self._next(body)
            if message is None:
                break
            if is_held:
                await body.write(piece)
            number += 1
            piece = framing.item(number, self._streamer.writer.write_content(message))
        await body.end(piece + framing.end)

    async def _next(self, body: BodyWriter) -> Message | None:
        """Return the next message. If it is not ready, send what is held, and keep-alives."""
        reading = asyncio.create_task(self._stream.responses.read())
        try:
            await asyncio.sleep(0)  # a handler in this process may write the next message here
            if not reading.done():
                await body.flush()
                while not (await asyncio.wait({reading}, timeout=KEEP_ALIVE))[0]:
                    await body.write(self._stream.framing.keep_alive)
                    await body.flush()
            return await reading
        finally:
            reading.cancel()

    async def _send_failure(self, status: Status, body: BodyWriter) -> None:
        # Rendered even if it cannot be sent: a renderer may record the failure.
        problem = self._streamer.render_error(self._stream.request, status)
        failure = self._stream.framing.failure
        if failure is None:
            await body.flush()
        else:
            await body.end(failure(_json_of(problem)))


def _json_of(problem: Response) -> bytes:
    """Return the content of `problem`; of another media type than JSON as a string of JSON."""
    content = bytes(problem.body)
    parsed = media_type.parse(problem.headers.get("Content-Type", ""))
    if parsed is not None and parsed.is_json:
        return content
    return json_writer.encode(content.decode(errors="replace"))
