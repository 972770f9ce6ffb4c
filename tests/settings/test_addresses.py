"""Addresses of listeners: Unix sockets, overlaps, and those without a public URL."""

from collections.abc import Mapping

import pytest

from sidecar.settings.addresses import UnixAddress
from sidecar.settings.conflicts import find_warnings
from sidecar.settings.sources import SettingsError, load
from sidecar.settings.types import Address

PUBLIC_URL = {"public_url": "https://api.example.test"}
FOLDER = f"/{'f' * 96}"  # as long as one can be


def violations_of(**flags: str) -> tuple[str, ...]:
    """Return every violation of these settings."""
    try:
        load({}, flags)
    except SettingsError as error:
        return error.violations
    return ()


@pytest.mark.parametrize("path", ["/r", "/run/k/a.b_c@d+e=f-1.sock", f"{FOLDER}/123456789"])
def test_a_unix_socket(path: str) -> None:
    """A Unix socket is written as it is read, and only this machine can reach it."""
    settings = load({}, PUBLIC_URL | {"rest_listen": f"unix:{path}"})
    address = settings.rest_listen
    assert (address, str(address), address.host) == (UnixAddress(path), f"unix:{path}", path)
    assert address.is_loopback
    assert not address.is_wildcard
    assert address.connectable is address


PATH = (
    "must have an absolute path of letters, digits and ._@+=- behind unix:, such as "
    "unix:/run/karmo-sidecar/rest.sock"
)
LONG = "must have a path of at most 107 bytes, in a folder of at most 97 bytes"
BAD_SOCKETS: Mapping[str, str] = {
    "unix:": PATH,
    "unix:/": PATH,
    "unix:8080": PATH,
    "unix:r.sock": PATH,
    "unix:///run/r.sock": PATH,
    "unix://run/r.sock": PATH,
    "unix:/run/r.sock/": PATH,
    "unix:/run/r sock": PATH,
    "unix:/run/r%20.sock": PATH,
    "unix:/run/r.sock?": PATH,
    "unix:/run/r.sock\n": f"{PATH}; the value ends with a line end",
    "unix:/run/\xfc.sock": PATH,
    "unix:@abstract": PATH,
    f"unix:{FOLDER}/1234567890": LONG,
    f"unix:{FOLDER}f/1": LONG,
}


@pytest.mark.parametrize(("value", "message"), BAD_SOCKETS.items(), ids=repr)
def test_a_bad_unix_socket(value: str, message: str) -> None:
    """A path of 108 bytes, or one that other programs could read differently, is refused."""
    assert violations_of(grpc_listen=value) == (f"SIDECAR_GRPC_LISTEN: {message}",)


@pytest.mark.parametrize("name", ["admin_listen", "dev_auth_api_listen"])
def test_probes_stay_on_tcp(name: str) -> None:
    """The listeners that are asked by kubelet and by the sidecar itself are no Unix sockets."""
    (violation,) = violations_of(**{name: "unix:/run/a.sock"})
    assert violation.endswith(" or [::1]:8080, with a port up to 65535")


def test_a_unix_socket_has_no_url() -> None:
    """REST on a Unix socket needs a public URL, because nothing else can begin the type URLs."""
    message = "SIDECAR_PUBLIC_URL: must be set where SIDECAR_REST_LISTEN is a Unix socket"
    assert violations_of(rest_listen="unix:/run/r.sock") == (message,)
    assert violations_of(grpc_listen="unix:/run/g.sock") == ()


# The addresses of REST and of gRPC, and whether one port cannot be for both.
PAIRS: Mapping[tuple[str, str], bool] = {
    ("127.0.0.1:1", "127.0.0.1:1"): True,
    ("127.0.0.1:1", "127.0.0.1:2"): False,
    ("127.0.0.1:1", "127.0.0.2:1"): False,
    ("127.0.0.1:1", "[::1]:1"): False,
    ("127.0.0.1:0", "127.0.0.1:0"): False,
    ("0.0.0.0:1", "127.0.0.1:1"): True,
    ("127.0.0.1:1", "0.0.0.0:1"): True,
    ("0.0.0.0:1", "[::1]:1"): False,
    ("0.0.0.0:1", "localhost:1"): True,
    ("0.0.0.0:1", "[::]:1"): True,
    ("[::]:1", "127.0.0.1:1"): True,
    ("[::1]:1", "[::]:1"): True,
    ("[::]:1", "a.test:1"): True,
    ("a.test:1", "a.test:1"): True,
    ("a.test:1", "127.0.0.1:1"): False,
    ("localhost:1", "[::1]:1"): True,
    ("localhost:1", "127.0.0.1:1"): True,
    ("localhost:1", "127.0.0.1:2"): False,
    ("unix:/a", "unix:/a"): True,
    ("unix:/a", "unix:/b"): False,
    ("unix:/a", "127.0.0.1:1"): False,
    ("[::]:1", "unix:/a"): False,
}


@pytest.mark.parametrize(("pair", "overlap"), PAIRS.items(), ids=str)
def test_listeners_must_not_overlap(pair: tuple[str, str], overlap: bool) -> None:
    """Two listeners of which one would take an address of the other are a fault."""
    rest, grpc = pair
    violations = violations_of(rest_listen=rest, grpc_listen=grpc, **PUBLIC_URL)
    message = "SIDECAR_GRPC_LISTEN: must not share an address with SIDECAR_REST_LISTEN"
    assert violations == (message,) * overlap


def test_an_overlap_is_reported_once() -> None:
    """A listener that overlaps two others has one line."""
    listeners = ("rest_listen", "grpc_listen", "admin_listen")
    violations = violations_of(**dict.fromkeys(listeners, "127.0.0.1:1"))
    assert [line.partition(":")[0] for line in violations] == [
        "SIDECAR_GRPC_LISTEN",
        "SIDECAR_ADMIN_LISTEN",
    ]


BASES: Mapping[str, str] = {
    "0.0.0.0:80": "http://127.0.0.1:80",
    "[::]:80": "http://127.0.0.1:80",
    "[::1]:80": "http://[::1]:80",
    "192.0.2.1:80": "http://192.0.2.1:80",
    "localhost:80": "http://localhost:80",
    "sidecar.internal:80": "http://sidecar.internal:80",
}


@pytest.mark.parametrize(("listen", "base"), BASES.items())
def test_the_base_of_types_can_be_opened(listen: str, base: str) -> None:
    """Without a public URL the types begin with a URL that opens, at least on this machine."""
    settings = load({}, {"rest_listen": listen})
    assert settings.public_url_at(settings.rest_listen) == base


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80"])
def test_all_addresses_without_a_public_url(listen: str) -> None:
    """REST on all addresses without a public URL is a warning that says what to set."""
    ((name, remedy),) = find_warnings(load({}, {"rest_listen": listen}))
    assert name == "public_url"
    assert remedy.startswith("should be set to the URL that partners use: ")
    assert "begin with http://127.0.0.1:80," in remedy
    assert not list(find_warnings(load({}, PUBLIC_URL | {"rest_listen": listen})))


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "localhost:80", "192.0.2.1:80", "a.test:80"])
def test_one_address_without_a_public_url(listen: str) -> None:
    """Where REST has an address of its own, the types can be opened, and there is no warning."""
    flags = {"rest_listen": listen, "grpc_listen": "0.0.0.0:1", "admin_listen": "[::]:2"}
    assert not list(find_warnings(load({}, flags)))


def test_addresses_are_values() -> None:
    """A Unix socket is not equal to a host of the same text."""
    assert UnixAddress("/a") == UnixAddress("/a")
    assert UnixAddress("/a") != Address("/a", 0)
