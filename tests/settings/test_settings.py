"""Settings: their defaults, their forms, where they come from, and every fault at once."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from sidecar.secret import Secret
from sidecar.settings.model import Settings
from sidecar.settings.sources import SettingsError, load
from sidecar.settings.types import Address, as_text

CANARY = "canary"
TOKEN_URL = "https://auth.example.test/oauth/token"

ADDRESS = "must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, with a port up to 65535"
OR_SOCKET = ", or a Unix socket, such as unix:/run/karmo-sidecar/rest.sock"
HOST = (
    "must name the host as an IP address or a host name; 0.0.0.0 means all IPv4 addresses, [::] "
    "all addresses"
)
UNITS = "must be a number with the unit ms, s, m or h, such as 500ms, 5s or 2m"
SECONDS = f"{UNITS}, above 0 and at most 1h"
DELAY = f"{UNITS}, not below 0 and at most 1h"
COUNT = "must be a whole number from 1 to 1000000"
COUNT_OR_ZERO = "must be a whole number from 0 to 1000000"
FILE = "must be the path of a file"
URL = "must begin with http:// or https://"
URL_HOST = "must have a host, and a port from 1 to 65535 if any"
KEY_FORM = "must be 32 to 256 visible ASCII characters, such as the output of openssl rand -hex 32"
PARTS = "must hold no user, password or fragment"
ASCII = "must hold visible ASCII characters only"
SWITCH = "must be on or off"
UNKNOWN = "is not a setting; see karmo-sidecar serve --help"
LOOPBACK = "must be a loopback address unless SIDECAR_DEV_AUTH_API_EXPOSE is on"


def by_environment(name: str, value: str) -> Settings:
    """Return the settings with one environment variable, named without its prefix."""
    return load({f"SIDECAR_{name}": value}, {})


def faults_of(environ: Mapping[str, str], **flags: str) -> tuple[str, ...]:
    """Return every fault of these settings."""
    with pytest.raises(SettingsError) as raised:
        load(environ, flags)
    assert str(raised.value) == "; ".join(raised.value.violations)
    return raised.value.violations


def fault_of(name: str, value: str) -> str:
    """Return the only fault of one environment variable, without its name.

    What is stray around the value is left out: tests/settings/test_wrong_settings.py has that.
    """
    (violation,) = faults_of({f"SIDECAR_{name}": value})
    told, _, message = violation.partition(": ")
    assert told == f"SIDECAR_{name}"
    return message.partition("; the value ")[0]


# Defaults and sources


def test_defaults() -> None:
    """Where nothing is set, everything is as the documentation has it."""
    assert load({}, {}).model_dump() == {
        "rest_listen": {"host": "127.0.0.1", "port": 8080},
        "rest_keep_alive": 75.0,
        "rest_tls_certificate": None,
        "rest_tls_key": None,
        "rest_tls_client_ca": None,
        "grpc_listen": {"host": "127.0.0.1", "port": 50051},
        "grpc_reflection": True,
        "grpc_tls_certificate": None,
        "grpc_tls_key": None,
        "grpc_tls_client_ca": None,
        "admin_listen": {"host": "127.0.0.1", "port": 9090},
        "public_url": None,
        "auth_api_token_url": None,
        "auth_api_connect_timeout": 0.5,
        "auth_api_try_timeout": 2.0,
        "auth_api_timeout": 5.0,
        "auth_api_client_authentication": "as-received",
        "auth_api_keep_alive": 4.0,
        "auth_api_dns_stale": 300.0,
        "auth_api_tls_ca": None,
        "auth_api_tls_certificate": None,
        "auth_api_tls_key": None,
        "header_timeout": 5.0,
        "request_timeout": 10.0,
        "max_connections": 1024,
        "max_connections_per_address": 0,
        "max_in_flight": 32,
        "max_streams": 128,
        "trusted_proxies": 0,
        "max_client_failures": 30,
        "max_address_failures": 300,
        "max_client_calls": 3000,
        "shared_limits_url": None,
        "log_level": "info",
        "log_client_key": None,
        "lame_duck": 5.0,
        "drain_timeout": 20.0,
        "termination_grace": 30.0,
        "dev_auth_api_expose": False,
        "dev_auth_api_listen": {"host": "127.0.0.1", "port": 8081},
    }


KEY = "0123456789abcdefghijklmnopqrstuv"
STORE = "rediss://some:p%40ss@redis.example.test:6380/1"
TLS_FILES = (
    *(f"{side}_tls_{file}" for side in ("rest", "grpc") for file in ("certificate", "key")),
    *(f"{side}_tls_client_ca" for side in ("rest", "grpc")),
    *(f"auth_api_tls_{file}" for file in ("certificate", "key", "ca")),
)
# What must be there as well, or the setting by itself is a fault.
BESIDE: Mapping[str, str] = {name: "/other.pem" for name in TLS_FILES if name != "auth_api_tls_ca"}
SET: Mapping[str, tuple[str, Any]] = {
    "rest_listen": ("192.0.2.1:80", Address("192.0.2.1", 80)),
    "grpc_listen": ("[::]:1", Address("::", 1)),
    "grpc_reflection": ("off", False),
    "admin_listen": ("localhost:0", Address("localhost", 0)),
    "public_url": ("https://api.example.test/base/", "https://api.example.test/base"),
    "auth_api_token_url": (TOKEN_URL, TOKEN_URL),
    "auth_api_connect_timeout": ("1ms", 0.001),
    "auth_api_try_timeout": ("4.5s", 4.5),
    "auth_api_timeout": ("2500ms", 2.5),
    "auth_api_client_authentication": ("post", "post"),
    "auth_api_keep_alive": ("0s", 0.0),
    "auth_api_dns_stale": ("60s", 60.0),
    "rest_keep_alive": ("1s", 1.0),
    "header_timeout": ("1s", 1.0),
    "request_timeout": ("6s", 6.0),
    "max_connections": ("1", 1),
    "max_connections_per_address": ("20", 20),
    "max_in_flight": ("1000000", 1_000_000),
    "max_streams": ("8", 8),
    "trusted_proxies": ("2", 2),
    "max_client_failures": ("1", 1),
    "max_address_failures": ("0100", 100),
    "max_client_calls": ("2", 2),
    "shared_limits_url": (STORE, STORE),
    "log_level": ("error", "error"),
    "log_client_key": (KEY, KEY),
    "lame_duck": ("0s", 0.0),
    "drain_timeout": ("11s", 11.0),
    "termination_grace": ("3600s", 3600.0),
    **{name: ("/file.pem", Path("/file.pem")) for name in TLS_FILES},
    "dev_auth_api_expose": ("on", True),
    "dev_auth_api_listen": ("127.0.0.2:1", Address("127.0.0.2", 1)),
}


def plain(value: object) -> object:
    """Return the value of a setting, and what is in it if it is a secret."""
    return value.reveal() if isinstance(value, Secret) else value


def test_every_setting_is_in_the_table() -> None:
    """No setting goes untested here."""
    assert set(SET) == set(Settings.model_fields)


@pytest.mark.parametrize(("name", "value", "read"), [(n, *v) for n, v in SET.items()], ids=SET)
def test_sources(name: str, value: str, read: object) -> None:
    """Each setting comes from its environment variable or from its flag."""
    others = {other: file for other, file in BESIDE.items() if name in BESIDE and other != name}
    others |= {"log_client_key": KEY} if name == "shared_limits_url" else {}
    assert plain(getattr(load({f"SIDECAR_{name.upper()}": value}, others), name)) == read
    assert plain(getattr(load({}, others | {name: value}), name)) == read


def test_a_flag_wins() -> None:
    """A flag comes before the environment, even before a wrong value there."""
    environ = {"SIDECAR_REST_LISTEN": CANARY, "SIDECAR_AUTH_API_TIMEOUT": "6s"}
    settings = load(environ, {"rest_listen": "127.0.0.1:1"})
    assert settings.rest_listen == Address("127.0.0.1", 1)
    assert settings.auth_api_timeout == 6.0


def test_other_variables_are_not_ours() -> None:
    """Variables without the prefix, and those that Kubernetes makes, are passed over."""
    environ = {
        "PATH": "/bin",
        "REST_LISTEN": CANARY,
        "MY_SIDECAR_REST_LISTEN": CANARY,
        "SIDECARREST_LISTEN": CANARY,
        "SIDECAR_SERVICE_HOST": "10.0.0.1",
        "SIDECAR_SERVICE_PORT": "8080",
        "SIDECAR_SERVICE_PORT_HTTP": "8080",
        "SIDECAR_PORT": "tcp://10.0.0.1:8080",
        "SIDECAR_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "SIDECAR_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    assert load(environ, {}) == load({}, {})


def test_settings_are_frozen() -> None:
    """Nobody changes a setting after it was checked."""
    settings = load({}, {})
    with pytest.raises(ValidationError):
        settings.auth_api_timeout = 1.0  # type: ignore[misc] # that is the point
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.rest_listen.port = 1  # type: ignore[misc] # that is the point


def test_values_that_are_read_already() -> None:
    """Code may give an address, seconds and numbers as what they are."""
    settings = Settings(rest_listen=Address("::1", 1), auth_api_timeout=1.5, max_in_flight=7)
    assert (str(settings.rest_listen), settings.auth_api_timeout) == ("[::1]:1", 1.5)
    assert settings.max_in_flight == 7
    key, store = Secret(KEY), Secret(STORE)
    assert Settings(log_client_key=key).log_client_key is key
    assert Settings(shared_limits_url=store).shared_limits_url is store


# The forms of values

ADDRESSES: Mapping[str, tuple[str, int, bool]] = {
    "127.0.0.1:8080": ("127.0.0.1", 8080, True),
    "127.255.0.1:0": ("127.255.0.1", 0, True),
    "localhost:65535": ("localhost", 65535, True),
    "[::1]:50051": ("::1", 50051, True),
    "[::]:1": ("::", 1, False),
    "10.0.0.1:1": ("10.0.0.1", 1, False),
    "192.0.2.1:00080": ("192.0.2.1", 80, False),
    "[2001:db8::1]:80": ("2001:db8::1", 80, False),
    "[0:0::0]:80": ("::", 80, False),
    "[::ffff:127.0.0.1]:80": ("127.0.0.1", 80, True),
    "LOCALHOST:80": ("localhost", 80, True),
    "sidecar.internal:80": ("sidecar.internal", 80, False),
    f"{'x' * 63}:80": ("x" * 63, 80, False),
    f"{'x.' * 126}x:80": (f"{'x.' * 126}x", 80, False),
    "a_b-1.x1:80": ("a_b-1.x1", 80, False),
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.items(), ids=str)
def test_address(text: str, expected: tuple[str, int, bool]) -> None:
    """An address is a host and a port, and knows whether other machines can reach it."""
    address = by_environment("REST_LISTEN", text).rest_listen
    assert (address.host, address.port, address.is_loopback) == expected


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("127.0.0.1", 1), "127.0.0.1:1"),
        (Address("localhost", 0), "localhost:0"),
        (Address("::1", 1), "[::1]:1"),
    ],
)
def test_address_as_text(address: Address, text: str) -> None:
    """An address is written as it is read."""
    assert str(address) == text


BAD_ADDRESSES: Mapping[str, str] = {
    "": ADDRESS,
    "canary": ADDRESS,
    "8080": ADDRESS,
    ":8080": ADDRESS,
    "127.0.0.1": ADDRESS,
    "127.0.0.1:": ADDRESS,
    "127.0.0.1:canary": ADDRESS,
    "127.0.0.1:-1": ADDRESS,
    "127.0.0.1:65536": ADDRESS,
    "127.0.0.1:100000": ADDRESS,
    "127.0.0.1:٨٠": ADDRESS,
    "127.0.0.1:80\n": ADDRESS,
    "127.0.0.1:80 ": ADDRESS,
    "127.0.0.1:80:80": ADDRESS,
    "::1:8080": ADDRESS,
    "[::1]8080": ADDRESS,
    "[canary]:8080": ADDRESS,
    "http://127.0.0.1:8080": ADDRESS,
    "localhost.:8080": HOST,
    "a..b:8080": HOST,
    "-canary:8080": HOST,
    "canary/x:8080": HOST,
    f"{'x' * 64}:8080": HOST,
    f"{'x.' * 126}xx:8080": HOST,
    "*:8080": HOST,
    "127.1:8080": HOST,
    "canary.0x7f:8080": HOST,
    "256.0.0.1:8080": HOST,
    "١٢٧.0.0.1:8080": HOST,
    " 127.0.0.1:8080": HOST,
    "[1:2]:8080": HOST,
    "[::1::]:8080": HOST,
}


@pytest.mark.parametrize(("value", "message"), BAD_ADDRESSES.items(), ids=repr)
def test_bad_address(value: str, message: str) -> None:
    """What is no address of a listener is refused, and the fault says how one looks."""
    assert fault_of("ADMIN_LISTEN", value) == message
    assert fault_of("GRPC_LISTEN", value) == message + OR_SOCKET * (message == ADDRESS)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("1ms", 0.001),
        ("0.001s", 0.001),
        ("3600s", 3600.0),
        ("15000ms", 15.0),
        ("2m", 120.0),
        ("0.5m", 30.0),
        ("60m", 3600.0),
        ("1h", 3600.0),
        ("0.25h", 900.0),
    ],
)
def test_seconds(text: str, seconds: float) -> None:
    """A span of time has a unit and is read in seconds."""
    assert by_environment("REST_KEEP_ALIVE", text).rest_keep_alive == seconds


@pytest.mark.parametrize("port", ["9090", "50051"])
def test_listeners_must_not_share_an_address(port: str) -> None:
    """An address that two listeners would have is a fault, which check-config finds as well."""
    with pytest.raises(SettingsError) as raised:
        load({"SIDECAR_REST_LISTEN": f"127.0.0.1:{port}"}, {})
    name = {"9090": "ADMIN", "50051": "GRPC"}[port]
    other = "SIDECAR_REST_LISTEN"
    assert raised.value.violations == (
        f"SIDECAR_{name}_LISTEN: must not share an address with {other}",
    )


def test_listeners_may_all_take_a_free_port() -> None:
    """Port 0 is a new address for each listener."""
    free = dict.fromkeys(("SIDECAR_REST_LISTEN", "SIDECAR_ADMIN_LISTEN"), "127.0.0.1:0")
    assert load(free, {}).rest_listen == Address("127.0.0.1", 0)


@pytest.mark.parametrize("value", ["", KEY[1:], f"{KEY} ", f"{KEY}\n", 257 * "k", f"{KEY}\u0665"])
def test_a_bad_key(value: str) -> None:
    """A key that could be guessed, or that a person cannot see, is refused."""
    assert fault_of("LOG_CLIENT_KEY", value) == KEY_FORM


def test_a_key_is_never_shown(tmp_path: Path) -> None:
    """A key comes from a file as other settings do, and is masked in every representation."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    settings = load({"SIDECAR_LOG_CLIENT_KEY_FILE": str(file)}, {})
    assert plain(settings.log_client_key) == KEY
    assert KEY not in f"{settings} {settings!r} {settings.model_dump()} {as_text(Secret(KEY))}"


