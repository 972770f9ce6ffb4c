"""Tests of the expiry of certificates: what is warned of, where, and when."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidecar.tls.expiry import Expiry, expiry_of, warn, watch
from sidecar.tls.reloading import ServerTls
from tests.recorded import recorded
from tests.sidecar_process import SIDECAR, as_flags, log_lines, run, serving
from tests.tls.test_certificates import flags_of
from tests.tls.test_reloading import Mount, leaf_of, pair, trust
from tests.virtual_time import VirtualLoop

AUTHORITY = trustme.CA()
DAY = 24 * 3600.0
VALID = timedelta(days=90)
FILE = Path("/certificates/tls.crt")
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
URL: dict[str, Any] = {"auth_api_token_url": "https://127.0.0.1:9/token"}


def until(end: datetime) -> dict[str, bytes]:
    """Return the files of a certificate that is valid until `end`, and of its authority."""
    leaf = leaf_of(AUTHORITY, not_before=end - VALID, not_after=end)
    return pair(leaf) | trust(AUTHORITY)


def begins_at(begin: datetime) -> bytes:
    """Return a certificate that is valid from `begin` for 90 days."""
    return until(begin + VALID)["tls.crt"]


ENDS: Mapping[str, tuple[timedelta, int, str | None]] = {
    "long ago": (timedelta(days=-400), -400, "certificate expired"),
    "a second ago": (timedelta(seconds=-1), -1, "certificate expired"),
    "now": (timedelta(), 0, "certificate expires soon"),
    "in two weeks": (timedelta(days=14, seconds=-1), 13, "certificate expires soon"),
    "later": (timedelta(days=14), 14, None),
}


@pytest.mark.parametrize(("left", "days", "warning"), ENDS.values(), ids=ENDS)
def test_what_is_warned_of(left: timedelta, days: int, warning: str | None) -> None:
    """A certificate is warned of from 14 days before its end on, with a line that has its date."""
    with recorded() as log:
        expiry = expiry_of("rest", FILE, until(NOW + left)["tls.crt"], NOW)
        warn([expiry])
    assert expiry == Expiry(
        listener="rest",
        file=str(FILE),
        not_before=NOW + left - VALID,
        not_after=NOW + left,
        days_left=days,
        is_early=False,
    )
    lines = [
        {name: value for name, value in entry.items() if name not in ("time", "logger")}
        for entry in log.entries
    ]
    expected = {
        "level": "warning",
        "message": warning,
        "listener": "rest",
        "file": str(FILE),
        "not_before": (NOW + left - VALID).isoformat(),
        "not_after": (NOW + left).isoformat(),
        "days_left": days,
    }
    assert lines == ([expected] if warning else [])


BEGINS: Mapping[str, tuple[timedelta, bool]] = {
    "in a second": (timedelta(seconds=1), True),
    "in a year": (timedelta(days=365), True),
    "now": (timedelta(), False),
    "a second ago": (timedelta(seconds=-1), False),
}


@pytest.mark.parametrize(("until_begin", "is_early"), BEGINS.values(), ids=BEGINS)
def test_what_is_not_valid_yet(until_begin: timedelta, is_early: bool) -> None:
    """A certificate is warned of before its period, with the date at which it begins."""
    begin = NOW + until_begin
    expiry = expiry_of("grpc", FILE, begins_at(begin), NOW)
    assert expiry.is_early is is_early
    assert expiry.warning == ("certificate not valid yet" if is_early else None)
    date = f"{begin:%Y-%m-%d %H:%M:%S} UTC"
    line = f"certificate not valid yet, from {date}: {FILE} (grpc)"
    assert (str(expiry) == line) is is_early


def test_the_last_begin_counts() -> None:
    """Of several certificates in a file, such as a CA bundle, the one that begins last counts."""
    begins = [NOW - timedelta(days=1), NOW + timedelta(days=3), NOW - timedelta(days=50)]
    expiry = expiry_of("auth_api", FILE, b"".join(map(begins_at, begins)), NOW)
    assert (expiry.not_before, expiry.is_early) == (begins[1], True)


def test_an_end_is_told_before_a_begin() -> None:
    """An expired certificate beside an early one is warned of as expired, with its end."""
    pem = begins_at(NOW + timedelta(days=1)) + until(NOW - timedelta(days=1))["tls.crt"]
    expiry = expiry_of("rest", FILE, pem, NOW)
    assert str(expiry) == f"certificate expired, on 2026-11-26 12:00:00 UTC: {FILE} (rest)"


def test_the_first_end_counts() -> None:
    """Of several certificates in a file the one that ends first is told."""
    ends = [NOW + timedelta(days=days) for days in (100, 3, 50)]
    chain = b"".join(until(end)["tls.crt"] for end in ends)
    assert expiry_of("grpc", FILE, chain, NOW).not_after == ends[1]


def test_dates_that_cannot_be_read() -> None:
    """What OpenSSL might accept and this parser does not is warned of, and fails nothing."""
    pem = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    expiry = expiry_of("rest", FILE, pem, NOW)
    with recorded() as log:
        warn([expiry])
    (line,) = log.entries
    assert (line["message"], line["not_after"]) == ("certificate dates unreadable", None)
    assert str(expiry) == f"certificate dates unreadable: {FILE} (rest)"


def test_a_warning_comes_daily() -> None:
    """The warning is written at once, and again after each day."""
    expiry = expiry_of("rest", FILE, until(NOW)["tls.crt"], NOW)
    with VirtualLoop() as loop, recorded(30) as log:
        task = loop.create_task(watch(lambda: [expiry]))
        loop.settle()
        counts = [len(log.entries)]
        for seconds in (DAY - 1, 1, 5 * DAY):
            loop.advance(seconds)
            counts.append(len(log.entries))
        task.cancel()
        loop.settle()
    assert counts == [1, 1, 2, 7]


async def test_a_replaced_certificate_is_warned_of(tmp_path: Path) -> None:
    """A new certificate that ends soon is warned of as soon as it is in use."""
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)
    mount = Mount(tmp_path, until(later))
    side = ServerTls(mount.files("tls", "ca"), "rest")
    assert next(side.expiries()).not_after == later
    soon = later - timedelta(days=80)
    mount.put(until(soon))
    with recorded() as log:
        await side.refresh()
    lines = [(entry["message"], entry.get("not_after")) for entry in log.entries]
    assert lines == [
        ("certificates replaced", None),
        ("certificate expires soon", soon.isoformat()),
    ]
    assert [expiry.file for expiry in side.expiries()] == [
        str(tmp_path / "tls.crt"),
        str(tmp_path / "ca.crt"),
    ]


AT_A_RISK: Mapping[str, tuple[timedelta, timedelta, str]] = {
    "expired": (timedelta(hours=-1), timedelta(hours=-1), "certificate expired, on"),
    "early": (VALID + timedelta(days=1), timedelta(days=1), "certificate not valid yet, from"),
}


@pytest.mark.parametrize("file", ["tls.crt", "ca.crt"])
@pytest.mark.parametrize(("left", "named", "words"), AT_A_RISK.values(), ids=AT_A_RISK)
async def test_check_config_warns(
    tmp_path: Path, left: timedelta, named: timedelta, words: str, file: str
) -> None:
    """`check-config` has a line for each file that is a risk, and still ends with status 0.

    The files are the certificates and the CA bundles of both listeners and of the auth-api.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    good, risky = until(now + VALID / 2), until(now + left)
    # A CA file may hold any certificate.
    risk = {"ca.crt": risky["tls.crt"]} if file == "ca.crt" else risky
    mount = Mount(tmp_path, good | risk)
    checked = await run(*SIDECAR, "check-config", *as_flags(flags_of(mount) | URL))
    date = f"{now + named:%Y-%m-%d %H:%M:%S} UTC"
    assert checked.stderr.splitlines() == [
        f"karmo-sidecar: warning: {words} {date}: {tmp_path / file} ({side})"
        for side in ("rest", "grpc", "auth_api")
    ]
    assert (checked.status, checked.stdout) == (0, "The settings are right.\n")


async def test_serve_warns_at_the_start(tmp_path: Path) -> None:
    """The log has a warning for each file at the start, and the process serves."""
    end = datetime.now(UTC) + timedelta(days=3)
    flags: Mapping[str, Any] = flags_of(Mount(tmp_path, until(end)))
    async with asyncio.timeout(60), serving("serve", **flags, **URL) as sidecar:
        await sidecar.log.find('"listener": "auth_api"')
    warnings = [line for line in log_lines(await sidecar.log.all()) if line["level"] == "warning"]
    assert [(line["message"], line["listener"], line["days_left"]) for line in warnings] == [
        ("certificate expires soon", side, 2) for side in ("rest", "grpc", "auth_api")
    ]
