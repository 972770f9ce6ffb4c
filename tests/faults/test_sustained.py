"""Exchanges go on for ever: a connection that is kept costs no port, descriptor or memory."""

import json
import sys

import pytest

from tests.faults.conditions import MIB
from tests.faults.namespaces import enter
from tests.sidecar_process import printed, run

# A network in which connections may have 300 local ports.
FEW_PORTS = 'echo "40000 40299" > /proc/sys/net/ipv4/ip_local_port_range'


@pytest.mark.parametrize("count", [3200, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_few_ports(count: int) -> None:
    """Ten times as many exchanges as there are local ports: none fails, and nothing grows."""
    end = await run(
        *await enter(FEW_PORTS), sys.executable, "-m", "tests.faults.sustaining", str(count)
    )
    took = json.loads(printed(end))
    assert (took["failed"], took["descriptors"]) == (0, 0)
    assert took["connections"] <= 40
    assert took["grown"] < 8 * MIB
