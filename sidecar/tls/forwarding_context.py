"""An SSL context that takes another context for each new connection."""

import ssl
from collections.abc import Callable
from typing import Any


class ForwardingContext(ssl.SSLContext):
    """Begins each connection with the context that `choose` returns.

    `choose` may raise an OSError: the connection is then ended before its handshake.

    `sni_callback` would not do: it replaces the certificates, but neither the keys of
    session tickets nor the session cache. A client could resume a session that it began
    with a certificate that is no longer trusted.
    """

    choose: Callable[[], ssl.SSLContext]

    @classmethod
    def to(cls, choose: Callable[[], ssl.SSLContext]) -> "ForwardingContext":
        """Return a server's context that forwards to what `choose` returns."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context.choose = choose
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection, as asyncio and uvloop do for each. Raises what `choose` raises."""
        return self.choose().wrap_bio(*args, **kwargs)
