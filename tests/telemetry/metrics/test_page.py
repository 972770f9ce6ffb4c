"""Tests of the page of metrics: its formats, and that scrapers take nothing from calls."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx2
import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.exceptions import HTTPException

from sidecar.telemetry.metrics.page import (
    MAX_WAITING,
    OPENMETRICS,
    PAUSE,
    TEXT,
    Collect,
    Page,
    render,
)
from tests.faults.conditions import eventually
from tests.patience import HANG
from tests.raw_http import sent
from tests.scraped import HTTP, Scrape, response_of, scrape
from tests.sidecar_process import find_tool
from tests.ways import Deployment, Sent, basic, open_deployment

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# As Prometheus 2.42 and 3 send it.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
    "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
SENT = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))
GET = b"GET /metrics HTTP/1.1\r\nHost: sidecar.test\r\n\r\n"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html", TEXT_TYPE),
        ("text/plain", TEXT_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text; version=made up", TEXT_TYPE),
        ("application/openmetrics-text; version=9", OPENMETRICS_TYPE),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.2", TEXT_TYPE),
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
    ],
)
async def test_accept_chooses_the_format(
    deployment: Deployment, accept: str | None, content_type: str
) -> None:
    """The text format is the default; OpenMetrics is for those that prefer it."""
    response = await response_of(deployment.addresses.admin, accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["vary"] == "Accept"
    assert response.text.endswith("# EOF\n") is (content_type == OPENMETRICS_TYPE)


async def test_both_formats_say_the_same(deployment: Deployment) -> None:
    """OpenMetrics is read by the strict parser, and has the families of the text format."""
    for way in ("form", "grpc"):
        await deployment.ways[way](SENT)
    plain = await scrape(deployment.addresses.admin)
    strict = await response_of(deployment.addresses.admin, "application/openmetrics-text")
    read = text_string_to_metric_families(strict.text)  # type: ignore[no-untyped-call] # it has no annotations
    families: dict[str, Metric] = {family.name: family for family in read}
    assert families.keys() == plain.families.keys()
    assert [family.type for family in families.values()] == [
        family.type for family in plain.families.values()
    ]
    for name in (HTTP, "karmo_sidecar_auth_api_tries"):
        ours = [(one.name, one.labels, one.value) for one in families[name].samples]
        assert ours == [(one.name, one.labels, one.value) for one in plain.families[name].samples]
    assert "_created" not in plain.text + strict.text


async def test_promtool_finds_no_fault(deployment: Deployment) -> None:
    """Prometheus' own checker accepts the page."""
    promtool = find_tool("promtool")
    for way in ("form", "grpc"):
        await deployment.ways[way](SENT)
    page = await scrape(deployment.addresses.admin)
    checker = await asyncio.create_subprocess_exec(
        promtool,
        "check",
        "metrics",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await checker.communicate(page.text.encode())
    assert (checker.returncode, output.decode()) == (0, "")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405), ("DELETE", 405)])
async def test_only_reading_is_served(deployment: Deployment, method: str, status: int) -> None:
    """The page is read by GET and HEAD alone."""
    async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
        response = await client.request(method, f"http://{deployment.addresses.admin}/metrics")
    assert response.status_code == status


async def test_rest_does_not_serve_it(deployment: Deployment) -> None:
    """Partners cannot read the metrics."""
    assert (await deployment.rest.get("/metrics")).status_code == 404


async def test_scrapers_that_hang_take_nothing() -> None:
    """While every connection belongs to a scraper that does not read, all else is served."""
    before = set(threading.enumerate())  # look-ups that hang in other tests have threads too
    async with open_deployment() as deployment, AsyncExitStack() as stack:
        for _ in range(70):
            await stack.enter_async_context(sent(deployment.addresses.admin, GET))
        for way in ("form", "grpc"):
            assert (await deployment.ways[way](SENT)).token
        async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
            for _ in range(5):
                probe = await client.get(f"http://{deployment.addresses.admin}/readyz")
                assert probe.status_code == 200
        threads = set(threading.enumerate()) - before
        rendering = [one.name for one in threads if "work_and_settle" in one.name]
        assert len(rendering) <= 1

        async def has_room() -> bool:
            return (await response_of(deployment.addresses.admin)).status_code == 200

        await eventually(has_room)
        page = await scrape(deployment.addresses.admin)
    assert page.counts(HTTP) == {("POST", "/v1/oauth/token", "200", ""): 1}


