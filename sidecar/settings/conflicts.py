"""Rules between settings: pairs of values that contradict each other, or that work badly."""

from collections.abc import Iterator, Mapping
from itertools import product

from sidecar.settings.addresses import UnixAddress
from sidecar.settings.model import Settings, name_of
from sidecar.settings.shutdown_margin import SHUTDOWN_MARGIN
from sidecar.settings.types import Address, as_text, find_ip

_IPV4 = 4
# What a name stands for on every machine (RFC 6761 section 6.3).
_HOSTS: Mapping[str, tuple[str, ...]] = {"localhost": ("127.0.0.1", "::1")}


def find_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the name and the violation of each setting that contradicts another."""
    yield from _find_shared(settings)
    yield from _find_untimely(settings)
    yield from _find_incomplete_tls(settings)
    if isinstance(settings.rest_listen, UnixAddress) and not settings.public_url:
        yield "public_url", f"must be set where {name_of('rest_listen')} is a Unix socket"
    if settings.max_client_failures > settings.max_address_failures:
        # The address would always be refused before the client is.
        limit = f"{name_of('max_address_failures')}, which is {settings.max_address_failures}"
        yield "max_client_failures", f"must not be more than {limit}"
    if settings.shared_limits_url and not settings.log_client_key:
        # It hashes the names of the counts, which must be equal on all replicas.
        yield "log_client_key", f"must be set beside {name_of('shared_limits_url')}"


def find_warnings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting that an operator should look at, and the remedy."""
    if settings.rest_listen.is_wildcard and not settings.public_url:
        remedy = (
            "should be set to the URL that partners use: REST listens on all addresses, and the "
            f"type URLs of problems begin with {settings.public_url_at(settings.rest_listen)}, "
            "which opens on this machine only"
        )
        yield "public_url", remedy


def _find_shared(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find listeners whose addresses overlap."""
    seen: list[str] = []
    for name in ("rest_listen", "grpc_listen", "admin_listen"):
        address = getattr(settings, name)
        others = [other for other in seen if _overlap(address, getattr(settings, other))]
        if others:
            yield name, f"must not share an address with {name_of(others[0])}"
        seen.append(name)


def _overlap(one: Address, other: Address) -> bool:
    """Whether a listener on `one` takes an address of `other`, as far as no look-up is needed."""
    if isinstance(one, UnixAddress) or isinstance(other, UnixAddress):
        return one == other
    if one.port != other.port or not one.port:
        return False
    pairs = product(_HOSTS.get(one.host, (one.host,)), _HOSTS.get(other.host, (other.host,)))
    return any(a == b or _covers(a, b) or _covers(b, a) for a, b in pairs)


def _covers(wildcard: str, host: str) -> bool:
    ip = find_ip(host)
    is_ipv4 = ip is not None and ip.version == _IPV4
    return wildcard == "::" or (wildcard == "0.0.0.0" and is_ipv4)  # noqa: S104 it is only compared


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
