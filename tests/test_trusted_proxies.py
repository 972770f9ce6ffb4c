"""Tests of what the log says where clients share an IP address, as behind an unknown proxy."""

from collections.abc import Sequence

import pytest

from sidecar.exchange.shared_address import MESSAGE
from sidecar.settings.sources import load
from tests import sidecar_process
from tests.recorded import Line, recorded
from tests.sidecar_process import serving
from tests.ways import Sent, open_deployment

GRANT = {"grant_type": "client_credentials", "client_secret": "secret"}


async def warnings_about(*clients: str) -> Sequence[Line]:
    """Return the warnings in the log of a sidecar that these clients call in turn."""
    with recorded() as log:
        async with open_deployment() as deployment:
            for number, client in enumerate(clients):
                sent = Sent(fields={**GRANT, "client_id": client})
                outcome = await deployment.ways[("form", "grpc")[number % 2]](sent)
                assert outcome.token
    return [line for line in log.entries if line["level"] == "warning"]


async def test_clients_that_share_an_address_are_warned_of_once() -> None:
    """When five clients have called over both protocols from one address, the log has a warning."""
    clients = [f"client{number}" for number in range(4)]
    assert await warnings_about(*clients, *clients) == []
    (line,) = await warnings_about(*clients, "client4", "client5")
    assert (line["message"], line["addresses"], line["clients"]) == (MESSAGE, "127.0.0.1", 5)


@pytest.mark.parametrize(
    ("flags", "shares"),
    [
        ({}, True),
        ({"rest_listen": "[::1]:8080"}, True),
        ({"rest_listen": "unix:/run/r.sock", "public_url": "https://api.example.test"}, True),
        ({"trusted_proxies": "1"}, False),
        ({"rest_listen": "0.0.0.0:8080"}, False),
        ({"rest_listen": "192.0.2.1:8080"}, False),
    ],
    ids=str,
)
def test_it_is_known_on_loopback_alone(flags: dict[str, str], *, shares: bool) -> None:
    """Only a listener on loopback, without a trusted proxy, shows at start that clients share."""
    assert load({}, flags).shares_one_address is shares


async def test_the_line_at_start() -> None:
    """`serve` on loopback says once that clients share the limits of one address, and the remedy.

    `dev` is for demo clients and does not say it (`test_cli.py` has all of its lines).
    """
    async with serving("serve", auth_api_token_url="http://127.0.0.1:9/") as sidecar:
        pass
    log = sidecar_process.log_lines(await sidecar.log.all())
    (line,) = [line for line in log if "SIDECAR_TRUSTED_PROXIES" in line["message"]]
    assert (line["level"], line["logger"]) == ("info", "sidecar")
