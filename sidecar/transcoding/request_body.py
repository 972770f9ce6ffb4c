"""Path and body of a request as ASGI delivers them, within their limits of size and time."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import nullcontext
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.types import Scope

from sidecar.transcoding.body import Content, Shape
from sidecar.transcoding.body_formats import Reader, choose_reader
from sidecar.transcoding.errors import (
    ClientDisconnectedError,
    ContentTooLargeError,
    DeadlinePassedError,
    MalformedRequestError,
    Violation,
)

_LENGTH = re.compile("[0-9]{1,20}")
_NO_TIMEOUT = nullcontext()


def raw_path(scope: Scope) -> str:
    """Return the path as the client wrote it, without the root path of an outer application.

    If the server did not keep the raw path, the decoded path is encoded again.
    """
    raw = scope.get("raw_path")
    # An escaped colon would begin no verb, so colons stay as they are.
    path = raw.decode("latin-1") if raw else quote(scope["path"], safe="/:")
    root: str = scope.get("root_path", "")
    # The prefix has as many segments as the root path, however they are escaped.
    *prefix, rest = path.split("/", root.count("/") + 1)
    is_within = root and unquote("/".join(prefix)) == root
    return f"/{rest}" if is_within else path


def remaining(deadline: float) -> float:
    """Return the seconds until `deadline`, a time of the event loop. Raises DeadlinePassedError."""
    seconds = deadline - asyncio.get_running_loop().time()
    if seconds <= 0:
        raise DeadlinePassedError
    return seconds


class RequestBody:
    """The body of one request.

    `shape` is what the rule allows for a body, `limit` its largest size in bytes. The
    constructor checks the header before anything of the body is read. It raises
    MalformedRequestError, UnsupportedMediaTypeError and ContentTooLargeError.
    """

    def __init__(self, request: Request, *, shape: Shape, limit: int) -> None:
        self._request = request
        self._shape = shape
        self._limit = limit
        self._reader: Reader | None = None
        length = _read_length(request.headers.getlist("content-length"))
        self._is_http_1 = request.scope["http_version"].startswith("1")
        # RFC 9112 section 6.3: HTTP/1 announces a body in one of these fields. Later versions
        # need none.
        is_absent = not length and "transfer-encoding" not in request.headers
        self._has_none = self._is_http_1 and is_absent
        # An HttpBody has a media type even if it has no content.
        if length or shape is Shape.RAW:
            self._reader = self._choose_reader()
        if length > limit:
            raise self._too_large()

    async def read(self, deadline: float | None) -> Content:
        """Return the content of the body, if it arrives before `deadline`.

        `deadline` is a time of the event loop, in seconds. Raises ContentTooLargeError,
        MalformedRequestError, ClientDisconnectedError and DeadlinePassedError, and
        UnsupportedMediaTypeError for a body whose length was not announced.
        """
        try:
            async with asyncio.timeout_at(deadline) if deadline is not None else _NO_TIMEOUT:
                data = b"" if self._has_none else await self._read_bytes()
        except TimeoutError:
            raise DeadlinePassedError from None
        return self._reader(data) if self._reader else None

    async def _read_bytes(self) -> bytes:
        # Not by `Request.stream`: the event loop keeps a record of each async generator.
        body = bytearray()
        is_last = False
        while not is_last:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            chunk = message.get("body", b"")
            if chunk and self._reader is None:
                self._reader = self._choose_reader()
            body += chunk
            if len(body) > self._limit:
                raise self._too_large()
            is_last = not message.get("more_body", False)
        return bytes(body)

    def _choose_reader(self) -> Reader:
        headers = self._request.headers
        return choose_reader(
            self._shape, headers.getlist("content-type"), headers.getlist("content-encoding")
        )

    def _too_large(self) -> ContentTooLargeError:
        return ContentTooLargeError(self._limit, is_last=self._is_http_1)


def _read_length(values: Sequence[str]) -> int:
    """Return Content-Length in bytes (RFC 9110 section 8.6), or 0 without that field.

    Raises MalformedRequestError if it is repeated or not a number.
    """
    if not values:
        return 0
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        detail = "Content-Length must be given once, as digits."
        raise MalformedRequestError.of([Violation(detail=detail)])
    return int(values[0])
