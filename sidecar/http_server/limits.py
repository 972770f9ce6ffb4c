"""What one HTTP listener bears."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one listener bears. Times are in seconds.

    `header_timeout` and `request_timeout` are for the header and for the whole of a
    request, from its first byte, and of a new connection from its beginning.
    `keep_alive` is how long a connection may idle between requests, `age` about how
    long it lives before it is told to close, for the load to spread anew. `backlog` is
    how many connections the system accepts before the listener does.
    """

    header_timeout: float = 5.0
    request_timeout: float = 10.0
    keep_alive: float = 75.0
    age: float = 600.0
    connections: int = 1024
    backlog: int = 1024
