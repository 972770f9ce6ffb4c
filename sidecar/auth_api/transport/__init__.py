"""An HTTP/1.1 transport of httpx2 that keeps its connections, to one server."""
