"""File descriptor limit, raised to fit the connections that the settings allow."""

import resource

# Open connections of each auxiliary listener (admin, embedded auth-api), at most.
AUXILIARY_CONNECTIONS = 64
# Factor 2: a listener may hold as many connections again that it is about to close.
_FACTOR, _AUXILIARY_LISTENERS = 2, 2
# For the listening sockets, the log, and the own files of gRPC and the event loop.
_OTHER = 256


def raise_soft_limit(*, connections: int, calls: int) -> tuple[int, int]:
    """Raise the soft limit of file descriptors as needed, at most to the hard limit.

    `connections` is the limit of connections per protocol. `calls` is the limit of calls in
    flight, each of which has a connection to the auth-api. Returns the number of descriptors
    needed, and the soft limit now.
    """
    both = 2 * connections  # of REST and of gRPC
    needed = _FACTOR * (both + _AUXILIARY_LISTENERS * AUXILIARY_CONNECTIONS) + calls + _OTHER
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return needed, soft