async def test_scrapers_that_ask_often_share() -> None:
    """Of many scrapes at once a few wait and get a page, the others are refused at once."""
    async with open_deployment() as deployment:
        admin = deployment.addresses.admin
        await scrape(admin)  # so that the next ones wait
        responses = await asyncio.gather(*(response_of(admin) for _ in range(3 * MAX_WAITING)))
        by_status = {
            status: [r for r in responses if r.status_code == status] for status in (200, 503)
        }
        assert len(by_status[200]) + len(by_status[503]) == len(responses)
        assert len(by_status[200]) >= MAX_WAITING
        for refused in by_status[503]:
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["status"] == 503


# The page alone


class Pages:
    """A page whose renderings are counted, and whose metric is the number of the snapshot."""

    def __init__(self) -> None:
        self.snapshots = 0
        self.threads: set[str] = set()
        self.page = Page(self.snapshot)

    def snapshot(self) -> Collect:
        """Return the next number as a metric."""
        self.snapshots += 1
        number = self.snapshots

        def collect() -> Iterator[Metric]:
            self.threads.add(threading.current_thread().name)
            yield GaugeMetricFamily("number", "The number.", number)

        return collect

    async def scrape(self, kind: str = TEXT) -> float:
        """Return the number on the page."""
        return Scrape.of((await self.page.scrape(kind)).decode()).value("number")


async def test_a_page_is_never_older_than_its_request() -> None:
    """Scrapes that wait together share a page; one that comes later gets a later page."""
    pages = Pages()
    first = await pages.scrape()
    together = await asyncio.gather(*(pages.scrape() for _ in range(5)))
    assert (first, together) == (1, [2] * 5)
    assert await pages.scrape() == 3
    assert threading.current_thread().name not in pages.threads


@pytest.mark.timing("the pause is a lower bound, which a busy machine only exceeds")
async def test_renderings_have_pauses() -> None:
    """However many formats are asked for, there is a pause after each rendering."""
    pages = Pages()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.gather(pages.scrape(), pages.scrape(OPENMETRICS), pages.scrape())
    await pages.scrape()
    assert loop.time() - start >= 2 * PAUSE * 0.99
    assert pages.snapshots == 3


async def test_too_many_scrapes_are_refused() -> None:
    """Beyond the limit of those that wait a scrape is refused, and afterwards none is."""
    pages = Pages()
    await pages.scrape()
    waiting = [asyncio.create_task(pages.scrape()) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(HTTPException) as refused:
        await pages.scrape()
    assert refused.value.status_code == 503
    assert await asyncio.gather(*waiting) == [2] * MAX_WAITING
    assert await pages.scrape() == 3


async def test_a_scraper_that_leaves_disturbs_no_other() -> None:
    """A scrape that is cancelled while it waits takes the page from no other, and makes room."""
    pages = Pages()
    await pages.scrape()
    waiting = [asyncio.create_task(pages.scrape()) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert await asyncio.gather(pages.scrape(), *waiting[1:]) == [2] * MAX_WAITING


async def test_a_failed_rendering_is_not_the_last() -> None:
    """If a page cannot be made its scrapes fail, and the next one is made."""
    pages = Pages()

    def fail() -> Collect:
        raise RuntimeError

    pages.page._snapshot = fail
    with pytest.raises(RuntimeError):
        await pages.scrape()
    pages.page._snapshot = pages.snapshot
    assert await pages.scrape() == 1


@pytest.mark.parametrize("kind", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("count", [0, 1, 50, 51, 170])
def test_pieces_are_one_page(kind: str, count: int) -> None:
    """A metric of any size has its head once, and all of its samples in their order."""
    metric = CounterMetricFamily("things_total", "Things.", labels=["number"])
    for number in range(count):
        metric.add_metric([str(number)], number)
    lines = render(lambda: [metric], kind).decode().splitlines()
    samples = [f'things_total{{number="{number}"}} {number}.0' for number in range(count)]
    name = "things" if kind == OPENMETRICS else "things_total"
    end = ["# EOF"] if kind == OPENMETRICS else []
    assert lines == [f"# HELP {name} Things.", f"# TYPE {name} counter", *samples, *end]
