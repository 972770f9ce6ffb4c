"""Receiving: the raw path and the body of a request, as ASGI gives them, within their limits."""

import asyncio
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from sidecar.transcoding.body import Content, Shape
from sidecar.transcoding.codec import Reader, choose_reader
from sidecar.transcoding.errors import (
    ClientDisconnectedError,
    ContentTooLargeError,
    DeadlinePassedError,
)


def raw_path(scope: Scope) -> str:
    """Return the path as the client wrote it; a server that lost it gets it encoded anew."""
    path = scope.get("raw_path")
    return path.decode("latin-1") if path else quote(scope["path"])


class Reception:
    """The body of one request, for a rule whose body has `shape`, of at most `limit` bytes.

    Made before anything of the body is read, for what its header tells suffices
    to refuse it: raises UnsupportedMediaTypeError and ContentTooLargeError.
    """

    def __init__(self, request: Request, *, shape: Shape, limit: int) -> None:
        self._request = request
        self._shape = shape
        self._limit = limit
        self._reader: Reader | None = None
        length = request.headers.get("content-length")
        self._is_announced = length not in {None, "0"} or "transfer-encoding" in request.headers
        # HttpBody has a media type even if it has no content.
        if self._is_announced or shape is Shape.RAW:
            self._reader = self._choose_reader()
        if int(length or 0) > limit:
            raise ContentTooLargeError(limit)

    async def read(self, deadline: float | None) -> Content:
        """Return what was sent, if it was before `deadline`, a time of the event loop.

        Raises ContentTooLargeError, MalformedRequestError, ClientDisconnectedError
        and DeadlinePassedError.
        """
        # A body without a length is announced in HTTP/1.1 and not in later versions.
        if not self._is_announced and self._request.scope["http_version"].startswith("1"):
            return self._reader(b"") if self._reader else None
        try:
            async with asyncio.timeout_at(deadline):
                data = await self._read_bytes()
        except TimeoutError:
            raise DeadlinePassedError from None
        if data and self._reader is None:
            self._reader = self._choose_reader()
        return self._reader(data) if self._reader else None

    def _choose_reader(self) -> Reader:
        headers = self._request.headers
        return choose_reader(
            self._shape, headers.getlist("content-type"), headers.getlist("content-encoding")
        )

    async def _read_bytes(self) -> bytes:
        body = bytearray()
        try:
            async for chunk in self._request.stream():
                body += chunk
                if len(body) > self._limit:
                    raise ContentTooLargeError(self._limit)
        except ClientDisconnect:
            raise ClientDisconnectedError from None
        return bytes(body)
