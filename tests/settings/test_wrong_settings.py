"""Tests of what a person on call reads about a wrong setting: which, what is wrong, what to write.

Each row is a slip of a stranger. Its line is written out, so that a reader of this table can judge
it. No line quotes what was written, which may be a secret.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from sidecar.cli import main
from sidecar.settings.sources import SettingsError, load
from sidecar.tls.certificates import Certificates

UNITS = "must be a number with the unit ms, s, m or h, such as 500ms, 5s or 2m"
TIME, DELAY = f"{UNITS}, above 0 and at most 1h", f"{UNITS}, not below 0 and at most 1h"
COUNT = "must be a whole number from 1 to 1000000"
ADDRESS = (
    "must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, with a port up to 65535, or a Unix "
    "socket, such as unix:/run/karmo-sidecar/rest.sock"
)
SCHEME = "must begin with http:// or https://"
HOST = "must have a host, and a port from 1 to 65535 if any"
ASCII = "must hold visible ASCII characters only"
KEY = "must be 32 to 256 visible ASCII characters, such as the output of openssl rand -hex 32"
LEVEL = "must be debug, info, warning or error, in lower case"
HELP = "is not a setting; see karmo-sidecar serve --help"


def meant(name: str) -> str:
    """Return the fault of a name that is near to that of a setting."""
    return f"is not a setting; did you mean SIDECAR_{name}?"


# The name without its prefix, the value, and the fault.
VALUES: Mapping[str, tuple[str, str, str]] = {
    # Times
    "no unit": ("LAME_DUCK", "5", DELAY),
    "a space before the unit": ("LAME_DUCK", "5 s", DELAY),
    "another unit": ("LAME_DUCK", "1d", DELAY),
    "a unit in words": ("LAME_DUCK", "5sec", DELAY),
    "a unit in capitals": ("LAME_DUCK", "5S", DELAY),
    "two units": ("LAME_DUCK", "1m30s", DELAY),
    "a negative time": ("LAME_DUCK", "-5s", DELAY),
    "no time": ("REST_KEEP_ALIVE", "0s", TIME),
    "more than an hour": ("REST_KEEP_ALIVE", "2h", TIME),
    "a time in quotes": ("LAME_DUCK", '"5s"', f"{DELAY}; the value is in quotes"),
    "a time and a space": ("LAME_DUCK", "5s ", f"{DELAY}; the value ends with a space"),
    "nothing": ("LAME_DUCK", "", f"{DELAY}; the value is empty"),
    # Numbers
    "a thousand": ("MAX_IN_FLIGHT", "1k", COUNT),
    "no limit": ("MAX_IN_FLIGHT", "unlimited", COUNT),
    "a limit of 0": ("MAX_IN_FLIGHT", "0", COUNT),
    "a fraction": ("MAX_IN_FLIGHT", "1.5", COUNT),
    "a number and a line end": (
        "MAX_IN_FLIGHT",
        "32\r\n",
        f"{COUNT}; the value ends with a line end",
    ),
    "a network": ("TRUSTED_PROXIES", "10.0.0.0/8", "must be a whole number from 0 to 1000000"),
    # Addresses
    "a port alone": ("REST_LISTEN", "8080", ADDRESS),
    "a port beyond 65535": ("REST_LISTEN", "0.0.0.0:99999", ADDRESS),
    "a URL for an address": ("REST_LISTEN", "http://0.0.0.0:8080", ADDRESS),
    # URLs
    "no scheme": ("AUTH_API_TOKEN_URL", "auth.example.com/token", SCHEME),
    "another scheme": ("AUTH_API_TOKEN_URL", "grpc://auth.example.com/", SCHEME),
    "a URL in quotes": (
        "AUTH_API_TOKEN_URL",
        "'https://auth.example.com/'",
        f"{SCHEME}; the value is in quotes",
    ),
    "an empty URL": ("AUTH_API_TOKEN_URL", "", f"{SCHEME}; the value is empty"),
    "a byte order mark": (
        "AUTH_API_TOKEN_URL",
        "\N{ZERO WIDTH NO-BREAK SPACE}https://auth.example.com/",
        f"{SCHEME}; the value begins with a byte order mark",
    ),
    "no host": ("AUTH_API_TOKEN_URL", "https://", HOST),
    "a port of a URL beyond 65535": ("AUTH_API_TOKEN_URL", "https://auth.example.com:99999/", HOST),
    "a URL and a line end": (
        "AUTH_API_TOKEN_URL",
        "https://auth.example.com/\n",
        f"{ASCII}; the value ends with a line end",
    ),
    "a URL and a space that cannot be seen": (
        "AUTH_API_TOKEN_URL",
        "https://auth.example.com/\N{ZERO WIDTH SPACE}",
        f"{ASCII}; the value ends with a zero width space",
    ),
    "a password": (
        "AUTH_API_TOKEN_URL",
        "https://user:canary@auth.example.com/",
        "must hold no user, password or fragment",
    ),
    "a query": ("PUBLIC_URL", "https://api.example.com/?a=b", "must hold no query"),
    # Words
    "another word": ("GRPC_REFLECTION", "enabled", "must be on or off"),
    "a word and a space": (
        "GRPC_REFLECTION",
        "on ",
        "must be on or off; the value ends with a space",
    ),
    "a level in capitals": ("LOG_LEVEL", "INFO", LEVEL),
    "another level": ("LOG_LEVEL", "warn", LEVEL),
    "another method": (
        "AUTH_API_CLIENT_AUTHENTICATION",
        "client_secret_basic",
        "must be as-received, basic or post, in lower case",
    ),
    "a short key": ("LOG_CLIENT_KEY", "canary", KEY),
    "an empty key": ("LOG_CLIENT_KEY", "", f"{KEY}; the value is empty"),
    # Names
    "a letter too few": ("REST_LISTN", "127.0.0.1:1", meant("REST_LISTEN")),
    "a letter too many": ("REST_LISTENS", "127.0.0.1:1", meant("REST_LISTEN")),
    "words without a line": ("LOGLEVEL", "debug", meant("LOG_LEVEL")),
    "the end of a name": ("TOKEN_URL", "https://auth.example.com/", meant("AUTH_API_TOKEN_URL")),
    "the begin of a name": ("REST_TLS_CERT", "/tls.crt", meant("REST_TLS_CERTIFICATE")),
    "another case": ("rest_listen", "127.0.0.1:1", meant("REST_LISTEN")),
    "a suffix cut short": ("REST_LISTEN_FIL", "/file", meant("REST_LISTEN")),
    "a part of several names": ("TIMEOUT", "5s", HELP),
    "a port": ("PORT", "8080", HELP),
    "a secret of another program": ("CLIENT_SECRET", "canary", HELP),
    "the prefix alone": ("", "canary", HELP),
}


@pytest.mark.parametrize(("name", "value", "line"), VALUES.values(), ids=VALUES)
def test_a_wrong_setting(name: str, value: str, line: str) -> None:
    """The only line names the setting, its fault and what to write, and quotes no value."""
    with pytest.raises(SettingsError) as raised:
        load({f"SIDECAR_{name}": value}, {})
    assert raised.value.violations == (f"SIDECAR_{name}: {line}",)
    assert "canary" not in str(raised.value)


# Settings that contradict each other or a default, and the line.
PAIRS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "a long lame duck": (
        {"LAME_DUCK": "1m"},
        "TERMINATION_GRACE: must be at least 84s: SIDECAR_LAME_DUCK + SIDECAR_DRAIN_TIMEOUT + 4s",
    ),
    "longer than the drain": (
        {"AUTH_API_TIMEOUT": "1m"},
        "AUTH_API_TIMEOUT: must be shorter than SIDECAR_DRAIN_TIMEOUT, which is 20s",
    ),
    "shorter than a try": (
        {"AUTH_API_TIMEOUT": "1500ms"},
        "AUTH_API_TRY_TIMEOUT: must be shorter than SIDECAR_AUTH_API_TIMEOUT, which is 1.5s",
    ),
    "more than the address": (
        {"MAX_CLIENT_FAILURES": "1000"},
        "MAX_CLIENT_FAILURES: must not be more than SIDECAR_MAX_ADDRESS_FAILURES, which is 300",
    ),
    "an address twice": (
        {"REST_LISTEN": "127.0.0.1:9090"},
        "ADMIN_LISTEN: must not share an address with SIDECAR_REST_LISTEN",
    ),
    "half a pair": (
        {"REST_TLS_CERTIFICATE": "/tls.crt"},
        "REST_TLS_KEY: must be set beside SIDECAR_REST_TLS_CERTIFICATE",
    ),
    "an open auth-api for demos": (
        {"DEV_AUTH_API_LISTEN": "0.0.0.0:1"},
        "DEV_AUTH_API_LISTEN: must be a loopback address unless SIDECAR_DEV_AUTH_API_EXPOSE is on",
    ),
    "two sources": (
        {"PUBLIC_URL": "https://api.example.com", "PUBLIC_URL_FILE": "/file"},
        "PUBLIC_URL_FILE: must not be set beside SIDECAR_PUBLIC_URL; remove one of them",
    ),
}


@pytest.mark.parametrize(("values", "line"), PAIRS.values(), ids=PAIRS)
def test_settings_that_contradict(values: Mapping[str, str], line: str) -> None:
    """The only line names both settings, and the value in force of the one that was not written."""
    with pytest.raises(SettingsError) as raised:
        load({f"SIDECAR_{name}": value for name, value in values.items()}, {})
    assert raised.value.violations == (f"SIDECAR_{line}",)


FILE = "LOG_CLIENT_KEY_FILE: must be the path of a file"
# The end of the path of a file with a setting, and the line.
SETTING_FILES: Mapping[str, tuple[str, str]] = {
    "missing": ("/nothing", f"{FILE} that can be read: No such file or directory"),
    "a space": (
        "/key ",
        f"{FILE} that can be read: No such file or directory; the value ends with a space",
    ),
    "a folder": ("", f"{FILE} that can be read: Is a directory"),
    "no text": ("/der", f"{FILE} of text in UTF-8"),
    "empty": ("/empty", f"LOG_CLIENT_KEY: {KEY}; the value is empty"),
}
CRT, NO_FILE = "REST_TLS_CERTIFICATE", "No such file or directory"
# The names of the certificate, of the key and of the CA, and the line.
TLS_FILES: Mapping[str, tuple[tuple[str, str, str], str]] = {
    "no certificate": (("no", "key", "crt"), f"{CRT}: cannot read {{}}/no: {NO_FILE}"),
    "no key": (("crt", "no", "crt"), f"REST_TLS_KEY: cannot read {{}}/no: {NO_FILE}"),
    "no CA": (("crt", "key", "no"), f"REST_TLS_CLIENT_CA: cannot read {{}}/no: {NO_FILE}"),
    "a folder": (("", "key", "crt"), f"{CRT}: cannot read {{}}: Is a directory"),
    "a space": (
        ("crt ", "key", "crt"),
        f"{CRT}: cannot read {{}}/crt : {NO_FILE}; the path ends with a space",
    ),
    "not PEM": (("der", "key", "crt"), f"{CRT}: {{}}/der must hold complete certificates in PEM"),
    "exchanged": (("key", "crt", "crt"), f"{CRT}: {{}}/key must hold complete certificates in PEM"),
    "another key": (
        ("crt", "other", "crt"),
        "REST_TLS_KEY: {}/other must be the key of the first certificate in {}/crt",
    ),
    "an empty key": (
        ("crt", "empty", "crt"),
        "REST_TLS_KEY: {}/empty must hold a complete private key in PEM",
    ),
    "an empty CA": (
        ("crt", "key", "empty"),
        "REST_TLS_CLIENT_CA: {}/empty must hold complete certificates in PEM",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a certificate, its key, another key, and files that are neither."""
    authority = trustme.CA()
    leaf, other = authority.issue_cert("sidecar.test"), authority.issue_cert("other.test")
    certificate = leaf.cert_chain_pems[0].bytes()
    (tmp_path / "crt").write_bytes(certificate)
    (tmp_path / "key").write_bytes(leaf.private_key_pem.bytes())
    (tmp_path / "other").write_bytes(other.private_key_pem.bytes())
    (tmp_path / "der").write_bytes(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.mark.parametrize(("end", "line"), SETTING_FILES.values(), ids=SETTING_FILES)
def test_a_wrong_file_with_a_setting(folder: Path, end: str, line: str) -> None:
    """The line names the variable; it has no path, since a value may have been put there."""
    with pytest.raises(SettingsError) as raised:
        load({"SIDECAR_LOG_CLIENT_KEY_FILE": f"{folder}{end}"}, {})
    assert raised.value.violations == (f"SIDECAR_{line}",)


@pytest.mark.parametrize(("names", "line"), TLS_FILES.values(), ids=TLS_FILES)
def test_a_wrong_file_of_tls(folder: Path, names: tuple[str, str, str], line: str) -> None:
    """The line names the one setting to change, and the file."""
    fields = ("rest_tls_certificate", "rest_tls_key", "rest_tls_client_ca")
    paths = [f"{folder}/{name}".rstrip("/") for name in names]
    with pytest.raises(SettingsError) as raised:
        Certificates.load(load({}, dict(zip(fields, paths, strict=True))))
    assert raised.value.violations == (f"SIDECAR_{line.replace('{}', str(folder))}",)


def test_a_path_for_a_shell() -> None:
    """The line of a path that only a shell would complete says so."""
    flags = {"auth_api_token_url": "https://a.test/", "auth_api_tls_ca": "~/ca.crt"}
    with pytest.raises(SettingsError) as raised:
        Certificates.load(load({}, flags))
    (line,) = raised.value.violations
    assert line == (
        f"SIDECAR_AUTH_API_TLS_CA: cannot read ~/ca.crt: {NO_FILE}; the path begins with ~, which "
        "only a shell replaces"
    )


# Arguments of `check-config`, and the line.
FLAGS: Mapping[str, tuple[str, str]] = {
    "a letter too few": (
        "--rest-listn=canary",
        "--rest-listn: is not a flag; did you mean --rest-listen?",
    ),
    "underscores": (
        "--rest_listen=canary",
        "--rest_listen: is not a flag; did you mean --rest-listen?",
    ),
    "one dash": ("-log-level=canary", "-log-level: is not a flag; did you mean --log-level?"),
    "cut short": ("--drain=canary", "--drain: is not a flag; did you mean --drain-timeout?"),
    "nothing near": ("--port=1", "--port: is not a flag; see karmo-sidecar check-config --help"),
    "of another command": (
        "--dev-auth-api-expose=on",
        "--dev-auth-api-expose: is a flag of dev, not of check-config; remove it",
    ),
    "no flag": ("canary", "unexpected arguments; see karmo-sidecar check-config --help"),
    "of another program": ("-v", "-v: is not a flag; see karmo-sidecar check-config --help"),
}


@pytest.mark.parametrize(("argument", "line"), FLAGS.values(), ids=FLAGS)
def test_a_wrong_argument(argument: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The only line names the flag and what to do, without its value; the status is 78."""
    url = "--auth-api-token-url=https://auth.example.com/token"
    assert main(["check-config", url, argument]) == 78
    assert capsys.readouterr() == ("", f"karmo-sidecar: {line}\n")


# The command line, and what the line after the usage says.
UNREADABLE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "no command": ((), "the following arguments are required: COMMAND"),
    "an unknown command": (("serves",), "argument COMMAND: invalid choice: 'serves'"),
    "an unknown question": (("probe", "ready"), "argument QUESTION: invalid choice: 'ready'"),
    "a flag without value": (("serve", "--lame-duck"), "argument --lame-duck: expected one"),
    "a value like a flag": (("serve", "--lame-duck", "-5s"), "argument --lame-duck: expected one"),
}


@pytest.mark.parametrize(("arguments", "line"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_command_line_that_cannot_be_read(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is 2, and the usage has a line that names the argument."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    usage, fault = errors.splitlines()
    assert usage.startswith("usage: karmo-sidecar ")
    assert f"error: {line}" in fault
