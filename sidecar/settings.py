"""Settings: one frozen, validated object, read once from the environment and the flags."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

PREFIX = "SIDECAR_"
# Kubernetes puts these into every container beside a Service that is named `sidecar`.
_NOT_A_SETTING = re.compile(f"{PREFIX}(SERVICE_|PORT)")
# It stands in the status of every failed call, which must stay small.
_LONGEST_BASE = 120
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_UNITS = {"ms": 0.001, "s": 1.0}
# Less than what calls in flight have to end in when the process is told to stop.
_LONGEST_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens: a host and a port, of which 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback


def _parse_address(value: str | Address) -> Address:
    if isinstance(value, Address):
        return value
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", value)
    if found is None or int(found[3]) > 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    host = found[1] or found[2]
    if host != "localhost":
        _check_ip(host)
    return Address(host, int(found[3]))


def _check_ip(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("must name the host as an IP address or localhost") from None


def _parse_seconds(value: Any) -> Any:
    if isinstance(value, float):
        return value
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s)", value)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.0 < seconds <= _LONGEST_SECONDS:
        raise ValueError("must be a time such as 5s or 500ms, above 0 and at most 15s")
    return seconds


def _check_http_url(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise ValueError("must hold visible ASCII characters only")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and parts.port != 0
        usable = usable and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:  # its text would quote the value
        usable = False
    if not usable:
        raise ValueError("must be an absolute http:// or https:// URL")
    if set("@?#") & set(value):
        raise ValueError("must hold no user, password, query or fragment")
    return value


def _check_base_url(value: str) -> str:
    base = _check_http_url(value).rstrip("/")
    if len(base) > _LONGEST_BASE:
        raise ValueError(f"must not be longer than {_LONGEST_BASE} characters")
    return base


AddressField = Annotated[Address, BeforeValidator(_parse_address)]
SecondsField = Annotated[float, BeforeValidator(_parse_seconds)]
UrlField = Annotated[str, BeforeValidator(_check_http_url)]
BaseUrlField = Annotated[str, BeforeValidator(_check_base_url)]


class Settings(BaseModel):
    """Everything that can be set. The name of each setting is `PREFIX` and its field's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rest_listen: AddressField = Field(
        Address("127.0.0.1", 8080), description="where the REST API listens"
    )
    grpc_listen: AddressField = Field(
        Address("127.0.0.1", 50051), description="where the gRPC API listens"
    )
    grpc_reflection: bool = Field(
        default=True, description="whether gRPC tools may ask for the schema"
    )
    admin_listen: AddressField = Field(
        Address("127.0.0.1", 9090), description="where the probes listen"
    )
    public_url: BaseUrlField | None = Field(
        None, description="base of the problem types; http:// and the REST address by default"
    )
    auth_api_token_url: UrlField | None = Field(
        None, description="token endpoint of the auth-api; `serve` needs it"
    )
    auth_api_timeout: SecondsField = Field(
        5.0, description="the longest that one exchange with the auth-api may take"
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


class SettingsError(Exception):
    """The settings are wrong. `faults` has one line for each, none of which shows a value."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def load(
    environ: Mapping[str, str], flags: Mapping[str, str], *, needs_upstream: bool = False
) -> Settings:
    """Return the settings that `environ` and, before it, `flags` (by field name) give.

    `needs_upstream` says that the token endpoint must be among them. Raises
    SettingsError with every fault.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not _NOT_A_SETTING.match(name)
    } | dict(flags)
    faults: tuple[str, ...] = ()
    settings = Settings()
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        faults = tuple(_explain(fault) for fault in error.errors(include_input=False))
    if needs_upstream and "auth_api_token_url" not in given:
        faults += (f"{PREFIX}AUTH_API_TOKEN_URL: must be set to the auth-api's token endpoint",)
    faults += tuple(_find_shared(settings))
    if faults:
        raise SettingsError(faults)
    return settings


def _find_shared(settings: Settings) -> Iterator[str]:
    """Find listeners that would take each other's address."""
    seen: set[Address] = set()
    for name in ("rest_listen", "grpc_listen", "admin_listen"):
        address = getattr(settings, name)
        if address in seen:
            yield f"{PREFIX}{name.upper()}: must not be the address of another listener"
        if address.port:
            seen.add(address)


def _explain(fault: ErrorDetails) -> str:
    name = f"{PREFIX}{fault['loc'][0]}".upper()
    return f"{name}: {_MESSAGES.get(fault['type'], fault['msg'].removeprefix('Value error, '))}"


_MESSAGES = {
    "extra_forbidden": "is not a setting; see the table in README.md",
    "bool_parsing": "must be on or off",
}
