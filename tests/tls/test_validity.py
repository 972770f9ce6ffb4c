"""Tests of the dates of certificates, against the library `cryptography`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tls.validity import certificates_in, period_of
from tests.properties import many

KEYS: Mapping[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "EC": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
# The first and last year of UTCTime, the first of GeneralizedTime, and "no end" of RFC 5280.
ENDS = (
    datetime(1950, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2050, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)


BEGIN = datetime(1950, 1, 1, tzinfo=UTC)


def issue(
    end: datetime, *, begin: datetime = BEGIN, key: str = "EC", names: int = 1, serial: int = 1
) -> x509.Certificate:
    """Return a certificate that is valid until `end`, with an issuer of `names` names."""
    own = KEYS[key]
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60)] * names)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(own, None if key == "Ed25519" else hashes.SHA256())
    )


@pytest.mark.parametrize("end", ENDS, ids=str)
@pytest.mark.parametrize("key", KEYS)
def test_the_end(key: str, end: datetime) -> None:
    """The end is read from both forms of dates, whatever the key and its signature."""
    certificate = issue(end, key=key)
    period = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert period_of(certificate.public_bytes(Encoding.DER)) == period == (BEGIN, end)


# Without a zone, as Hypothesis wants the bounds.
dates = st.datetimes(datetime(1951, 1, 1), datetime(9999, 1, 1))  # noqa: DTZ001 as above


@many
@given(
    period=st.tuples(dates, dates).map(sorted),
    names=st.integers(0, 40),
    serial=st.integers(1, 2**159 - 1),
)
def test_any_certificate(period: list[datetime], names: int, serial: int) -> None:
    """Both dates are read, whatever the length of the issuer and the serial number before them."""
    begin, end = (date.replace(microsecond=0, tzinfo=UTC) for date in period)
    certificate = issue(end, begin=begin, names=names, serial=serial)
    assert period_of(certificate.public_bytes(Encoding.DER)) == (begin, end)


def test_version_1() -> None:
    """A certificate of version 1 has no version field."""
    der = issue(ENDS[2]).public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    inner = der[8:].replace(version, b"", 1)
    assert len(der) - len(inner) == 8 + len(version)
    # Only what comes before the dates matters, so the lengths around it may be those of before.
    assert period_of(der[:8] + inner + bytes(len(version))) == (BEGIN, ENDS[2])


def test_every_certificate_of_a_file() -> None:
    """A file may hold a chain, text around it, other objects and any line ends."""
    authority = trustme.CA()
    leaf = authority.issue_cert("sidecar.test")
    chain = [*(part.bytes() for part in leaf.cert_chain_pems), authority.cert_pem.bytes()]
    text = b"\xffsubject\r\n" + b"\n# text\n".join([*chain, leaf.private_key_pem.bytes()])
    read = list(certificates_in(text.replace(b"\n", b"\r\n")))
    expected = [x509.load_pem_x509_certificate(pem) for pem in chain]
    assert read == [certificate.public_bytes(Encoding.DER) for certificate in expected]
    old_label = chain[0].replace(b" CERTIFICATE-", b" X509 CERTIFICATE-")
    assert list(certificates_in(old_label)) == read[:1]


def test_what_is_no_certificate() -> None:
    """A certificate that is cut or changed on the way to its dates is a ValueError, no date."""
    der = issue(ENDS[2]).public_bytes(Encoding.DER)
    at = der.index(b"000101000000Z")
    for length in range(at + 13):
        with pytest.raises(ValueError, match=r"element|time"):
            period_of(der[:length])
    for wrong in (b"000101000000+", b"0001010000 0Z", b"001301000000Z"):
        with pytest.raises(ValueError):  # noqa: PT011 also that of the standard library
            period_of(der[:at] + wrong + der[at + 13 :])
    with pytest.raises(ValueError, match=r"element"):
        period_of(b"\x30\x84")
    with pytest.raises(ValueError):  # noqa: PT011 as above
        list(certificates_in(b"-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----"))
