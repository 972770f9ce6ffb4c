"""Tests of the overview of the parts: what is told before the last part is there."""

import json

from sidecar import overview
from sidecar.interceptors.admission import Admission
from sidecar.process.sockets import Addresses
from sidecar.settings.model import Settings
from sidecar.settings.types import Address
from sidecar.tls.certificates import Certificates
from tests.running_server import open_server


async def test_the_state_of_a_sidecar_that_starts() -> None:
    """While the sidecar starts, the state has the parts that exist, and says so."""
    address = Address("127.0.0.1", 1)
    addresses = Addresses(
        rest=address, grpc=address, admin=address, auth_api=None, token_url="http://a.test/?key=x"
    )
    async with open_server() as running:
        state = overview.of_start(
            addresses, Admission(3), running.server, Certificates.load(Settings())
        )
        told = json.loads(state.to_json())
    assert told["phase"] == "starting"
    assert told["calls"] == {"in_flight": 0, "limit": 3, "streams": 0, "refused": 0}
    assert told["grpc"] == {"calls": 0, "waiting": 0}
    assert told["addresses"]["auth_api_token_url"] == "http://a.test/?***"
    assert not told.keys() & {"rest", "auth_api", "throttle"}