@pytest.mark.parametrize(
    "value",
    [
        "redis://redis.test",
        "VALKEY://redis.test/",
        "valkey://:canary@10.0.0.1:1/15",
        "rediss://some:canary@[::1]:65535/0",
    ],
)
def test_a_store(value: str) -> None:
    """The URL of a store has a host, and may have all else; it is masked as secrets are."""
    settings = load({"SIDECAR_SHARED_LIMITS_URL": value}, {"log_client_key": KEY})
    assert plain(settings.shared_limits_url) == value
    assert "canary" not in f"{settings} {settings!r} {settings.model_dump()}"


NO_STORE = (
    "must be redis://HOST, rediss://HOST or valkey://HOST, with USER:PASSWORD@ before the host, "
    ":PORT and /DATABASE behind it where needed; in a password, write / as %2F"
)
NO_QUERY = "must hold no query or fragment; in a password, write ? as %3F, # as %23"
BAD_STORES: Mapping[str, str] = {
    "": NO_STORE,
    "canary": NO_STORE,
    "redis.test:6379": NO_STORE,
    "redis://": NO_STORE,
    "redis://:canary@": NO_STORE,
    "redis://redis.test:0": NO_STORE,
    "redis://redis.test:65536": NO_STORE,
    "redis://redis.test/canary": NO_STORE,
    "redis://redis.test/1/2": NO_STORE,
    "redis://:can/ary@redis.test": NO_STORE,
    "redis://[canary]": NO_STORE,
    "redis+sentinel://redis.test": NO_STORE,
    "unix:///run/redis.sock": NO_STORE,
    "https://redis.test": NO_STORE,
    "redis://redis.test?db=1": NO_QUERY,
    "redis://:can#ary@redis.test": NO_QUERY,
    "redis://redis.test\n": ASCII,
    "redis://:can\u00e4ry@redis.test": ASCII,
}


