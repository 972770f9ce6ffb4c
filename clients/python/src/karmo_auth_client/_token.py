"""Access token, and when a kept one is refreshed."""

import logging
import math
from dataclasses import dataclass

from karmo_auth_client._errors import ExchangeError

_LOGGER = logging.getLogger("karmo_auth_client")
# A token is refreshed this many seconds before it expires, and is no longer returned in the
# last tenth of that time. A token of less than five minutes has a fifth of its lifetime.
_MARGIN = 60.0


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """An access token. `repr` and `str` show a mask.

    `expires_in` is its whole lifetime in seconds, from the request that issued it.
    """

    access_token: str
    token_type: str
    expires_in: int

    @property
    def authorization(self) -> str:
        """The value of an `Authorization` header, or of the metadata `authorization`."""
        return f"{self.token_type} {self.access_token}"

    def __repr__(self) -> str:
        return "Token('***')"


class KeptToken:
    """The last token, with the times at which it is due for a refresh and no longer usable.

    Times are in seconds of one monotonic clock. The caller holds the lock, if one is needed.
    """

    def __init__(self) -> None:
        self._token: Token | None = None
        self._refresh_at = self._usable_until = -math.inf
        self._pause = 0.0

    def usable(self, now: float) -> Token | None:
        """Return the token, or None if there is none or it has expired."""
        return self._token if now < self._usable_until else None

    def is_due(self, now: float) -> bool:
        """Whether a refresh should begin: without a usable token, always."""
        return now >= min(self._refresh_at, self._usable_until)

    def record(self, outcome: Token | ExchangeError, *, requested_at: float, now: float) -> None:
        """Keep a new token. After a failure, keep the old one and wait before the next refresh.

        A lifetime counts from the request: the response arrives later than the token is made.
        """
        if isinstance(outcome, ExchangeError):
            self._postpone(outcome, now)
            return
        margin = min(_MARGIN, outcome.expires_in / 5)
        self._token = outcome
        self._pause = margin / 10
        self._refresh_at = requested_at + outcome.expires_in - margin
        self._usable_until = requested_at + outcome.expires_in - self._pause

    def _postpone(self, error: ExchangeError, now: float) -> None:
        if self.usable(now) is None:
            return  # the callers that wait raise the error
        self._refresh_at = now + max(self._pause, error.retry_delay or 0)
        left = self._usable_until - now
        _LOGGER.warning("No new token; the kept one is used for %.0f s more: %s", left, error)
