"""Event streams as a page in Chromium reads them, by EventSource.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from typing import Any

import pytest

from tests.rest.browser import events_of
from tests.rest.streaming import serving

pytestmark = pytest.mark.tools


def named(seen: Any) -> list[tuple[str, str, object]]:
    """Return the type, the id and the name, or the status of a problem, of each event."""
    events = [(type_, id_, json.loads(data)) for type_, id_, data in seen["events"]]
    return [(type_, id_, data.get("name", data.get("status"))) for type_, id_, data in events]


async def test_a_page_reads_streams() -> None:
    """A page sees each message with its id, and a problem as such; it goes on where it was.

    It comes back after the end of a stream, with the last id, and not after an error status. A page
    that closes its stream cancels the call.
    """
    async with serving() as scene:
        whole, failed, refused, left = await events_of(
            f"http://{scene.address}",
            "4:/v1/watch/two",
            "9:/v1/watch/fail",
            "9:/v1/watch/fail%20at%20once",
            "1:/v1/watch/wait",
        )
        for _ in range(5):  # one for each request: the first stream has two
            await scene.service.left.acquire()
        await scene.is_idle()
    again = [("message", "1", "0"), ("message", "2", "1"), ("message", "3", "0")]
    assert (named(whole), whole["lost"]) == ([*again, ("message", "4", "1")], 1)
    assert (named(failed), failed["lost"]) == ([*again[:2], ("problem", "2", 500)], 0)
    assert (named(refused), refused["lost"]) == ([], 1)
    assert (named(left), left["lost"]) == (again[:1], 0)
