"""Listening sockets, bound before anything starts so that a busy address fails at once."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

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


def listen(address: Address) -> socket.socket:
    """Return a socket that listens on `address`. Raises OSError; its text has the address."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is explicit because asyncio sets TCP_NODELAY only if it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Allows a port whose last connections are still closing, but not one in use.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in _KEEP_ALIVE:
            bound.setsockopt(*option)
        if family == socket.AF_INET6:
            # [::] means IPv4 too, as it does for gRPC, whatever net.ipv6.bindv6only says.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((address.host, address.port))
        # At once: two processes can bind the same port until one of them listens.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    return bound


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

    `auth_api` is the listener of the embedded auth-api, or None without it.
    """

    rest: Address
    grpc: Address
    admin: Address
    auth_api: Address | None
    token_url: str

    def by_name(self) -> dict[str, str]:
        """Return the addresses and the token URL as texts, by name."""
        named = {"rest": self.rest, "grpc": self.grpc, "admin": self.admin}
        embedded = {"auth_api": self.auth_api} if self.auth_api else {}
        texts = {name: str(address) for name, address in (named | embedded).items()}
        return texts | {"auth_api_token_url": mask_query(self.token_url)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """The listening sockets. gRPC opens its own, so its address is known later."""

    rest: socket.socket
    admin: socket.socket
    embedded: socket.socket | None

    @classmethod
    def bind(cls, stack: ExitStack, settings: Settings, *, embeds_auth_api: bool) -> "Sockets":
        """Bind the sockets; `stack` closes them. Raises OSError; its text has the address."""

        def listen_at(field: str) -> socket.socket:
            with naming(field):
                return stack.enter_context(closing(listen(getattr(settings, field))))

        return cls(
            rest=listen_at("rest_listen"),
            admin=listen_at("admin_listen"),
            embedded=listen_at("dev_auth_api_listen") if embeds_auth_api else None,
        )

    def addresses(self, grpc_address: Address, token_url: str | None) -> Addresses:
        """Return all addresses. Without `token_url`, it is that of the embedded auth-api."""
        embedded = address_of(self.embedded) if self.embedded else None
        return Addresses(
            rest=address_of(self.rest),
            grpc=grpc_address,
            admin=address_of(self.admin),
            auth_api=embedded,
            token_url=token_url or f"http://{embedded}/v1/oauth/token",
        )
