"""The expiry of the certificates in use: their dates, and warnings before the end."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from sidecar import logs
from sidecar.tls.validity import certificates_in, end_of

# A certificate that ends within so many days is warned of.
SOON = timedelta(days=14)
_DAY = 24 * 3600.0  # seconds
# The files of three sides, before and after they were replaced.
_REMEMBERED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """The end of the certificate in `file` that ends first.

    `listener` is the side that uses it: rest, grpc or auth_api. `days_left` are whole days,
    negative after the end. Both are None if a date in the file cannot be read.
    """

    listener: str
    file: str
    not_after: datetime | None
    days_left: int | None

    def __str__(self) -> str:
        date = f", on {self.not_after:%Y-%m-%d %H:%M:%S} UTC" if self.not_after else ""
        return f"{self.warning or 'certificate expires'}{date}: {self.file} ({self.listener})"

    @property
    def warning(self) -> str | None:
        """What to warn of, or None."""
        if self.days_left is None:
            return "certificate dates unreadable"
        if self.days_left < 0:
            return "certificate expired"
        return "certificate expires soon" if self.days_left < SOON.days else None


def expiry_of(listener: str, file: Path, pem: bytes, now: datetime | None = None) -> Expiry:
    """Return the expiry of `pem`, which was read from `file`; `now` is the current time."""
    end = _first_end(pem)
    left = end - (now or datetime.now(UTC)) if end else None
    return Expiry(
        listener=listener,
        file=str(file),
        not_after=end,
        days_left=None if left is None else left.days,
    )


def warn(expiries: Iterable[Expiry]) -> None:
    """Log a warning for each certificate that has expired or ends soon."""
    for expiry in expiries:
        if expiry.warning:
            logs.warning(
                expiry.warning,
                listener=expiry.listener,
                file=expiry.file,
                not_after=expiry.not_after.isoformat() if expiry.not_after else None,
                days_left=expiry.days_left,
            )


async def watch(read: Callable[[], Iterable[Expiry]], *, every: float = _DAY) -> NoReturn:
    """Warn now and every day, for ever. `read` returns the expiries of now."""
    while True:
        warn(read())
        await asyncio.sleep(every)


@lru_cache(_REMEMBERED)
def _first_end(pem: bytes) -> datetime | None:
    try:
        return min(map(end_of, certificates_in(pem)), default=None)
    except ValueError:
        return None
