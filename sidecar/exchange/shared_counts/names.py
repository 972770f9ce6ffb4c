"""Names of shared counts: keyed hashes, equal on all replicas that have the same key."""

import hashlib
import hmac

from sidecar.exchange.limit import Limit
from sidecar.secret import Secret

# The number changes if equal counts get other names: old and new replicas then count apart.
PREFIX = "karmo-sidecar:1"


class CountNames:
    """Names counts by a hash with `key`, which also keys the hashes of the throttle.

    Without the key nobody can find out which client or IP address a name stands for, not even by
    hashing all that may exist. Two keys are derived from it (RFC 2104), neither of which is the
    key of the hashes in the log: so a name does not lead to the lines of a client.
    """

    def __init__(self, key: Secret[str]) -> None:
        self.throttle_key = Secret(_derive(key, "keys of the throttle"))
        self._key = Secret(_derive(key, "names of shared counts"))

    def name(self, limit: Limit, key: bytes) -> str:
        """Return the name of the count that `limit` has for `key`, the throttle's own."""
        digest = hashlib.blake2b(key, key=self._key.reveal(), digest_size=16).hexdigest()
        return f"{PREFIX}:{limit}:{digest}"


def _derive(key: Secret[str], purpose: str) -> bytes:
    return hmac.digest(key.reveal().encode(), f"{PREFIX} {purpose}".encode(), "sha256")
