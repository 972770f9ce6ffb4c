"""What all of the kit does with sockets: addresses as texts, ports, resets, drips."""

import asyncio
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
# SO_LINGER with no time to linger: closing sends RST, and drops what is not sent yet.
_NO_LINGER = struct.pack("ii", 1, 0)


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of "host:port". Raises ValueError if the port is no number."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def free_port() -> int:
    """Return a port at which nothing listens on this host.

    It is below those that the system gives to whoever asks for any port, so it stays free.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    ports = random.sample(range(first // 2, first), 100)
    return next(port for port in ports if not accepts(f"{LOOPBACK}:{port}"))


@contextmanager
def held_port() -> Iterator[int]:
    """Hold a free port of the loopback address, so that nothing else is given it.

    A socket with SO_REUSEPORT may listen on it meanwhile. While none does,
    connections are refused, because the socket that holds it does not listen.
    """
    with closing(socket.socket()) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((LOOPBACK, 0))
        yield holder.getsockname()[1]


def accepts(address: str) -> bool:
    """Return whether something listens on `address` of this host."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(host_and_port(address)) == 0


def reset(writer: asyncio.StreamWriter) -> None:
    """End a TCP connection by RST, at once; what was written but not sent is lost."""
    connection = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def drip(writer: asyncio.StreamWriter, data: bytes, interval: float) -> None:
    """Send `data` one byte at a time, with `interval` seconds after each.

    Raises ConnectionError when the peer has left.
    """
    for byte in data:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(interval)


def ipv6_works() -> bool:
    """Whether a socket can listen on the IPv6 loopback address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
