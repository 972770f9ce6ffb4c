"""The TLS handshake of an accepted connection, known from its first moment and abortable.

`loop.create_server(ssl=...)` tells a protocol of a connection only after a successful handshake,
and of a failed one never. So nothing could count the connections in a handshake, or end one.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR, socket
from typing import Protocol, cast


class Secured(Protocol):
    """What a protocol needs for `Handshake`, beside the methods of `asyncio.Protocol`."""

    def accepted(self, peer: object, abort: Callable[[], None]) -> None:
        """Note a connection before its handshake, which `abort` ends. It may be called now.

        `peer` is the address of the client, as the transport has it.
        """

    def handshake_ended(self) -> None:
        """Note the end of the handshake. If it failed, `connection_made` was not called."""


class Handshake(asyncio.Protocol):
    """Gives an accepted connection to `protocol` once the handshake, as the server, is done.

    The times are in seconds: `timeout` of the handshake, `shutdown_timeout` of the end of TLS.
    `running` has the task of each handshake until its end.

    The connection gets a second transport, by TLS, on a duplicate of its socket. `loop.start_tls`
    would keep the first one, but on uvloop that may have read the first bytes already.
    """

    def __init__(
        self,
        protocol: Secured,
        context: ssl.SSLContext,
        *,
        timeout: float,
        shutdown_timeout: float,
        running: set[asyncio.Task[None]],
    ) -> None:
        self._protocol = protocol
        self._context = context
        self._timeout, self._shutdown_timeout = timeout, shutdown_timeout
        self._running = running

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake. Without a file descriptor for it the connection is closed."""
        with suppress(OSError):
            self._begin(transport.get_extra_info("socket").dup(), transport)
        cast("asyncio.Transport", transport).abort()  # the duplicate stays open

    def _begin(self, connection: socket, transport: asyncio.BaseTransport) -> None:
        def abort() -> None:
            with suppress(OSError):  # it is closed already
                connection.shutdown(SHUT_RDWR)

        self._protocol.accepted(transport.get_extra_info("peername"), abort)
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, connection: socket) -> None:
        start = asyncio.get_running_loop().connect_accepted_socket
        try:
            await start(
                lambda: cast("asyncio.Protocol", self._protocol),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=self._shutdown_timeout,
            )
        except OSError:
            pass  # bad TLS, a timeout, or a client that left
        finally:
            self._protocol.handshake_ended()
