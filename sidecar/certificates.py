"""The certificates that the settings name: one part for each side that has some."""

from dataclasses import dataclass

from sidecar.settings import Settings
from sidecar.tls import ClientTls, ServerTls, TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What speaks TLS; None for a side that does not, or that needs no files to."""

    rest: ServerTls | None
    grpc: ServerTls | None
    auth_api: ClientTls | None

    @classmethod
    def load(cls, settings: Settings) -> "Certificates":
        """Read all the files that `settings` name. Raises OSError, in one line, for a bad one."""
        rest = _files(settings, "rest", ca="tls_client_ca")
        server = _files(settings, "grpc", ca="tls_client_ca")
        auth_api = _files(settings, "auth_api", ca="tls_ca")
        return cls(
            rest=ServerTls(rest, "rest") if rest else None,
            grpc=ServerTls(server, "grpc") if server else None,
            auth_api=ClientTls(auth_api, "auth_api") if auth_api else None,
        )

    @property
    def parts(self) -> list[ServerTls | ClientTls]:
        """Those that there are."""
        return [part for part in (self.rest, self.grpc, self.auth_api) if part]


def _files(settings: Settings, side: str, *, ca: str) -> TlsFiles | None:
    names = ("tls_certificate", "tls_key", ca)
    certificate, key, ca_file = (getattr(settings, f"{side}_{name}") for name in names)
    if not certificate and not ca_file:
        return None
    return TlsFiles(certificate=certificate, key=key, ca=ca_file)
