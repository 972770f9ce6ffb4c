"""The auth-api by https is not who it must be, or one side's certificates change.

Rows U23 and U24 of the fault matrix. tests/tls/test_reloading.py has what the files may hold.
"""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as keys
from cryptography.hazmat.primitives.asymmetric import ec

from tests.faults.conditions import eventually, no_secret
from tests.faults.upstream_scene import (
    BAD,
    BOTH,
    LOST,
    Scene,
    assert_token,
    open_scene,
    shared_scene,
    skip,
)
from tests.faults.wire import LOOPBACK
from tests.tls.test_reloading import Mount, leaf_of, pair, trust
from tests.upstream import TOKEN, Hold, Script, Upstream, answer

OURS, OTHERS = trustme.CA(), trustme.CA()
DAY = timedelta(days=1)
NOW = datetime.now(UTC)
GOOD = answer(200, TOKEN)


def server(leaf: trustme.LeafCert) -> ssl.SSLContext:
    """Return the context of an upstream with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def self_signed() -> ssl.SSLContext:
    """Return the context of an upstream whose certificate nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))])
    signed = made.add_extension(here, critical=True).sign(key, hashes.SHA256())
    form = (keys.PrivateFormat.PKCS8, keys.NoEncryption())
    data = key.private_bytes(keys.Encoding.PEM, *form) + signed.public_bytes(keys.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with trustme.Blob(data).tempfile() as path:
        context.load_cert_chain(path)
    return context


def of_tls_1_1() -> ssl.SSLContext:
    """Return the context of an upstream that speaks nothing newer."""
    context = server(leaf_of(OURS))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def trusting(folder: Path, authority: trustme.CA = OURS) -> tuple[Mount, dict[str, str]]:
    """Return a mount with the authority that is trusted, and the setting that names it."""
    mount = Mount(folder, trust(authority))
    return mount, {"auth_api_tls_ca": str(folder / "ca.crt")}


@pytest_asyncio.fixture(scope="module", name="_scene")
async def _open_scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    _, flags = trusting(tmp_path_factory.mktemp("tls"))
    async with shared_scene(server(leaf_of(OURS)), **flags) as scene:
        yield scene


@pytest.fixture(name="scene")
def _scene_as_new(_scene: Scene) -> Iterator[Scene]:
    """Give a sidecar before an upstream that it trusts."""
    target = _scene.chaos.target
    with _scene.renewed():
        yield _scene
    _scene.chaos.target = target


# Who the upstream is, and what the log says of it.
STRANGERS: Mapping[str, tuple[ssl.SSLContext, str | None]] = {
    "expired": (
        server(leaf_of(OURS, not_after=NOW - DAY)),
        "certificate has expired",
    ),
    "not yet valid": (
        server(leaf_of(OURS, not_before=NOW + DAY)),
        "certificate is not yet valid",
    ),
    "of another host": (
        server(OURS.issue_cert("other.test")),
        "IP address mismatch, certificate is not valid for '127.0.0.1'.",
    ),
    "of an unknown authority": (
        server(leaf_of(OTHERS)),
        "unable to get local issuer certificate",
    ),
    "self-signed": (self_signed(), "self-signed certificate"),
    "of TLS 1.1": (of_tls_1_1(), None),
}


@pytest.mark.parametrize(("context", "fault"), STRANGERS.values(), ids=STRANGERS)
async def test_u23_not_to_be_trusted(
    scene: Scene, context: ssl.SSLContext, fault: str | None
) -> None:
    """Who cannot prove to be the auth-api gets no credentials, and the log says what is wrong."""
    await scene.works()  # or five failures in a row would be an auth-api that is down
    scene.chaos.accepted = 0
    async with Upstream(context) as stranger:
        scene.chaos.target = stranger.url.split("/")[2]
        for way in BOTH:
            line = await scene.line_of(await scene.fails(way, LOST))
            assert (line["upstream_fault"], line.get("upstream_detail")) == ("tls", fault)
        assert stranger.requests == []
    assert scene.chaos.accepted == len(BOTH)  # one try each


async def test_u23_we_are_not_trusted(scene: Scene) -> None:
    """An auth-api that asks for a certificate, and gets none, says so once it has been called.

    By TLS 1.3 that is after the handshake (RFC 8446 section 4.4.2.4).
    """
    listener = await asyncio.start_server(partial(refuse_client, mutual()), LOOPBACK, 0)
    scene.chaos.target = f"{LOOPBACK}:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        for way in BOTH:
            line = await scene.line_of(await scene.fails(way, LOST))
            assert line["upstream_fault"] == "tls"
            assert line["upstream_detail"] == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


async def refuse_client(
    context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Shake hands until that fails, send the alert that says why, and wait for the other end.

    Servers of asyncio close at once instead, which may come as a reset before the alert.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    with suppress(ConnectionError), closing(writer):
        while data := await reader.read(65536):
            incoming.write(data)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            writer.write(outgoing.read())


async def test_u23_application_protocols(scene: Scene) -> None:
    """An auth-api that offers HTTP/2 as well by ALPN (RFC 7301) is spoken to."""
    context = server(leaf_of(OURS))
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with Upstream(context) as modern:
        scene.chaos.target = modern.url.split("/")[2]
        await scene.works()


@pytest.mark.parametrize("way", BOTH)
async def test_u23_handshake_stalls(scene: Scene, way: str) -> None:
    """A handshake that stands still ends with the time to connect, long before the try's."""
    scene.chaos.is_silent = True
    line = await scene.line_of(await scene.times_out(way, step="handshake"))
    assert line["upstream_fault"] == "connect_timeout"
    scene.chaos.is_silent = False
    await scene.works_in_full()


def breaks_off(data: bytes) -> Script:
    """Send `data`, and end the connection without saying so by TLS (RFC 8446 section 6.1)."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.transport.abort()

    return script


UNTIL_THE_END = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


async def test_u23_no_close_notify(scene: Scene) -> None:
    """Without a close_notify what came whole is used, and what was cut off is not."""
    body = GOOD.partition(b"\r\n\r\n")[2]
    for way in BOTH:
        scene.upstream.script = breaks_off(GOOD)
        assert_token(await scene.ask(way))
        scene.upstream.script = breaks_off(GOOD[:-5])
        await scene.fails(way, LOST)
        scene.upstream.script = breaks_off(UNTIL_THE_END + body[:-1])
        await scene.fails(way, BAD)
    await scene.works_in_full()


async def test_u23_the_authority_is_replaced(tmp_path: Path) -> None:
    """A new authority is trusted as soon as its file was read, with no restart; the old is not."""
    mount, flags = trusting(tmp_path, OTHERS)
    async with open_scene(server(leaf_of(OURS)), **flags) as scene:
        await scene.fails("form", LOST)
        mount.put(trust(OURS))
        await replaced(scene, 1)
        await scene.works_in_full()
        mount.put(trust(OTHERS))
        await replaced(scene, 2)
        for way in BOTH:
            await scene.fails(way, LOST)


async def replaced(scene: Scene, count: int) -> None:
    """Wait until certificates were taken up so many times."""
    skip(1)  # the files are looked at each second
    await eventually(lambda: scene.log.text.count("certificates replaced") == count)


class Guest:
    """A script of an upstream that notes whose certificate it was shown, and answers."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def __call__(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer with a token."""
        self.shown.append(writer.get_extra_info("peercert")["serialNumber"])
        writer.write(GOOD)
        await writer.drain()


def mutual() -> ssl.SSLContext:
    """Return the context of an upstream whose clients must have a certificate."""
    context = server(leaf_of(OURS))
    OURS.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_u24_our_pair_is_replaced(tmp_path: Path) -> None:
    """While our certificate is half written, not its key's, and then new, no call fails.

    A call that is under way meanwhile ends as it began; the next one shows the new pair.
    """
    old, new = pair(leaf_of(OURS)), pair(leaf_of(OURS))
    mount = Mount(tmp_path, old | trust(OURS))
    names = {"ca": "ca.crt", "certificate": "tls.crt", "key": "tls.key"}
    flags = {f"auth_api_tls_{name}": str(tmp_path / file) for name, file in names.items()}
    guest, hold = Guest(), Hold()
    async with open_scene(mutual(), **flags) as scene:
        scene.upstream.script = hold.script
        under_way = asyncio.create_task(scene.ask("form"))
        await hold.wait_for(1)
        scene.upstream.script = guest
        for bad in ({"tls.crt": new["tls.crt"][:300]}, {"tls.crt": new["tls.crt"]}):
            before = scene.log.text.count("certificates kept")
            mount.put(old | trust(OURS) | bad)
            await scene.works()
            skip(1)
            await eventually(lambda: scene.log.text.count("certificates kept") > before)  # noqa: B023 awaited here
            await scene.works()
        assert len(set(guest.shown)) == 1
        mount.put(new | trust(OURS))
        await replaced(scene, 1)
        await scene.works()
        hold.release.set()
        assert_token(await under_way)
        assert [guest.shown.index(serial) for serial in dict.fromkeys(guest.shown)] == [0, 8]
        secrets = [files["tls.key"].decode().splitlines()[1] for files in (old, new)]
        no_secret(scene.log.text, *secrets)
