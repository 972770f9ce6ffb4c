"""Private names of libraries that the sidecar replaces or calls, and the check that they exist.

A release of a library may rename them without notice. A method that replaces one of
them would then never be called, and what it refuses would pass. So the versions are
bounded in `pyproject.toml`, and the process does not start where a name is missing.
docs/architecture.md says what each is for. The list may only shrink.
"""

import pkgutil
from collections.abc import Iterator

_HTTP = "uvicorn.protocols.http.h11_impl:H11Protocol"
# As `pkgutil.resolve_name` takes them.
NAMES = (
    "h11._receivebuffer:ReceiveBuffer.maybe_extract_next_line",
    "h11._receivebuffer:ReceiveBuffer.maybe_extract_lines",
    "h11._receivebuffer:ReceiveBuffer.maybe_extract_at_most",
    f"{_HTTP}.send_400_response",
    f"{_HTTP}.on_response_complete",
    f"{_HTTP}._unset_keepalive_if_required",
)
# Attributes that the constructor of a class sets.
ATTRIBUTES = (("h11:Connection", "_receive_buffer"), (_HTTP, "conn"))


def find_missing() -> Iterator[str]:
    """Yield each name that the installed libraries do not have."""
    for name in NAMES:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            yield name
    for kind, attribute in ATTRIBUTES:
        try:
            is_there = attribute in pkgutil.resolve_name(kind).__init__.__code__.co_names
        except (ImportError, AttributeError):
            is_there = False
        if not is_there:
            yield f"{kind}.{attribute}"
