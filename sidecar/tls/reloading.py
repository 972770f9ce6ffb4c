"""Reloadable TLS of the listeners and the upstream.

Replaced files are used together, and only after OpenSSL has accepted them. Until then the
previous files stay in use. Contents are never logged.
"""

import asyncio
import hashlib
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import grpc

from sidecar import logs
from sidecar.process import daemon_thread
from sidecar.secret import Secret
from sidecar.tls import expiry
from sidecar.tls.forwarding_context import ForwardingContext

# RFC 7468 section 11, and RFC 1421 section 4.6.1.1 as OpenSSL writes it.
_ENCRYPTED = re.compile(rb"BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED")
# By OpenSSL's reason. Any other is a fault of the key: the certificates were read before.
_MISMATCH = "{key} must be the key of the first certificate in {certificate}"
_WEAK = "{certificate} must have stronger keys and digests: OpenSSL refuses these"
_BAD_KEY = "{key} must hold a complete private key in PEM"
_PAIR_FAULTS: Mapping[str | None, str] = {
    **dict.fromkeys(("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"), _MISMATCH),
    **dict.fromkeys(("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"), _WEAK),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The PEM files (RFC 7468) of one side of TLS.

    A server needs `certificate`, with its chain, and `key`. With `ca`, its clients need a
    certificate that is signed by it. A client trusts `ca` instead of the system's store,
    and may have a certificate and its key.
    """

    certificate: Path | None
    key: Path | None
    ca: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The contents of the files when they were read; empty for a file that is not set."""

    certificate: bytes
    key: Secret[bytes]
    ca: bytes

    @property
    def digest(self) -> str:
        """A fingerprint of the contents."""
        parts = (self.certificate, self.key.reveal(), self.ca)
        return "".join(hashlib.sha256(part).hexdigest() for part in parts)


class _Tls:
    """TLS of one side. Raises OSError; its one line names the file and the fault."""

    def __init__(self, files: TlsFiles, name: str, protocol: int) -> None:
        if (files.certificate is None) != (files.key is None):
            raise OSError(f"{files.certificate or files.key} is one of a pair: set both files")
        self._files, self._name, self._protocol = files, name, protocol
        self._logged = ""  # the digest and fault of bad contents
        self._contents, loaded = self._load(known=None)
        if isinstance(loaded, str):
            raise OSError(loaded)
        self._context = loaded

    @property
    def name(self) -> str:
        """The listener or the upstream."""
        return self._name

    @property
    def not_after(self) -> float | None:
        """When the first of its own certificates expires, in seconds since the epoch."""
        return expiry.earliest(self._contents.certificate)

    async def refresh(self) -> None:
        """Use the files if they were replaced. Bad ones are logged once, and tried each time."""
        contents, loaded = await daemon_thread.run(partial(self._load, known=self._contents))
        previous, self._logged = self._logged, ""
        if isinstance(loaded, str):
            self._logged = contents.digest + loaded
            if self._logged != previous:
                logs.warning("certificates kept", listener=self._name, fault=loaded)
        elif loaded is not self._context:
            self._contents, self._context = contents, loaded
            logs.event("certificates replaced", listener=self._name)
        elif previous:
            logs.event("certificates restored", listener=self._name)

    def _load(self, *, known: _Contents | None) -> tuple[_Contents, ssl.SSLContext | str]:
        """Return the contents of all files at one time, and their context or their fault."""
        # OpenSSL reads a key only from a file. So the files are read before and after it
        # reads them: if their contents are equal, OpenSSL has read the same.
        while True:
            try:
                contents = _read(self._files)
                if known and contents.digest == known.digest:
                    return known, self._context
                loaded = self._make_or_explain(contents)
                if _read(self._files).digest == contents.digest:
                    return contents, loaded
            except OSError as error:
                return _Contents(certificate=b"", key=Secret(b""), ca=b""), str(error)

    def _make_or_explain(self, contents: _Contents) -> ssl.SSLContext | str:
        try:
            return _make(self._protocol, self._files, contents)
        except OSError as error:
            return str(error)


class ServerTls(_Tls):
    """TLS of the listener `name`. Raises OSError; its one line names the file and the fault."""

    def __init__(self, files: TlsFiles, name: str) -> None:
        if files.certificate is None:
            raise OSError(f"{name} must have a certificate and its key")
        super().__init__(files, name, ssl.PROTOCOL_TLS_SERVER)
        self._forwarding = ForwardingContext.to(lambda: self._context)

    @property
    def context(self) -> ssl.SSLContext:
        """The context for `loop.create_server`: always the same object."""
        return self._forwarding

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port of a gRPC server; they follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._contents),
            self._fetcher(self._contents),  # type: ignore[arg-type] # None is missing in the stubs
            require_client_authentication=self._files.ca is not None,
        )

    def _fetcher(self, used: _Contents) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Return a function that returns new certificates, or None while gRPC uses the latest."""
        lock = threading.Lock()  # gRPC calls it from its own threads, before each handshake

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal used
            with lock:
                previous, used = used, self._contents
                return None if used is previous else _configuration(used)

        return fetch


class ClientTls(_Tls):
    """TLS of the upstream `name`. Raises OSError; its one line names the file and the fault."""

    def __init__(self, files: TlsFiles, name: str) -> None:
        super().__init__(files, name, ssl.PROTOCOL_TLS_CLIENT)

    def context(self) -> ssl.SSLContext:
        """Return the context for new connections. It changes when the files change."""
        return self._context


async def watch(*parts: ServerTls | ClientTls, every: float = 1.0) -> NoReturn:
    """Refresh all `parts` for ever, with a pause of `every` seconds."""
    # Polling: kubelet replaces a link to their folder, which inotify does not report.
    while True:
        await asyncio.sleep(every)
        refreshing = (part.refresh() for part in parts)
        for fault in await asyncio.gather(*refreshing, return_exceptions=True):
            if fault is not None:
                logs.failure("certificates could not be checked", fault)


def _read(files: TlsFiles) -> _Contents:
    certificate, key, ca = (_bytes(path) for path in (files.certificate, files.key, files.ca))
    return _Contents(certificate=certificate, key=Secret(key), ca=ca)


def _bytes(path: Path | None) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from None


def _make(protocol: int, files: TlsFiles, contents: _Contents) -> ssl.SSLContext:
    """Return a context. A client's verifies certificates and host names. Raises OSError."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if files.certificate and files.key:
        _identify(context, files.certificate, files.key, contents)
    if files.ca:
        _trust(context, files.ca, contents.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    elif protocol == ssl.PROTOCOL_TLS_CLIENT:
        _trust_system(context)
    return context


def _identify(context: ssl.SSLContext, certificate: Path, key: Path, contents: _Contents) -> None:
    """Give `context` its own certificate. Raises OSError."""
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, contents.certificate)
    if _ENCRYPTED.search(contents.key.reveal()):
        raise OSError(f"{key} must not be encrypted: there is no way to enter a password")
    try:
        # Without this password OpenSSL might ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        fault = _PAIR_FAULTS.get(error.reason, _BAD_KEY)
        raise OSError(fault.format(certificate=certificate, key=key)) from None


