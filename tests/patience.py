"""Settings of a sidecar for which no timeout passes on a busy machine."""

from collections.abc import Mapping
from types import MappingProxyType

# Each is far above what a step takes while every core is busy. Their order is that which
# `sidecar.settings` demands. The lame duck is left out, for nobody routes calls to a test.
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
# How long a call may take before the test fails, in seconds: longer than the sidecar lets it.
HANG = 60.0
