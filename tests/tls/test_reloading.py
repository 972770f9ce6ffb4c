"""Tests of TLS for listeners and upstream: real handshakes while files are replaced."""

import asyncio
import hashlib
import itertools
import json
import logging
import os
import pty
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PosixPath
from typing import Any, TypeVar

import grpc
import pytest
import trustme
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as keys
from cryptography.hazmat.primitives.asymmetric import rsa

from sidecar.logs import JsonFormatter
from sidecar.tls.files import TlsFileError, TlsFiles
from sidecar.tls.reloading import ClientTls, ServerTls, watch

HOST = "127.0.0.1"
# Time limit of every wait, in seconds.
GUARD = 60
OLD, NEW = trustme.CA(), trustme.CA()
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


# Files


def pair(leaf: trustme.LeafCert) -> dict[str, bytes]:
    """Return the two files of a certificate and its key."""
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return {"tls.crt": chain, "tls.key": leaf.private_key_pem.bytes()}


def trust(authority: trustme.CA) -> dict[str, bytes]:
    """Return the file of the trusted authority."""
    return {"ca.crt": authority.cert_pem.bytes()}


def leaf_of(authority: trustme.CA, **options: Any) -> trustme.LeafCert:
    """Return a new certificate for this machine, valid for servers and for clients."""
    return authority.issue_cert(HOST, "sidecar.test", **options)


class Mount:
    """A folder as kubelet mounts it: links through `..data`, all replaced in one step."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        self.put(files)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Replace all files at once."""
        version = self.folder / f"..{next(self._numbers)}"
        version.mkdir()
        for name, data in files.items():
            (version / name).write_bytes(data)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")
        for name in files:
            with suppress(FileExistsError):
                (self.folder / name).symlink_to(Path("..data") / name)

    def files(self, *names: str) -> TlsFiles:
        """Return the named files: tls (a pair), ca, or both."""
        has_pair = "tls" in names
        return TlsFiles(
            certificate=self.folder / "tls.crt" if has_pair else None,
            key=self.folder / "tls.key" if has_pair else None,
            ca=self.folder / "ca.crt" if "ca" in names else None,
        )


class Records(logging.Handler):
    """The log records of the sidecar, which a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.entries: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.entries.append(json.loads(self.format(record)))
        self._more.set()

    def lines(self) -> Sequence[tuple[str, ...]]:
        """Return message, listener and fault of each record, as far as it has them."""
        kept = ("message", "listener", "fault")
        return [tuple(entry[key] for key in kept if key in entry) for entry in self.entries]

    async def until(self, count: int) -> None:
        """Wait for `count` records."""
        async with asyncio.timeout(GUARD):
            while len(self.entries) < count:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def records() -> Iterator[Records]:
    """Yield the records of the sidecar during the test."""
    handler, logger = Records(), logging.getLogger("sidecar")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(before)
    logger.removeHandler(handler)


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """Return a mount with the pair of a server and the old authority."""
    return Mount(tmp_path, pair(leaf_of(OLD)) | trust(OLD))


# Servers and clients

REFUSED = (ssl.SSLError, ConnectionError)


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send ok, which a client reads only after its certificate was accepted."""
    del reader
    with suppress(ConnectionError):
        writer.write(b"ok")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def https(tls: ServerTls) -> AsyncIterator[int]:
    """Yield the port of a server that sends ok."""
    async with await asyncio.start_server(greet, HOST, 0, ssl=tls.context) as server:
        yield server.sockets[0].getsockname()[1]


