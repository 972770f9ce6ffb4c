"""ASGI application that serves HTTP requests by gRPC calls."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sidecar.transcoding import cancellation, default_renderer, metadata
from sidecar.transcoding.binding import Binder
from sidecar.transcoding.errors import (
    ClientDisconnectedError,
    DeadlinePassedError,
    MethodNotAllowedError,
    NotServedError,
    RequestError,
    ResponseError,
    SchemaViolations,
)
from sidecar.transcoding.options import Options
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.request_body import RequestBody, raw_path
from sidecar.transcoding.responses import ResponseBody, ResponseWriter
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import Rule, read_rules, read_unserved
from sidecar.transcoding.status import read_status
from sidecar.transcoding.streams.response import Streamer, StreamResponse

# Returns the response to a refused request or a failed call.
RenderError = Callable[[Request, RequestError | Status], Response]
_DEFAULTS = Options()
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    """A compiled rule: the binder of its message, its method, and the writer of its responses.

    `call` starts a grpc.aio.UnaryUnaryCall, or a grpc.aio.UnaryStreamCall for `streamer`.
    """

    route: str
    options: Options
    metadata_headers: frozenset[bytes]
    binder: Binder
    call: Callable[..., Any]
    writer: ResponseWriter
    streamer: Streamer | None


@dataclass(frozen=True, slots=True)
class _Unserved:
    """A rule of a method that is not served, which keeps its requests from other rules."""

    route: str


class Transcoder:
    """Serves the methods of `services` that have an HTTP rule, through `channel`.

    A method may have a stream of responses. One with a stream of requests is answered with 501.

    The channel may be local or remote, the services in any descriptor pool. `options` are for
    all services, or by the full name of a service, with defaults for the others. `render_error`
    renders errors; the default is a problem document (RFC 9457). Raises SchemaError with every
    violation if rules cannot be served. While a request is served, the scope holds the template
    of its rule as `transcoding.route`.
    """

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        channel: grpc.aio.Channel,
        *,
        options: Options | Mapping[str, Options] = _DEFAULTS,
        render_error: RenderError | None = None,
    ) -> None:
        services = tuple(services)
        pools = tuple(dict.fromkeys(service.file.pool for service in services))
        self._channel = channel
        self._render_error = render_error or partial(default_renderer.render, pools=pools)
        self._writer = JsonWriter()
        names = [service.full_name for service in services]
        if isinstance(options, Options):
            options = dict.fromkeys(names, options)
        readers = {name: _Readers.by(options.get(name, _DEFAULTS)) for name in names}
        self._router = Router[_Endpoint | _Unserved]()
        violations = SchemaViolations()
        for rule in read_rules(services, violations):
            own = readers[rule.method.containing_service.full_name]
            violations.attempt(rule.name, self._router.add, rule, self._prepare(rule, own))
        violations.check()
        for rule in read_unserved(services):
            with suppress(ValueError):  # another rule serves its requests
                self._router.add(rule, _Unserved(rule.template.text))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI, HTTP only). A client that disconnected gets no response."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnectedError:
            return
        except RequestError as error:
            response = self._render_error(request, error)
        except DeadlinePassedError:
            response = self._render_error(request, Status(code=code_pb2.DEADLINE_EXCEEDED))
        except grpc.aio.UsageError:  # the channel is closed
            response = self._render_error(request, Status(code=code_pb2.UNAVAILABLE))
        except ResponseError as error:
            _LOG.error("a response at %s cannot be sent: %s", scope["transcoding.route"], error)
            response = self._render_error(request, Status(code=code_pb2.INTERNAL))
        await response(scope, receive, send)

    def _prepare(self, rule: Rule, readers: "_Readers") -> _Endpoint:
        method, channel, options = rule.method, self._channel, readers.options
        writer = ResponseWriter(rule, self._writer)
        multi_callable: Callable[..., Any] = channel.unary_unary
        streamer = None
        if method.server_streaming:
            multi_callable = channel.unary_stream
            resumes = "last-event-id" in options.metadata_headers
            streamer = Streamer(writer=writer, render_error=self._render_error, resumes=resumes)
        return _Endpoint(
            route=rule.template.text,
            options=options,
            metadata_headers=frozenset(map(str.encode, options.metadata_headers)),
            binder=Binder(rule, readers.json, readers.parameters),
            call=multi_callable(
                f"/{method.containing_service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            ),
            writer=writer,
            streamer=streamer,
        )

    async def _answer(self, request: Request) -> Response:
        try:
            match = self._router.find(request.method, raw_path(request.scope))
        except MethodNotAllowedError as error:
            if request.method != "OPTIONS":
                raise
            return Response(status_code=204, headers=error.headers)  # RFC 9110 section 9.3.7
        endpoint = match.target
        request.scope["transcoding.route"] = endpoint.route
        if isinstance(endpoint, _Unserved):
            raise NotServedError
        return await self._call(request, match.variables, endpoint)

    async def _call(
        self, request: Request, variables: Sequence[str], endpoint: _Endpoint
    ) -> Response:
        headers, options = request.headers, endpoint.options
        body = RequestBody(request, shape=endpoint.binder.body.shape, limit=options.max_body_bytes)
        accept = None if options.ignore_accept else headers.getlist("accept")
        media_type = endpoint.writer.choose(accept or [])
        timeout = metadata.read_timeout(headers.raw)
        deadline = None if timeout is None else _now() + timeout
        query = request.scope.get("query_string", b"").decode("latin-1")
        call = endpoint.call(
            # No name for the content: it may be large, and would be kept during the call.
            endpoint.binder.bind(variables, query, await body.read(deadline)),
            timeout=None if deadline is None else _remaining(deadline),
            metadata=metadata.to_metadata(headers.raw, endpoint.metadata_headers),
        )
        return await self._respond(call, request, endpoint, media_type)

    async def _respond(
        self, call: Any, request: Request, endpoint: _Endpoint, media_type: str | None
    ) -> Response:
        options = endpoint.options
        try:
            if endpoint.streamer is None:
                message = await cancellation.response_of(call, request)
                response = _response(endpoint.writer.write(message, media_type))
            else:
                response = await endpoint.streamer.respond(call, request, media_type)
        except grpc.aio.AioRpcError as error:
            response = self._render_error(request, read_status(error))
            entries = [*error.initial_metadata(), *error.trailing_metadata()]
            _pass_on(entries, response, options)
            return response
        if media_type is not None and not options.ignore_accept:
            response.headers["Vary"] = "Accept"
        if options.response_headers:
            entries = [*await call.initial_metadata()]
            if not isinstance(response, StreamResponse):
                entries += await call.trailing_metadata()
            _pass_on(entries, response, options)
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readers:
    """The readers of requests that the same options compile."""

    options: Options
    json: JsonReader
    parameters: ParameterReader

    @classmethod
    def by(cls, options: Options) -> "_Readers":
        flags = {
            "ignore_unknown": options.ignore_unknown,
            "ignore_duplicates": options.ignore_duplicates,
        }
        return cls(options=options, json=JsonReader(**flags), parameters=ParameterReader(**flags))


def _pass_on(
    entries: Iterable[tuple[str, str | bytes]], response: Response, options: Options
) -> None:
    """Add the metadata that may become headers, except fields that the response has already."""
    present = [*response.headers]
    for name, value in metadata.to_headers(entries, options.response_headers, present):
        response.headers.append(name, value)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _remaining(deadline: float) -> float:
    """Return the seconds until `deadline`, a time of the event loop. Raises DeadlinePassedError."""
    seconds = deadline - _now()
    if seconds <= 0:
        raise DeadlinePassedError
    return seconds


def _response(body: ResponseBody) -> Response:
    response = Response(body.content)
    if body.content_type is not None:
        # Set here, because Starlette's own argument would add a charset to text.
        response.headers["Content-Type"] = body.content_type
    return response
