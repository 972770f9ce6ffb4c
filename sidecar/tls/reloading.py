"""Reloadable TLS of the listeners and the upstream.

Replaced files are used together, and only after OpenSSL has accepted them. Until then the
previous files stay in use. Contents are never logged.
"""

import asyncio
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

import grpc

from sidecar import logs
from sidecar.process import daemon_thread
from sidecar.secret import Secret
from sidecar.tls import expiry
from sidecar.tls.files import Contents, Part, TlsFileError, TlsFiles, read
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


class _Tls:
    """TLS of one side. Raises TlsFileError."""

    def __init__(self, files: TlsFiles, name: str, protocol: int) -> None:
        if (files.certificate is None) != (files.key is None):
            raise TlsFileError(f"{files.certificate or files.key} is one of a pair: set both files")
        self._files, self._name, self._protocol = files, name, protocol
        self._logged = ""  # the digest and fault of bad contents
        self._contents, loaded = self._load(known=None)
        if isinstance(loaded, TlsFileError):
            raise loaded
        self._context = loaded

    async def refresh(self) -> None:
        """Use the files if they were replaced. Bad ones are logged once, and tried each time."""
        contents, loaded = await daemon_thread.run(partial(self._load, known=self._contents))
        previous, self._logged = self._logged, ""
        if isinstance(loaded, TlsFileError):
            fault = str(loaded)
            self._logged = contents.digest + fault
            if self._logged != previous:
                logs.warning("certificates kept", listener=self._name, fault=fault)
        elif loaded is not self._context:
            self._contents, self._context = contents, loaded
            logs.event("certificates replaced", listener=self._name)
            expiry.warn(self.expiries())
        elif previous:
            logs.event("certificates restored", listener=self._name)

    def expiries(self) -> Iterator[expiry.Expiry]:
        """Yield the expiry of each file with certificates that is in use."""
        files, contents = self._files, self._contents
        for path, pem in ((files.certificate, contents.certificate), (files.ca, contents.ca)):
            if path is not None:
                yield expiry.expiry_of(self._name, path, pem)

    def _load(self, *, known: Contents | None) -> tuple[Contents, ssl.SSLContext | TlsFileError]:
        """Return the contents of all files at one time, and their context or their fault."""
        # OpenSSL reads a key only from a file. So the files are read before and after it
        # reads them: if their contents are equal, OpenSSL has read the same.
        while True:
            try:
                contents = read(self._files)
                if known and contents.digest == known.digest:
                    return known, self._context
                loaded = self._make_or_explain(contents)
                if read(self._files).digest == contents.digest:
                    return contents, loaded
            except TlsFileError as error:
                return Contents(certificate=b"", key=Secret(b""), ca=b""), error

    def _make_or_explain(self, contents: Contents) -> ssl.SSLContext | TlsFileError:
        try:
            return _make(self._protocol, self._files, contents)
        except TlsFileError as error:
            return error
        except OSError as error:  # a file that was removed since it was read
            return TlsFileError(str(error))


class ServerTls(_Tls):
    """TLS of the listener `name`. Raises TlsFileError."""

    def __init__(self, files: TlsFiles, name: str) -> None:
        if files.certificate is None:
            raise TlsFileError(f"{name} must have a certificate and its key")
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

    def _fetcher(self, used: Contents) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Return a function that returns new certificates, or None while gRPC uses the latest."""
        lock = threading.Lock()  # gRPC calls it from its own threads, before each handshake

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal used
            with lock:
                previous, used = used, self._contents
                return None if used is previous else _configuration(used)

        return fetch


class ClientTls(_Tls):
    """TLS of the upstream `name`. Raises TlsFileError."""

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


def _make(protocol: int, files: TlsFiles, contents: Contents) -> ssl.SSLContext:
    """Return a context. A client's verifies certificates and host names. Raises TlsFileError."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if files.certificate and files.key:
        _identify(context, files.certificate, files.key, contents)
    if files.ca:
        _trust(context, files.ca, contents.ca, "ca")
        context.verify_mode = ssl.CERT_REQUIRED
    elif protocol == ssl.PROTOCOL_TLS_CLIENT:
        _trust_system(context)
    return context


def _identify(context: ssl.SSLContext, certificate: Path, key: Path, contents: Contents) -> None:
    """Give `context` its own certificate. Raises TlsFileError."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(probe, certificate, contents.certificate, "certificate")
    if _ENCRYPTED.search(contents.key.reveal()):
        text = f"{key} must not be encrypted: there is no way to enter a password"
        raise TlsFileError(text, "key")
    try:
        # Without this password OpenSSL might ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        fault = _PAIR_FAULTS.get(error.reason, _BAD_KEY)
        part: Part = "certificate" if fault == _WEAK else "key"
        raise TlsFileError(fault.format(certificate=certificate, key=key), part) from None


def _trust(context: ssl.SSLContext, path: Path, data: bytes, part: Part) -> None:
    """Let `context` trust the certificates in `data`, read from `path`. Raises TlsFileError."""
    try:
        # `cadata` must be ASCII, but the text around them may be anything (RFC 7468, 5.2).
        context.load_verify_locations(cadata=data.decode("ascii", "backslashreplace") or "none")
    except ssl.SSLError:
        raise TlsFileError(f"{path} must hold complete certificates in PEM", part) from None


def _trust_system(context: ssl.SSLContext) -> None:
    """Let `context` trust the system's store of certificates. Raises TlsFileError."""
    # Not `load_default_certs`: it would follow SSL_CERT_FILE and SSL_CERT_DIR.
    paths = ssl.get_default_verify_paths()
    file = paths.openssl_cafile if Path(paths.openssl_cafile).is_file() else None
    folder = paths.openssl_capath if any(Path(paths.openssl_capath).glob("*.[0-9]")) else None
    if file is None and folder is None:
        raise TlsFileError(f"{paths.openssl_cafile} must exist, or a CA file must be set", "ca")
    context.load_verify_locations(file, folder)


def _configuration(contents: Contents) -> grpc.ServerCertificateConfiguration:
    """Return the `contents` of a server for gRPC."""
    pair = (contents.key.reveal(), contents.certificate)
    return grpc.ssl_server_certificate_configuration([pair], contents.ca or None)
