"""Content that stays the same while the process runs, with an entity tag for caches."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

_CACHING = {"Cache-Control": "public, max-age=3600"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedContent:
    """Content of `media_type`. `headers` are further fields of the response."""

    data: bytes
    media_type: str
    headers: Mapping[str, str]

    def respond(self, request: Request) -> Response:
        """Return the content, or 304 if the client has it (RFC 9110 section 13.1.2)."""
        tag = f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'
        headers = {**_CACHING, **self.headers, "ETag": tag}
        if _has(request.headers.getlist("if-none-match"), tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(self.data, media_type=self.media_type, headers=headers)


def _has(fields: list[str], tag: str) -> bool:
    """Whether If-None-Match `fields` list `tag`, by weak comparison (section 8.8.3.2)."""
    tags = [each.strip().removeprefix("W/") for each in ",".join(fields).split(",")]
    return tag in tags or tags == ["*"]
