"""An ASGI application as the HTTP listener serves it: its lifespan, and its requests."""
