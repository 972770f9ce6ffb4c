"""Tests of the report of the settings in force: values, sources and masks."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.settings.model import Settings
from sidecar.settings.report import describe
from sidecar.settings.sources import load

KEY = "canary-0123456789-0123456789-0123456789"


def report(environ: Mapping[str, str], **flags: str) -> Mapping[str, str]:
    """Return the value and the source of each setting, by name."""
    lines = list(describe(load(environ, flags), environ, flags))
    named = dict(line.split("=", 1) for line in lines)
    assert len(named) == len(lines)
    return named


def test_every_setting_has_a_line() -> None:
    """There is a line for each setting, in their order, with its default as it is written."""
    lines = report({})
    assert list(lines) == [f"SIDECAR_{name.upper()}" for name in Settings.model_fields]
    assert lines["SIDECAR_LAME_DUCK"] == "5s  # default"
    assert lines["SIDECAR_GRPC_REFLECTION"] == "on  # default"
    assert lines["SIDECAR_PUBLIC_URL"] == "  # default"


def test_a_time_is_shown_as_it_was_set() -> None:
    """A time with many digits is shown with all of them, in seconds."""
    lines = report({}, header_timeout="1.2345678s", rest_keep_alive="2.5m")
    assert lines["SIDECAR_HEADER_TIMEOUT"] == "1.2345678s  # flag"
    assert lines["SIDECAR_REST_KEEP_ALIVE"] == "150s  # flag"


def test_each_source_is_told(tmp_path: Path) -> None:
    """A line says whether the value is from a flag, the environment or a file, and which file."""
    file = tmp_path / "url"
    file.write_text("https://api.example.test\n")
    environ = {
        "SIDECAR_LAME_DUCK": "1s",
        "SIDECAR_MAX_IN_FLIGHT": "7",
        "SIDECAR_PUBLIC_URL_FILE": str(file),
        "SIDECAR_REST_LISTEN_FILE": "/canary",
    }
    lines = report(environ, max_in_flight="8", rest_listen="127.0.0.1:1")
    assert lines["SIDECAR_LAME_DUCK"] == "1s  # environment"
    assert lines["SIDECAR_MAX_IN_FLIGHT"] == "8  # flag"
    assert lines["SIDECAR_PUBLIC_URL"] == f"https://api.example.test  # file {file}"
    assert lines["SIDECAR_REST_LISTEN"] == "127.0.0.1:1  # flag"


def test_a_meaning_follows_the_source() -> None:
    """What a value stands for on this machine is in the comment, so the value stays as written."""
    settings = load({}, {"rest_listen": "localhost:80"})
    lines = list(describe(settings, {}, {"rest_listen": ""}, {"rest_listen": "127.0.0.1:80"}))
    assert lines[0] == "SIDECAR_REST_LISTEN=localhost:80  # flag, means 127.0.0.1:80"


def test_secrets_are_masked() -> None:
    """Neither a key, nor the URL of a store, nor the query of another URL is shown."""
    lines = report(
        {
            "SIDECAR_LOG_CLIENT_KEY": KEY,
            "SIDECAR_SHARED_LIMITS_URL": "redis://:canary@redis.example.test",
        },
        auth_api_token_url="https://auth.example.test/token?key=canary",
    )
    assert lines["SIDECAR_LOG_CLIENT_KEY"] == "***  # environment"
    assert lines["SIDECAR_SHARED_LIMITS_URL"] == "***  # environment"
    assert lines["SIDECAR_AUTH_API_TOKEN_URL"] == "https://auth.example.test/token?***  # flag"
    assert "canary" not in str(lines)


@pytest.mark.parametrize("path", ["/a\nSIDECAR_LAME_DUCK=0s", "/a\x1b[2K"])
def test_a_value_stays_in_its_line(path: str) -> None:
    """A control character in a value is escaped, so that a line cannot be forged or hidden."""
    assert (
        report({}, auth_api_token_url="https://a.test/", auth_api_tls_ca=path)[
            "SIDECAR_AUTH_API_TLS_CA"
        ]
        == f"{path!r}  # flag"
    )
