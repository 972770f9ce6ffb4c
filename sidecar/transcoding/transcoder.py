"""ASGI application that serves HTTP requests by gRPC calls."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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

from sidecar.transcoding import cancellation, compression, default_renderer, metadata
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
from sidecar.transcoding.options import Options, unserved_by
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.request_body import RequestBody, raw_path, remaining
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
    `numbered` is the endpoint for requests that ask for the numbers of enum values.
    """

    route: str
    options: Options
    metadata_headers: frozenset[bytes]
    binder: Binder
    call: Callable[..., Any]
    writer: ResponseWriter
    streamer: Streamer | None
    numbered: "_Endpoint | None" = None

    def with_writer(self, writer: ResponseWriter) -> "_Endpoint":
        """Return the same endpoint with another writer."""
        streamer = replace(self.streamer, writer=writer) if self.streamer else None
        return replace(self, writer=writer, streamer=streamer)


class Transcoder:
    """Serves the methods of `services` that have an HTTP rule, through `channel`.

    A method may have a stream of responses. One with a stream of requests is answered with 501,
    and so is one that the options leave out. The channel may be local or remote, the services in
    any descriptor pool. `options` are for all services, or by the full name of a service, with
    defaults for the others. `render_error` renders errors; the default is a problem document (RFC
    9457). Raises SchemaError with every violation if rules cannot be served. While a request is
    served, the scope holds the template that its path matches as `transcoding.route`, also for 405.
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
        if isinstance(options, Options):
            options = dict.fromkeys((service.full_name for service in services), options)
        codecs = {each: _Codecs.by(each) for each in {_DEFAULTS, *options.values()}}
        self._router = Router[_Endpoint | Rule]()
        violations = SchemaViolations()
        unserved = unserved_by(options.values())
        for rule in read_rules(services, violations, unserved):
            own = codecs[options.get(rule.method.containing_service.full_name, _DEFAULTS)]
            violations.attempt(rule.name, self._router.add, rule, self._prepare(rule, own))
        violations.check()
        for rule in read_unserved(services, unserved):
            with suppress(ValueError):  # another rule serves its requests
                self._router.add(rule, rule)

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

    def _prepare(self, rule: Rule, codecs: "_Codecs") -> _Endpoint:
        method, channel, options = rule.method, self._channel, codecs.options
        writer = ResponseWriter(rule, codecs.writer)
        multi_callable: Callable[..., Any] = channel.unary_unary
        streamer = None
        if method.server_streaming:
            multi_callable = channel.unary_stream
            resumes = "last-event-id" in options.metadata_headers
            streamer = Streamer(writer=writer, render_error=self._render_error, resumes=resumes)
        endpoint = _Endpoint(
            route=rule.template.text,
            options=options,
            metadata_headers=frozenset(map(str.encode, options.metadata_headers)),
            binder=Binder(rule, codecs.json, codecs.parameters),
            call=multi_callable(
                f"/{method.containing_service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            ),
            writer=writer,
            streamer=streamer,
        )
        numbered = endpoint.with_writer(ResponseWriter(rule, codecs.numbering_writer))
        return replace(endpoint, numbered=numbered)

    async def _answer(self, request: Request) -> Response:
        try:
            match = self._router.find(request.method, raw_path(request.scope))
        except MethodNotAllowedError as error:
            request.scope["transcoding.route"] = error.template
            if request.method != "OPTIONS":
                raise
            return Response(status_code=204, headers=error.headers)  # RFC 9110 section 9.3.7
        endpoint = match.target
        if isinstance(endpoint, Rule):
            request.scope["transcoding.route"] = endpoint.template.text
            raise NotServedError(takes_stream=endpoint.method.client_streaming)
        request.scope["transcoding.route"] = endpoint.route
        return await self._call(request, match.variables, endpoint)

    async def _call(
        self, request: Request, variables: Sequence[str], endpoint: _Endpoint
    ) -> Response:
        headers, options = request.headers, endpoint.options
        body = RequestBody(request, shape=endpoint.binder.body.shape, limit=options.max_body_bytes)
        accept = [] if options.ignore_accept else headers.getlist("accept")
        media_type = endpoint.writer.choose(accept)
        if endpoint.streamer is not None:
            endpoint.streamer.check_last_id(request, media_type)
        timeout = metadata.read_timeout(headers.raw)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        query = request.scope.get("query_string", b"").decode("latin-1")
        call = endpoint.call(
            # No name for the content: it may be large, and would be kept during the call.
            endpoint.binder.bind(variables, query, await body.read(deadline)),
            timeout=None if deadline is None else remaining(deadline),
            metadata=metadata.to_metadata(headers.raw, endpoint.metadata_headers),
        )
        if endpoint.binder.asks_enum_numbers(query):
            endpoint = endpoint.numbered or endpoint
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
            _pass_on([*error.initial_metadata(), *error.trailing_metadata()], response, options)
            return response
        if media_type is not None and not options.ignore_accept:
            response.headers["Vary"] = "Accept"
        if options.response_headers:
            entries = [*await call.initial_metadata()]
            if not isinstance(response, StreamResponse):
                entries += await call.trailing_metadata()
            _pass_on(entries, response, options)
        if options.gzip_min_bytes is not None and media_type and not endpoint.streamer:
            compression.compress(response, request, options.gzip_min_bytes)
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class _Codecs:
    """The readers of requests and the writer of responses that the same options compile."""

    options: Options
    json: JsonReader
    parameters: ParameterReader
    writer: JsonWriter
    numbering_writer: JsonWriter

    @classmethod
    def by(cls, options: Options) -> "_Codecs":
        flags = {
            "ignore_unknown": options.ignore_unknown,
            "ignore_duplicates": options.ignore_duplicates,
        }
        return cls(
            options=options,
            json=JsonReader(**flags),
            parameters=ParameterReader(**flags),
            writer=JsonWriter(options.json_format),
            numbering_writer=JsonWriter(replace(options.json_format, enum_numbers=True)),
        )


def _pass_on(
    entries: Iterable[tuple[str, str | bytes]], response: Response, options: Options
) -> None:
    """Add the metadata that may become headers, except fields that the response has already."""
    for name, value in metadata.to_headers(entries, options.response_headers, response.headers):
        response.headers.append(name, value)


def _response(body: ResponseBody) -> Response:
    # As a header, because Starlette's own argument would add a charset to text.
    headers = {} if body.content_type is None else {"Content-Type": body.content_type}
    return Response(body.content, headers=headers)
