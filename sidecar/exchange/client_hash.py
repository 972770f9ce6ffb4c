"""The name of a client in the log: a keyed hash of its identifier.

Without the key, nobody can find out from a line which client it is about, not even by hashing
every identifier that may exist.
"""

import hmac
import secrets

from sidecar.secret import Secret

# 64 bits: among a million clients two have the same hash with a chance of 1 in 37 million.
_DIGITS = 16


class ClientHash:
    """Hashes identifiers of clients with `key`; without one, with a random key of this object.

    The hash is the first 16 hexadecimal digits of HMAC-SHA256 (RFC 2104).
    """

    def __init__(self, key: Secret[str] | None = None) -> None:
        # To copy a keyed hash costs less than to make one. `hmac.digest` would also let another
        # thread run, such as that of the log, and the event loop would wait for it.
        self._keyed = hmac.new(
            key.reveal().encode() if key else secrets.token_bytes(32), digestmod="sha256"
        )

    def of(self, client_id: str) -> str:
        """Return the hash of `client_id`."""
        keyed = self._keyed.copy()
        keyed.update(client_id.encode(errors="surrogatepass"))
        return keyed.hexdigest()[:_DIGITS]