@pytest.mark.parametrize(("value", "message"), BAD_STORES.items(), ids=repr)
def test_a_bad_store(value: str, message: str) -> None:
    """What is no URL of a store is refused, and the fault shows no part of it."""
    assert fault_of("SHARED_LIMITS_URL", value) == message


BAD_SECONDS = (
    "",
    "5",
    "canary",
    "s",
    "0s",
    "0.0ms",
    "-1s",
    "+1s",
    "3600.001s",
    "3601s",
    "61m",
    "1.1h",
    "9" * 400 + "s",
    "1d",
    "1min",
    "1m30s",
    "1M",
    "1S",
    "1 s",
    " 1s",
    "1s\n",
    ".5s",
    "1.s",
    "1e1s",
    "1_0s",
    "\u0665s",
    "nans",
    "infs",
)


@pytest.mark.parametrize("value", BAD_SECONDS, ids=lambda value: repr(value[:10]))
def test_bad_seconds(value: str) -> None:
    """What is no span of time, or one that cannot be meant, is refused."""
    assert fault_of("REST_KEEP_ALIVE", value) == SECONDS


@pytest.mark.parametrize("value", ["", "5", "-1s", "3601s", CANARY])
def test_bad_delay(value: str) -> None:
    """A time that may be none at all is refused for all else."""
    assert fault_of("LAME_DUCK", value) == DELAY


