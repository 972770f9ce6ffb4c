"""Settings: one frozen, validated object, and what of it must fit together."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sidecar.settings.types import (
    Address,
    AddressField,
    BaseUrlField,
    CountField,
    CountOrZeroField,
    DelayField,
    PathField,
    SecondsField,
    UrlField,
)

PREFIX = "SIDECAR_"
# What the end may take beyond its phases: last answers, the probes, the log; in seconds.
_LAST = 4.0


class Settings(BaseModel):
    """Everything that can be set. The name of each setting is `PREFIX` and its field's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rest_listen: AddressField = Field(
        Address("127.0.0.1", 8080), description="where the REST API listens"
    )
    rest_keep_alive: SecondsField = Field(
        75.0, description="how long a REST connection may idle between requests"
    )
    rest_tls_certificate: PathField | None = Field(
        None, description="PEM file of the certificate chain of the REST API"
    )
    rest_tls_key: PathField | None = Field(None, description="PEM file of its private key")
    rest_tls_client_ca: PathField | None = Field(
        None, description="PEM file of who must have signed the certificates of REST clients"
    )
    grpc_listen: AddressField = Field(
        Address("127.0.0.1", 50051), description="where the gRPC API listens"
    )
    grpc_reflection: bool = Field(
        default=True, description="whether gRPC tools may ask for the schema"
    )
    grpc_tls_certificate: PathField | None = Field(
        None, description="PEM file of the certificate chain of the gRPC API"
    )
    grpc_tls_key: PathField | None = Field(None, description="PEM file of its private key")
    grpc_tls_client_ca: PathField | None = Field(
        None, description="PEM file of who must have signed the certificates of gRPC clients"
    )
    admin_listen: AddressField = Field(
        Address("127.0.0.1", 9090), description="where the probes listen"
    )
    public_url: BaseUrlField | None = Field(
        None, description="base of the problem types; the REST address by default"
    )
    auth_api_token_url: UrlField | None = Field(
        None, description="token endpoint of the auth-api; `serve` needs it"
    )
    auth_api_connect_timeout: SecondsField = Field(
        0.5, description="the longest that a connection to the auth-api may take to open"
    )
    auth_api_try_timeout: SecondsField = Field(
        2.0, description="the longest that one try of an exchange may take"
    )
    auth_api_timeout: SecondsField = Field(
        5.0, description="the longest that one exchange with the auth-api may take"
    )
    auth_api_tls_ca: PathField | None = Field(
        None, description="PEM file of who must have signed the certificate of the auth-api"
    )
    auth_api_tls_certificate: PathField | None = Field(
        None, description="PEM file of our certificate for the auth-api"
    )
    auth_api_tls_key: PathField | None = Field(None, description="PEM file of its private key")
    header_timeout: SecondsField = Field(
        5.0,
        description="the longest that the header of a REST request may take to come, "
        "and a gRPC connection to begin",
    )
    request_timeout: SecondsField = Field(
        10.0,
        description="the longest that a whole REST request may take to come, "
        "and the message of a gRPC call",
    )
    max_connections: CountField = Field(
        1024,
        description="the most connections at once, of each protocol, "
        "and gRPC calls whose message is to come",
    )
    max_in_flight: CountField = Field(
        32, description="the most calls at once, by both protocols together"
    )
    trusted_proxies: CountOrZeroField = Field(
        0, description="how many proxies before us add to X-Forwarded-For"
    )
    max_client_failures: CountField = Field(
        30, description="the most wrong secrets in a minute for one client from one address"
    )
    max_address_failures: CountField = Field(
        300, description="the most wrong secrets in a minute from one address"
    )
    max_client_calls: CountField = Field(
        3000,
        description="the most exchanges in a minute for one client from one address",
    )
    lame_duck: DelayField = Field(
        5.0, description="how long to go on accepting, though not ready, once told to stop"
    )
    drain_timeout: SecondsField = Field(
        20.0, description="the longest that calls in flight may take to end after that"
    )
    termination_grace: SecondsField = Field(
        30.0, description="after what time whoever stops the process kills it"
    )
    dev_auth_api_expose: bool = Field(
        default=False, description="whether the embedded auth-api may leave loopback"
    )
    dev_auth_api_listen: AddressField = Field(
        Address("127.0.0.1", 8081), description="where `dev` lets its embedded auth-api listen"
    )

    @field_validator("dev_auth_api_listen")
    @classmethod
    def _stay_on_loopback(cls, address: Address, info: ValidationInfo) -> Address:
        """Keep the demo clients, whose secrets everybody knows, from the network."""
        if not address.is_loopback and not info.data.get("dev_auth_api_expose"):
            raise ValueError(f"must be a loopback address unless {PREFIX}DEV_AUTH_API_EXPOSE is on")
        return address


def find_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the name and the fault of each setting that does not fit beside the others."""
    yield from _find_shared(settings)
    yield from _find_untimely(settings)
    yield from _find_incomplete_tls(settings)
    if settings.max_client_failures > settings.max_address_failures:
        # The address would always be refused before the client is.
        yield "max_client_failures", f"must not be more than {name_of('max_address_failures')}"


def _find_shared(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find listeners that would take each other's address."""
    seen: dict[Address, str] = {}
    for name in ("rest_listen", "grpc_listen", "admin_listen"):
        address = getattr(settings, name)
        if address in seen:
            yield name, f"must not be the address of {name_of(seen[address])}"
        if address.port:
            seen.setdefault(address, name)


# Each must be shorter than the next, or the next could never pass.
_SHORTER = (
    ("auth_api_connect_timeout", "auth_api_try_timeout"),
    ("auth_api_try_timeout", "auth_api_timeout"),
    ("auth_api_timeout", "drain_timeout"),
    ("header_timeout", "request_timeout"),
    ("request_timeout", "drain_timeout"),
)


def _find_untimely(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find times that cannot be kept because another one passes first."""
    for shorter, longer in _SHORTER:
        if getattr(settings, shorter) >= getattr(settings, longer):
            yield shorter, f"must be shorter than {name_of(longer)}"
    phases = f"{name_of('lame_duck')} and {name_of('drain_timeout')}"
    if settings.lame_duck + settings.drain_timeout + _LAST > settings.termination_grace:
        yield "termination_grace", f"must be {_LAST:g} s longer than {phases} together"


def _find_incomplete_tls(settings: Settings) -> Iterator[tuple[str, str]]:
    for side in ("rest", "grpc", "auth_api"):
        certificate, key = f"{side}_tls_certificate", f"{side}_tls_key"
        for one, other in ((certificate, key), (key, certificate)):
            if getattr(settings, one) and not getattr(settings, other):
                yield other, f"must be set beside {name_of(one)}"
    for side in ("rest", "grpc"):
        if getattr(settings, f"{side}_tls_client_ca") and not getattr(
            settings, f"{side}_tls_certificate"
        ):
            yield (
                f"{side}_tls_certificate",
                f"must be set beside {name_of(f'{side}_tls_client_ca')}",
            )
    if (settings.auth_api_token_url or "https:").startswith("https:"):
        return
    for name in ("auth_api_tls_ca", "auth_api_tls_certificate"):
        if getattr(settings, name):
            yield name, f"must not be set where {name_of('auth_api_token_url')} is no https:// URL"


def name_of(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return f"{PREFIX}{field.upper()}"
