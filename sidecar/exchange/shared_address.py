"""A warning that many clients share an IP address, as behind a proxy that is not trusted."""

from sidecar import logs

# So many clients for each IP address are too many to be a coincidence.
CLIENTS = 5
# With more IP addresses the clients have their own. A balancer has up to three, one in each zone.
MAX_ADDRESSES = 3
MESSAGE = (
    "clients share the limits of few IP addresses: "
    "if these are proxies, set SIDECAR_TRUSTED_PROXIES"
)


class SharedAddress:
    """Warns in the log, once, if the first clients that succeed come from few IP addresses.

    Failures do not count, since anybody can invent a client. At most 15 clients and three
    addresses are kept, until it is decided whether to warn.
    """

    def __init__(self) -> None:
        self._is_decided = False
        self._clients: set[bytes] = set()
        self._networks: set[bytes] = set()

    def succeeded(self, client: bytes, network: bytes) -> None:
        """Take the hash of a client that has succeeded, and the network of its address."""
        if self._is_decided:
            return
        self._clients.add(client)
        self._networks.add(network)
        if len(self._networks) > MAX_ADDRESSES:
            self._decide()
        elif len(self._clients) >= CLIENTS * len(self._networks):
            addresses = ", ".join(sorted(one.decode() for one in self._networks))
            logs.warning(MESSAGE, addresses=addresses, clients=len(self._clients))
            self._decide()

    def _decide(self) -> None:
        self._is_decided = True
        self._clients.clear()
        self._networks.clear()
