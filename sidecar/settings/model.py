"""The settings: one frozen, validated object."""

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


class Settings(BaseModel):
    """All settings. The variable of a setting is `PREFIX` and the name of its field."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rest_listen: AddressField = Field(
        Address("127.0.0.1", 8080),
        description="IP address and port of the REST listener.",
    )
    rest_keep_alive: SecondsField = Field(
        75.0,
        description="Idle time after which a REST connection is closed.",
    )
    rest_tls_certificate: PathField | None = Field(
        None,
        description="PEM file with the certificate chain of the REST listener, which then "
        "speaks TLS only.",
    )
    rest_tls_key: PathField | None = Field(
        None,
        description="PEM file with the private key of that certificate.",
    )
    rest_tls_client_ca: PathField | None = Field(
        None,
        description="PEM file with the CA certificates of REST clients, which then need a "
        "certificate (mutual TLS).",
    )
    grpc_listen: AddressField = Field(
        Address("127.0.0.1", 50051),
        description="IP address and port of the gRPC listener.",
    )
    grpc_reflection: bool = Field(
        default=True,
        description="Server reflection, which gives the schema to tools such as grpcurl.",
    )
    grpc_tls_certificate: PathField | None = Field(
        None,
        description="PEM file with the certificate chain of the gRPC listener, which then "
        "speaks TLS only.",
    )
    grpc_tls_key: PathField | None = Field(
        None,
        description="PEM file with the private key of that certificate.",
    )
    grpc_tls_client_ca: PathField | None = Field(
        None,
        description="PEM file with the CA certificates of gRPC clients, which then need a "
        "certificate (mutual TLS).",
    )
    admin_listen: AddressField = Field(
        Address("127.0.0.1", 9090),
        description="IP address and port of the admin listener, for probes and drain.",
    )
    public_url: BaseUrlField | None = Field(
        None,
        description="Base URL of the problem types. Without it: the URL of the REST listener.",
    )
    auth_api_token_url: UrlField | None = Field(
        None,
        description="URL of the token endpoint of the auth-api. `serve` needs it; `dev` has its "
        "own.",
    )
    auth_api_connect_timeout: SecondsField = Field(
        0.5,
        description="Time to open a connection to the auth-api, at most.",
    )
    auth_api_try_timeout: SecondsField = Field(
        2.0,
        description="Time of one try of an exchange, at most.",
    )
    auth_api_timeout: SecondsField = Field(
        5.0,
        description="Time of an exchange with all of its tries, at most.",
    )
    auth_api_tls_ca: PathField | None = Field(
        None,
        description="PEM file with the CA certificates of the auth-api. Without it: the store "
        "of the system.",
    )
    auth_api_tls_certificate: PathField | None = Field(
        None,
        description="PEM file with the client certificate that is sent to the auth-api.",
    )
    auth_api_tls_key: PathField | None = Field(
        None,
        description="PEM file with the private key of that certificate.",
    )
    header_timeout: SecondsField = Field(
        5.0,
        description="Time for the head of a REST request, and for the start of a gRPC "
        "connection, at most.",
    )
    request_timeout: SecondsField = Field(
        10.0,
        description="Time for a whole REST request, and for the request message of a gRPC call, "
        "at most.",
    )
    max_connections: CountField = Field(
        1024,
        description="Open connections per protocol, at most. Also the gRPC calls whose request "
        "message has not arrived, at most.",
    )
    max_in_flight: CountField = Field(
        32,
        description="Calls in flight, at most, of both protocols together. Beyond it: 503 or "
        "UNAVAILABLE.",
    )
    trusted_proxies: CountOrZeroField = Field(
        0,
        description="Number of proxies before the sidecar that add to `X-Forwarded-For`. Never "
        "set it higher than their real number, or clients can forge their IP "
        "address.",
    )
    max_client_failures: CountField = Field(
        30,
        description="Wrong secrets in a minute for one client from one IP address, at most. "
        "Beyond it: 429.",
    )
    max_address_failures: CountField = Field(
        300,
        description="Wrong secrets in a minute from one IP address, at most. Beyond it: 429.",
    )
    max_client_calls: CountField = Field(
        3000,
        description="Exchanges in a minute for one client from one IP address, at most. Beyond "
        "it: 429.",
    )
    lame_duck: DelayField = Field(
        5.0,
        description="Time after SIGTERM in which `/readyz` answers 503 and calls are still "
        "accepted.",
    )
    drain_timeout: SecondsField = Field(
        20.0,
        description="Time for calls in flight to finish after that, at most.",
    )
    termination_grace: SecondsField = Field(
        30.0,
        description="Time between SIGTERM and SIGKILL on your platform (Kubernetes: "
        "`terminationGracePeriodSeconds`). Used only to refuse shutdown phases that "
        "do not fit.",
    )
    dev_auth_api_expose: bool = Field(
        default=False,
        description="Whether the embedded auth-api of `dev` may listen beyond loopback.",
    )
    dev_auth_api_listen: AddressField = Field(
        Address("127.0.0.1", 8081),
        description="IP address and port of the embedded auth-api of `dev`.",
    )

    @field_validator("dev_auth_api_listen")
    @classmethod
    def _stay_on_loopback(cls, address: Address, info: ValidationInfo) -> Address:
        """Keep the demo clients off the network: their secrets are public."""
        if not address.is_loopback and not info.data.get("dev_auth_api_expose"):
            raise ValueError(f"must be a loopback address unless {PREFIX}DEV_AUTH_API_EXPOSE is on")
        return address


def name_of(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return f"{PREFIX}{field.upper()}"
