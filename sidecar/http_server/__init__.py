"""An HTTP/1 listener with strict parsing, limits and load shedding, for any ASGI application."""