BAD_COUNTS = ("", "1.0", "-1", "+1", "1000001", "9" * 400, "1_0", " 1", "1\n", "\u0665", CANARY)


@pytest.mark.parametrize("value", BAD_COUNTS, ids=lambda value: repr(value[:10]))
def test_bad_count(value: str) -> None:
    """What is no number, or one that cannot be meant, is refused."""
    assert fault_of("MAX_IN_FLIGHT", value) == COUNT
    assert fault_of("TRUSTED_PROXIES", value) == COUNT_OR_ZERO


def test_zero() -> None:
    """None is a number of proxies, but no limit."""
    assert by_environment("TRUSTED_PROXIES", "0").trusted_proxies == 0
    assert fault_of("MAX_IN_FLIGHT", "0") == COUNT


@pytest.mark.parametrize("value", ["", "\0"])
def test_bad_file(value: str) -> None:
    """What can name no file is refused."""
    assert fault_of("AUTH_API_TLS_CA", value) == FILE


# What does not fit together

UNFIT: Mapping[str, tuple[Mapping[str, str], str]] = {
    "connect": (
        {"auth_api_connect_timeout": "2s"},
        "AUTH_API_CONNECT_TIMEOUT: must be shorter than SIDECAR_AUTH_API_TRY_TIMEOUT, which is 2s",
    ),
    "try": (
        {"auth_api_try_timeout": "5s"},
        "AUTH_API_TRY_TIMEOUT: must be shorter than SIDECAR_AUTH_API_TIMEOUT, which is 5s",
    ),
    "total": (
        {"auth_api_timeout": "21s"},
        "AUTH_API_TIMEOUT: must be shorter than SIDECAR_DRAIN_TIMEOUT, which is 20s",
    ),
    "header": (
        {"header_timeout": "10s"},
        "HEADER_TIMEOUT: must be shorter than SIDECAR_REQUEST_TIMEOUT, which is 10s",
    ),
    "request": (
        {"request_timeout": "20s"},
        "REQUEST_TIMEOUT: must be shorter than SIDECAR_DRAIN_TIMEOUT, which is 20s",
    ),
    "grace": (
        {"lame_duck": "10s"},
        "TERMINATION_GRACE: must be at least 34s: SIDECAR_LAME_DUCK + SIDECAR_DRAIN_TIMEOUT + 4s",
    ),
    "certificate without a key": (
        {"rest_tls_certificate": "/a"},
        "REST_TLS_KEY: must be set beside SIDECAR_REST_TLS_CERTIFICATE",
    ),
    "key without a certificate": (
        {"auth_api_tls_key": "/a"},
        "AUTH_API_TLS_CERTIFICATE: must be set beside SIDECAR_AUTH_API_TLS_KEY",
    ),
    "clients without a certificate": (
        {"grpc_tls_client_ca": "/a"},
        "GRPC_TLS_CERTIFICATE: must be set beside SIDECAR_GRPC_TLS_CLIENT_CA",
    ),
    "an authority without TLS": (
        {"auth_api_tls_ca": "/a", "auth_api_token_url": "http://auth.test/token"},
        "AUTH_API_TLS_CA: must not be set where SIDECAR_AUTH_API_TOKEN_URL is no https:// URL",
    ),
    "failures": (
        {"max_client_failures": "301"},
        "MAX_CLIENT_FAILURES: must not be more than SIDECAR_MAX_ADDRESS_FAILURES, which is 300",
    ),
    "shared counts without a key": (
        {"shared_limits_url": STORE},
        "LOG_CLIENT_KEY: must be set beside SIDECAR_SHARED_LIMITS_URL",
    ),
}


