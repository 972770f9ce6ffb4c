"""TLS contexts, rebuilt when their certificate files change, and the handshakes of a listener."""
