"""What is the same for all pages and documents: header fields, caches, links, accessibility."""

from collections.abc import AsyncIterator, Mapping

import httpx2
import pytest
import pytest_asyncio

from sidecar.api import EXAMPLES, SERVICES, limits_of, read_samples
from sidecar.in_process import InProcessChannel
from sidecar.rest import app as rest_app
from sidecar.settings.model import Settings
from tests.rest.html_page import Page
from tests.sidecar_process import serving
from tests.ways import PUBLIC_URL, Deployment

pytestmark = pytest.mark.unmeasured

HTML, JSON, SVG = "text/html", "application/json", "image/svg+xml"
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGES = ("/docs", "/problems", "/problems/not-found")
# The path and what is accepted, and the media type of the response.
CONTENT: Mapping[str, tuple[str, str]] = {
    "reference": ("/docs", HTML),
    "problems": ("/problems", HTML),
    "problems as JSON": ("/problems", JSON),
    "problem": ("/problems/not-found", HTML),
    "problem as JSON": ("/problems/not-found", JSON),
    "document": ("/openapi.json", JSON),
    "index": ("/", JSON),
    "icon": ("/favicon.ico", SVG),
}
every_content = pytest.mark.parametrize(("path", "media_type"), CONTENT.values(), ids=CONTENT)


@pytest_asyncio.fixture(scope="module", name="pages")
async def _pages() -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client of the REST application, in process."""
    app = rest_app.build(
        SERVICES,
        InProcessChannel(),
        public_url=PUBLIC_URL,
        examples=EXAMPLES,
        limits=limits_of(Settings()),
        samples=read_samples(),
    )
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        yield client


@every_content
async def test_header_fields(pages: httpx2.AsyncClient, path: str, media_type: str) -> None:
    """Caches may keep all of it, and a browser runs none of it, nor frames it."""
    response = await pages.get(path, headers={"Accept": media_type})
    assert response.status_code == 200
    headers = response.headers
    assert headers["content-type"].partition(";")[0] == media_type
    assert headers["cache-control"] == "public, max-age=3600"
    assert headers["content-language"] == "en"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith(POLICY)
    assert "unsafe" not in headers["content-security-policy"]
    assert headers.get("vary") == ("Accept" if path == "/" or "problems" in path else None)


@every_content
async def test_nothing_is_sent_twice(pages: httpx2.AsyncClient, path: str, media_type: str) -> None:
    """Who has the content is told so by 304, and the tag is that of the content."""
    headers = {"Accept": media_type}
    first = await pages.get(path, headers=headers)
    again = await pages.get(path, headers={**headers, "If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    other = await pages.get(path, headers={**headers, "If-None-Match": '"other"'})
    assert other.content == first.content


@every_content
async def test_head(deployment: Deployment, path: str, media_type: str) -> None:
    """HEAD has the header fields of GET, without the content."""
    headers = {"Accept": media_type}
    got = await deployment.rest.get(path, headers=headers)
    head = await deployment.rest.head(path, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", PAGES)
async def test_links_lead_somewhere(pages: httpx2.AsyncClient, path: str) -> None:
    """Every link leads to a page of ours, and to a place that it has."""
    page = Page(await pages.get(path))
    for link in {*page.links, f"{PUBLIC_URL}/favicon.ico"}:
        assert link.startswith(PUBLIC_URL)
        url, _, place = link.partition("#")
        response = await pages.get(url, headers={"Accept": HTML})
        assert response.status_code == 200, link
        if place:
            assert place in Page(response).ids, link


@pytest.mark.parametrize("path", PAGES)
async def test_structure(pages: httpx2.AsyncClient, path: str) -> None:
    """A page has one title, headings without gaps, landmarks, and each id once."""
    page = Page(await pages.get(path))
    assert page.headings.count(1) == 1
    assert page.headings[0] == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(deeper <= level + 1 for level, deeper in steps)
    assert page.landmarks.count("main") == 1
    assert "nav" in page.landmarks
    assert len(page.ids) == len(set(page.ids))


async def test_nothing_internal_is_shown() -> None:
    """No page has a setting that partners must not see: upstream, listeners, files."""
    canary = "https://canary.example.test/canary?canary"
    async with (
        serving(
            "serve", auth_api_token_url=canary, public_url=PUBLIC_URL, rest_keep_alive="71s"
        ) as sidecar,
        httpx2.AsyncClient(base_url=f"http://{sidecar.addresses['rest']}") as client,
    ):
        texts = [
            (await client.get(path, headers={"Accept": media_type})).text
            for path, media_type in CONTENT.values()
        ]
    shown = "".join(texts)
    assert "71 s" in shown  # the limits are those of the settings
    assert "canary" not in shown
    for listener in ("rest", "grpc", "admin"):
        assert sidecar.addresses[listener] not in shown