@pytest.mark.parametrize(("flags", "violation"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_together(flags: Mapping[str, str], violation: str) -> None:
    """Settings of which one defeats another are a fault that names both."""
    assert faults_of({}, **flags) == (f"SIDECAR_{violation}",)


# Files


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_setting_may_be_in_a_file(tmp_path: Path, end: str) -> None:
    """A variable with _FILE names the file that holds the value, with or without a line end."""
    file = tmp_path / "value"
    file.write_bytes(TOKEN_URL.encode() + end.encode())
    given = {"SIDECAR_AUTH_API_TOKEN_URL_FILE": str(file)}
    assert load(given, {}, needs_upstream=True).auth_api_token_url == TOKEN_URL


@pytest.mark.parametrize("content", [b" " + TOKEN_URL.encode(), TOKEN_URL.encode() + b"\n\n"])
def test_white_space_in_a_file_is_not_taken_away(tmp_path: Path, content: bytes) -> None:
    """But for one line end, what is in the file is the value, right or wrong."""
    file = tmp_path / CANARY
    file.write_bytes(content)
    (violation,) = faults_of({"SIDECAR_AUTH_API_TOKEN_URL_FILE": str(file)})
    assert violation.startswith(f"SIDECAR_AUTH_API_TOKEN_URL: {ASCII}; the value ")


BAD_FILES: Mapping[str, str] = {
    "missing": "must be the path of a file that can be read: No such file or directory",
    "folder": "must be the path of a file that can be read: Is a directory",
    "nameless": "must be the path of a file that can be read: Is a directory; the value is empty",
    "binary": "must be the path of a file of text in UTF-8",
}


@pytest.mark.parametrize(("kind", "violation"), BAD_FILES.items())
def test_a_file_that_cannot_be_read(tmp_path: Path, kind: str, violation: str) -> None:
    """Without its file a setting is one fault, which does not tell the name of the file."""
    file = tmp_path / CANARY
    if kind == "folder":
        file.mkdir()
    elif kind == "binary":
        file.write_bytes(b"\xff\xfe")
    environ = {"SIDECAR_AUTH_API_TOKEN_URL_FILE": "" if kind == "nameless" else str(file)}
    with pytest.raises(SettingsError) as raised:
        load(environ, {}, needs_upstream=True)
    assert raised.value.violations == (f"SIDECAR_AUTH_API_TOKEN_URL_FILE: {violation}",)


def test_a_file_has_a_limit(tmp_path: Path) -> None:
    """What is longer than any setting is told, and not cut."""
    file = tmp_path / "value"
    file.write_text("https://h/" + "a" * 65_527)
    environ = {"SIDECAR_PUBLIC_URL_FILE": str(file)}
    told = "SIDECAR_PUBLIC_URL_FILE: must name a file of at most 65536 characters"
    assert told in faults_of(environ)


def test_a_value_is_given_once(tmp_path: Path) -> None:
    """A value and a file for it are a fault: one of them is not meant."""
    environ = {"SIDECAR_PUBLIC_URL_FILE": str(tmp_path), "SIDECAR_PUBLIC_URL": "http://h"}
    violations = faults_of(environ)
    assert violations == (
        "SIDECAR_PUBLIC_URL_FILE: must not be set beside SIDECAR_PUBLIC_URL; remove one of them",
    )


def test_a_flag_wins_over_a_file(tmp_path: Path) -> None:
    """A flag comes before a file, which is then not even read."""
    environ = {"SIDECAR_PUBLIC_URL_FILE": str(tmp_path / "missing")}
    assert load(environ, {"public_url": "http://h"}).public_url == "http://h"


def test_a_file_for_no_setting() -> None:
    """A misspelt name of a file is a fault like any other."""
    assert faults_of({"SIDECAR_CANARY_FILE": "x"}) == (f"SIDECAR_CANARY_FILE: {UNKNOWN}",)


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("true", True), ("1", True), ("off", False), ("no", False)]
)
def test_switch(text: str, value: bool) -> None:
    """A switch is on or off, in the usual words."""
    assert by_environment("GRPC_REFLECTION", text).grpc_reflection is value


