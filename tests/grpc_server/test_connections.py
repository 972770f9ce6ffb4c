"""Tests of the search for open connections: which are found, and what ends."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from sidecar.grpc_server.connections import Connections, descriptors
from sidecar.process import sockets
from sidecar.settings.types import Address
from tests.faults.wire import ipv6_works

IPV6 = pytest.mark.skipif(not ipv6_works(), reason="no IPv6")


@pytest.fixture(name="stack")
def _stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(stack: ExitStack, host: str, port: int = 0) -> socket.socket:
    """Listen at an address."""
    return stack.enter_context(closing(sockets.listen(Address(host, port))))


def connect(stack: ExitStack, host: str, listener: socket.socket) -> socket.socket:
    """Connect to `listener` at `host`; both ends are open until `stack` is closed."""
    port = listener.getsockname()[1]
    client = stack.enter_context(socket.create_connection((host, port), 10))
    stack.enter_context(listener.accept()[0])
    return client


def address_of(client: socket.socket) -> tuple[str, int]:
    """Return the peer that the server sees."""
    host, port = client.getsockname()[:2]
    return host, port


@pytest.mark.parametrize(
    ("bound", "hosts"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("0.0.0.0", ("127.0.0.1", "127.0.0.2")),  # noqa: S104 only this test connects
        pytest.param("::1", ("::1",), marks=IPV6),
        pytest.param("::", ("127.0.0.1", "::1"), marks=IPV6),
    ],
)
def test_the_clients_of_a_listener_are_found(
    stack: ExitStack, bound: str, hosts: tuple[str, ...]
) -> None:
    """The clients of each kind of address are found by their own, IPv4 ones over IPv6 too."""
    listener = listen(stack, bound)
    clients = [connect(stack, host, listener) for host in hosts]
    found = Connections([Address(bound, listener.getsockname()[1])]).peers()
    assert found == set(map(address_of, clients))


def test_the_clients_of_others_are_not(stack: ExitStack) -> None:
    """Neither another port nor the same port at another address counts."""
    ours = listen(stack, "127.0.0.1")
    port = ours.getsockname()[1]
    connect(stack, "127.0.0.2", listen(stack, "127.0.0.2", port))
    connect(stack, "127.0.0.1", listen(stack, "127.0.0.1"))
    client = connect(stack, "127.0.0.1", ours)
    assert Connections([Address("127.0.0.1", port)]).peers() == {address_of(client)}


def test_only_the_named_are_ended(stack: ExitStack) -> None:
    """A connection that is ended tells its client so; another one goes on."""
    listener = listen(stack, "127.0.0.1")
    ended, kept = (connect(stack, "127.0.0.1", listener) for _ in range(2))
    connections = Connections([Address("127.0.0.1", listener.getsockname()[1])])
    assert connections.end({address_of(ended), ("192.0.2.1", 1)}) == 1
    assert ended.recv(1) == b""
    kept.setblocking(False)
    with pytest.raises(BlockingIOError):
        kept.recv(1)


def test_a_search_leaves_nothing_open() -> None:
    """A search opens and closes as many descriptors, also those of files that are no sockets."""
    with socket.socket(socket.AF_UNIX), closing(sockets.listen(Address("127.0.0.1", 0))):
        before = descriptors()
        Connections([Address("127.0.0.1", 1)]).peers()
        assert descriptors() == before


def test_without_a_free_descriptor_nothing_is_found() -> None:
    """At the limit of descriptors a search finds nothing, and does not fail."""
    with closing(sockets.listen(Address("127.0.0.1", 0))) as listener, ExitStack() as stack:
        connect(stack, "127.0.0.1", listener)
        connections = Connections([Address("127.0.0.1", listener.getsockname()[1])])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            found = connections.peers()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert found == set()
        assert len(connections.peers()) == 1
