"""Content that stays the same while the process runs, with an entity tag for caches."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response

# What a browser may do with the content, whatever it is: nothing.
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "public, max-age=3600",
        "Content-Language": "en",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedContent:
    """Content of `media_type`. `headers` are further fields of the response."""

    data: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tag: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.data).hexdigest()
        object.__setattr__(self, "tag", f'"{digest[:32]}"')

    def respond(self, request: Request) -> Response:
        """Return the content, or 304 if the client has it (RFC 9110 section 13.1.2)."""
        headers = {**HEADERS, **self.headers, "ETag": self.tag}
        if _has(request.headers.getlist("if-none-match"), self.tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(self.data, media_type=self.media_type, headers=headers)


def _has(fields: list[str], tag: str) -> bool:
    """Whether If-None-Match `fields` list `tag`, by weak comparison (section 8.8.3.2)."""
    tags = [each.strip().removeprefix("W/") for each in ",".join(fields).split(",")]
    return tag in tags or tags == ["*"]
