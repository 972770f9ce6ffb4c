"""Fuzz targets: each takes any bytes, and must return or raise only its own errors."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import cast

import h11
import httptools

from sidecar import client_address
from sidecar.api import SERVICES
from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.auth_api.faults import UpstreamError
from sidecar.auth_api.response import Response, interpret
from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.response_parser import ResponseParser
from sidecar.exchange.basic_auth import AuthorizationError, read_authorization
from sidecar.exchange.credentials import TokenRequest, check
from sidecar.http_server.http1 import request_head
from sidecar.http_server.http1.refusal import RefusedError
from sidecar.http_server.http1.request_reader import RequestReader
from sidecar.problems import ProblemError, to_status
from sidecar.secret import Secret
from sidecar.transcoding import compression, media_type, percent, strict_json
from sidecar.transcoding.errors import MalformedRequestError
from sidecar.transcoding.explanation import http_request, report
from sidecar.transcoding.explanation.explainer import Explainer
from sidecar.transcoding.streams.framing import framing_of

Target = Callable[[bytes], None]
_EXPLAINER = Explainer(SERVICES)
_SENT = ClientCredentials(
    client_id=Secret("client-canary"),
    client_secret=Secret("secret-canary"),
    authorization=None,
    encoded=(),
)


def head(data: bytes) -> None:
    """Check that h11 and httptools read the same in an accepted head."""
    with suppress(RefusedError):
        read = request_head.read(data)
        if read is not None:
            parser = h11.Connection(h11.SERVER)
            parser.receive_data(data[: read.size])
            event = parser.next_event()
            assert isinstance(event, h11.Request), "no request in what was accepted"
            assert (event.method.decode(), event.target) == (read.method, read.target)
            # It writes a coding in lower case.
            assert [value.lower() for _, value in event.headers] == [
                value.lower() for _, value in read.fields
            ]
            spaced = [(name, value.replace(b"\t", b" ")) for name, value in read.fields]
            if (read.length or 0) >= 2**64:
                return  # more than httptools can count
            assert _read_by_httptools(data[: read.size]) == spaced


def _read_by_httptools(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields that httptools finds in a head.

    It knows fewer methods and targets than the RFC, does not strip a tab behind a coding, and ends
    with an Upgrade field.
    """
    fields: list[tuple[bytes, bytes]] = []
    callbacks = SimpleNamespace(
        on_header=lambda name, value: fields.append((name.lower(), value.strip(b" ")))
    )
    _, _, rest = data.partition(b"\r\n")
    with suppress(httptools.HttpParserUpgrade):
        parser = httptools.HttpRequestParser(callbacks)
        parser.feed_data(b"POST / HTTP/1.1\r\n" + rest.replace(b"\t", b" "))
    return fields


def connection(data: bytes) -> None:
    """Check that h11 finds the requests that a connection reads, however they are divided."""
    requests, rest = _read_requests(data, len(data) or 1)
    assert _read_requests(data, 7) == (requests, rest)
    left = data
    with suppress(h11.RemoteProtocolError):  # it knows shorter numbers
        for request in requests:
            found, left = _read_by_h11(left.lstrip(b"\r\n"))
            assert found == request
        assert rest is None or left.endswith(rest)


_Request = tuple[str, bytes, bytes]


def _read_requests(data: bytes, size: int) -> tuple[list[_Request], bytes | None]:
    """Return the requests in `data`, read in parts of `size` bytes, and what is left of it.

    That is None if it is refused.
    """
    reader = RequestReader()
    requests: list[_Request] = []
    body = b""
    try:
        for start in range(0, len(data), size):
            reader.receive(data[start : start + size])
            while reader.head is not None or reader.read_head():
                body += reader.read_body()
                if not reader.is_complete:
                    break
                head = cast("request_head.RequestHead", reader.head)
                requests.append((head.method, head.target, body))
                body = b""
                reader.finish()
    except RefusedError:
        return requests, None
    return requests, b"" if reader.head is not None else reader.rest


def _read_by_h11(data: bytes) -> tuple[_Request, bytes]:
    """Return the first request in `data`, and what follows it."""
    parser = h11.Connection(h11.SERVER, 2**20)
    parser.receive_data(data)
    begun = parser.next_event()
    assert isinstance(begun, h11.Request)
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), "less than a request"
    return (begun.method.decode(), begun.target, body), parser.trailing_data[0]


def authorization(data: bytes) -> None:
    """Check that a header gives credentials, none, or an error of the client."""
    with suppress(AuthorizationError):
        read_authorization((Secret(data.decode("latin-1")),))


