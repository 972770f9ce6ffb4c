"""An SSL context of a client that resumes its last TLS session (RFC 8446 section 2.2)."""

import ssl
from typing import Any


class ResumingContext(ssl.SSLContext):
    """Begins each connection with `context`, and with the last session that `keep` was given.

    A session belongs to its context: with another context there is another object of this
    class, so no session outlives the certificates that it was made with.
    """

    context: ssl.SSLContext
    session: ssl.SSLSession | None

    @classmethod
    def of(cls, context: ssl.SSLContext) -> "ResumingContext":
        """Return a context that forwards to `context`."""
        resuming = cls(ssl.PROTOCOL_TLS_CLIENT)
        resuming.context, resuming.session = context, None
        return resuming

    def keep(self, connection: ssl.SSLObject | None) -> None:
        """Keep the session of `connection` for the next one."""
        session = None if connection is None else connection.session
        if session is not None:
            self.session = session

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection, as asyncio and uvloop do for each."""
        return self.context.wrap_bio(*args, **(kwargs | {"session": self.session}))
