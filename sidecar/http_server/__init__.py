"""An HTTP/1 listener for any ASGI application: strict parsing, limits and load shedding."""
