"""The transcoder: an ASGI application that answers HTTP requests by gRPC calls.

The only module of the package that knows Starlette, and the only one with I/O.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sidecar.transcoding import codec, metadata
from sidecar.transcoding.binding import Binder
from sidecar.transcoding.errors import (
    ClientDisconnectedError,
    ContentTooLargeError,
    DeadlinePassedError,
    RequestError,
    SchemaFaults,
)
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import Rule, read_rules
from sidecar.transcoding.status import read_status
from sidecar.transcoding.strict_json import JsonObject, JsonValue

# Makes the answer to a request that could not be made into a call, or whose call failed.
RenderError = Callable[[Request, RequestError | Status], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What differs between the users of a transcoder.

    `metadata_headers` names, in lower case, the request headers that become
    metadata; nothing else of the headers reaches the service.
    `ignore_unknown` passes over unknown members and parameters, as RFC 6749
    section 3.2 demands, instead of refusing them.
    `max_body_bytes` is the largest request body that is read.
    """

    metadata_headers: frozenset[str] = frozenset()
    ignore_unknown: bool = False
    max_body_bytes: int = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    """A rule made ready: what makes its message, and what calls its method."""

    route: str
    binder: Binder
    call: grpc.aio.UnaryUnaryMultiCallable[Message, Message]


class Transcoder:
    """Serves the methods of `services` that have an HTTP rule, through `channel`.

    The channel may be local or remote. Raises SchemaError when a rule cannot be
    served. What it serves a request by is in the scope under `transcoding.route`.
    """

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        channel: grpc.aio.Channel,
        *,
        options: Options,
        render_error: RenderError,
    ) -> None:
        self._channel = channel
        self._options = options
        self._render_error = render_error
        self._passed = frozenset(name.encode() for name in options.metadata_headers)
        self._router = Router[_Endpoint]()
        faults = SchemaFaults()
        for rule in read_rules(services, faults):
            with faults.collect(rule.method.full_name):
                self._router.add(rule, self._prepare(rule))
        faults.check()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI, HTTP only). A client that went away gets no answer."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnectedError:
            return
        except DeadlinePassedError:
            response = self._render_error(request, Status(code=code_pb2.DEADLINE_EXCEEDED))
        except RequestError as error:
            response = self._render_error(request, error)
        except grpc.aio.AioRpcError as error:
            response = self._render_error(request, read_status(error))
        await response(scope, receive, send)

    def _prepare(self, rule: Rule) -> _Endpoint:
        method = rule.method
        binder = Binder(method.input_type, ignore_unknown=self._options.ignore_unknown)
        call: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return _Endpoint(route=rule.template.text, binder=binder, call=call)

    async def _answer(self, request: Request) -> Response:
        raw_path = _raw_path(request.scope)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": self._router.allow(raw_path)})
        endpoint = self._router.find(request.method, raw_path)
        request.scope["transcoding.route"] = endpoint.route
        reader = self._choose_reader(request)
        headers = request.headers.raw
        timeout = metadata.read_timeout(headers)
        start = asyncio.get_running_loop().time()
        body = await self._read(request, reader, None if timeout is None else start + timeout)
        query = request.scope["query_string"].decode("latin-1")
        spent = asyncio.get_running_loop().time() - start
        call = endpoint.call(
            endpoint.binder.bind(body, query),
            timeout=None if timeout is None else timeout - spent,
            metadata=metadata.to_metadata(headers, self._passed),
        )
        return Response(codec.to_json(await _result(call, request)), media_type=codec.JSON)

    def _choose_reader(self, request: Request) -> codec.Reader | None:
        """Return what reads the body, by the header alone, or None for a request without one."""
        headers = request.headers
        length = headers.get("content-length", "0")
        if length == "0" and "transfer-encoding" not in headers:
            return None
        reader = codec.choose_reader(
            headers.getlist("content-type"), headers.getlist("content-encoding")
        )
        if int(length) > self._options.max_body_bytes:
            raise ContentTooLargeError(self._options.max_body_bytes)
        return reader

    async def _read(
        self, request: Request, reader: codec.Reader | None, deadline: float | None
    ) -> JsonValue:
        if reader is None:
            return JsonObject()
        try:
            async with asyncio.timeout_at(deadline):
                return reader(await _read_bytes(request, self._options.max_body_bytes))
        except TimeoutError:
            raise DeadlinePassedError from None


def _raw_path(scope: Scope) -> str:
    """Return the path as the client wrote it; a server that lost it gets it encoded anew."""
    raw_path = scope.get("raw_path")
    return raw_path.decode("latin-1") if raw_path else quote(scope["path"])


async def _read_bytes(request: Request, limit: int) -> bytes:
    """Return the body. One that announced no length is refused where it passes `limit`."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise ContentTooLargeError(limit)
    except ClientDisconnect:
        raise ClientDisconnectedError from None
    return bytes(body)


async def _result(call: grpc.aio.UnaryUnaryCall[Message, Message], request: Request) -> Message:
    """Return the response to `call`, which is cancelled as soon as the client goes away."""
    watcher = asyncio.create_task(_cancel_on_disconnect(call, request.receive))
    try:
        return await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # it is we who are to stop
        raise ClientDisconnectedError from None
    finally:
        watcher.cancel()


async def _cancel_on_disconnect(call: grpc.aio.Call, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()
