"""The auth-api moves, DNS dies for a minute and certificates are replaced, while calls go on."""

import json
import sys
from pathlib import Path

import pytest

from tests.faults.namespaces import enter_with_dns
from tests.sidecar_process import printed, run


@pytest.mark.soak
async def test_no_call_is_lost(tmp_path: Path) -> None:
    """Each call has its token: connections are replaced between calls, and addresses stay known."""
    enter = await enter_with_dns(tmp_path)
    end = await run(*enter, sys.executable, "-m", "tests.faults.moving", "60", within=300.0)
    took = json.loads(printed(end))
    assert set(took["outcomes"]) == {"token"}
    assert took["outcomes"]["token"] == sum(took["requests"]) - took["resent"]
    assert took["failed_look_ups"] > 0
    assert took["replaced"] > 1
    assert min(took["requests"]) > 100
