"""Problem pages: the documents at the URLs of problem types (RFC 9457 section 3.1.1)."""

import html
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from string import Template

from google.rpc import code_pb2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sidecar.problems import CATALOGUE, Definition
from sidecar.transcoding import media_type

_OFFERS = ("text/html", "application/json")
_HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Language": "en",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Vary": "Accept",
}
_PAGE = Template(files("sidecar.rest").joinpath("problem_pages.html").read_text("utf-8"))


def routes(public_url: str) -> list[Route]:
    """Return the routes of the pages; `public_url` is the base of the problem types."""
    by_slug = {entry.slug: entry for entry in CATALOGUE.values()}

    async def show_all(request: Request) -> Response:
        entries = [_describe(entry, public_url) for entry in by_slug.values()]
        content = "".join(_ROW.substitute(_escape(entry)) for entry in entries)
        page = {"title": "Problems", "content": _LIST.substitute(rows=content)}
        return _respond(request, {"problems": entries}, page)

    async def show_one(request: Request) -> Response:
        entry = by_slug.get(request.path_params["slug"])
        if entry is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        description = _describe(entry, public_url)
        page = {"title": html.escape(entry.title), "content": _ONE.substitute(_escape(description))}
        return _respond(request, description, page)

    return [Route("/problems", show_all), Route("/problems/{slug}", show_one)]


def _describe(entry: Definition, public_url: str) -> dict[str, str | int]:
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


def _respond(request: Request, content: Mapping[str, object], page: Mapping[str, str]) -> Response:
    # A browser's default comes first: whoever follows a problem type wants to read it.
    chosen = media_type.prefer(request.headers.getlist("accept"), _OFFERS)
    if chosen == "application/json":
        return JSONResponse(content, headers=_HEADERS)
    return HTMLResponse(_PAGE.substitute(page), headers=_HEADERS)


def _escape(values: Mapping[str, object]) -> dict[str, str]:
    return {name: html.escape(str(value)) for name, value in values.items()}


_LIST = Template("""\
<p>Every error of this API is a problem document (RFC 9457). Its <code>type</code> leads to one
of these pages.</p>
<table>
<thead><tr><th>Status</th><th>Code</th><th>Problem</th><th>OAuth error</th></tr></thead>
<tbody>
$rows</tbody>
</table>""")
_ROW = Template("""\
<tr><td>$status</td><td><code>$karmoCode</code></td>\
<td><a href="problems/$slug">$title</a></td><td><code>$error</code></td></tr>
""")
_ONE = Template("""\
<p class="lead">$meaning</p>
<h2>What to do</h2>
<p>$remedy</p>
<h2>How it looks</h2>
<dl>
<dt>HTTP status</dt><dd>$status</dd>
<dt>karmoCode</dt><dd><code>$karmoCode</code></dd>
<dt>error</dt><dd><code>$error</code></dd>
<dt>gRPC status</dt><dd><code>$grpcCode</code>, reason <code>$reason</code></dd>
<dt>type</dt><dd><code>$type</code></dd>
</dl>
<p class="more"><a href="../problems">All problems</a></p>""")
