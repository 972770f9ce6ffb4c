"""File descriptors: as many as there may be connections, where the system allows it."""

import resource

# The most connections of a listener that is not the API: the probes, the embedded auth-api.
AUXILIARY_CONNECTIONS = 64
# Of an HTTP listener there are as many again that are just being refused.
_HTTP, _AUXILIARY_LISTENERS = 2, 2
# For the listeners themselves, the log, and what gRPC and the event loop have of their own.
_ELSE = 256


def raise_soft_limit(*, connections: int, calls: int) -> tuple[int, int]:
    """Raise the soft limit to what is needed, at most to the hard one.

    `connections` is the most of each protocol, `calls` the most at once, each of
    which has a connection to the auth-api. Returns what is needed, and what there is.
    """
    http = _HTTP * (connections + _AUXILIARY_LISTENERS * AUXILIARY_CONNECTIONS)
    needed = http + connections + calls + _ELSE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return needed, soft
