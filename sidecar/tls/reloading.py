"""TLS of the listeners and towards the upstream, from files that may be replaced while serving.

A set of files is taken up as a whole, and only after OpenSSL has read it; until
then, and if it is bad, the set before it stays in use. Contents are never told.
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
from sidecar.tls.forwarding_context import ForwardingContext

# RFC 7468 section 11, and RFC 1421 section 4.6.1.1 as OpenSSL writes it.
_ENCRYPTED = re.compile(rb"BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED")
# What is wrong with a pair, by what OpenSSL calls it. All else is the key's fault, for the
# certificates have been read before.
_MISMATCH = "{key} must be the key of the first certificate in {certificate}"
_WEAK = "{certificate} must be made with stronger keys and digests, for OpenSSL refuses these"
_BAD_KEY = "{key} must hold a private key in PEM, and whole"
_PAIR_FAULTS: Mapping[str | None, str] = {
    **dict.fromkeys(("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"), _MISMATCH),
    **dict.fromkeys(("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"), _WEAK),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The PEM files (RFC 7468) of one side of TLS.

    A server must have `certificate`, with its chain, and `key`; with `ca` its
    clients must have a certificate that is signed by it. A client trusts `ca`
    instead of the system's store, and may have a certificate with its key.
    """

    certificate: Path | None
    key: Path | None
    ca: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What the files held when they were read; nothing for a file that is not given."""

    certificate: bytes
    key: Secret[bytes]
    ca: bytes

    @property
    def digest(self) -> str:
        """What tells these contents from others."""
        parts = (self.certificate, self.key.reveal(), self.ca)
        return "".join(hashlib.sha256(part).hexdigest() for part in parts)


_NOTHING = _Contents(certificate=b"", key=Secret(b""), ca=b"")


class _Tls:
    """One side of TLS. Raises OSError, whose one line names the file and what is wrong."""

    def __init__(self, files: TlsFiles, name: str, protocol: int) -> None:
        if (files.certificate is None) != (files.key is None):
            raise OSError(f"{files.certificate or files.key} must be one of a pair, not alone")
        self._files, self._name, self._protocol = files, name, protocol
        self._told = ""  # what the log knows of bad contents
        self._contents, found = self._load(known=None)
        if isinstance(found, str):
            raise OSError(found)
        self._context = found

    async def refresh(self) -> None:
        """Take up the files if they were replaced; bad ones are told once, and tried again."""
        contents, found = await daemon_thread.run(partial(self._load, known=self._contents))
        before, self._told = self._told, ""
        if isinstance(found, str):
            self._told = contents.digest + found
            if self._told != before:
                logs.warning("certificates kept", listener=self._name, fault=found)
        elif found is not self._context:
            self._contents, self._context = contents, found
            logs.event("certificates replaced", listener=self._name)
        elif before:
            logs.event("certificates restored", listener=self._name)

    def _load(self, *, known: _Contents | None) -> tuple[_Contents, ssl.SSLContext | str]:
        """Return what the files hold, all of one moment, with its context or what is wrong."""
        # OpenSSL takes a key from a file only. So the files are read before it does and
        # after it: if they held the same, it has read the same.
        while True:
            try:
                contents = _read(self._files)
                if known and contents.digest == known.digest:
                    return known, self._context
                found = self._judge(contents)
                if _read(self._files).digest == contents.digest:
                    return contents, found
            except OSError as error:
                return _NOTHING, str(error)

    def _judge(self, contents: _Contents) -> ssl.SSLContext | str:
        try:
            return _make(self._protocol, self._files, contents)
        except OSError as error:
            return str(error)


class ServerTls(_Tls):
    """TLS of the listener `name`. Raises OSError: one line, the file and what is wrong."""

    def __init__(self, files: TlsFiles, name: str) -> None:
        if files.certificate is None:
            raise OSError(f"{name} must have a certificate and its key")
        super().__init__(files, name, ssl.PROTOCOL_TLS_SERVER)
        self._forwarding = ForwardingContext.to(lambda: self._context)

    @property
    def context(self) -> ssl.SSLContext:
        """The context for `create_server` of an event loop, the same for good."""
        return self._forwarding

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port of a gRPC server, which follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._contents),
            self._fetcher(self._contents),  # type: ignore[arg-type] # None is missing in the stubs
            require_client_authentication=self._files.ca is not None,
        )

    def _fetcher(self, told: _Contents) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Return what gives the certificates if they are others than `told`, and than it gave."""
        # gRPC calls it from threads of its own, before each handshake.
        lock = threading.Lock()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            with lock:
                before, told = told, self._contents
                return None if told is before else _configuration(told)

        return fetch


class ClientTls(_Tls):
    """TLS towards the upstream `name`. Raises OSError: one line, the file and what is wrong."""

    def __init__(self, files: TlsFiles, name: str) -> None:
        super().__init__(files, name, ssl.PROTOCOL_TLS_CLIENT)

    def context(self) -> ssl.SSLContext:
        """Return the context for new connections, another one after each change of the files."""
        return self._context


async def watch(*parts: ServerTls | ClientTls, every: float = 1.0) -> NoReturn:
    """Refresh all `parts`, with `every` so many seconds between, for ever."""
    # By looking: kubelet exchanges a link to their folder, of which inotify tells nothing.
    while True:
        await asyncio.sleep(every)
        refreshing = (part.refresh() for part in parts)
        for fault in await asyncio.gather(*refreshing, return_exceptions=True):
            if fault is not None:
                logs.failure("certificates could not be looked at", fault)


def _read(files: TlsFiles) -> _Contents:
    certificate, key, ca = (_bytes(path) for path in (files.certificate, files.key, files.ca))
    return _Contents(certificate=certificate, key=Secret(key), ca=ca)


def _bytes(path: Path | None) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from None


def _make(protocol: int, files: TlsFiles, contents: _Contents) -> ssl.SSLContext:
    """Return a context; that of a client checks certificates and host names. Raises OSError."""
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
        raise OSError(f"{key} must not be encrypted; nobody can be asked for its password")
    try:
        # Without a password OpenSSL might ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        fault = _PAIR_FAULTS.get(error.reason, _BAD_KEY)
        raise OSError(fault.format(certificate=certificate, key=key)) from None


def _trust(context: ssl.SSLContext, path: Path, data: bytes) -> None:
    """Let `context` trust the certificates in `data`, which is of `path`. Raises OSError."""
    try:
        # The text around them (RFC 7468 section 5.2) may be anything, but `cadata` is ASCII.
        context.load_verify_locations(cadata=data.decode("ascii", "backslashreplace") or "none")
    except ssl.SSLError:
        raise OSError(f"{path} must hold certificates in PEM, and all of them whole") from None


def _trust_system(context: ssl.SSLContext) -> None:
    """Trust what the system does. Raises OSError."""
    # By its paths, for `load_default_certs` would follow SSL_CERT_FILE and SSL_CERT_DIR.
    paths = ssl.get_default_verify_paths()
    file = paths.openssl_cafile if Path(paths.openssl_cafile).is_file() else None
    folder = paths.openssl_capath if any(Path(paths.openssl_capath).glob("*.[0-9]")) else None
    if file is None and folder is None:
        raise OSError(f"{paths.openssl_cafile} must be there, or a CA file be named instead of it")
    context.load_verify_locations(file, folder)


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    """Return `contents`, which are those of a server, for gRPC."""
    pair = (contents.key.reveal(), contents.certificate)
    return grpc.ssl_server_certificate_configuration([pair], contents.ca or None)