def client(
    authority: trustme.CA = OLD, own: trustme.LeafCert | None = None, **members: Any
) -> ssl.SSLContext:
    """Return the context of a client that trusts `authority`, with `members` set."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if own:
        own.configure_cert(context)
    for name, value in members.items():
        setattr(context, name, value)
    return context


@dataclass(frozen=True, kw_only=True)
class Shaken:
    """The result of a handshake for the client."""

    certificate: bytes
    version: str | None
    protocol: str | None
    session: ssl.SSLSession | None
    was_resumed: bool | None


def shake_at_once(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None, name: str = HOST
) -> Shaken:
    """Do a handshake and read the greeting."""
    with (
        socket.create_connection((HOST, port), timeout=GUARD) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as secure,
    ):
        if secure.recv(2) != b"ok":
            raise ConnectionResetError("no greeting")
        return Shaken(
            certificate=secure.getpeercert(binary_form=True) or b"",
            version=secure.version(),
            protocol=secure.selected_alpn_protocol(),
            session=secure.session,
            was_resumed=secure.session_reused,
        )


async def shake(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Shaken:
    """Do a handshake and read the greeting, in a thread. Raises one of REFUSED."""
    return await asyncio.to_thread(shake_at_once, port, context, session)


def der(files: Mapping[str, bytes]) -> bytes:
    """Return the certificate of a pair in the form of a handshake."""
    return ssl.PEM_cert_to_DER_cert(files["tls.crt"].decode().partition("\n\n")[0])


async def echo(request: bytes, context: Any) -> bytes:
    """Answer a call with its request."""
    del context
    return request


@asynccontextmanager
async def grpcs(tls: ServerTls) -> AsyncIterator[int]:
    """Yield the port of a gRPC server that answers a call with its request."""
    server = grpc.aio.server()
    methods: Any = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
    port = server.add_secure_port(f"{HOST}:0", tls.credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def call(
    port: int, authority: trustme.CA = OLD, own: trustme.LeafCert | None = None
) -> bytes:
    """Make one call on a new connection. Raises grpc.aio.AioRpcError."""
    files = pair(own) if own else {}
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), files.get("tls.key"), files.get("tls.crt")
    )
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options) as channel:
        echo: Any = channel.unary_unary("/test/Echo")
        answer: bytes = await echo(b"ok", timeout=GUARD)
        return answer


async def is_refused(port: int, authority: trustme.CA, own: trustme.LeafCert | None) -> bool:
    """Whether the gRPC server or its client refuses the handshake."""
    try:
        await call(port, authority, own)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


# Listeners


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
T = TypeVar("T")


def run(
    factory: Callable[[], asyncio.AbstractEventLoop],
    scenario: Callable[[], Coroutine[Any, Any, T]],
) -> T:
    """Return the result of `scenario`, run in a new loop."""
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(scenario())


@pytest.mark.parametrize("factory", LOOPS)
async def test_handshake(mount: Mount, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Both event loops serve TLS 1.3 and HTTP/1.1; a new certificate is used from then on."""
    new = pair(leaf_of(OLD))

    async def scenario() -> tuple[Shaken, Shaken]:
        tls = ServerTls(mount.files("tls"), "rest")
        async with https(tls) as port:
            context = client()
            context.set_alpn_protocols(["h2", "http/1.1"])
            before = await shake(port, context)
            mount.put(new)
            await tls.refresh()
            return before, await shake(port, context)

    before, after = await asyncio.to_thread(run, factory, scenario)
    assert (before.version, before.protocol) == ("TLSv1.3", "http/1.1")
    assert before.certificate != after.certificate == der(new)


@pytest.mark.parametrize("name", ["sidecar.test", HOST])
async def test_names(mount: Mount, name: str) -> None:
    """A client may send a host name (SNI), or none, as for an IP address."""
    tls = ServerTls(mount.files("tls"), "rest")
    async with https(tls) as port:
        shaken = await asyncio.to_thread(shake_at_once, port, client(), name=name)
    assert shaken.version == "TLSv1.3"


def ancient(newest: ssl.TLSVersion) -> ssl.SSLContext:
    """Return the context of a client for all versions up to `newest`."""
    context = client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
    return context


@pytest.mark.parametrize("serve", [https, grpcs])
async def test_tls_1_1_is_refused(mount: Mount, serve: Callable[[ServerTls], Any]) -> None:
    """Both servers refuse a client with only TLS 1.1 (RFC 8996), without a reason."""
    # Which of them depends on the release of OpenSSL.
    refused = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError)
    async with serve(ServerTls(mount.files("tls"), "rest")) as port:
        with pytest.raises(refused):
            await shake(port, ancient(ssl.TLSVersion.TLSv1_1))


async def test_tls_1_2(mount: Mount) -> None:
    """The same client with TLS 1.2 is served."""
    async with https(ServerTls(mount.files("tls"), "rest")) as port:
        assert (await shake(port, ancient(ssl.TLSVersion.TLSv1_2))).version == "TLSv1.2"


