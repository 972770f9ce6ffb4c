"""The addresses of the gRPC server, which mean for it what they mean for the other listeners.

gRPC core takes no open socket, and reports an address in use by lines on standard error. By
itself it listens on IPv6 too for 0.0.0.0, takes some of the addresses of a name, and replaces a
Unix socket that another process serves.
"""

import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress

from sidecar.process import sockets, unix_socket
from sidecar.process.sockets import Endpoint
from sidecar.settings.addresses import UnixAddress
from sidecar.settings.types import Address

# Listens on a target such as 127.0.0.1:50051. Raises RuntimeError.
AddPort = Callable[[str], object]


def bind(stack: ExitStack, address: Address, add_port: AddPort) -> Endpoint:
    """Listen by `add_port` on every address that `address` stands for, or on none.

    All have one port. `stack` removes the file of a Unix socket. Raises OSError; its text has the
    address that cannot be had.
    """
    if isinstance(address, UnixAddress):
        unix_socket.publish(stack, address, lambda path: _add_path(path, add_port))
        return Endpoint((address,), address)
    with ExitStack() as held:
        bound = sockets.open_all(held, address, sockets.hold)
        if sys.platform != "linux":  # pragma: no cover - there gRPC core could not listen as well
            for held_socket in bound.sockets:
                held_socket.close()
        for each in bound.endpoint.addresses:
            _hold_ipv6_beside(held, each)
            _add(str(each), add_port)
    return bound.endpoint


def _hold_ipv6_beside(held: ExitStack, address: Address) -> None:
    """Take the port of 0.0.0.0 for IPv6, so that gRPC core cannot listen there.

    It tries [::] first, which has IPv4 too, and then 0.0.0.0.
    """
    if address.host != "0.0.0.0":  # noqa: S104 it is only compared
        return
    with suppress(OSError):  # there is no IPv6, or somebody else listens there
        beside = held.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        beside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        beside.bind(("::", address.port))
        # Two sockets with SO_REUSEADDR can be bound to the same port, unless one listens.
        beside.listen(1)


def _add_path(path: str, add_port: AddPort) -> None:
    # gRPC core does not say why it fails. It replaces the dead socket that is left here.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.bind(path)
    _add(f"unix:{path}", add_port)


def _add(target: str, add_port: AddPort) -> None:
    try:
        add_port(target)
    except RuntimeError:  # pragma: no cover - in use since then, which no test can time
        raise OSError(f"cannot listen on {target}") from None
