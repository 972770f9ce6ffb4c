"""Environment variables that Kubernetes sets in a container for each Service of its namespace.

For a Service named `sidecar-rest` they begin with `SIDECAR_REST_`, as settings do. A name alone
does not tell them from a mistyped setting, so the value must have the form that Kubernetes gives
it. https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

import ipaddress
import re
from collections.abc import Callable

from sidecar.settings.model import PREFIX

_PROTOCOL = "tcp|udp|sctp"
_URL = re.compile(rf"(?:{_PROTOCOL})://(?:\[([0-9a-f:.]+)\]|([0-9.]+)):[0-9]{{1,5}}")


def has_name(name: str) -> bool:
    """Whether Kubernetes can set a variable of this name for a Service."""
    return any(pattern.fullmatch(name) for pattern, _ in _VARIABLES)


def is_injected(name: str, value: str) -> bool:
    """Whether Kubernetes sets this variable for a Service, by its name and its value."""
    return any(pattern.fullmatch(name) and fits(value) for pattern, fits in _VARIABLES)


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_url(value: str) -> bool:
    match = _URL.fullmatch(value)
    return match is not None and _is_ip(match[1] or match[2])


def _is_number(value: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", value) is not None


def _is_protocol(value: str) -> bool:
    return re.fullmatch(_PROTOCOL, value) is not None


_PORT = rf"PORT_[0-9]{{1,5}}_(?:{_PROTOCOL.upper()})"
# The end of the name, and the form of the value. A name can fit two rows: SIDECAR_SERVICE_PORT
# is a number for the Service `sidecar`, and a URL for the Service `sidecar-service`.
_VARIABLES: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (re.compile(f"{PREFIX}(?:[A-Z0-9_]+_)?(?:{end})"), fits)
    for end, fits in (
        (f"PORT|{_PORT}", _is_url),
        (f"SERVICE_PORT(?:_[A-Z0-9_]+)?|{_PORT}_PORT", _is_number),
        (f"{_PORT}_PROTO", _is_protocol),
        (f"SERVICE_HOST|{_PORT}_ADDR", _is_ip),
    )
)