async def test_what_the_context_forbids(mount: Mount) -> None:
    """Compression and renegotiation are off, on both sides."""
    server = ServerTls(mount.files("tls"), "rest")
    contexts = [server._context, ClientTls(mount.files("ca"), "auth_api").context()]
    wanted = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    assert [context.options & wanted for context in contexts] == [wanted, wanted]


async def test_a_front_alone_serves_nobody(mount: Mount) -> None:
    """A listener's context has no certificate of its own, so it cannot bypass the current one."""
    context = ServerTls(mount.files("tls"), "rest").context
    with socket.create_server((HOST, 0)) as listening:
        refused = asyncio.create_task(shake(listening.getsockname()[1], client()))
        plain, _ = await asyncio.to_thread(listening.accept)
        with plain, pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
            await asyncio.to_thread(context.wrap_socket, plain, server_side=True)
    with pytest.raises(ssl.SSLError):
        await refused


# Client certificates

ME, STRANGER = leaf_of(OLD), leaf_of(NEW)
EXPIRED = leaf_of(OLD, not_after=YESTERDAY)
CLIENTS: Mapping[str, trustme.LeafCert | None] = {
    "none": None,
    "of another authority": STRANGER,
    "expired": EXPIRED,
}


@pytest.mark.parametrize("own", CLIENTS.values(), ids=CLIENTS)
async def test_clients_are_refused(mount: Mount, own: trustme.LeafCert | None) -> None:
    """With a CA, both servers refuse clients without a valid certificate, and serve others."""
    tls = ServerTls(mount.files("tls", "ca"), "rest")
    async with https(tls) as port:
        await shake(port, client(own=ME))
        with pytest.raises(REFUSED):
            await shake(port, client(own=own))
    async with grpcs(tls) as port:
        assert await call(port, own=ME) == b"ok"
        assert await is_refused(port, OLD, own)


async def test_change_of_the_clients_authority(mount: Mount) -> None:
    """After a change of the CA both servers refuse its old clients, and serve new ones."""
    tls = ServerTls(mount.files("tls", "ca"), "rest")
    async with https(tls) as port, grpcs(tls) as grpc_port:
        await shake(port, client(own=ME))
        await call(grpc_port, own=ME)
        mount.put(pair(leaf_of(OLD)) | trust(NEW))
        await tls.refresh()
        with pytest.raises(REFUSED):
            await shake(port, client(own=ME))
        assert await is_refused(grpc_port, OLD, ME)
        await shake(port, client(own=STRANGER))
        assert await call(grpc_port, own=STRANGER) == b"ok"


