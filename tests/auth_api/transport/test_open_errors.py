"""Connections that do not open: which fault each error is, and which are local."""

import asyncio
import errno
import ssl
from collections.abc import Mapping

import httpx2
import pytest

from sidecar.auth_api.faults import FAULTS
from sidecar.auth_api.transport.happy_eyeballs import NoConnectionError
from sidecar.auth_api.transport.open_errors import fault_of
from tests.auth_api.transport.server import Client
from tests.auth_api.transport.test_keep_alive import failure_of
from tests.faults.conditions import eventually
from tests.faults.test_upstream_faults import full
from tests.faults.upstream_scene import SYN_SENT, connections
from tests.faults.wire import LOOPBACK, held_port
from tests.loops import on_skipping_loop
from tests.virtual_time import skip


def os_error(number: int) -> OSError:
    """Return the error of the system with that number, of the class that it has."""
    return OSError(number, "canary")


REFUSED = os_error(errno.ECONNREFUSED)
VERIFICATION = ssl.SSLCertVerificationError(1, "canary")
VERIFICATION.verify_message = "certificate has expired"
ERRORS: Mapping[str, tuple[list[Exception], bool, str, str | None]] = {
    "refused": ([REFUSED], False, "refused", None),
    "no route": ([os_error(errno.EHOSTUNREACH)], False, "unreachable", "EHOSTUNREACH"),
    "reset": ([os_error(errno.ECONNRESET)], False, "unreachable", "ECONNRESET"),
    "reset in the handshake": ([os_error(errno.ECONNRESET)], True, "tls", "ECONNRESET"),
    "no number": ([OSError("canary")], False, "unreachable", None),
    "an unknown number": ([os_error(9999)], False, "unreachable", None),
    "a certificate": ([VERIFICATION], True, "tls", "certificate has expired"),
    "no port": ([os_error(errno.EADDRNOTAVAIL)], False, "local", "EADDRNOTAVAIL"),
    "no descriptor": ([os_error(errno.EMFILE)], False, "local", "EMFILE"),
    "no memory": ([os_error(errno.ENOBUFS)], False, "local", "ENOBUFS"),
    "two addresses": ([REFUSED, os_error(errno.ENETUNREACH)], False, "refused", None),
    "one of them local": ([os_error(errno.EADDRNOTAVAIL), REFUSED], False, "refused", None),
    "both local": ([os_error(errno.EMFILE)] * 2, False, "local", "EMFILE"),
}


@pytest.mark.parametrize(("errors", "is_tls", "name", "detail"), ERRORS.values(), ids=ERRORS)
def test_fault(errors: list[Exception], is_tls: bool, name: str, detail: str | None) -> None:
    """Each error has a fault of the list, with no text of the system."""
    fault = fault_of(NoConnectionError(errors), is_tls=is_tls)
    assert (fault.name, fault.detail) == (name, detail)
    assert FAULTS[fault.name].is_down == (name != "local")


def test_a_bug_is_no_fault() -> None:
    """An error that no connection has leaves as it is."""
    bug = AttributeError("canary")
    with pytest.raises(AttributeError) as raised:
        fault_of(NoConnectionError([bug]), is_tls=False)
    assert raised.value is bug


@on_skipping_loop
async def test_a_late_loop() -> None:
    """A timeout that the loop notices much too late says nothing about the auth-api."""
    with held_port() as port, full(f"{LOOPBACK}:{port}"):
        url = httpx2.URL(f"http://{LOOPBACK}:{port}/")
        async with Client(url, connect_timeout=30.0) as client:
            waiting = connections(f"{LOOPBACK}:{port}", SYN_SENT)
            asking = asyncio.create_task(failure_of(client))
            await eventually(lambda: connections(f"{LOOPBACK}:{port}", SYN_SENT) > waiting)
            while not asking.done():  # the timeout gives back by how much it is late
                skip(60)
                await asyncio.sleep(0)
            assert (await asking).name == "local"
