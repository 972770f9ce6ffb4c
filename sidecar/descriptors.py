"""File descriptors: as many as there may be connections, where the system allows it."""

import resource

# A call has a connection to its caller and one to the auth-api. The rest is for the
# listeners, the log, gRPC's own, and connections of gRPC callers.
_PER_CALL, _ELSE = 2, 256


def provide(*, connections: int, calls: int) -> tuple[int, int]:
    """Raise the soft limit to what `connections` and `calls` need, at most to the hard one.

    Returns what is needed, and what there is.
    """
    needed = connections + _PER_CALL * calls + _ELSE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return needed, soft
