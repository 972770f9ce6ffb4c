"""Listening sockets, bound before anything starts so that a busy address fails at once."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from sidecar.process import unix_socket
from sidecar.process.listen_addresses import resolve
from sidecar.settings.addresses import UnixAddress
from sidecar.settings.model import Settings, name_of
from sidecar.settings.types import Address, mask_query

BACKLOG = 1024
# After 30 s of silence the system probes whether the peer of a connection is still there: without
# that, a stream to a peer that is gone would last until its next message. Three probes, 10 s apart.
# An accepted connection inherits the options of the listening socket.
_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _PROBES.items()
        if hasattr(socket, name)  # not on every system
    ),
)
# A port that is free at one of several addresses may be in use at another.
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """All addresses of one listener, and the one by which clients on this machine reach it."""

    addresses: tuple[Address, ...]
    connectable: Address

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))


@dataclass(frozen=True, slots=True)
class Bound:
    """An open listener: its `endpoint`, and a socket for each address of it."""

    endpoint: Endpoint
    sockets: tuple[socket.socket, ...]


def listen(address: Address) -> socket.socket:
    """Return a socket that listens on an IP address. Raises OSError; its text has `address`."""
    return _open(address, backlog=BACKLOG)


def hold(address: Address) -> socket.socket:
    """Return a socket that keeps the port of an IP address for a server in this process.

    It does not listen, so on Linux another socket with SO_REUSEADDR can (socket(7)). Raises
    OSError if somebody listens there or the address cannot be had; its text has `address`.
    """
    return _open(address, backlog=None)


def _open(address: Address, *, backlog: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with ExitStack() as opened:
        try:
            # The protocol is explicit because asyncio sets TCP_NODELAY only if it is.
            bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            opened.enter_context(bound)
            # Allows a port whose last connections are still closing, but not one in use.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for option in _KEEP_ALIVE:
                bound.setsockopt(*option)
            if family == socket.AF_INET6:
                # [::] means IPv4 too, as it does for gRPC, whatever net.ipv6.bindv6only says.
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind((address.host, address.port))
            if backlog is not None:
                # At once: two processes can bind the same port until one of them listens.
                bound.listen(backlog)
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error.strerror}") from None
        opened.pop_all()
    return bound


def listen_on_all(stack: ExitStack, address: Address) -> Bound:
    """Listen on every address that `address` stands for, or on none. `stack` ends it.

    All have one port. Raises OSError; its text has the address that cannot be had.
    """
    if isinstance(address, UnixAddress):
        return Bound(Endpoint((address,), address), (_listen_at_path(stack, address),))
    return open_all(stack, address, listen)


def _listen_at_path(stack: ExitStack, address: UnixAddress) -> socket.socket:
    bound = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))

    def listen_at(path: str) -> None:
        bound.bind(path)
        bound.listen(BACKLOG)

    unix_socket.publish(stack, address, listen_at)
    return bound


def open_all(
    stack: ExitStack, address: Address, open_at: Callable[[Address], socket.socket]
) -> Bound:
    """Open a socket by `open_at` for every IP address of `address`, or none. `stack` closes them.

    All have one port. Raises OSError; its text has the address that cannot be had.
    """
    wanted = resolve(address)
    may_try_again = len(wanted) > 1 and not address.port
    for _ in range(_TRIES - 1 if may_try_again else 0):
        with suppress(OSError):
            return _open_each(stack, address, wanted, open_at)
    return _open_each(stack, address, wanted, open_at)


def _open_each(
    stack: ExitStack,
    address: Address,
    wanted: tuple[Address, ...],
    open_at: Callable[[Address], socket.socket],
) -> Bound:
    port, sockets = address.port, []
    with ExitStack() as opened:
        for each in wanted:
            sockets.append(opened.enter_context(open_at(replace(each, port=port))))
            port = address_of(sockets[-1]).port
        stack.push(opened.pop_all())
    addresses = tuple(replace(each, port=port) for each in wanted)
    return Bound(Endpoint(addresses, replace(address, port=port).connectable), tuple(sockets))


def expansions(settings: Settings) -> Mapping[str, str]:
    """Return what the listen settings of `serve` stand for, by field, where that is not plain.

    Raises OSError, whose text has the setting, if a name has no address.
    """
    expanded = {}
    for field in ("rest_listen", "grpc_listen", "admin_listen"):
        address: Address = getattr(settings, field)
        with naming(field):
            addresses = resolve(address)
        if addresses != (address,):
            expanded[field] = str(Endpoint(addresses, address))
    return expanded


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Add the name of the setting `field` to the text of an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{name_of(field)}: {error}") from None


def address_of(bound: socket.socket) -> Address:
    """Return the address of `bound`, with the port that the system chose if 0 was requested."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses of the listeners of a running sidecar, and the token URL that it calls.

    Of each listener the address by which clients on this machine reach it; `listening` has all of
    its addresses as text, by its name. `auth_api` is the embedded auth-api, or None without it.
    """

    rest: Address
    grpc: Address
    admin: Address
    auth_api: Address | None
    listening: Mapping[str, str]
    token_url: str

    def by_name(self) -> dict[str, str]:
        """Return all addresses and the token URL as texts, by name."""
        return {**self.listening, "auth_api_token_url": mask_query(self.token_url)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """The listening sockets. gRPC opens its own, so its addresses are known later."""

    rest: Bound
    admin: Bound
    embedded: Bound | None

    @classmethod
    def bind(cls, stack: ExitStack, settings: Settings, *, embeds_auth_api: bool) -> "Sockets":
        """Bind the sockets; `stack` closes them. Raises OSError; its text has the address."""

        def listen_at(field: str) -> Bound:
            with naming(field):
                return listen_on_all(stack, getattr(settings, field))

        return cls(
            rest=listen_at("rest_listen"),
            admin=listen_at("admin_listen"),
            embedded=listen_at("dev_auth_api_listen") if embeds_auth_api else None,
        )

    def addresses(self, grpc: Endpoint, token_url: str | None) -> Addresses:
        """Return all addresses. Without `token_url`, it is that of the embedded auth-api."""
        endpoints = {"rest": self.rest.endpoint, "grpc": grpc, "admin": self.admin.endpoint}
        if self.embedded:
            endpoints["auth_api"] = self.embedded.endpoint
        embedded = self.embedded.endpoint.connectable if self.embedded else None
        return Addresses(
            rest=self.rest.endpoint.connectable,
            grpc=grpc.connectable,
            admin=self.admin.endpoint.connectable,
            auth_api=embedded,
            listening={name: str(endpoint) for name, endpoint in endpoints.items()},
            token_url=token_url or f"http://{embedded}/v1/oauth/token",
        )
