"""The public REST application: transcoder, description of the API, pages and access log."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from sidecar import logs
from sidecar.call import Call, entered
from sidecar.http_server.load_shedding import NO_REQUEST_ID
from sidecar.problems import Problem
from sidecar.rest import openapi
from sidecar.rest.access_log import AccessLog, complete_headers
from sidecar.rest.openapi import Examples
from sidecar.rest.pages import index, problem_pages, reference
from sidecar.rest.pages.document import Document
from sidecar.rest.pages.reference import Limit
from sidecar.rest.pages.samples import Sample
from sidecar.rest.problem_documents import Renderer
from sidecar.spans import Tracer
from sidecar.transcoding import Options, Transcoder


def build(
    services: Mapping[ServiceDescriptor, Options],
    channel: grpc.aio.Channel,
    *,
    public_url: str,
    examples: Mapping[str, Examples] = MappingProxyType({}),
    limits: Sequence[Limit] = (),
    samples: Sequence[Sample] = (),
    trusted_proxies: int = 0,
    tracer: Tracer | None = None,
    observe: logs.Observe | None = None,
) -> ASGIApp:
    """Return the application that serves `services` through `channel`.

    `services` gives the options of the transcoder for each. The shutdown of the application
    closes `channel`. `public_url` is the base URL of the API and of the problem types.
    `examples`, by the full name of their method, are for the description of the API; `limits`
    and `samples` for its reference. `trusted_proxies` is the number of proxies that add to
    X-Forwarded-For. With `tracer` each request has a span. `observe` gets the values of each
    access line.
    """
    renderer = Renderer(public_url)
    options = {service.full_name: chosen for service, chosen in services.items()}
    transcoder = Transcoder(services, channel, options=options, render_error=renderer.render)
    tree = openapi.document(services, examples, public_url=public_url)
    document = Document(tree=tree, public_url=public_url)

    app = Starlette(
        routes=pages(document, limits, samples),
        exception_handlers={HTTPException: renderer.render_http, Exception: renderer.render_fault},
        lifespan=lambda _app: _closing(channel),
    )
    # A Mount would take over requests that Starlette answers with 405.
    app.router.default = transcoder
    # RFC 9700 section 4.12: a redirect to the path without a slash replays credentials.
    app.router.redirect_slashes = False
    return AccessLog(app, renderer, trusted_proxies, tracer=tracer, observe=observe)


@asynccontextmanager
async def _closing(channel: grpc.aio.Channel) -> AsyncIterator[None]:
    async with channel:
        yield


def pages(
    document: Document, limits: Sequence[Limit] = (), samples: Sequence[Sample] = ()
) -> list[Route]:
    """Return the routes of the pages about the API that `document` describes."""
    return [
        *index.routes(document),
        openapi.route(document.tree),
        reference.route(document, limits, samples),
        *problem_pages.routes(document),
    ]


def serialize(problem: Problem, public_url: str) -> bytes:
    """Return the whole HTTP response with `problem`, with NO_REQUEST_ID for the request id."""
    request = Request({"type": "http", "headers": []})
    call = Call(request_id=NO_REQUEST_ID)
    with entered(call):
        response = Renderer(public_url).render_problem(request, problem)
    headers = complete_headers(response.raw_headers, call)
    fields = b"".join(b"%s: %s\r\n" % pair for pair in headers)
    reason = HTTPStatus(response.status_code).phrase
    line = f"HTTP/1.1 {response.status_code} {reason}\r\n".encode()
    return line + fields + b"\r\n" + bytes(response.body)
