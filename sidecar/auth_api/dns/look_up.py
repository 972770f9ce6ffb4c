"""A look-up of a host name by the operating system (getaddrinfo), and what its answer says."""

import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from sidecar.auth_api.local_errnos import LOCAL_ERRNOS

# An entry of the answer of getaddrinfo. Without IPv6 in Python, IPv6 has the last form.
AddressInfo: TypeAlias = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]
_EAI_NAMES: Mapping[int, str] = MappingProxyType(
    {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
)
_FAMILIES = MappingProxyType({4: socket.AF_INET, 6: socket.AF_INET6})


class SocketAddress(NamedTuple):
    """An IP address and a port. `host` is numeric, with the scope of IPv6 as in fe80::1%2."""

    family: socket.AddressFamily
    host: str
    port: int


class LookUpError(Exception):
    """A look-up gave no address, and no earlier answer may be used.

    `cause_name` is stable and holds no text of the system: the EAI name ("EAI_NONAME"), the errno
    name ("EMFILE"; "EAGAIN" if no thread starts), the type of any other exception, or "HUNG" if
    every look-up hangs. A cause that `is_local` is on this machine, and says nothing about DNS.
    """

    def __init__(self, cause_name: str, *, is_local: bool = False) -> None:
        super().__init__(cause_name)
        self.cause_name = cause_name
        self.is_local = is_local


def system_look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of `host` for TCP, the best first (RFC 6724). It blocks."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)


def literal(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host that is an IP address. Raises ValueError."""
    return SocketAddress(_FAMILIES[ipaddress.ip_address(host).version], host, port)


def addresses_of(infos: Sequence[AddressInfo]) -> tuple[SocketAddress, ...]:
    """Return the addresses without repetitions, which the hosts file may have.

    Raises socket.gaierror if there are none.
    """
    if not infos:
        raise socket.gaierror(socket.EAI_NODATA, "no address")
    return tuple(dict.fromkeys(map(_address, infos)))


def _address(info: AddressInfo) -> SocketAddress:
    family, *_, sockaddr = info
    host, port, *rest = sockaddr  # IPv6: its flow and its scope follow
    scope = rest[-1] if rest else 0
    return SocketAddress(family, f"{host}%{scope}" if scope else str(host), int(port))


def error_of(cause: Exception) -> LookUpError:
    """Return the error of a look-up that raised `cause`."""
    kind = type(cause).__name__
    match cause:
        case UnicodeError():  # no DNS name: an empty label, or one that is too long
            return LookUpError("EAI_NONAME")
        case RuntimeError():  # the thread cannot start: pthread_create(3) gives EAGAIN
            return LookUpError("EAGAIN", is_local=True)
        case socket.gaierror(errno=number):
            name = _EAI_NAMES.get(number or 0, kind)
            return LookUpError(name, is_local=number == socket.EAI_MEMORY)
        case OSError(errno=number):
            name = errno.errorcode.get(number or 0, kind)
            return LookUpError(name, is_local=number in LOCAL_ERRNOS)
        case _:
            return LookUpError(kind, is_local=isinstance(cause, MemoryError))
