"""The root of the API: negotiation between the index and the reference."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from sidecar.api import EXAMPLES, SERVICES
from sidecar.rest import openapi
from sidecar.rest.pages import index
from sidecar.rest.pages.document import Document
from tests.ways import PUBLIC_URL

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def client(public_url: str) -> httpx2.AsyncClient:
    """Return a client of the root alone."""
    tree = openapi.document(SERVICES, EXAMPLES, public_url=public_url)
    app = Starlette(routes=[*index.routes(Document(tree=tree, public_url=public_url))])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sidecar.test")


@pytest_asyncio.fixture(scope="module", name="root")
async def _root() -> AsyncIterator[httpx2.AsyncClient]:
    async with client(PUBLIC_URL) as root:
        yield root


@pytest.mark.parametrize("accept", [None, "", "*/*", "application/json", "text/plain", "?"])
async def test_index(root: httpx2.AsyncClient, accept: str | None) -> None:
    """A program, which prefers nothing, reads where everything is."""
    root.headers.pop("Accept", None)
    response = await root.get("/", headers={} if accept is None else {"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["title"] == openapi.TITLE
    assert response.json()["links"] == {
        "openapi": f"{PUBLIC_URL}/openapi.json",
        "docs": f"{PUBLIC_URL}/docs",
        "problems": f"{PUBLIC_URL}/problems",
    }


@pytest.mark.parametrize("accept", ["text/html", BROWSER, "application/json;q=0.9, text/html"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_browser_is_sent_to_the_reference(
    root: httpx2.AsyncClient, method: str, accept: str
) -> None:
    """A browser is redirected, on the host by which it came."""
    response = await root.request(method, "/", headers={"Accept": accept})
    assert (response.status_code, response.headers["location"]) == (302, "/docs")
    assert response.headers["vary"] == "Accept"
    assert response.headers["cache-control"] == "public, max-age=3600"


async def test_the_reference_below_a_path() -> None:
    """Where a proxy serves the API below a path, the redirect leads there."""
    async with client("https://api.example.test/karmo") as root:
        response = await root.get("/", headers={"Accept": "text/html"})
    assert response.headers["location"] == "/karmo/docs"


async def test_the_root_is_read_only(root: httpx2.AsyncClient) -> None:
    """Another method is refused."""
    assert (await root.post("/")).status_code == 405


async def test_icon(root: httpx2.AsyncClient) -> None:
    """The icon that browsers ask for is a small picture."""
    response = await root.get("/favicon.ico")
    assert response.headers["content-type"] == "image/svg+xml"
    assert len(response.content) < 500
