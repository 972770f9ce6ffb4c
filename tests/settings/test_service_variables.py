"""Tests of the variables that Kubernetes sets for Services whose names begin as settings do."""

from collections.abc import Mapping

import pytest

from sidecar.settings.model import Settings, name_of
from sidecar.settings.service_variables import has_name, is_injected
from sidecar.settings.sources import SettingsError, load

# What a Pod has for a Service that serves ports 8080 (named http-public) and 53 of UDP.
FORMS: Mapping[str, str] = {
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "8080",
    "SERVICE_PORT_HTTP_PUBLIC": "8080",
    "PORT": "tcp://10.0.0.1:8080",
    "PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "PORT_8080_TCP_PROTO": "tcp",
    "PORT_8080_TCP_PORT": "8080",
    "PORT_8080_TCP_ADDR": "10.0.0.1",
    "PORT_53_UDP": "udp://10.0.0.1:53",
    "PORT_53_UDP_PROTO": "udp",
}
SIX: Mapping[str, str] = {
    "SERVICE_HOST": "fd00::1",
    "PORT": "tcp://[fd00::1]:8080",
    "PORT_8080_SCTP": "sctp://[fd00::1]:8080",
    "PORT_8080_SCTP_ADDR": "fd00::1",
}
SERVICES = (
    "SIDECAR",
    "SIDECAR_REST",
    "SIDECAR_GRPC_LISTEN",
    "SIDECAR_SERVICE",
    "SIDECAR_SERVICE_PORT",
)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("forms", [FORMS, SIX], ids=["IPv4", "IPv6"])
def test_variables_of_a_service_are_no_settings(service: str, forms: Mapping[str, str]) -> None:
    """Everything that Kubernetes sets for a Service is passed over, whatever follows our prefix."""
    environ = {f"{service}_{name}": value for name, value in forms.items()}
    assert load(environ, {}) == load({}, {})


# Each form of a name with the kinds of value that Kubernetes gives it. SERVICE_PORT is a number for
# the Service `sidecar-rest`, and a URL for `sidecar-rest-service`.
KINDS: Mapping[str, tuple[str, ...]] = {
    "PORT": ("url",),
    "PORT_8080_TCP": ("url",),
    "PORT_53_UDP": ("url",),
    "PORT_9_SCTP": ("url",),
    "SERVICE_PORT": ("number", "url"),
    "SERVICE_PORT_HTTP": ("number",),
    "PORT_8080_TCP_PORT": ("number", "url"),
    "PORT_8080_TCP_PROTO": ("protocol",),
    "SERVICE_HOST": ("address",),
    "PORT_8080_TCP_ADDR": ("address",),
}
VALUES: Mapping[str, tuple[str, str]] = {
    "a URL of tcp": ("url", "tcp://10.0.0.1:8080"),
    "a URL of udp": ("url", "udp://10.0.0.1:53"),
    "a URL of sctp": ("url", "sctp://[fd00::1]:9"),
    "a number": ("number", "8080"),
    "tcp": ("protocol", "tcp"),
    "udp": ("protocol", "udp"),
    "sctp": ("protocol", "sctp"),
    "IPv4": ("address", "10.0.0.1"),
    "IPv6": ("address", "fd00::1"),
    "nothing": ("", ""),
    "a URL of http": ("", "http://10.0.0.1:8080"),
    "an address with a port": ("", "10.0.0.1:8080"),
    "a host name": ("", "rest.default.svc"),
    "a negative number": ("", "-1"),
    "a duration": ("", "5s"),
    "a protocol in capitals": ("", "TCP"),
    "a URL and a line end": ("", "tcp://10.0.0.1:8080\n"),
}


@pytest.mark.parametrize(("kind", "value"), VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("form", KINDS)
def test_name_and_value_must_fit(form: str, kind: str, value: str) -> None:
    """A variable is passed over exactly if its value is what Kubernetes gives to its name."""
    assert is_injected(f"SIDECAR_REST_{form}", value) is (kind in KINDS[form])


def test_no_setting_is_taken_for_a_port() -> None:
    """A name of a setting is not passed over, even with a value of Kubernetes."""
    for field in Settings.model_fields:
        for _, value in VALUES.values():
            assert not is_injected(name_of(field), value)


REFUSED: Mapping[str, str] = {
    "SIDECAR_REST_PORT": "8080",
    "SIDECAR_GRPC_PORT": "127.0.0.1:50051",
    "SIDECAR_ADMIN_PORT": "http://10.0.0.1:9090",
    "SIDECAR_PORT": "tcp://canary:8080",
    "SIDECAR_PORT_8080_TCP": "tcp://10.0.0.1",
    "SIDECAR_REST_SERVICE_HOST": "canary.example.test",
    "SIDECAR_REST_SERVICE_PORT": "8080/tcp",
    "SIDECAR_REST_PORT_8080_TCP_PROTO": "quic",
    "SIDECAR_REST_PORT_8080_TCP_ADDR": "",
    "SIDECAR_REST_PORT_8080_TCP_NAME": "10.0.0.1",
    "SIDECAR_REST_LISTEN_HOST": "10.0.0.1",
    "SIDECAR_PORT_8080_TCP_PORT": "8080\n",
}


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_a_mistyped_setting_is_refused(name: str, value: str) -> None:
    """A variable with another name or another form of its value is still a fault."""
    with pytest.raises(SettingsError) as raised:
        load({name: value}, {})
    (violation,) = raised.value.violations
    assert violation.startswith(f"{name}: is not a setting; ")


@pytest.mark.parametrize("field", Settings.model_fields)
def test_no_setting_has_such_a_name(field: str) -> None:
    """Kubernetes can set no variable that is one of our settings, or names the file of one."""
    assert not has_name(name_of(field))
    assert not has_name(f"{name_of(field)}_FILE")


def test_the_prefix_is_needed() -> None:
    """Variables of other Services are not looked at."""
    assert not is_injected("KARMO_SIDECAR_PORT", "tcp://10.0.0.1:8080")
    assert is_injected("SIDECAR_PORT", "tcp://10.0.0.1:8080")