@pytest.mark.parametrize("value", ["", "canary", "2", "on off", "None"])
def test_bad_switch(value: str) -> None:
    """Any other word is refused."""
    assert fault_of("GRPC_REFLECTION", value) == SWITCH


URLS = (
    "http://localhost/token",
    "https://auth.example.test/oauth/token",
    "https://auth.example.test:8443/oauth/token",
    "http://127.0.0.1:1/",
    "http://[::1]:8081/v1/oauth/token",
    "HTTPS://AUTH.example.test/%41",
    "https://auth.example.test/token?p=policy",
)


@pytest.mark.parametrize("url", URLS)
def test_url(url: str) -> None:
    """A URL is taken as it stands."""
    assert by_environment("AUTH_API_TOKEN_URL", url).auth_api_token_url == url


BAD_URLS: Mapping[str, str] = {
    "": URL,
    "canary": URL,
    "/canary": URL,
    "//canary/": URL,
    "ftp://canary/": URL,
    "httpx://canary/": URL,
    "http:canary": URL,
    "http:///canary": URL_HOST,
    "http://": URL_HOST,
    "http://:80/": URL_HOST,
    "http://canary:0/": URL_HOST,
    "http://host:65536/canary": URL_HOST,
    "http://canary@host/": PARTS,
    "http://user:canary@host/": PARTS,
    "http://host/#canary": PARTS,
    "http://host/#": PARTS,
    "http://host/canary é": ASCII,
    "http://canary.é/": ASCII,
    "http://host/ canary": ASCII,
    "http://host/\tcanary": ASCII,
    "http://host/canary\n": ASCII,
    "http://host/\x7fcanary": ASCII,
    " http://canary/": ASCII,
}
# What the standard library itself refuses, in words that quote the value.
UNREADABLE_URLS = (
    "http://host:canary/",
    "http://host:99999/canary",
    "http://host:-1/canary",
    "http://host:٨٠/canary",
    "http://[canary]/",
    "http://[::1/canary",
    "http://::1]/canary",
    "http://[v1.canary",
    "http://canary℀.example/",
)


