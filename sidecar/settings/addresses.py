"""Addresses of listeners, as settings write them: HOST:PORT, or the path of a Unix socket.

The text of a ValueError continues a sentence that begins with the name of the setting, and
never shows the value.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator

from sidecar.settings.types import Address, find_ip

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# A name that ends in a number is an IPv4 address in an old form: 127.1 is 127.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME = 253  # characters (RFC 1035 section 2.3.4, without the root)
_UNIX, EXAMPLE = "unix:", "unix:/run/karmo-sidecar/rest.sock"
# No character that a URL, a shell or the configuration of a proxy would read differently.
_PATH = re.compile(r"(?:/[\w.@+=-]+)+", re.ASCII)
# The path in unix(7) has 108 bytes, of which the last is NUL. A new socket first has a name of
# STAGED_NAME bytes in the same folder.
_MAX_PATH, STAGED_NAME = 107, 9
_HOST_PORT = "must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, with a port up to 65535"


class UnixAddress(Address):
    """The address of a Unix domain socket: its absolute path is the host, and the port is 0."""

    __slots__ = ()

    def __init__(self, path: str) -> None:
        super().__init__(path, 0)

    def __str__(self) -> str:
        return f"{_UNIX}{self.host}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address: yes."""
        return True


def _parse_address(value: str | Address, *, form: str = _HOST_PORT) -> Address:
    if isinstance(value, Address):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", value)
    if match is None or int(match[3]) > 65535:
        raise ValueError(form)
    return Address(_parse_host(match[1] or match[2]), int(match[3]))


def _parse_host(host: str) -> str:
    """Return an IP address in its usual form, or a name in lower case. Raises ValueError."""
    ip, name = find_ip(host), host.lower()
    if ip is not None:
        return str(getattr(ip, "ipv4_mapped", None) or ip)
    labels = name.split(".")
    are_labels = all(_LABEL.fullmatch(label) for label in labels)
    if not are_labels or _NUMBER.fullmatch(labels[-1]) or len(name) > _MAX_NAME:
        raise ValueError(
            "must name the host as an IP address or a host name; 0.0.0.0 means all IPv4 "
            "addresses, [::] all addresses"
        )
    return name


def _parse_listen(value: str | Address) -> Address:
    if isinstance(value, str) and value.startswith(_UNIX):
        return UnixAddress(_parse_path(value.removeprefix(_UNIX)))
    return _parse_address(value, form=f"{_HOST_PORT}, or a Unix socket, such as {EXAMPLE}")


def _parse_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(
            f"must have an absolute path of letters, digits and ._@+=- behind {_UNIX}, such as "
            f"{EXAMPLE}"
        )
    longest_folder = _MAX_PATH - len("/") - STAGED_NAME
    if len(path) > _MAX_PATH or path.rindex("/") > longest_folder:
        raise ValueError(
            f"must have a path of at most {_MAX_PATH} bytes, in a folder of at most "
            f"{longest_folder} bytes"
        )
    return path


AddressField = Annotated[Address, BeforeValidator(_parse_address)]
ListenField = Annotated[Address, BeforeValidator(_parse_listen)]
