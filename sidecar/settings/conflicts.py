"""Rules between settings: pairs of values that contradict each other."""

from collections.abc import Iterator

from sidecar.settings.model import Settings, name_of
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.settings.types import Address, as_text


def find_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the name and the violation of each setting that contradicts another."""
    yield from _find_shared(settings)
    yield from _find_untimely(settings)
    yield from _find_incomplete_tls(settings)
    if settings.max_client_failures > settings.max_address_failures:
        # The address would always be refused before the client is.
        limit = f"{name_of('max_address_failures')}, which is {settings.max_address_failures}"
        yield "max_client_failures", f"must not be more than {limit}"
    if settings.shared_limits_url and not settings.log_client_key:
        # It hashes the names of the counts, which must be equal on all replicas.
        yield "log_client_key", f"must be set beside {name_of('shared_limits_url')}"


def _find_shared(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find listeners with the same address."""
    seen: dict[Address, str] = {}
    for name in ("rest_listen", "grpc_listen", "admin_listen"):
        address = getattr(settings, name)
        if address in seen:
            yield name, f"must not be the address of {name_of(seen[address])}"
        if address.port:
            seen.setdefault(address, name)


# The first time must be shorter than the second, or the second could never expire.
_SHORTER = (
    ("auth_api_connect_timeout", "auth_api_try_timeout"),
    ("auth_api_try_timeout", "auth_api_timeout"),
    ("auth_api_timeout", "drain_timeout"),
    ("header_timeout", "request_timeout"),
    ("request_timeout", "drain_timeout"),
)


def _find_untimely(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find times that never expire because a longer one expires first, and phases too long."""
    for shorter, longer in _SHORTER:
        if getattr(settings, shorter) >= getattr(settings, longer):
            limit = as_text(getattr(settings, longer))
            yield shorter, f"must be shorter than {name_of(longer)}, which is {limit}"
    margin = SHUTDOWN_MARGIN.total
    least = settings.lame_duck + settings.drain_timeout + margin
    if least > settings.termination_grace:
        parts = (name_of("lame_duck"), name_of("drain_timeout"), as_text(margin))
        yield "termination_grace", f"must be at least {as_text(least)}: {' + '.join(parts)}"


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
    if settings.calls_https or not settings.auth_api_token_url:
        return
    for name in ("auth_api_tls_ca", "auth_api_tls_certificate"):
        if getattr(settings, name):
            yield name, f"must not be set where {name_of('auth_api_token_url')} is no https:// URL"