@pytest.mark.parametrize("name", ["AUTH_API_TOKEN_URL", "PUBLIC_URL"])
@pytest.mark.parametrize(("value", "message"), BAD_URLS.items(), ids=repr)
def test_bad_url(name: str, value: str, message: str) -> None:
    """What is no address of a server, or holds more than that, is refused."""
    assert fault_of(name, value) == message


def test_only_the_token_url_has_a_query() -> None:
    """The base of the problem types is continued by a path, which a query would swallow."""
    assert fault_of("PUBLIC_URL", "https://host/?secret=canary") == "must hold no query"


@pytest.mark.parametrize("value", ["", "canary", "Basic", "as_received"])
def test_bad_choice(value: str) -> None:
    """Of a choice the values are named."""
    fault = "must be as-received, basic or post, in lower case"
    assert fault_of("AUTH_API_CLIENT_AUTHENTICATION", value) == fault


class OfTwo(Settings):
    """Settings with a second choice."""

    log_format: Literal["json", "text"] = "json"


def test_each_choice_names_its_own_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of a choice names the values of that choice, and of no other."""
    monkeypatch.setattr("sidecar.settings.sources.Settings", OfTwo)
    assert faults_of({}, log_format=CANARY) == (
        "SIDECAR_LOG_FORMAT: must be json or text, in lower case",
    )


@pytest.mark.parametrize("value", UNREADABLE_URLS)
def test_unreadable_url(value: str) -> None:
    """A URL that cannot even be divided is refused, and nothing of it is shown."""
    violation = fault_of("AUTH_API_TOKEN_URL", value)
    assert violation.startswith("must ")
    assert CANARY not in violation


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://api.example.test", "https://api.example.test"),
        ("https://api.example.test/", "https://api.example.test"),
        ("https://api.example.test/a//", "https://api.example.test/a"),
        ("http://h/" + "x" * 111 + "/", "http://h/" + "x" * 111),
    ],
)
def test_public_url(url: str, base: str) -> None:
    """The base of the problem types ends without a slash."""
    assert by_environment("PUBLIC_URL", url).public_url == base


@pytest.mark.parametrize(
    "url",
    [
        "https://h//evil.test",
        'https://h/">',
        "https://h/$(id)x\\",
        "https://h/a`b`",
        "https://h/a|b",
    ],
)
def test_public_url_that_could_be_more(url: str) -> None:
    """A public URL cannot end a shell word or an attribute, nor begin another authority."""
    assert "characters of a URL only" in fault_of("PUBLIC_URL", url)


def test_public_url_that_is_too_long() -> None:
    """The base of the problem types is short, because it is in every status."""
    assert (
        fault_of("PUBLIC_URL", "http://h/" + "x" * 112) == "must not be longer than 120 characters"
    )


# The embedded auth-api


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"])
def test_the_embedded_auth_api_stays_on_loopback(address: str) -> None:
    """The demo clients reach the network only if that is said in so many words."""
    assert fault_of("DEV_AUTH_API_LISTEN", address) == LOOPBACK
    settings = load({"SIDECAR_DEV_AUTH_API_EXPOSE": "on"}, {"dev_auth_api_listen": address})
    assert str(settings.dev_auth_api_listen) == address


@pytest.mark.parametrize("address", ["127.0.0.2:1", "[::1]:1", "localhost:1"])
def test_the_embedded_auth_api_may_be_anywhere_on_loopback(address: str) -> None:
    """Every address of this machine alone will do."""
    assert str(by_environment("DEV_AUTH_API_LISTEN", address).dev_auth_api_listen) == address


# Faults

EVERYTHING_WRONG: Mapping[str, tuple[str, str]] = {
    "SIDECAR_REST_LISTEN": (f"*{CANARY}:1", HOST),
    "SIDECAR_REST_KEEP_ALIVE": (CANARY, SECONDS),
    "SIDECAR_GRPC_LISTEN": (CANARY, ADDRESS + OR_SOCKET),
    "SIDECAR_GRPC_REFLECTION": (CANARY, SWITCH),
    "SIDECAR_ADMIN_LISTEN": (f"127.0.0.1:{CANARY}", ADDRESS),
    "SIDECAR_PUBLIC_URL": (f"http://{CANARY}/#{CANARY}", PARTS),
    "SIDECAR_AUTH_API_TOKEN_URL": (f"http://user:{CANARY}@host/", PARTS),
    "SIDECAR_AUTH_API_TIMEOUT": (CANARY, SECONDS),
    "SIDECAR_MAX_CONNECTIONS": (CANARY, COUNT),
    "SIDECAR_TRUSTED_PROXIES": (CANARY, COUNT_OR_ZERO),
    "SIDECAR_LAME_DUCK": (CANARY, DELAY),
    "SIDECAR_DEV_AUTH_API_EXPOSE": (CANARY, SWITCH),
    "SIDECAR_DEV_AUTH_API_LISTEN": (f"[{CANARY}]:1", ADDRESS),
    "SIDECAR_REST_LISTN": (CANARY, "is not a setting; did you mean SIDECAR_REST_LISTEN?"),
    "SIDECAR_": (CANARY, UNKNOWN),
    "SIDECAR_AUTH_API_SECRET": (CANARY, UNKNOWN),
}


@pytest.mark.parametrize("by_flag", [False, True], ids=["environment", "flags"])
def test_every_fault_at_once(by_flag: bool) -> None:
    """All that is wrong is told together, each by its name, and no value is shown."""
    # Flags that are no settings do not come so far.
    names = {f"SIDECAR_{name.upper()}": name for name in Settings.model_fields}
    wrong = {k: v for k, v in EVERYTHING_WRONG.items() if k in names or not by_flag}
    values = {name: value for name, (value, _) in wrong.items()}
    flags = {names[name]: value for name, value in values.items()} if by_flag else {}
    with pytest.raises(SettingsError) as raised:
        load({} if by_flag else values, flags)
    assert raised.value.violations == tuple(
        f"{name}: {message}" for name, (_, message) in wrong.items()
    )
    assert CANARY not in f"{raised.value} {raised.value!r}"


def test_what_does_not_fit_is_told_beside_bad_values() -> None:
    """Bad values hide no conflict of others, but those that they are a part of themselves."""
    violations = faults_of(
        {},
        auth_api_timeout=CANARY,  # which a try must be shorter than, and nobody knows if it is
        auth_api_try_timeout="9s",
        lame_duck="50s",
        rest_tls_certificate="/a",
    )
    assert violations == (
        f"SIDECAR_AUTH_API_TIMEOUT: {SECONDS}",
        (
            "SIDECAR_TERMINATION_GRACE: must be at least 74s: "
            "SIDECAR_LAME_DUCK + SIDECAR_DRAIN_TIMEOUT + 4s"
        ),
        "SIDECAR_REST_TLS_KEY: must be set beside SIDECAR_REST_TLS_CERTIFICATE",
    )


MISSING = (
    "SIDECAR_AUTH_API_TOKEN_URL: must be set to the auth-api's token endpoint, such as "
    "https://auth.example.com/oauth/token"
)


def test_the_upstream_is_needed_where_it_is_called() -> None:
    """Without an embedded auth-api the address of another must be given."""
    with pytest.raises(SettingsError) as raised:
        load({"SIDECAR_AUTH_API_TIMEOUT": CANARY}, {}, needs_upstream=True)
    assert raised.value.violations == (f"SIDECAR_AUTH_API_TIMEOUT: {SECONDS}", MISSING)


@pytest.mark.parametrize(
    ("environ", "flags"),
    [
        ({"SIDECAR_AUTH_API_TOKEN_URL": TOKEN_URL}, {}),
        ({}, {"auth_api_token_url": TOKEN_URL}),
    ],
    ids=["environment", "flag"],
)
def test_the_upstream_that_is_given(environ: Mapping[str, str], flags: Mapping[str, str]) -> None:
    """Either source will do."""
    assert load(environ, flags, needs_upstream=True).auth_api_token_url == TOKEN_URL


def test_a_wrong_upstream_is_not_missing() -> None:
    """An address that was given, though wrongly, is told once."""
    with pytest.raises(SettingsError) as raised:
        load({"SIDECAR_AUTH_API_TOKEN_URL": CANARY}, {}, needs_upstream=True)
    assert raised.value.violations == (f"SIDECAR_AUTH_API_TOKEN_URL: {URL}",)