def _trust(context: ssl.SSLContext, path: Path, data: bytes) -> None:
    """Let `context` trust the certificates in `data`, read from `path`. Raises OSError."""
    try:
        # `cadata` must be ASCII, but the text around them may be anything (RFC 7468, 5.2).
        context.load_verify_locations(cadata=data.decode("ascii", "backslashreplace") or "none")
    except ssl.SSLError:
        raise OSError(f"{path} must hold complete certificates in PEM") from None


def _trust_system(context: ssl.SSLContext) -> None:
    """Let `context` trust the system's store of certificates. Raises OSError."""
    # Not `load_default_certs`: it would follow SSL_CERT_FILE and SSL_CERT_DIR.
    paths = ssl.get_default_verify_paths()
    file = paths.openssl_cafile if Path(paths.openssl_cafile).is_file() else None
    folder = paths.openssl_capath if any(Path(paths.openssl_capath).glob("*.[0-9]")) else None
    if file is None and folder is None:
        raise OSError(f"{paths.openssl_cafile} must exist, or a CA file must be set")
    context.load_verify_locations(file, folder)


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    """Return the `contents` of a server for gRPC."""
    pair = (contents.key.reveal(), contents.certificate)
    return grpc.ssl_server_certificate_configuration([pair], contents.ca or None)
