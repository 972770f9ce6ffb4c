"""The state of the running process for `GET /state`: named values, read when they are asked for.

It knows no part of the process. The parts return frozen values, which become JSON here.
"""

import json
import platform
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import requires, version
from typing import Any

_PACKAGE = "karmo-sidecar"
# PEP 508: a requirement begins with the name of its package. Those of extras have a marker.
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class State:
    """The values of the process by name, in the order in which they were added."""

    def __init__(self) -> None:
        began = time.monotonic()
        self._reads: dict[str, Callable[[], object]] = {
            "versions": versions,
            "uptime_seconds": lambda: round(time.monotonic() - began, 3),
        }

    def add(self, **reads: Callable[[], object]) -> None:
        """Add named values. Each is what its function returns when the state is read.

        A value is of JSON, a date, or a dataclass, whose fields are such values.
        """
        self._reads |= reads

    def to_json(self) -> bytes:
        """Return all values of now as one JSON object."""
        values = {name: read() for name, read in self._reads.items()}
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


def _to_plain(value: Any) -> object:
    """Return a value that JSON knows for a dataclass or a date."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__qualname__} is no value of the state")
