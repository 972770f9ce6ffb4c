"""The state of the running process: its versions, addresses and counts.

`GET /state` returns it as JSON, and SIGUSR1 writes it to the log.
"""

import json
import platform
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import requires, version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar import logs
from sidecar.telemetry.counts import Counts

_PACKAGE = "karmo-sidecar"
# PEP 508: a requirement begins with the name of its package. Those of extras have a marker.
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class State:
    """The state of a process that starts now.

    `addresses` are those of the listeners and the token URL, by name. `read` returns the counts
    of now.
    """

    def __init__(self, addresses: Mapping[str, str], read: Callable[[], Counts]) -> None:
        self._addresses = addresses
        self._read = read
        self._began = time.monotonic()

    def route(self) -> Route:
        """Return the route `/state`."""
        headers = {"Cache-Control": "no-store"}

        async def show(_request: Request) -> Response:
            return Response(self._to_json(), headers=headers, media_type="application/json")

        return Route("/state", show)

    def log(self) -> None:
        """Write the state to the log, as one line."""
        logs.event("state", **json.loads(self._to_json()))

    def _to_json(self) -> bytes:
        uptime = round(time.monotonic() - self._began, 3)
        values = {"versions": versions(), "uptime_seconds": uptime, "addresses": self._addresses}
        return to_json(values | _to_plain(self._read()))


def to_json(values: Mapping[str, object]) -> bytes:
    """Return `values` as JSON. They are of JSON, dates, or dataclasses of such values."""
    return json.dumps(values, default=_to_plain).encode()


@cache
def versions() -> dict[str, str]:
    """Return the versions of the sidecar, of Python, of OpenSSL and of the libraries in use."""
    names = {name: version(name) for name in (_PACKAGE, *_libraries())}
    return {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION} | names


def _libraries() -> Iterator[str]:
    for requirement in requires(_PACKAGE) or ():
        match = _NAME.match(requirement)
        if match and "extra ==" not in requirement:
            yield match[0]


def _to_plain(value: Any) -> Any:
    """Return a value that JSON knows for a dataclass or a date. Raises TypeError."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__qualname__} is no value of the state")