def request(data: bytes) -> None:
    """Check that fields and header give credentials, or a problem that fits into a status."""
    grant_type, client_id, client_secret, *headers = [
        part.decode("latin-1") for part in (data + b"\n" * 3).split(b"\n")
    ]
    asked = TokenRequest(
        grant_type=grant_type,
        client_id=Secret(client_id),
        client_secret=Secret(client_secret),
        authorization=tuple(Secret(header) for header in headers if header),
    )
    try:
        check(asked)
    except ProblemError as error:
        status = to_status(error.problem, request_id="0" * 36, public_url="http://h")
        assert status.ByteSize() < 4096


def answer(data: bytes) -> None:
    """Check that an answer of the auth-api gives a token, an error or a safe problem."""
    status, _, rest = data.partition(b"\n")
    content_type, _, body = rest.partition(b"\n")
    came = Response(
        status=int(status) if status.isdigit() and len(status) == 3 else 400,
        content_type=content_type.decode("latin-1"),
        retry_after="1",
        has_challenge=status == b"401",
        body=Secret(body),
    )
    with suppress(UpstreamError):
        assert not _SENT.appear_in(f"{interpret(came, _SENT)}")


def upstream(data: bytes) -> None:
    """Check that a response after which a connection is kept ends there for h11 too."""
    parser, end = ResponseParser(), 0
    with suppress(TransportError):
        for start in range(0, len(data), 100):
            if not parser.is_complete:
                parser.feed(data[start : start + 100])
                end = start + 100
        if parser.is_complete and parser.can_reuse:
            with suppress(h11.RemoteProtocolError):
                assert _read_response(data[:end]) == (parser.status, bytes(parser.body))


def _read_response(data: bytes) -> tuple[int, bytes]:
    """Return status and body of the response that is all of `data`, as h11 reads it."""
    client = h11.Connection(h11.CLIENT, 2**20)
    client.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    while isinstance(event := client.next_event(), h11.InformationalResponse):
        pass
    assert isinstance(event, h11.Response), "no response in what was accepted"
    body = b""
    while isinstance(part := client.next_event(), h11.Data):
        body += part.data
    assert isinstance(part, h11.EndOfMessage), "less than a response"
    assert client.trailing_data[0] == b"", "more than a response"
    return event.status_code, body


def json(data: bytes) -> None:
    """Check that bytes give JSON of RFC 8259 or an error of the client."""
    with suppress(ValueError):
        strict_json.parse(data)


def media(data: bytes) -> None:
    """Check that text is a media type or None, and that negotiation accepts any Accept header."""
    text = data.decode("latin-1")
    media_type.parse(text)
    media_type.choose_problem([text])


def coding(data: bytes) -> None:
    """Check that any Accept-Encoding is read, and gzip for little content is gzip for much."""
    fields = [data.decode("latin-1")]
    for_little = compression.chooses_gzip(fields, is_small=True)
    assert for_little <= compression.chooses_gzip(fields, is_small=False)


def accept(data: bytes) -> None:
    """Check that a stream gets a framing that Accept fields do not refuse, if there is one."""
    fields = data.decode("latin-1").split("\n")
    framings = (media_type.JSON, media_type.NDJSON, media_type.EVENT_STREAM)
    chosen = media_type.choose_json(fields, framings[1:])
    possible = [each for each in framings if media_type.prefer(fields, [each])]
    assert chosen in possible if chosen in framings else chosen is None or "+json" in chosen
    assert chosen or not possible
    # A client reads the type that it gets.
    assert chosen is None or media_type.parse(chosen) is not None
    # What is sent once may be read again: by the framing that it names.
    assert framing_of(chosen).item(1, b"{}").count(b"{}") == 1


def explained(data: bytes) -> None:
    """Check that words of a command line are no request, or are explained in printable lines."""
    words, _, body = data.partition(b"\n\n")
    # As Python reads the arguments of a process.
    texts = words.decode("utf-8", "surrogateescape").split("\n")
    method, target, *headers = [*texts, "", ""][: max(len(texts), 2)]
    with suppress(ValueError):
        asked = http_request.parse(method, target, headers, None, max_body_bytes=0)
        explanation = asyncio.run(_EXPLAINER.explain(replace(asked, body=body)))
        assert all(line.isprintable() for line in report.describe(explanation))
        assert (explanation.status is None) <= (explanation.rule is not None)


def escapes(data: bytes) -> None:
    """Check that text is decoded or an error of the client."""
    with suppress(MalformedRequestError, ValueError):
        percent.decode(data.decode("latin-1"))


def forwarded(data: bytes) -> None:
    """Check that any X-Forwarded-For gives an IP address, or that of the socket's peer."""
    address = client_address.find("peer", [data.decode("latin-1")], trusted=1)
    assert address == "peer" or set(address) <= set("0123456789abcdef.:")


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.__name__: target
        for target in (
            head,
            connection,
            authorization,
            request,
            answer,
            upstream,
            json,
            media,
            coding,
            accept,
            explained,
            escapes,
            forwarded,
        )
    }
)
