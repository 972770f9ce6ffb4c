"""The settings: one frozen, validated object."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sidecar.settings.addresses import AddressField, ListenField
from sidecar.settings.types import (
    Address,
    BaseUrlField,
    CountField,
    CountOrZeroField,
    DelayField,
    KeyField,
    PathField,
    SecondsField,
    StoreUrlField,
    UrlField,
)

PREFIX = "SIDECAR_"


class Settings(BaseModel):
    """All settings. The variable of a setting is `PREFIX` and the name of its field."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rest_listen: ListenField = Field(
        Address("127.0.0.1", 8080),
        description="Host and port of the REST listener, or `unix:` and the path of a Unix "
        "socket. `0.0.0.0` is all IPv4 addresses, `[::]` all IPv6 and IPv4 addresses, and a host "
        "name all of its IP addresses.",
    )
    rest_keep_alive: SecondsField = Field(
        75.0,
        description="Maximum idle time of a REST connection. Beyond it: the connection is closed.",
    )
    rest_tls_certificate: PathField | None = Field(
        None,
        description="PEM file with the certificate chain of the REST listener, which then speaks "
        "TLS only. Needs `SIDECAR_REST_TLS_KEY`.",
    )
    rest_tls_key: PathField | None = Field(
        None,
        description="PEM file with the private key of `SIDECAR_REST_TLS_CERTIFICATE`.",
    )
    rest_tls_client_ca: PathField | None = Field(
        None,
        description="PEM file with the CA certificates of REST clients, which then need a "
        "certificate (mutual TLS).",
    )
    grpc_listen: ListenField = Field(
        Address("127.0.0.1", 50051),
        description="Host and port of the gRPC listener, or `unix:` and the path of a Unix socket.",
    )
    grpc_reflection: bool = Field(
        default=True,
        description="Server reflection, which gives the schema to tools such as grpcurl.",
    )
    grpc_tls_certificate: PathField | None = Field(
        None,
        description="PEM file with the certificate chain of the gRPC listener, which then speaks "
        "TLS only. Needs `SIDECAR_GRPC_TLS_KEY`.",
    )
    grpc_tls_key: PathField | None = Field(
        None,
        description="PEM file with the private key of `SIDECAR_GRPC_TLS_CERTIFICATE`.",
    )
    grpc_tls_client_ca: PathField | None = Field(
        None,
        description="PEM file with the CA certificates of gRPC clients, which then need a "
        "certificate (mutual TLS).",
    )
    admin_listen: AddressField = Field(
        Address("127.0.0.1", 9090),
        description="Host and port of the admin listener: probes, state, metrics and drain.",
    )
    public_url: BaseUrlField | None = Field(
        None,
        description="Public URL of this API, from which the `type` URLs are made. Set it in "
        "production; a Unix socket for REST needs it. Without it: the URL of the REST listener, on "
        "loopback if it listens on all addresses.",
    )
    auth_api_token_url: UrlField | None = Field(
        None,
        description="URL of the token endpoint of the auth-api. It may have a query, which logs "
        "never show. `serve` and `check-config` need it. `dev` refuses it: it has its own "
        "auth-api.",
    )
    auth_api_connect_timeout: SecondsField = Field(
        0.5,
        description="Maximum time to open a connection to the auth-api.",
    )
    auth_api_try_timeout: SecondsField = Field(
        2.0,
        description="Maximum time of one try of an exchange.",
    )
    auth_api_timeout: SecondsField = Field(
        5.0,
        description="Maximum time of an exchange with all of its tries.",
    )
    auth_api_client_authentication: Literal["as-received", "basic", "post"] = Field(
        "as-received",
        description="How credentials are sent to the auth-api: `as-received`, or encoded anew as "
        "HTTP Basic (`basic`) or in the body (`post`).",
    )
    auth_api_keep_alive: DelayField = Field(
        4.0,
        description="Idle time after which a connection to the auth-api is closed. Keep it "
        "shorter than that of the auth-api. Each connection ends after a minute. 0s: a connection "
        "for each exchange.",
    )
    auth_api_dns_stale: DelayField = Field(
        300.0,
        description="Time for which the last known IP addresses of the auth-api are used while "
        "DNS fails, hangs or is slow.",
    )
    auth_api_tls_ca: PathField | None = Field(
        None,
        description="PEM file with the CA certificates that sign the certificate of the auth-api. "
        "Without it: the certificate store of the operating system.",
    )
    auth_api_tls_certificate: PathField | None = Field(
        None,
        description="PEM file with the client certificate that is sent to the auth-api. Needs "
        "`SIDECAR_AUTH_API_TLS_KEY`.",
    )
    auth_api_tls_key: PathField | None = Field(
        None,
        description="PEM file with the private key of `SIDECAR_AUTH_API_TLS_CERTIFICATE`.",
    )
    header_timeout: SecondsField = Field(
        5.0,
        description="Maximum time for the head of a REST request, for a TLS handshake, and for the "
        "start of a gRPC connection.",
    )
    request_timeout: SecondsField = Field(
        10.0,
        description="Maximum time for a whole REST request, and for the request message of a gRPC "
        "call. Beyond it: 408 or DEADLINE_EXCEEDED. Also the maximum time to read a response. "
        "Beyond it the connection is closed.",
    )
    max_connections: CountField = Field(
        1024,
        description="Maximum number of open connections per protocol. Beyond it the longest idle "
        "one is closed. The same number limits the gRPC calls whose request message has not "
        "arrived, and the gRPC responses that are not read.",
    )
    max_connections_per_address: CountOrZeroField = Field(
        0,
        description="Maximum number of open REST connections from one IP address (IPv6: one /64 "
        "network). Beyond it: its longest waiting connection is closed, or 503. If "
        "`SIDECAR_MAX_CONNECTIONS` is reached, the address with most waiting connections loses "
        "one. 0: no such limit. Without effect if `SIDECAR_TRUSTED_PROXIES` is not 0.",
    )
    max_in_flight: CountField = Field(
        32,
        description="Maximum number of calls in flight, of both protocols together. Beyond it: 503 "
        "or UNAVAILABLE.",
    )
    max_streams: CountField = Field(
        128,
        description="Maximum number of open streams of services, of both protocols together. They "
        "take no place of a call in flight. Beyond it: 503 or UNAVAILABLE.",
    )
    trusted_proxies: CountOrZeroField = Field(
        0,
        description="Number of proxies in front of the sidecar that append the IP address of their "
        "client to `X-Forwarded-For`. Never set it higher than their real number, or clients can "
        "forge their IP address.",
    )
    max_client_failures: CountField = Field(
        30,
        description="Maximum number of wrong secrets per minute for one client from one IP "
        "address. Beyond it: 429 or RESOURCE_EXHAUSTED.",
    )
    max_address_failures: CountField = Field(
        300,
        description="Maximum number of wrong secrets per minute from one IP address. Beyond it: "
        "429 or RESOURCE_EXHAUSTED.",
    )
    max_client_calls: CountField = Field(
        3000,
        description="Maximum number of exchanges per minute for one client from one IP address. "
        "Beyond it: 429 or RESOURCE_EXHAUSTED.",
    )
    shared_limits_url: StoreUrlField | None = Field(
        None,
        description="URL of the Redis or Valkey server that counts wrong secrets for all replicas: "
        "`redis://`, `valkey://`, or `rediss://` for TLS. If it has a password, put it into a file "
        "(`SIDECAR_SHARED_LIMITS_URL_FILE`). Needs `SIDECAR_LOG_CLIENT_KEY` and the extra "
        "`shared-limits`. Without it: each replica counts for itself.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="Lowest level of the lines in the log. `info` has the access lines. `debug` "
        "adds connections to the auth-api, look-ups and requests to the admin listener. With "
        "`warning` and `error` there are no access lines.",
    )
    log_client_key: KeyField | None = Field(
        None,
        description="Secret key of the hash that stands for a client in the log: 32 to 256 visible "
        "ASCII characters, the same for all replicas. Put it into a file "
        "(`SIDECAR_LOG_CLIENT_KEY_FILE`): other processes can see a flag. Without it: a random key "
        "for each process.",
    )
    lame_duck: DelayField = Field(
        5.0,
        description="Time after SIGTERM in which `/readyz` answers 503 and calls are still "
        "accepted.",
    )
    drain_timeout: SecondsField = Field(
        20.0,
        description="Maximum time for calls in flight to finish after the lame duck. Beyond it: "
        "503 or UNAVAILABLE.",
    )
    termination_grace: SecondsField = Field(
        30.0,
        description="Time between SIGTERM and SIGKILL on your platform (Kubernetes: "
        "`terminationGracePeriodSeconds`). The sidecar does not start if lame duck + drain timeout "
        "+ 4 s is longer.",
    )
    dev_auth_api_expose: bool = Field(
        default=False,
        description="Whether the embedded auth-api of `dev` may listen beyond loopback.",
    )
    dev_auth_api_listen: AddressField = Field(
        Address("127.0.0.1", 8081),
        description="Host and port of the embedded auth-api of `dev`.",
    )

    @property
    def max_failures(self) -> int:
        """Maximum number of wrong secrets per minute for one client from all IP addresses.

        A hundred IP addresses must work together to reach it. One address can cause at most
        twice its limit plus the calls in flight: two of its windows may overlap one of these.
        """
        return 100 * max(self.max_client_failures, self.max_in_flight)

    @property
    def shares_one_address(self) -> bool:
        """Whether all REST clients count as one: a proxy on this machine that is not trusted.

        Beyond loopback nobody can know from the settings whether a proxy is in front.
        """
        return self.rest_listen.is_loopback and not self.trusted_proxies

    @property
    def calls_https(self) -> bool:
        """Whether the URL of the auth-api has the scheme https (RFC 3986 section 3.1)."""
        return (self.auth_api_token_url or "").lower().startswith("https:")

    def public_url_at(self, address: Address) -> str:
        """Return the base URL of the API, which by default is that of the REST listener.

        `address` is that of the listener. A Unix socket has no URL, so it needs the setting.
        """
        scheme = "https" if self.rest_tls_certificate else "http"
        return self.public_url or f"{scheme}://{address.connectable}"

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
