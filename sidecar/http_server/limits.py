"""Limits of one HTTP listener. The sizes in `http1` are fixed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one listener; times are in seconds.

    * `header_timeout`: from the start of a connection, or the first byte of a later request,
      to the end of the head. A TLS handshake has the same time.
    * `request_timeout`: from the same time to the end of the body. Also how long a client
      may take nothing of its response; then its connection is aborted.
    * `keep_alive`: how long a connection may idle between requests.
    * `age`: after about this time a response closes its connection, so that clients spread
      over replicas again.
    * `linger`: how long a connection is read from after its last response. Data that
      nobody reads causes a reset, which can destroy the response (RFC 9112 section 9.6).
    * `connections`: open connections, at most. Beyond it the one that has waited longest
      for its client is ended, or the new one is refused with 503.
    * `connections_per_address`: the same for each network of clients. 0: no such limit.
    * `backlog`: connections that the system accepts before the listener does, at most.
    """

    header_timeout: float = 5.0
    request_timeout: float = 10.0
    keep_alive: float = 75.0
    age: float = 600.0
    linger: float = 1.0
    connections: int = 1024
    connections_per_address: int = 0
    backlog: int = 1024
