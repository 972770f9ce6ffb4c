"""Load shedding: a prepared response for requests beyond the limit of calls in flight.

To parse such a request, make a problem document and write an access line costs about a
third of serving it. At three times the load that can be served, nothing would be served.
A prepared response costs so little that the admitted calls are still served.
"""

import asyncio
import re
import uuid
from collections.abc import Callable, Iterable

from sidecar import logs
from sidecar.call import UUID

# Stands in the prepared response where its request id goes.
NO_REQUEST_ID = str(uuid.UUID(int=0))
_UUID = re.compile(UUID.encode(), re.IGNORECASE)
_INTERVAL = 1.0  # seconds between two lines of the log


class LoadShedding:
    """Gives a prepared response to each request for which `is_full` is true.

    `is_full` takes the number of requests that the listener has begun and not answered.
    `response` is a whole HTTP response, with NO_REQUEST_ID for the request id. Shed requests have
    no access lines; one line of the log counts those of a second. `observe` is called for each
    of them. `total` is their number so far.
    """

    def __init__(
        self,
        is_full: Callable[[int], bool],
        response: bytes,
        observe: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_full = is_full
        self.total = 0
        self._response = response
        self._observe = observe
        self._count = 0

    def respond(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the response to a request with these header fields, and count it."""
        if not self._count:
            asyncio.get_running_loop().call_later(_INTERVAL, self.report)
        self._count += 1
        self.total += 1
        self._observe()
        request_id = dict(fields).get(b"x-request-id", b"")
        if not _UUID.fullmatch(request_id):
            request_id = str(uuid.uuid4()).encode()
        return self._response.replace(NO_REQUEST_ID.encode(), request_id)

    def report(self) -> None:
        """Write a line with the number of requests shed since the last line, if any."""
        if self._count:
            logs.warning("calls refused", reason="OVERLOADED", count=self._count)
        self._count = 0
