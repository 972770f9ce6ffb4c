"""ASGI application that serves HTTP requests by gRPC calls."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
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
from sidecar.transcoding.router import Match, Router
from sidecar.transcoding.rules import Rule, read_rules
from sidecar.transcoding.status import check_size, read_status

# Returns the response to a refused request or a failed call.
RenderError = Callable[[Request, RequestError | Status], Response]
_DEFAULTS = Options()
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    """A compiled rule: the binder of its message, its method, and the writer of its responses."""

    route: str
    options: Options
    metadata_headers: frozenset[bytes]
    binder: Binder
    call: grpc.aio.UnaryUnaryMultiCallable[Message, Message]
    writer: ResponseWriter


class Transcoder:
    """Serves the unary methods of `services` that have an HTTP rule, through `channel`.

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
        self._router = Router[_Endpoint]()
        violations = SchemaViolations()
        for rule in read_rules(services, violations):
            own = readers[rule.method.containing_service.full_name]
            violations.attempt(rule.name, self._router.add, rule, self._prepare(rule, own))
        violations.check()

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
        method = rule.method
        call: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return _Endpoint(
            route=rule.template.text,
            options=readers.options,
            metadata_headers=frozenset(map(str.encode, readers.options.metadata_headers)),
            binder=Binder(rule, readers.json, readers.parameters),
            call=call,
            writer=ResponseWriter(rule, self._writer),
        )

    async def _answer(self, request: Request) -> Response:
        try:
            match = self._router.find(request.method, raw_path(request.scope))
        except MethodNotAllowedError as error:
            if request.method != "OPTIONS":
                raise
            return Response(status_code=204, headers=error.headers)  # RFC 9110 section 9.3.7
        request.scope["transcoding.route"] = match.target.route
        return await self._call(request, match)

    async def _call(self, request: Request, match: Match[_Endpoint]) -> Response:
        endpoint, headers, options = match.target, request.headers, match.target.options
        body = RequestBody(request, shape=endpoint.binder.body.shape, limit=options.max_body_bytes)
        accept = None if options.ignore_accept else headers.getlist("accept")
        media_type = endpoint.writer.choose(accept or [])
        timeout = metadata.read_timeout(headers.raw)
        deadline = None if timeout is None else _now() + timeout
        content = await body.read(deadline)
        query = request.scope.get("query_string", b"").decode("latin-1")
        call = endpoint.call(
            endpoint.binder.bind(match.variables, query, content),
            timeout=None if deadline is None else _remaining(deadline),
            metadata=metadata.to_metadata(headers.raw, endpoint.metadata_headers),
        )
        try:
            message = await cancellation.response_of(call, request)
        except grpc.aio.AioRpcError as error:
            check_size(error)
            response = self._render_error(request, read_status(error))
            entries = [*error.initial_metadata(), *error.trailing_metadata()]
            _pass_on(entries, response, options)
            return response
        response = _respond(endpoint.writer.write(message, media_type))
        if media_type is not None and accept is not None:
            response.headers["Vary"] = "Accept"
        if options.response_headers:
            entries = [*await call.initial_metadata(), *await call.trailing_metadata()]
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
    # Vary may be repeated: each one adds fields that the response depends on.
    own = {name.lower() for name in response.headers} - {"vary"}
    for name, value in metadata.to_headers(entries, options.response_headers):
        if name not in own:
            response.headers.append(name, value)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _remaining(deadline: float) -> float:
    """Return the seconds until `deadline`, a time of the event loop. Raises DeadlinePassedError."""
    seconds = deadline - _now()
    if seconds <= 0:
        raise DeadlinePassedError
    return seconds


def _respond(body: ResponseBody) -> Response:
    response = Response(body.content)
    if body.content_type is not None:
        # Set here, because Starlette's own argument would add a charset to text.
        response.headers["Content-Type"] = body.content_type
    return response
