"""Settings with timeouts that do not expire even on a busy machine."""

from collections.abc import Mapping
from types import MappingProxyType

# Each is far longer than a step takes while every core is busy. `sidecar.settings` demands
# their order. There is no lame duck, because no load balancer is involved.
PATIENT: Mapping[str, str] = MappingProxyType(
    {
        "auth_api_connect_timeout": "20s",
        "auth_api_try_timeout": "25s",
        "auth_api_timeout": "26s",
        "header_timeout": "20s",
        "request_timeout": "25s",
        "lame_duck": "0s",
        "drain_timeout": "40s",
        "termination_grace": "60s",
    }
)
# Time limit of a call in a test, in seconds: longer than the limits of the sidecar.
HANG = 60.0
