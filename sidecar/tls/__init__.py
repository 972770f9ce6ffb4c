"""TLS contexts that follow their certificate files."""
