"""TLS of each listener and of the upstream, loaded from the files in the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sidecar.settings.model import Settings, name_of
from sidecar.settings.sources import SettingsError
from sidecar.tls.expiry import Expiry
from sidecar.tls.files import TlsFileError, TlsFiles
from sidecar.tls.reloading import ClientTls, ServerTls

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """TLS of each side; None for a side without TLS."""

    rest: ServerTls | None
    grpc: ServerTls | None
    auth_api: ClientTls | None

    @classmethod
    def load(cls, settings: Settings) -> "Certificates":
        """Read all files in `settings`. Raises SettingsError with the faults of all sides."""
        violations: list[str] = []

        def part(make: Callable[[TlsFiles, str], P], side: str, ca: str) -> P | None:
            files = _files(settings, side, ca)
            try:
                return make(files, side) if files else None
            except TlsFileError as error:
                violations.append(f"{_setting_of(error, side, ca)}: {error}")
                return None

        loaded = cls(
            rest=part(ServerTls, "rest", "tls_client_ca"),
            grpc=part(ServerTls, "grpc", "tls_client_ca"),
            auth_api=part(ClientTls, "auth_api", "tls_ca"),
        )
        if violations:
            raise SettingsError(tuple(violations))
        return loaded

    @property
    def parts(self) -> list[ServerTls | ClientTls]:
        """The sides that are not None."""
        return [part for part in (self.rest, self.grpc, self.auth_api) if part]

    def expiries(self) -> list[Expiry]:
        """Return the expiry of each file with certificates."""
        return [expiry for part in self.parts for expiry in part.expiries()]


def _setting_of(error: TlsFileError, side: str, ca: str) -> str:
    """Return the name of the setting that names the file of `error`."""
    # A pair without its other half is a fault of two settings, which are checked before.
    field = ca if error.part == "ca" else f"tls_{error.part or 'certificate'}"
    return name_of(f"{side}_{field}")


def _files(settings: Settings, side: str, ca: str) -> TlsFiles | None:
    names = ("tls_certificate", "tls_key", ca)
    certificate, key, ca_file = (getattr(settings, f"{side}_{name}") for name in names)
    is_https = side == "auth_api" and settings.calls_https
    if not certificate and not ca_file and not is_https:
        return None
    return TlsFiles(certificate=certificate, key=key, ca=ca_file)
