"""How much is asked of an auth-api that is slow or refuses: no more than callers ask themselves.

Rows U20, U21 and U25 of the fault matrix.
"""

import asyncio
import itertools
from functools import partial

import pytest

from sidecar.auth_api import client
from sidecar.auth_api.retry import RetryBudget
from tests.faults.upstream_scene import (
    BOTH,
    BUSY,
    MOST,
    OVERLOADED,
    UNAVAILABLE,
    Scene,
    assert_token,
    delay_of,
    open_scene,
)
from tests.upstream import TOKEN, Hold, answer

pytestmark = pytest.mark.unmeasured

GOOD = answer(200, TOKEN)
# What an answer says of when to come again (RFC 9110 section 10.2.3), and what callers are told.
# A date needs two clocks that agree; one second is what is told without a delay.
DELAYS: dict[str, int] = {
    "5": 5,
    "60": 60,
    "61": 60,
    "1000000000": 60,
    "0": 1,
    "-5": 1,
    "1.5": 1,
    "Fri, 31 Dec 2038 23:59:59 GMT": 60,
    "Fri, 31 Dec 1999 23:59:59 GMT": 1,
    "soon": 1,
    "5, 7": 1,
    "": 1,
}


@pytest.mark.parametrize("status", [429, 503])
async def test_u20_when_to_come_again(scene: Scene, status: int) -> None:
    """Every form of Retry-After is told alike by both protocols, in whole seconds up to 60."""
    told = {429: BUSY, 503: UNAVAILABLE}[status]
    for field, seconds in DELAYS.items():
        scene.upstream.reply = answer(status, Retry_After=field)
        delays = {delay_of(await scene.fails(way, told)) for way in BOTH}
        pushback = await scene.pushback()
        assert (delays, pushback) == ({seconds}, f"{seconds}000"), field
    assert len(scene.upstream.requests) == len(DELAYS) * 3  # nothing was tried again


async def test_u21_failures_are_not_multiplied(scene: Scene) -> None:
    """When half of the answers are 503, the auth-api gets each request once."""
    replies = itertools.cycle([answer(503), GOOD])

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(replies))

    scene.upstream.script = script
    outcomes = [await scene.ask(way) for way in BOTH * 10]
    assert sum(outcome.token is not None for outcome in outcomes) == 10
    assert len(scene.upstream.requests) == scene.chaos.accepted == 20


async def test_u21_refusals_add_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """When half of the connections are refused, tries stay below 1.1 a call, and one besides."""
    # Another one may be added each second; here none passes.
    monkeypatch.setattr(client, "RetryBudget", partial(RetryBudget, now=lambda: 0.0))
    tries = 0
    async with open_scene() as scene:
        for way in BOTH * 25:
            scene.chaos.refuse()
            outcome = await scene.fails(way, UNAVAILABLE)
            await scene.chaos.accept()
            assert_token(await scene.ask(way))
            tries += 1 + int((await scene.line_of(outcome)).get("upstream_tries", 1))
        assert len(scene.upstream.requests) == 50
    assert 100 + 10 <= tries <= 1.1 * 100 + 1


async def test_u25_slower_than_what_is_offered(scene: Scene) -> None:
    """As many calls as may be wait for a slow auth-api; the others are told at once."""
    hold = Hold()
    scene.upstream.script = hold.script
    calls = [asyncio.create_task(scene.ask(way)) for way in BOTH * (MOST // 2)]
    await hold.wait_for(MOST)
    for way in BOTH * 20:
        outcome = await scene.fails(way, OVERLOADED)
        assert delay_of(outcome) == 1
    assert len(scene.upstream.requests) == MOST
    hold.release.set()
    for outcome in await asyncio.gather(*calls):
        assert_token(outcome)
    await scene.works_in_full()
