"""Errors of requests that the listener refuses. The application renders the responses."""

from sidecar.http_server.counts import Refusal
from sidecar.transcoding.errors import RequestError

# The key in the scope of a request under which the application finds its refusal.
REFUSAL = "sidecar.refusal"


class RefusedError(RequestError):
    """A request that the listener refuses. Its connection closes with the response.

    `reason` is counted; `status` and `detail` are for the response.
    """

    def __init__(self, reason: Refusal, status: int, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})
        self.reason = reason
        self.status = status


class BadHttpError(RefusedError):
    """A request that is not HTTP/1. The detail quotes nothing of it."""

    def __init__(self) -> None:
        detail = "The request must be HTTP/1.1 as RFC 9112 has it."
        super().__init__(Refusal.BAD_HTTP, 400, detail)


class StoppingError(RefusedError):
    """A request that is incomplete at the end of the drain."""

    def __init__(self) -> None:
        detail = "The service stopped before the request was complete."
        super().__init__(Refusal.STOPPING, 503, detail)
