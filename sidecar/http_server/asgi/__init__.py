"""The ASGI side of the HTTP listener: the lifespan of the application, scopes and requests."""
