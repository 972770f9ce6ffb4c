"""Shedding: the answer to calls for which there is no room, ready before they come.

To read such a call, make a problem of it and write its line costs about a third of
serving it: of three times as many calls as can be served, none would be. An answer
that is only to be sent costs so little that those that are let in are still served.
"""

import asyncio
import re
import uuid
from collections.abc import Callable

from sidecar import logs
from sidecar.call import UUID

# Stands in the answer where its own identity is to be.
NOBODY = str(uuid.UUID(int=0))
_REQUEST_ID = re.compile(rb"\nx-request-id:[ \t]*(%s)[ \t]*\r" % UUID.encode(), re.IGNORECASE)
_INTERVAL = 1.0  # seconds between two lines of the log


class LoadShedding:
    """Gives `answer`, a whole HTTP response, to each call while `is_full` says so.

    That is asked with the number of calls that were begun and are not answered. In
    `answer` stands NOBODY for the request id. The calls have no access lines but a
    line for all of a second.
    """

    def __init__(self, is_full: Callable[[int], bool], answer: bytes) -> None:
        self.is_full = is_full
        self._answer = answer
        self._count = 0

    def answer(self, request: bytes) -> bytes:
        """Return the response to `request`, and count it."""
        if not self._count:
            asyncio.get_running_loop().call_later(_INTERVAL, self.tell)
        self._count += 1
        found = _REQUEST_ID.search(request)
        identity = found[1] if found else str(uuid.uuid4()).encode()
        return self._answer.replace(NOBODY.encode(), identity)

    def tell(self) -> None:
        """Write what was counted since the last time, if anything."""
        if self._count:
            logs.warning("calls refused", reason="OVERLOADED", count=self._count)
        self._count = 0
