"""Problem pages: the documents at the URLs of problem types (RFC 9457 section 3.1.1)."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from operator import attrgetter

from google.rpc import code_pb2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.problems import CATALOGUE, Definition
from sidecar.rest.fixed_content import FixedContent
from sidecar.rest.pages import page
from sidecar.rest.pages.document import Document
from sidecar.rest.pages.markup import Markup, element, join
from sidecar.rest.pages.schemas import as_json, preformatted
from sidecar.transcoding import media_type
from sidecar.transcoding.media_type import JSON

_HEADERS = {"Vary": "Accept"}
_COLUMNS = ("Status", "Problem", "karmoCode", "OAuth error")
_LINKS = (
    element("a", "All problems", href="../problems"),
    " · ",
    element("a", "Reference", href="../docs"),
)
# A page in each media type.
_Page = Mapping[str, FixedContent]


def routes(document: Document) -> list[Route]:
    """Return the routes of the pages of the API that `document` describes."""
    entries = sorted(CATALOGUE.values(), key=attrgetter("http_status"))
    whole = _list(document, entries)
    by_slug = {entry.slug: _one(document, entry) for entry in entries}

    async def show_all(request: Request) -> Response:
        return _choose(whole, request)

    async def show_one(request: Request) -> Response:
        chosen = by_slug.get(request.path_params["slug"])
        if chosen is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return _choose(chosen, request)

    return [Route("/problems", show_all), Route("/problems/{slug}", show_one)]


def _choose(pages: _Page, request: Request) -> Response:
    # HTML comes first: whoever follows a problem type wants to read it.
    chosen = media_type.prefer(request.headers.getlist("accept"), (page.HTML, JSON))
    return pages[chosen or page.HTML].respond(request)


def _list(document: Document, entries: list[Definition]) -> _Page:
    described = [_describe(entry, document.public_url) for entry in entries]
    head = element("tr", *(element("th", name, scope="col") for name in _COLUMNS))
    content = join(
        [
            element("h1", "Problems"),
            element(
                "p",
                "Every error of this API is a problem document (RFC 9457). Its ",
                element("code", "type"),
                " is the URL of one of these pages. ",
                element("a", "The reference", href="docs#problem-document"),
                " describes its members.",
                class_="lead",
            ),
            element(
                "table",
                element("thead", head),
                element("tbody", *map(_row, entries)),
                class_="problems",
            ),
        ]
    )
    return _page(document, "Problems", content, path="problems", tree={"problems": described})


def _row(entry: Definition) -> Markup:
    cells = (
        str(entry.http_status),
        element("a", entry.title, href=f"problems/{entry.slug}"),
        element("code", entry.karmo_code),
        element("code", entry.oauth_error),
    )
    return element("tr", *(element("td", cell) for cell in cells))


def _one(document: Document, entry: Definition) -> _Page:
    members = _describe(entry, document.public_url)
    facts = {
        "HTTP status": str(entry.http_status),
        "karmoCode": element("code", entry.karmo_code),
        "error": element("code", entry.oauth_error),
        "type": element("code", str(members["type"])),
    }
    grpc = {
        "Code": element("code", str(members["grpcCode"])),
        "Reason": element("code", entry.name),
    }
    parts = [
        element("h1", entry.title),
        element("p", entry.meaning, class_="lead"),
        element("h2", "What to do"),
        element("p", entry.remedy),
        element("h2", "How it looks"),
        _facts(facts),
        element("h2", "Example"),
        preformatted(as_json(document.component("examples")[entry.slug]["value"])),
        element("h2", "Over gRPC, for internal callers"),
        _facts(grpc),
        element("p", *_LINKS, class_="more"),
    ]
    return _page(document, entry.title, join(parts), path=f"problems/{entry.slug}", tree=members)


def _facts(facts: Mapping[str, str]) -> Markup:
    rows = (join([element("dt", name), element("dd", value)]) for name, value in facts.items())
    return element("dl", *rows, class_="facts")


def _page(
    document: Document, title: str, content: Markup, *, path: str, tree: Mapping[str, object]
) -> _Page:
    data = json.dumps(tree, ensure_ascii=False).encode()
    return {
        page.HTML: page.render(title, content, api=document.title, path=path, headers=_HEADERS),
        JSON: FixedContent(data=data, media_type=JSON, headers=_HEADERS),
    }


def _describe(entry: Definition, public_url: str) -> Mapping[str, str | int]:
    return {
        "type": f"{public_url}/problems/{entry.slug}",
        "title": entry.title,
        "status": entry.http_status,
        "karmoCode": entry.karmo_code,
        "error": entry.oauth_error,
        "reason": entry.name,
        "grpcCode": code_pb2.Code.Name(entry.grpc_code),
        "retryAfterSeconds": entry.retry_after_seconds,
        "meaning": entry.meaning,
        "remedy": entry.remedy,
        "slug": entry.slug,
    }
