"""The PEM files of one side of TLS, and their contents at one time."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from sidecar.secret import Secret
from sidecar.stray_characters import describe

_SHELL = "begins with ~, which only a shell replaces"
# A field of TlsFiles.
Part: TypeAlias = Literal["certificate", "key", "ca"]


class TlsFileError(OSError):
    """A file cannot be used. The one line of text names it and its fault.

    `part` is the field of TlsFiles that has to change, or None if it is not known.
    """

    def __init__(self, text: str, part: Part | None = None) -> None:
        super().__init__(text)
        self.part = part


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
class Contents:
    """The contents of the files when they were read; empty for a file that is not set."""

    certificate: bytes
    key: Secret[bytes]
    ca: bytes

    @property
    def digest(self) -> str:
        """A fingerprint of the contents."""
        parts = (self.certificate, self.key.reveal(), self.ca)
        return "".join(hashlib.sha256(part).hexdigest() for part in parts)


def read(files: TlsFiles) -> Contents:
    """Return the contents of `files`. Raises TlsFileError."""
    return Contents(
        certificate=_read(files.certificate, "certificate"),
        key=Secret(_read(files.key, "key")),
        ca=_read(files.ca, "ca"),
    )


def _read(path: Path | None, part: Part) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError as error:
        stray = _SHELL if str(path).startswith("~") else describe(str(path))
        hint = f"; the path {stray}" if stray else ""
        raise TlsFileError(f"cannot read {path}: {error.strerror}{hint}", part) from None
