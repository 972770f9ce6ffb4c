"""The public ASGI application: routes, access log, problem documents and pages."""
