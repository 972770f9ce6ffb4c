"""Listening sockets: taken before anything starts, so that a busy address is told at once."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from sidecar.settings.model import Settings, name_of
from sidecar.settings.types import Address

BACKLOG = 1024


def listen(address: Address) -> socket.socket:
    """Return a socket that listens on `address`. Raises OSError, whose text names it."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A port whose last connections are still closing may be taken; one in use may not.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
        # At once: until one of them listens, two processes may bind the same port.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    return bound


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Name the setting `field` in the text of an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{name_of(field)}: {error}") from None


def address_of(bound: socket.socket) -> Address:
    """Return where `bound` is, with its port if any free one was asked for."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a running sidecar listens, and what it calls.

    `auth_api` is the embedded one, if there is one; `token_url` is the one in use.
    """

    rest: Address
    grpc: Address
    admin: Address
    auth_api: Address | None
    token_url: str

    def by_name(self) -> dict[str, str]:
        """Return the addresses that there are, by name."""
        named = {"rest": self.rest, "grpc": self.grpc, "admin": self.admin}
        embedded = {"auth_api": self.auth_api} if self.auth_api else {}
        told = {name: str(address) for name, address in (named | embedded).items()}
        return told | {"auth_api_token_url": self.token_url}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """The sockets of ours. gRPC takes none, so its address comes to them later."""

    rest: socket.socket
    admin: socket.socket
    embedded: socket.socket | None

    @classmethod
    def bind(cls, stack: ExitStack, settings: Settings, *, embeds_auth_api: bool) -> "Sockets":
        """Take the addresses; `stack` gives them back. Raises OSError, whose text names one."""

        def listen_at(field: str) -> socket.socket:
            with naming(field):
                return stack.enter_context(closing(listen(getattr(settings, field))))

        return cls(
            rest=listen_at("rest_listen"),
            admin=listen_at("admin_listen"),
            embedded=listen_at("dev_auth_api_listen") if embeds_auth_api else None,
        )

    def addresses(self, grpc_address: Address, token_url: str | None) -> Addresses:
        """Return where everything is. Without `token_url` the embedded auth-api is called."""
        embedded = address_of(self.embedded) if self.embedded else None
        return Addresses(
            rest=address_of(self.rest),
            grpc=grpc_address,
            admin=address_of(self.admin),
            auth_api=embedded,
            token_url=token_url or f"http://{embedded}/v1/oauth/token",
        )
