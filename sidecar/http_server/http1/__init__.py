"""HTTP/1.1 of one connection (RFC 9112), without I/O: reads requests, and writes responses."""