@pytest.mark.parametrize("options", [0, ssl.OP_NO_TICKET], ids=["ticket", "id"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_ends_with_its_authority(
    mount: Mount, version: ssl.TLSVersion, options: int
) -> None:
    """A client that is no longer trusted cannot resume a session, by ticket or by id."""
    tls = ServerTls(mount.files("tls", "ca"), "rest")
    context = client(own=ME, minimum_version=version, maximum_version=version)
    context.options |= options
    async with https(tls) as port:
        first = await shake(port, context)
        second = await shake(port, context, first.session)
        assert second.was_resumed  # otherwise the test proves nothing
        mount.put(pair(leaf_of(OLD)) | trust(NEW))
        await tls.refresh()
        with pytest.raises(REFUSED):
            await shake(port, context, second.session)


# Upstream


async def test_upstream(mount: Mount) -> None:
    """A client sends its certificate to a server that requires one."""
    server = ServerTls(mount.files("tls", "ca"), "rest")
    async with https(server) as port:
        await shake(port, ClientTls(mount.files("tls", "ca"), "auth_api").context())
        with pytest.raises(REFUSED):
            await shake(port, ClientTls(mount.files("ca"), "auth_api").context())


UPSTREAMS: Mapping[str, tuple[trustme.LeafCert, str]] = {
    "expired": (EXPIRED, "certificate has expired"),
    "of another authority": (STRANGER, "unable to get local issuer certificate"),
    "of another host": (OLD.issue_cert("other.test"), "IP address mismatch"),
}


@pytest.mark.parametrize(("leaf", "reason"), UPSTREAMS.values(), ids=UPSTREAMS)
async def test_upstream_is_refused(mount: Mount, leaf: trustme.LeafCert, reason: str) -> None:
    """A client refuses an upstream whose certificate is not valid for it."""
    mount.put(pair(leaf) | trust(OLD))
    async with https(ServerTls(mount.files("tls"), "rest")) as port:
        context = ClientTls(mount.files("ca"), "auth_api").context()
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            await shake(port, context)


async def test_change_of_the_upstreams_authority(mount: Mount, records: Records) -> None:
    """Only after a change there is a new context for clients; it trusts only the new CA."""
    tls = ClientTls(mount.files("ca"), "auth_api")
    before = tls.context()
    await tls.refresh()
    assert tls.context() is before
    mount.put(pair(leaf_of(NEW)) | trust(NEW))
    await tls.refresh()
    assert tls.context() is not before
    async with https(ServerTls(mount.files("tls"), "rest")) as port:
        await shake(port, tls.context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await shake(port, before)
    assert records.lines() == [("certificates replaced", "auth_api")]


NO_FILES = TlsFiles(certificate=None, key=None, ca=None)


async def test_the_system_is_trusted(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    """Without a CA the system's store is trusted, whatever environment variables are set."""
    monkeypatch.setenv("SSL_CERT_FILE", str(mount.folder / "ca.crt"))
    monkeypatch.setenv("SSL_CERT_DIR", str(mount.folder))
    tls = ClientTls(NO_FILES, "auth_api")
    context = tls.context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    async with https(ServerTls(mount.files("tls"), "rest")) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await shake(port, context)
    await tls.refresh()
    assert tls.context() is context
    assert records.lines() == []


def stores(file: Path, folder: Path) -> Callable[[], ssl.DefaultVerifyPaths]:
    """Return a function that reports `file` and `folder` as the system's store."""
    return lambda: ssl.DefaultVerifyPaths(
        "", "", "SSL_CERT_FILE", str(file), "SSL_CERT_DIR", str(folder)
    )


def subject_hash(authority: trustme.CA) -> str:
    """Return the file name of `authority` in a folder of a store (X509_NAME_hash)."""
    subject = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    lower = [x509.NameAttribute(part.oid, str(part.value).lower()) for part in subject]
    within = x509.Name(lower).public_bytes()[2:]  # without the header of the SEQUENCE
    digest = hashlib.sha1(within).digest()  # noqa: S324 OpenSSL's choice, for a name only
    return digest[3::-1].hex()


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_forms_of_a_system_store(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """The system's store may be a file, or a folder of files named by hashes."""
    nowhere, folder = tmp_path / "nowhere", tmp_path / "hashed"
    folder.mkdir()
    (folder / f"{subject_hash(OLD)}.0").write_bytes(OLD.cert_pem.bytes())
    paths = (tmp_path / "ca.crt", nowhere) if kind == "file" else (nowhere, folder)
    monkeypatch.setattr(ssl, "get_default_verify_paths", stores(*paths))
    async with https(ServerTls(mount.files("tls"), "rest")) as port:
        await shake(port, ClientTls(NO_FILES, "auth_api").context())


def test_no_system_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system without a store is reported at once, with the remedy."""
    file = tmp_path / "cert.pem"
    monkeypatch.setattr(ssl, "get_default_verify_paths", stores(file, tmp_path))
    with pytest.raises(OSError, match="must exist, or a CA file must be set") as caught:
        ClientTls(NO_FILES, "auth_api")
    assert str(caught.value).startswith(str(file))


# Replacing files


async def test_no_handshake_fails_while_files_are_replaced(mount: Mount) -> None:
    """No handshake of 50 on each server fails while the files are replaced 5 times."""
    rest, over_grpc = (ServerTls(mount.files("tls"), name) for name in ("rest", "grpc"))
    watching = asyncio.create_task(watch(rest, over_grpc, every=0.001))
    async with https(rest) as port, grpcs(over_grpc) as grpc_port:
        for files in [pair(leaf_of(OLD)) for _ in range(5)]:
            shaken = [shake(port, client()) for _ in range(10)]
            calls = [call(grpc_port) for _ in range(10)]
            both = asyncio.gather(asyncio.gather(*shaken), asyncio.gather(*calls))
            await asyncio.to_thread(mount.put, files)
            _, answers = await both
            assert answers == [b"ok"] * 10
            async with asyncio.timeout(GUARD):
                while (await shake(port, client())).certificate != der(files):
                    pass
    watching.cancel()


async def test_a_fault_of_ours_does_not_end_the_watch(
    mount: Mount, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error is logged, and the files are checked again."""
    rest = ServerTls(mount.files("tls"), "rest")
    faults = iter([RuntimeError("canary")])
    read = Path.read_bytes

    def read_or_fail(path: Path) -> bytes:
        for fault in faults:
            raise fault
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)
    watching = asyncio.create_task(watch(rest, every=0.001))
    await records.until(1)
    assert records.lines() == [("certificates could not be checked",)]
    assert "canary" not in str(records.entries)
    mount.put(pair(leaf_of(NEW)))
    await records.until(2)
    assert records.lines()[1:] == [("certificates replaced", "rest")]
    watching.cancel()


async def test_watch(mount: Mount, records: Records) -> None:
    """All parts are checked repeatedly; each change is used, and logged once."""
    parts = ServerTls(mount.files("tls"), "grpc"), ClientTls(mount.files("ca"), "auth_api")
    watching = asyncio.create_task(watch(*parts, every=0.001))
    async with grpcs(parts[0]) as port:
        assert await is_refused(port, NEW, None)
        mount.put(pair(leaf_of(NEW)) | trust(NEW))
        await records.until(2)
        assert await call(port, NEW) == b"ok"
        mount.put(pair(leaf_of(NEW)) | trust(NEW))
        await records.until(3)
    watching.cancel()
    replaced = "certificates replaced"
    assert sorted(records.lines()) == [
        (replaced, "auth_api"),
        (replaced, "grpc"),
        (replaced, "grpc"),
    ]


async def test_what_grpc_is_told(mount: Mount) -> None:
    """Each fetcher returns new certificates once, and None while there is no change."""
    tls = ServerTls(mount.files("tls"), "grpc")
    fetchers = [tls._fetcher(tls._contents) for _ in range(2)]
    assert [fetch() for fetch in fetchers] == [None, None]
    mount.put(pair(leaf_of(OLD)))
    await tls.refresh()
    assert None not in [fetch() for fetch in fetchers]
    assert [fetch() for fetch in fetchers] == [None, None]


class Turning(PosixPath):
    """The path of a key that changes after each read, so that the data read is stale."""

    turns: list[Callable[[], None]]

    def read_bytes(self) -> bytes:
        """Return the data, then replace it for the next read."""
        data = super().read_bytes()
        if self.turns:
            self.turns.pop()()
        return data


async def test_files_that_are_replaced_while_they_are_read(mount: Mount) -> None:
    """A certificate and a key of different times are neither used nor reported as a mismatch."""
    first, second = pair(leaf_of(OLD)), pair(leaf_of(OLD))
    key = Turning(mount.folder / "tls.key")
    key.turns = [lambda: mount.put(second), lambda: mount.put(first)]
    tls = ServerTls(TlsFiles(certificate=mount.folder / "tls.crt", key=key, ca=None), "rest")
    assert key.turns == []
    async with https(tls) as port:
        assert (await shake(port, client())).certificate == der(second)


def test_a_key_that_is_removed_while_it_is_read(mount: Mount) -> None:
    """A file that is gone when OpenSSL reads it is reported as missing."""
    key = Turning(mount.folder / "tls.key")
    key.turns = [key.unlink]
    with pytest.raises(TlsFileError) as caught:
        ServerTls(TlsFiles(certificate=mount.folder / "tls.crt", key=key, ca=None), "rest")
    assert str(caught.value) == f"cannot read {key}: No such file or directory"


# Bad files


def locked(form: keys.PrivateFormat) -> bytes:
    """Return the key of the certificate ME, encrypted with a password."""
    key = keys.load_pem_private_key(pair(ME)["tls.key"], None)
    return key.private_bytes(keys.Encoding.PEM, form, keys.BestAvailableEncryption(b"canary"))


def weak() -> dict[str, bytes]:
    """Return a pair whose key is too short."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 it must be refused
    name = x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    form = (keys.PrivateFormat.PKCS8, keys.NoEncryption())
    return {
        "tls.crt": builder.sign(key, hashes.SHA256()).public_bytes(keys.Encoding.PEM),
        "tls.key": key.private_bytes(keys.Encoding.PEM, *form),
    }


CRT, KEY = pair(ME)["tls.crt"], pair(ME)["tls.key"]
RSA = pair(leaf_of(OLD, key_type=trustme.KeyType.RSA))["tls.key"]
WHOLE = "tls.crt must hold complete certificates in PEM"
WHOLE_KEY = "tls.key must hold a complete private key in PEM"
WHOLE_CA = "ca.crt must hold complete certificates in PEM"
OTHER_KEY = "tls.key must be the key of the first certificate in {}/tls.crt"
SECRET_KEY = "tls.key must not be encrypted: there is no way to enter a password"
DAMAGED = CRT[:60] + CRT[60:120][::-1] + CRT[120:]
PARTS = {"tls.crt": "certificate", "tls.key": "key", "ca.crt": "ca"}
# Bad files, and the reported fault.
BAD: Mapping[str, tuple[Mapping[str, bytes], str]] = {
    "an empty certificate": ({"tls.crt": b""}, WHOLE),
    "a certificate that is no PEM": ({"tls.crt": ssl.PEM_cert_to_DER_cert(CRT.decode())}, WHOLE),
    "half a certificate": ({"tls.crt": CRT[: len(CRT) // 2]}, WHOLE),
    "half a chain": ({"tls.crt": CRT + OLD.cert_pem.bytes()[:200]}, WHOLE),
    "a damaged certificate": ({"tls.crt": DAMAGED}, WHOLE),
    "a certificate with odd letters": ({"tls.crt": CRT[:90] + "é".encode() + CRT[90:]}, WHOLE),
    "a key for a certificate": ({"tls.crt": KEY}, WHOLE),
    "an empty key": ({"tls.key": b""}, WHOLE_KEY),
    "half a key": ({"tls.key": KEY[: len(KEY) // 2]}, WHOLE_KEY),
    "a certificate for a key": ({"tls.key": CRT}, WHOLE_KEY),
    "another key": ({"tls.key": pair(STRANGER)["tls.key"]}, OTHER_KEY),
    "another kind of key": ({"tls.key": RSA}, OTHER_KEY),
    "an encrypted key": ({"tls.key": locked(keys.PrivateFormat.PKCS8)}, SECRET_KEY),
    "a key encrypted as of old": (
        {"tls.key": locked(keys.PrivateFormat.TraditionalOpenSSL)},
        SECRET_KEY,
    ),
    "a short key": (
        weak(),
        "tls.crt must have stronger keys and digests: OpenSSL refuses these",
    ),
    "an empty CA": ({"ca.crt": b""}, WHOLE_CA),
    "half a CA": ({"ca.crt": OLD.cert_pem.bytes()[:200]}, WHOLE_CA),
}


@pytest.mark.parametrize(("files", "text"), BAD.values(), ids=BAD)
async def test_bad_files(
    mount: Mount, records: Records, files: Mapping[str, bytes], text: str
) -> None:
    """Bad files are reported in one line without contents, once; the old ones stay in use."""
    good = pair(ME) | trust(OLD)
    mount.put(good)
    tls = ServerTls(mount.files("tls", "ca"), "rest")
    mount.put({**good, **files})
    fault = f"{mount.folder}/{text.format(mount.folder)}"
    for side in (ServerTls, ClientTls):
        with pytest.raises(TlsFileError) as caught:
            side(mount.files("tls", "ca"), "rest")
        assert (str(caught.value), caught.value.part) == (fault, PARTS[text[:7].strip()])
    for _ in range(2):
        await tls.refresh()
    assert records.lines() == [("certificates kept", "rest", fault)]
    async with https(tls) as port, grpcs(tls) as grpc_port:
        assert (await shake(port, client(own=ME))).certificate == der(good)
        assert await call(grpc_port, own=ME) == b"ok"
        mount.put(pair(leaf_of(OLD)) | trust(OLD))
        await tls.refresh()
        assert (await shake(port, client(own=ME))).certificate != der(good)
    assert records.lines()[1:] == [("certificates replaced", "rest")]


def gone(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def folder(path: Path) -> None:
    """Replace a file by a folder."""
    path.unlink()
    path.mkdir()


UNREADABLE: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "gone": (gone, "No such file or directory"),
    "a folder": (folder, "Is a directory"),
}


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize(("spoil", "text"), UNREADABLE.values(), ids=UNREADABLE)
async def test_unreadable_files(
    mount: Mount, records: Records, name: str, spoil: Callable[[Path], None], text: str
) -> None:
    """An unreadable file is reported by name and cause, and the old one stays in use."""
    files = mount.files("tls", "ca")
    tls = ServerTls(files, "rest")
    spoil(mount.folder / name)
    fault = f"cannot read {mount.folder / name}: {text}"
    with pytest.raises(TlsFileError) as caught:
        ServerTls(files, "rest")
    assert (str(caught.value), caught.value.part) == (fault, PARTS[name])
    for _ in range(2):
        await tls.refresh()
    assert records.lines() == [("certificates kept", "rest", fault)]


async def test_each_fault_is_told(mount: Mount, records: Records) -> None:
    """Other bad files with the same fault are logged again; so are good ones, and later bad."""
    good = pair(ME)
    mount.put(good)
    tls = ServerTls(mount.files("tls"), "rest")
    bad = [good | {"tls.key": key} for key in (KEY[:90], KEY[:120])]
    for files in (bad[0], bad[0], bad[1], good, bad[1]):
        mount.put(files)
        await tls.refresh()
    kept = ("certificates kept", "rest", f"{mount.folder}/{WHOLE_KEY}")
    assert records.lines() == [kept, kept, ("certificates restored", "rest"), kept]
    assert [entry["level"] for entry in records.entries] == [
        "warning",
        "warning",
        "info",
        "warning",
    ]


def test_files_that_are_not_given(mount: Mount) -> None:
    """A server needs a certificate, and no side may have only half of a pair."""
    files = mount.files("tls")
    with pytest.raises(OSError, match=r"^rest must have a certificate and its key$"):
        ServerTls(mount.files("ca"), "rest")
    for half in (
        TlsFiles(certificate=files.certificate, key=None, ca=None),
        TlsFiles(certificate=None, key=files.key, ca=None),
    ):
        with pytest.raises(OSError, match=r"/tls\.(crt|key) is one of a pair: set both files$"):
            ClientTls(half, "auth_api")


# Not TLS

STRANGE: Mapping[str, bytes] = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: sidecar.test\r\n\r\n",
    "nothing": b"",
    "half a greeting": b"\x16\x03\x01\x02\x00",
}


@pytest.mark.timing("a handshake that ends before its client has sent anything ends as well")
@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE)
async def test_who_speaks_no_tls(
    mount: Mount, records: Records, factory: Callable[[], asyncio.AbstractEventLoop], sent: bytes
) -> None:
    """A client that sends no TLS, or stops, is disconnected without a record or a loop error."""
    errors: list[Mapping[str, Any]] = []

    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        context = ServerTls(mount.files("tls"), "rest").context
        server = await loop.create_server(
            asyncio.Protocol, HOST, 0, ssl=context, ssl_handshake_timeout=0.05
        )
        async with server, asyncio.timeout(GUARD):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            answer = b""
            with suppress(ConnectionError):
                answer = await reader.read()
            writer.close()
            return answer

    assert await asyncio.to_thread(run, factory, scenario) == b""
    assert errors == []
    assert records.entries == []


ASK = """
import sys
from pathlib import Path
from sidecar.tls.files import TlsFiles
from sidecar.tls.reloading import ServerTls
here = Path(sys.argv[1])
try:
    ServerTls(TlsFiles(certificate=here / "tls.crt", key=here / "tls.key", ca=None), "rest")
except OSError as error:
    print(error)
"""


def test_nobody_is_asked_for_a_password(mount: Mount) -> None:
    """An encrypted key that we do not recognise causes no prompt, even at a terminal."""
    # OpenSSL accepts several spaces; our check expects one.
    locked_key = locked(keys.PrivateFormat.TraditionalOpenSSL)
    mount.put(pair(ME) | {"tls.key": locked_key.replace(b"Type: 4,", b"Type:  4,")})
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, mount.folder],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            timeout=GUARD,
            start_new_session=True,  # no other terminal is available for a prompt
            check=True,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.stdout == f"{mount.folder}/{WHOLE_KEY}\n"
