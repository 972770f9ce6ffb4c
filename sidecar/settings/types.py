"""Types of settings: parsers of their values.

The text of a ValueError continues a sentence that begins with the name of the setting, and
never shows the value.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainValidator

from sidecar.secret import Secret

# It is part of the status of every failed call, which must stay small.
_MAX_BASE = 120
# RFC 3986 section 2, less what delimits other parts of a URL, and without an empty segment.
_PLAIN_URL = re.compile(r"[A-Za-z]+://(?:(?!//)[\w.~!$&()*+,;=:/%\[\]-])*", re.ASCII)
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
# In seconds.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_SECONDS = 3600.0
_MAX_COUNT = 1_000_000
# A short key could be guessed: a reader of the log could try keys on a known identifier.
_KEY = re.compile(r"[\x21-\x7e]{32,256}")
_STORE_SCHEMES = frozenset({"redis", "rediss", "valkey"})
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a listener: a host and a port. Port 0 means any free port.

    The host is an IP address or a name in lower case.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        ip = find_ip(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all IPv4 addresses of the machine, or for all of them."""
        ip = find_ip(self.host)
        return ip is not None and ip.is_unspecified

    @property
    def connectable(self) -> "Address":
        """The address at which clients on this machine reach a listener on this one.

        It is the address itself, or loopback for a wildcard. [::] has IPv4 too, and a machine
        may be without an IPv6 loopback address.
        """
        return Address(_LOOPBACK, self.port) if self.is_wildcard else self


def find_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that `host` is, or None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _parse_seconds(value: Any, *, may_be_zero: bool = False) -> Any:
    if isinstance(value, float):
        return value
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", value)
    seconds = float(match[1]) * _UNITS[match[2]] if match else -1.0
    if not 0.0 <= seconds <= _MAX_SECONDS or not (seconds or may_be_zero):
        above = "not below" if may_be_zero else "above"
        raise ValueError(
            "must be a number with the unit ms, s, m or h, such as 500ms, 5s or 2m, "
            f"{above} 0 and at most 1h"
        )
    return seconds


def _parse_count(value: Any, *, least: int = 1) -> Any:
    if isinstance(value, int):
        return value
    if not re.fullmatch("[0-9]{1,7}", value) or not least <= int(value) <= _MAX_COUNT:
        raise ValueError(f"must be a whole number from {least} to {_MAX_COUNT}")
    return int(value)


def _check_http_url(value: str) -> str:
    if not re.match("https?://", value.lstrip(), re.IGNORECASE):
        raise ValueError("must begin with http:// or https://")
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise ValueError("must hold visible ASCII characters only")
    try:
        parts = urlsplit(value)
        is_usable = parts.port != 0 and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:  # its text would quote the value
        is_usable = False
    if not is_usable:
        raise ValueError("must have a host, and a port from 1 to 65535 if any")
    if set("@#") & set(value):
        raise ValueError("must hold no user, password or fragment")
    return value


def _check_base_url(value: str) -> str:
    if "?" in value:
        raise ValueError("must hold no query")
    base = _check_http_url(value).rstrip("/")
    if not _PLAIN_URL.fullmatch(base):
        raise ValueError("must hold the characters of a URL only (RFC 3986), and no empty segment")
    if len(base) > _MAX_BASE:
        raise ValueError(f"must not be longer than {_MAX_BASE} characters")
    return base


def _parse_path(value: Any) -> Any:
    if value == "" or "\0" in str(value):
        raise ValueError("must be the path of a file")
    return Path(value)


def _parse_key(value: str | Secret[str]) -> Secret[str]:
    if isinstance(value, Secret):
        return value
    if not _KEY.fullmatch(value):
        raise ValueError(
            "must be 32 to 256 visible ASCII characters, such as the output of openssl rand -hex 32"
        )
    return Secret(value)


def _parse_store_url(value: str | Secret[str]) -> Secret[str]:
    if isinstance(value, Secret):
        return value
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise ValueError("must hold visible ASCII characters only")
    if set("?#") & set(value):
        raise ValueError("must hold no query or fragment; in a password, write ? as %3F, # as %23")
    try:
        parts = urlsplit(value)
        is_usable = parts.scheme in _STORE_SCHEMES and parts.port != 0
        is_usable = is_usable and _HOST.fullmatch(parts.hostname or "") is not None
        is_usable = is_usable and re.fullmatch("/?|/[0-9]{1,5}", parts.path) is not None
    except ValueError:  # its text would quote the value
        is_usable = False
    if not is_usable:
        raise ValueError(
            "must be redis://HOST, rediss://HOST or valkey://HOST, with USER:PASSWORD@ before the "
            "host, :PORT and /DATABASE behind it where needed; in a password, write / as %2F"
        )
    return Secret(value)


def mask_query(url: str) -> str:
    """Return `url` without the values of its query, which may be secret."""
    path, query, _ = url.partition("?")
    return f"{path}?***" if query else url


def as_text(value: object) -> str:
    """Return the value of a setting as it would be written; a mask for a secret."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, float):
        return f"{value:.10g}s"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)


SecondsField = Annotated[float, BeforeValidator(_parse_seconds)]
DelayField = Annotated[float, BeforeValidator(partial(_parse_seconds, may_be_zero=True))]
CountField = Annotated[int, BeforeValidator(_parse_count)]
CountOrZeroField = Annotated[int, BeforeValidator(partial(_parse_count, least=0))]
UrlField = Annotated[str, BeforeValidator(_check_http_url)]
BaseUrlField = Annotated[str, BeforeValidator(_check_base_url)]
KeyField = Annotated[Secret[str], PlainValidator(_parse_key)]
StoreUrlField = Annotated[Secret[str], PlainValidator(_parse_store_url)]
PathField = Annotated[Path, BeforeValidator(_parse_path)]
