"""The token that comes out, by every way in."""

from tests.upstream import TOKEN
from tests.ways import House, Sent, Way, basic


async def test_every_way_gives_the_same_token(house: House, way: Way) -> None:
    """A token reaches the caller unchanged, whichever protocol it asked by."""
    outcome = await way(Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),)))
    assert outcome.token == TOKEN
    assert len(house.upstream.requests) == 1
