"""Process management: signals, graceful shutdown, sockets and system limits."""
