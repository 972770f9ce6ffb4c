"""The expiry of the certificates in use: their dates, and warnings before the begin and the end."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from sidecar import logs
from sidecar.tls.validity import certificates_in, period_of

# A certificate that ends within so many days is warned of.
SOON = timedelta(days=14)
_DAY = 24 * 3600.0  # seconds
_EARLY = "certificate not valid yet"
# The files of three sides, before and after they were replaced.
_REMEMBERED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """The period in which all certificates in `file` are valid.

    `listener` is the side that uses the file: rest, grpc or auth_api. `not_before` is the begin
    of the one that begins last, and `is_early` says that it was not yet reached. `not_after` is
    the end of the one that ends first. `days_left` are whole days, negative after the end. The
    dates and `days_left` are None if a date in the file cannot be read.
    """

    listener: str
    file: str
    not_before: datetime | None
    not_after: datetime | None
    days_left: int | None
    is_early: bool

    def __str__(self) -> str:
        warning = self.warning or "certificate expires"
        word, date = ("from", self.not_before) if warning == _EARLY else ("on", self.not_after)
        when = f", {word} {date:%Y-%m-%d %H:%M:%S} UTC" if date else ""
        return f"{warning}{when}: {self.file} ({self.listener})"

    @property
    def warning(self) -> str | None:
        """What to warn of, or None."""
        if self.days_left is None:
            return "certificate dates unreadable"
        if self.days_left < 0:
            return "certificate expired"
        if self.is_early:
            return _EARLY
        return "certificate expires soon" if self.days_left < SOON.days else None


def expiry_of(listener: str, file: Path, pem: bytes, now: datetime | None = None) -> Expiry:
    """Return the expiry of `pem`, which was read from `file`; `now` is the current time."""
    now = now or datetime.now(UTC)
    begin, end = _period(pem)
    return Expiry(
        listener=listener,
        file=str(file),
        not_before=begin,
        not_after=end,
        days_left=(end - now).days if end else None,
        is_early=begin is not None and now < begin,
    )


def warn(expiries: Iterable[Expiry]) -> None:
    """Log a warning for each certificate that is not valid yet, has expired or ends soon."""
    for expiry in expiries:
        if expiry.warning:
            logs.warning(
                expiry.warning,
                listener=expiry.listener,
                file=expiry.file,
                not_before=expiry.not_before.isoformat() if expiry.not_before else None,
                not_after=expiry.not_after.isoformat() if expiry.not_after else None,
                days_left=expiry.days_left,
            )


async def watch(read: Callable[[], Iterable[Expiry]], *, every: float = _DAY) -> NoReturn:
    """Warn now and every day, for ever. `read` returns the expiries of now."""
    while True:
        warn(read())
        await asyncio.sleep(every)


@lru_cache(_REMEMBERED)
def _period(pem: bytes) -> tuple[datetime | None, datetime | None]:
    """Return the last begin and the first end of the certificates in `pem`."""
    try:
        periods = [period_of(der) for der in certificates_in(pem)]
    except ValueError:
        periods = []
    if not periods:
        return None, None
    begins, ends = zip(*periods, strict=True)
    return max(begins), min(ends)
