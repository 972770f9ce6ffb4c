"""HTTP client of the probes, for container runtimes that run a command to check the health.

It asks by a plain socket and loads no gRPC, so that the command starts quickly.
"""

import socket
import time

from sidecar.settings.model import name_of
from sidecar.settings.types import Address

PROBES = ("readyz", "livez", "startupz")
# Seconds for the whole probe. A healthy process answers within milliseconds.
TIMEOUT = 2.0
_OK = b"200"
# Far longer than a status line of ours.
_MAX_BYTES = 1024


class ProbeError(Exception):
    """The probe failed; the text says why."""


def ask(listener: Address, probe: str, *, timeout: float = TIMEOUT) -> None:
    """Ask the admin listener at `listener` for `probe`, one of PROBES.

    Returns if the status is 200. Raises ProbeError otherwise, after `timeout` seconds at most.
    """
    if not listener.port:
        raise ProbeError(f"{name_of('admin_listen')} has no fixed port to ask")
    address = listener.connectable
    try:
        status = _status_of(address, f"/{probe}", time.monotonic() + timeout)
    except TimeoutError:
        raise ProbeError(f"no answer from {address} within {timeout:g} s") from None
    except OSError as error:
        raise ProbeError(f"cannot ask {address}: {error.strerror or error}") from None
    if status != _OK:
        said = status.decode("ascii") if status.isdigit() else "no HTTP status"
        raise ProbeError(f"{address} answered /{probe} with {said}")


def _status_of(address: Address, path: str, deadline: float) -> bytes:
    """Return the status code of the answer to GET `path`. Raises OSError."""
    left = deadline - time.monotonic()
    with socket.create_connection((address.host, address.port), timeout=left) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("ascii"))
        head = b""
        while b"\n" not in head and len(head) < _MAX_BYTES:
            # A timeout of 0 would mean not to wait, and a negative one is an error.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            received = connection.recv(_MAX_BYTES)
            if not received:
                break
            head += received
    return (*head.split(maxsplit=2), b"", b"")[1]
