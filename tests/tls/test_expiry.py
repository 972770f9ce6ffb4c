"""Tests of the dates of certificates, against another reader of certificates."""

from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509

from sidecar.tls import expiry

DATES = [
    datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC),
    datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),  # the last one as UTCTime
    datetime(2050, 1, 1, tzinfo=UTC),  # the first one as GeneralizedTime
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),  # no known end (RFC 5280 section 4.1.2.5)
    datetime(2001, 1, 1, tzinfo=UTC),  # long expired
]


def certificate(not_after: datetime) -> bytes:
    """Return a certificate that expires at `not_after`."""
    early = datetime(2000, 1, 1, tzinfo=UTC)
    leaf = trustme.CA().issue_cert("localhost", not_before=early, not_after=not_after)
    return leaf.cert_chain_pems[0].bytes()


@pytest.mark.parametrize("date", DATES, ids=str)
def test_a_date_is_read(date: datetime) -> None:
    """The date is that of the certificate, in both of its forms."""
    pem = certificate(date)
    (read,) = x509.load_pem_x509_certificates(pem)
    assert expiry.earliest(pem) == read.not_valid_after_utc.timestamp() == date.timestamp()


def test_the_first_of_a_chain_counts() -> None:
    """Of several certificates, with any text around them, the first to expire counts."""
    chain = b"leaf:\n" + certificate(DATES[1]) + b"issuer:\r\n" + certificate(DATES[0]) + b"."
    assert expiry.earliest(chain) == DATES[0].timestamp()


@pytest.mark.parametrize(
    "block", [b"", b"!", b"AAAA", b"MAA=", b"MIIB", b"MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"]
)
def test_what_cannot_be_read_has_no_date(block: bytes) -> None:
    """A block that is no certificate is passed over."""
    pem = b"-----BEGIN CERTIFICATE-----\n" + block + b"\n-----END CERTIFICATE-----\n"
    assert expiry.earliest(pem) is None
    assert expiry.earliest(pem + certificate(DATES[0])) == DATES[0].timestamp()
