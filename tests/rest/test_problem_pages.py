"""The problem pages: for each problem one that people and programs can read."""

import json
from collections.abc import AsyncIterator
from operator import attrgetter

import httpx2
import pytest
from google.rpc.code_pb2 import Code
from starlette.applications import Starlette

from sidecar.api import EXAMPLES, SERVICES
from sidecar.problems import CATALOGUE, Definition
from sidecar.rest import openapi
from sidecar.rest.pages import problem_pages
from sidecar.rest.pages.document import Document
from tests.rest.html_page import Page
from tests.ways import PUBLIC_URL

pytestmark = pytest.mark.unmeasured

every_definition = pytest.mark.parametrize(
    "entry", CATALOGUE.values(), ids=lambda entry: entry.name
)
BY_STATUS = sorted(CATALOGUE.values(), key=attrgetter("http_status"))


def at_the_top(path: str) -> list[str]:
    """Return the links at the top of the page at `path`."""
    places = ("docs", "docs", "problems", "openapi.json")
    return [f"{PUBLIC_URL}{path}#content", *(f"{PUBLIC_URL}/{place}" for place in places)]


def client(public_url: str = PUBLIC_URL) -> httpx2.AsyncClient:
    """Return a client of the pages alone."""
    tree = openapi.document(SERVICES, EXAMPLES, public_url=public_url)
    document = Document(tree=tree, public_url=public_url)
    app = Starlette(routes=[*problem_pages.routes(document)])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=PUBLIC_URL)


@pytest.fixture
async def pages() -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client of the pages."""
    async with client() as pages:
        yield pages


def members(entry: Definition) -> dict[str, str | int]:
    """Return what a program reads of a problem."""
    return {
        "type": f"{PUBLIC_URL}/problems/{entry.slug}",
        "title": entry.title,
        "status": entry.http_status,
        "karmoCode": entry.karmo_code,
        "error": entry.oauth_error,
        "reason": entry.name,
        "grpcCode": Code.Name(entry.grpc_code),
        "retryAfterSeconds": entry.retry_after_seconds,
        "meaning": entry.meaning,
        "remedy": entry.remedy,
        "slug": entry.slug,
    }


@every_definition
async def test_page(pages: httpx2.AsyncClient, entry: Definition) -> None:
    """The type of each problem leads to a page that tells all of it."""
    page = Page(await pages.get(f"{PUBLIC_URL}/problems/{entry.slug}"))
    assert f"{entry.title} · {openapi.TITLE}" in page.texts
    assert entry.title in page.texts
    shown = {name: str(value) for name, value in members(entry).items()}
    del shown["retryAfterSeconds"], shown["slug"]
    assert set(shown.values()) <= set(page.texts)
    top = at_the_top(f"/problems/{entry.slug}")
    assert page.links == [*top, f"{PUBLIC_URL}/problems", f"{PUBLIC_URL}/docs"]
    (example,) = map(json.loads, page.preformatted)
    assert {name: example[name] for name in ("type", "title", "status", "karmoCode", "error")} == {
        name: members(entry)[name] for name in ("type", "title", "status", "karmoCode", "error")
    }


@every_definition
async def test_page_as_json(pages: httpx2.AsyncClient, entry: Definition) -> None:
    """A program that asks for JSON reads the same as a person."""
    response = await pages.get(f"/problems/{entry.slug}", headers={"Accept": "application/json"})
    assert response.headers["content-type"] == "application/json"
    assert response.json() == members(entry)


async def test_list(pages: httpx2.AsyncClient) -> None:
    """One page lists every problem by its status and leads to the page of each."""
    page = Page(await pages.get("/problems"))
    expected = [f"{PUBLIC_URL}/problems/{entry.slug}" for entry in BY_STATUS]
    top = [*at_the_top("/problems"), f"{PUBLIC_URL}/docs#problem-document"]
    assert page.links == [*top, *expected]
    for entry in CATALOGUE.values():
        told = {entry.title, entry.karmo_code, str(entry.http_status), entry.oauth_error}
        assert told <= set(page.texts)


async def test_list_as_json(pages: httpx2.AsyncClient) -> None:
    """The list for programs has every problem whole."""
    response = await pages.get("/problems", headers={"Accept": "application/json"})
    assert response.json() == {"problems": [members(entry) for entry in BY_STATUS]}


HTML, JSON = "text/html; charset=utf-8", "application/json"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, HTML),
        ("", HTML),
        ("*/*", HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
        ("application/json", JSON),
        ("application/*", JSON),
        ("application/json;q=0.9, text/html;q=0.8", JSON),
        ("application/json;q=0.8, text/html;q=0.9", HTML),
        ("application/json, text/html", HTML),
        ("text/html;q=0, */*", JSON),
        ("text/plain", HTML),
        ("application/problem+json", HTML),
        ("?", HTML),
    ],
)
@pytest.mark.parametrize("path", ["/problems", "/problems/not-found"])
async def test_negotiation(
    pages: httpx2.AsyncClient, path: str, accept: str | None, content_type: str
) -> None:
    """The client's weights decide, and a person is served where they leave it open."""
    del pages.headers["Accept"]
    response = await pages.get(path, headers={} if accept is None else {"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type


async def test_values_are_escaped() -> None:
    """Nothing that stands in a page can become a part of its markup."""
    odd = "https://api.example.test/<b>\"&'$title"
    async with client(odd) as pages:
        page = Page(await pages.get("/problems/conflict"))
    assert f"{odd}/problems/conflict" in page.texts


@pytest.mark.parametrize(
    ("method", "path", "status_code"),
    [
        ("HEAD", "/problems/conflict", 200),
        ("GET", "/problems/canary", 404),
        ("GET", "/problems/CONFLICT", 404),
        ("GET", "/problems/unspecified", 404),
        ("GET", "/problems/conflict/x", 404),
        ("POST", "/problems/conflict", 405),
        ("POST", "/problems", 405),
    ],
)
async def test_what_there_is(
    pages: httpx2.AsyncClient, method: str, path: str, status_code: int
) -> None:
    """There is a page for each problem and the list, to be read only."""
    response = await pages.request(method, path)
    assert response.status_code == status_code
    assert "canary" not in response.text
