"""The process: signals, graceful shutdown, sockets and system limits."""
