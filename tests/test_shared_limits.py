"""Tests of shared limits in the product: two sidecars with one store refuse a guesser together."""

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from tests.exchange.shared_counts.resp_server import RespServer, counting, replying, serving
from tests.faults.conditions import eventually
from tests.patience import HANG
from tests.recorded import recorded
from tests.scraped import scrape
from tests.test_canary import hits
from tests.upstream import answer
from tests.ways import Deployment, Outcome, Sent, open_deployment

KEY = "0123456789abcdefghijklmnopqrstuv"
LIMIT = 3
DENIED = answer(401, {"error": "invalid_client"})


@asynccontextmanager
async def sharing(server: RespServer, password: str = "canary") -> AsyncIterator[Deployment]:
    """Run a sidecar that shares its wrong secrets on `server`, and knows no right one."""
    async with open_deployment(
        shared_limits_url=f"redis://:{password}@{server.address}",
        log_client_key=KEY,
        max_client_failures=str(LIMIT),
    ) as deployment:
        deployment.upstream.reply = DENIED
        yield deployment


async def guess(deployment: Deployment, way: str, client: str) -> Outcome:
    """Send a wrong secret."""
    fields = {"grant_type": "client_credentials", "client_id": client, "client_secret": "canary"}
    return await deployment.ways[way](Sent(fields=fields))


def code_of(outcome: Outcome) -> str:
    """Return the code of the problem of a call."""
    assert outcome.problem
    return str(outcome.problem["karmoCode"])


async def state_of(deployment: Deployment) -> Mapping[str, object]:
    """Return the state of shared counts."""
    async with httpx2.AsyncClient(trust_env=False, timeout=HANG) as client:
        state = (await client.get(f"http://{deployment.addresses.admin}/state")).json()
    shared: Mapping[str, object] = state["sharing"]
    return shared


async def test_a_guesser_is_refused_by_the_other_sidecar() -> None:
    """The limit that one sidecar counted refuses the second guess at the other, by gRPC too."""
    clients = map("client{}".format, itertools.count())
    async with serving(counting()) as server, sharing(server) as one, sharing(server) as other:

        async def is_shared() -> bool:
            # On a busy machine the store may be late: then it is a further guess that is refused.
            client = next(clients)
            codes = {code_of(await guess(one, "form", client)) for _ in range(LIMIT)}
            assert codes == {"40120001"}
            assert code_of(await guess(other, "form", client)) == "40120001"
            return code_of(await guess(other, "grpc", client)) == "42920001"

        await eventually(is_shared)
        page = await scrape(one.addresses.admin)
        added = page.value("karmo_sidecar_shared_counts_total", outcome="added")
        assert added >= 3 * LIMIT
        assert page.value("karmo_sidecar_shared_counts_failing") in (0, 1)
        state = await state_of(one)
        assert state.keys() == {"outcomes", "waiting", "fault"}


async def test_a_store_that_fails_costs_no_call() -> None:
    """Calls are answered as without a store, limits are local, and nothing secret is written."""
    with recorded() as log:
        async with (
            serving(replying(b"-NOAUTH canary\r\n")) as server,
            sharing(server) as deployment,
        ):
            statuses = [
                (await guess(deployment, way, "partner")).status for way in ("form", "json") * 3
            ]
            assert statuses == [401] * LIMIT + [429] * LIMIT
            page = await scrape(deployment.addresses.admin)
            await eventually(lambda: "wrong secrets not shared" in log.text)
            state = await state_of(deployment)
    assert state["fault"] == "denied"
    (line,) = (line for line in log.entries if line["message"] == "wrong secrets not shared")
    assert (line["level"], line["server"]) == ("warning", server.address)
    assert hits(log.text, page.text, str(state)) == []


async def test_without_a_store_there_is_no_metric_of_one() -> None:
    """Without the setting there is no such metric and no such state."""
    async with open_deployment() as deployment:
        page = await scrape(deployment.addresses.admin)
        assert await state_of(deployment) is None
    assert "shared_counts" not in page.text
