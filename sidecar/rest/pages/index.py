"""The root of the API: for a browser the way to the reference, for programs an index."""

import json
from importlib.resources import files
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sidecar.rest.fixed_content import HEADERS, FixedContent
from sidecar.rest.pages.document import Document
from sidecar.rest.pages.page import HTML
from sidecar.transcoding import media_type
from sidecar.transcoding.media_type import JSON

_ICON = FixedContent(
    data=files("sidecar.rest.pages").joinpath("favicon.svg").read_bytes(),
    media_type="image/svg+xml",
)
_NEGOTIATED = {"Vary": "Accept"}


def routes(document: Document) -> list[Route]:
    """Return the routes of the root and of the icon that browsers ask for."""
    index = FixedContent(data=_index(document), media_type=JSON, headers=_NEGOTIATED)
    # Without a host: the reader may have reached the listener by another name.
    reference = f"{urlsplit(document.public_url).path}/docs"

    async def show_root(request: Request) -> Response:
        # JSON comes first: a browser says that it prefers HTML, and other clients say nothing.
        if media_type.prefer(request.headers.getlist("accept"), (JSON, HTML)) == HTML:
            # 302, not 303: the target is one of two representations of this resource. A redirect
            # and not the page itself: the reference has one URL that people bookmark and share.
            return RedirectResponse(reference, 302, headers={**HEADERS, **_NEGOTIATED})
        return index.respond(request)

    async def show_icon(request: Request) -> Response:
        return _ICON.respond(request)

    return [Route("/", show_root), Route("/favicon.ico", show_icon)]


def _index(document: Document) -> bytes:
    tree = {
        "title": document.title,
        "version": document.version,
        "links": {
            "openapi": f"{document.public_url}/openapi.json",
            "docs": f"{document.public_url}/docs",
            "problems": f"{document.public_url}/problems",
        },
    }
    return json.dumps(tree, ensure_ascii=False, indent=2).encode() + b"\n"
